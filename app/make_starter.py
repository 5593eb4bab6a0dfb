"""Makes app/starter, the small network that comes with Earshot, from a run of the demo.

``make starter`` runs the demo and then this. It takes the network of the first fold, which was
chosen by no score, and scores it on what it never learned from.
"""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.audio import decoder, recording
from helpers.base import artifacts, errors
from helpers.base.settings import Config
from helpers.compare import inference
from helpers.data import folders
from helpers.demo import dataset
from helpers.metrics import decisions, evaluate

# What a network in use needs of its settings. Those of its training are left out: the demo's preset
# has them, and the starter must outlive their changes.
IN_USE = ("preset", "seed", "data", "audio", "clean", "features", "model")
EXAMPLES = ("bell", "bird", "dog_bark", "footsteps", "rain", "siren")
CARD = """# The starter

One small network that comes with Earshot, so that `make app` and `make predict` answer before
anything was trained. `make starter` makes this folder again: it runs the demo (`make run-all`) and
takes the network of the first fold, which was chosen by no score.

**Its data is synthetic**, made by `helpers/demo`: it learned from {learned} recordings of ten
sounds, the folds {train} of the demo (seed {seed}). It has {parameters:,} parameters and hears
windows of {seconds:g} s.

| what it never learned from | recordings | accuracy (95 % interval) |
|---|---|---|
| fold {test}, held out | {n_held_out} | {held_out} |
| the hidden test set | {n_test} | {tested} |

Test files that cannot be decoded are not counted ({unheard} of them). These are scores of this one
network; a run of the demo averages several and has scores of its own.

**It knows** {labels}, as the demo's synthesis makes them.

**It does not know** any other sound, and has no answer "none of these": it says one of its ten
whatever it hears. It has heard no recording of the real world, and what it says of one means
little.

`examples/` holds six sounds of the hidden test set: of six classes the first by its name.
"""


def main():
    """Make the folder anew."""
    source = artifacts.existing_run("demo")
    config = Config(**artifacts.read_json(source / "run.json")["config"])
    if config.preset != "demo" or config.fast:
        raise errors.StageError("outputs/demo is no full run of the demo: make run-all FORCE=1")
    with artifacts.replacing(artifacts.STARTER) as folder:
        card = copy_network(source, folder)
        bundle = inference.Bundle(folder)
        rows = artifacts.read_table(source / "waveforms.csv")
        rows = rows[rows["parent_id"].eq("")]
        packed = artifacts.read(source / "waveforms.npy")
        metrics = score_held_out(bundle, packed, rows, card["folds"]["test"])
        truth = test_labels(source, config)
        tested = score_tests(bundle, truth)
        metrics |= {"hidden_test": tested["scores"], "synthetic": True, "fast": False}
        artifacts.write_json(folder / "metrics.json", metrics)
        settings = {"preset": "demo", "seed": config.seed, "synthetic": True}
        artifacts.write_json(folder / "run.json", {"config": settings})
        write_examples(folder / "examples", truth, config.audio)
        words = describe(card, rows, metrics, tested, config)
        artifacts.write_text(folder / "README.md", words)
    print(words)


def copy_network(source, folder):
    """The network of the first fold, with what it needs of its settings. Returns its card."""
    own = min(source.glob("models/cnn/fold*"))
    network = folder / own.relative_to(source)
    network.mkdir(parents=True)
    shutil.copy(own / "weights.safetensors", network)
    card = artifacts.read_json(own / "card.json")
    card["config"] = {name: card["config"][name] for name in IN_USE}
    artifacts.write_json(network / "card.json", card)
    artifacts.seal(network.parent)
    return card


def score_held_out(bundle, packed, rows, fold):
    """Metrics of a fold's recordings, which the network never learned from."""
    clips = rows[rows["fold"].eq(fold)]
    answers = bundle.predict_packed(packed, clips).assign(fold=fold)
    predictions = decisions.of_recordings(answers, clips, bundle.config)
    protocol = f"Predictions of one network of the recordings of fold {fold}, never learned from."
    per_clip = decisions.per_clip(answers, clips, bundle.config.data.multilabel)
    return evaluate.metrics(predictions, per_clip, protocol, bundle.config)


def test_labels(source, config):
    """True labels of the test recordings by path, in the order of their labels and paths."""
    recordings = artifacts.read_table(source / "recordings.csv")
    root = folders.locate(config)
    truth = folders.hidden_labels(root, recordings, config).rename("label").reset_index()
    truth = truth.merge(recordings[["recording_id", "path"]], on="recording_id")
    truth["path"] = [Path(root) / path for path in truth["path"]]
    return truth.sort_values(["label", "path"], ignore_index=True)


def score_tests(bundle, truth):
    """The scores on the test set: of the recordings that can be heard, and how many cannot."""
    rows = []
    for row in truth.itertuples():
        try:
            overall = bundle.predict_file(row.path)
        except errors.AudioIssue:
            continue
        known = {"recording_id": row.recording_id, "group": row.recording_id, "label": row.label}
        rows.append({**known, "predicted": overall.index[0], **overall[bundle.labels]})
    scores = evaluate.scores_of(pd.DataFrame(rows), bundle.config)
    first = {name: scores[name] for name in evaluate.headline(bundle.config)}
    return {"scores": {"n_recordings": len(rows), **first}, "unheard": len(truth) - len(rows)}


def write_examples(folder, truth, settings):
    """A sound of the test set of each of six classes: mono OGG at the network's rate."""
    for label in EXAMPLES:
        paths = truth.loc[truth["label"].eq(label), "path"]
        decoded = decoder.decode(paths.iloc[0], settings.max_seconds)
        waveform = recording.mono_at(decoded, settings.sample_rate)
        waveform = 0.7 * waveform / np.abs(waveform).max()  # their levels differ by 30 dB
        dataset.write(folder / f"{label}.ogg", waveform, settings.sample_rate, "ogg")


def describe(card, rows, metrics, tested, config):
    """The card in words. Args: rows of waveforms.csv; the others as above."""
    folds = card["folds"]
    learned = rows[rows["fold"].isin(folds["train"])]
    return CARD.format(
        learned=learned["recording_id"].nunique(),
        train=", ".join(map(str, folds["train"])),
        seed=config.seed,
        parameters=card["parameters"],
        seconds=config.audio.clip_seconds,
        test=folds["test"],
        n_held_out=metrics["n_recordings"],
        held_out=evaluate.percent(metrics["accuracy"]),
        n_test=tested["scores"]["n_recordings"],
        tested=evaluate.percent(tested["scores"]["accuracy"]),
        unheard=tested["unheard"],
        labels=", ".join(card["labels"]),
    )


if __name__ == "__main__":
    main()
