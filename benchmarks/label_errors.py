"""How many labels that were turned wrong on purpose does the ranking of suspects find?

``python benchmarks/label_errors.py --data path/to/ESC-10`` flips the labels of random recordings to
a random other class, cross-validates each model on the labels so spoiled, ranks all recordings by
how doubtful their label is, and counts how many of the flipped ones are in the first tenth, and how
many of those doubted first were
flipped: the others had a right label all along. Features are computed once; groups and folds stay.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from helpers.base import artifacts
from helpers.compare import classic
from helpers.data import folders
from helpers.metrics import decisions, suspects
from helpers.rounds import train
from helpers.run import journal, pipeline, presets, stages

TOP = 0.1  # share of the ranking that a person would listen to
FIRST = (10, 20, 40)  # doubted labels, of which it is counted how many are wrong
NEEDED = ("01_explore", "02_clean", "03_augment", "04_features")


def prepare(settled, data, preset):
    """Run the notebooks up to the features, unless they are up to date; returns the run's
    folder.
    """
    folder, root = journal.run_folder(settled, "label-errors"), folders.locate(settled)
    folder.mkdir(parents=True, exist_ok=True)
    parameters = {"preset": preset, "data": data, "run": folder.name}
    with pipeline.locked(folder):
        for stage in map(stages.spec, NEEDED):
            pipeline.run_stage(stage, settled, folder, root, parameters)
    return folder


def flip(labels, share, rng):
    """Labels by recording_id, of which a share is replaced by a random other class; returns
    (labels, who: bool).
    """
    classes, spoiled = sorted(labels.unique()), labels.copy()
    chosen = rng.choice(labels.index, round(share * len(labels)), replace=False)
    spoiled[chosen] = [
        rng.choice([name for name in classes if name != labels[one]]) for one in chosen
    ]
    return spoiled, spoiled.ne(labels)


def predict(name, folder, labels, settled):
    """Out-of-fold predictions per recording of a model that learns from these labels (all clips and
    copies alike).
    """
    rows, table = (
        artifacts.read_table(folder / file) for file in ("waveforms.csv", "features.csv")
    )
    rows, table = (
        part.assign(label=part["recording_id"].map(labels).fillna("")) for part in (rows, table)
    )
    if name == "cnn":
        packed = np.load(folder / "waveforms.npy", mmap_mode="r")
        with tempfile.TemporaryDirectory() as scratch:
            out_of_fold, _ = train.cross_validate(packed, rows, settled, scratch)
    else:
        out_of_fold, _ = classic.cross_validate(name, table, settled)
    originals = rows[rows["split"].eq("train") & rows["parent_id"].eq("")]
    return decisions.per_recording(out_of_fold, originals)


def measure(seed, names, folder, settled, share):
    """What is found per model and of their averages: share of the flips in the first tenth, share
    rightly suggested.
    """
    rows = artifacts.read_table(folder / "waveforms.csv")
    truth = rows[rows["split"].eq("train")].groupby("recording_id")["label"].first()
    labels, flipped = flip(truth, share, np.random.default_rng(seed))
    found, results = {}, []
    for name in names:
        started = time.perf_counter()
        found[name] = predict(name, folder, labels, settled)
        print(
            f"seed {seed}: {name}, {time.perf_counter() - started:.0f} s",
            file=sys.stderr,
            flush=True,
        )
    teams = {name: [name] for name in names} | {"all": names}
    teams["all but mfcc_linear"] = [name for name in names if name != "mfcc_linear"] or names
    for title, members in teams.items():
        ranked = suspects.rank({name: found[name] for name in members}).set_index("recording_id")
        first, wrong = ranked.index[: round(TOP * len(ranked))], flipped.index[flipped]
        apart = suspects.one_per_source(ranked.reset_index())["recording_id"]
        result = {
            "seed": seed,
            "models": title,
            "recall": float(flipped[first].sum() / max(flipped.sum(), 1)),
            "suggestion_right": float(ranked.loc[wrong, "suggested"].eq(truth[wrong]).mean()),
            "doubted": int(ranked["doubt"].ge(suspects.DOUBTED).sum()),
        }
        for count in FIRST:
            result[f"wrong_of_{count}"] = int(flipped[ranked.index[:count]].sum())
            result[f"wrong_of_{count}_sources"] = int(flipped[apart[:count]].sum())
        results.append(result)
    return results


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", help="folder of recordings, one sub-folder per class")
    source.add_argument(
        "--run", help="name of a run below outputs/ with the features of such recordings"
    )
    parser.add_argument(
        "--preset", default="esc10", help="preset to read and to learn with (default: %(default)s)"
    )
    parser.add_argument(
        "--flip", type=float, default=0.05, help="share of labels to flip (default: %(default)s)"
    )
    parser.add_argument(
        "--seeds", type=int, default=5, help="so many sets of flips (default: %(default)s)"
    )
    parser.add_argument(
        "--models",
        default="mfcc_linear,svm,xgboost",
        help="models on the feature table (%(default)s)",
    )
    parser.add_argument(
        "--cnn", action="store_true", help="the CNN too: minutes per seed without a GPU"
    )
    parser.add_argument(
        "--epochs", type=int, help="train the CNN for so many epochs (default: the preset's)"
    )
    parser.add_argument("--out", help="write the results to this JSON file")
    options = parser.parse_args(arguments)
    os.environ["EARSHOT_HEADLESS"] = "1"
    data = options.data and str(Path(options.data).expanduser().resolve())
    settled = presets.load(
        options.preset, data, settings=f"train.epochs={options.epochs}" if options.epochs else ""
    )
    folder = (
        artifacts.existing_run(options.run)
        if options.run
        else prepare(settled, data, options.preset)
    )
    names = [*(["cnn"] if options.cnn else []), *options.models.split(",")]
    results = [
        row
        for seed in range(options.seeds)
        for row in measure(seed, names, folder, settled, options.flip)
    ]
    groups = pd.DataFrame(results).drop(columns="seed").groupby("models", sort=False)
    table = groups.agg(["mean", "std"]).round(3)
    print(
        f"{options.flip:.0%} of the labels flipped, {options.seeds} seeds; found in the first "
        f"{TOP:.0%}:"
    )
    print(table[["recall", "suggestion_right"]].to_string())
    print("Of the labels doubted first, so many were wrong (the others were right all along):")
    print(table.drop(columns=["recall", "suggestion_right"]).to_string())
    if options.out:
        artifacts.write_json(options.out, {"flip": options.flip, "top": TOP, "results": results})


if __name__ == "__main__":
    main()
