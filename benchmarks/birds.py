"""What are the ways of training on birds worth on soundscapes?

``python -m benchmarks.birds`` trains the network of the bird demo (preset demo_birds) in several
ways, each differing from the preset in a setting or two, and scores each out of fold, on recordings
that are filed under one species, and on the soundscapes, by their hidden key. Folds and seed are
the same in all ways. 01's measurements, near duplicates and features are left out.

``python -m benchmarks.birds --minutes 10000`` says how long the five networks of preset
birdclef_2025 would take for so many windows on two cores: processor seconds of BUDGETED windows
from OGG files to probabilities, scaled up. Random weights: what they answer does not matter.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch

from helpers.audio import features, windowing
from helpers.base import artifacts
from helpers.compare import inference
from helpers.data import folders, sources
from helpers.metrics import decisions, evaluate
from helpers.models import networks
from helpers.rounds import train
from helpers.run import presets
from helpers.splits import partition, rules
from helpers.submission import contract, priors, submit

BUDGETED = 240  # windows that are timed; twelve make a minute
SPECIES = 206  # in 2025
CORES = 2
WAYS = {
    "as the preset": "",
    "one label per recording": "data.multilabel=false data.weight_column=null audio.choose=first "
    "audio.max_clips=null train.noise_folder=null train.noise_db=null train.label_smoothing=0.05",
    "the first clip of a recording": "audio.choose=first",
    "no noise mixed in": "train.noise_folder=null train.noise_db=null",
    "secondary labels ignored": "train.secondary_weight=0",
    "secondary labels in full": "train.secondary_weight=1",
    "no rating": "data.weight_column=null",
    "every clip of a recording": "audio.max_clips=null",
}


def clips_of(config, folder):
    """What 01 to 04 make for a network: (recordings, packed, rows of waveforms.csv)."""
    root = folders.locate(config)
    found = sources.find(root, config.data).query("status == 'ok'")
    used = found.assign(status="used", pcm_sha256="", sha256="", reason="")
    used = used.assign(group=partition.groups(used), duration_seconds=60.0)
    train_side = used[used["split"].eq("train")]
    fold, _ = partition.folds(train_side, config.split.folds, config.seed, config.data.multilabel)
    (folder / "clips").mkdir()
    clips = rules.write_clips(used, root, config, folder / "clips")
    clips = partition.deal(clips, used, fold)
    copies = clips.head(0).assign(parent_id="", transforms="")
    path = folder / "waveforms.npy"
    rows = features.pack(clips, copies, folder, path, config)
    return used, np.load(path, mmap_mode="r"), rows


def network(config, folder, packed, rows):
    """Train as 05 does: (predictions out of fold, the trained bundle)."""
    home = folder / "models" / "cnn"
    home.mkdir(parents=True)
    out_of_fold, _ = train.cross_validate(packed, rows, config, home)
    own = decisions.of_recordings(out_of_fold, rows, config)
    if config.data.multilabel:
        thresholds = decisions.own_thresholds(own)
        artifacts.write_json(home / "thresholds.json", thresholds.to_dict())
        artifacts.seal(home)
    return own, inference.Bundle(folder)


def soundscape_scores(config, recordings, rows, heard):
    """Scores of the windows by the hidden key."""
    root = folders.locate(config)
    test = recordings[recordings["split"].eq("test")]
    asked = submit.contract_of(root, test, rows, config, contract.find_sample(root))
    clips = rows[rows["split"].eq("test")]
    prior = priors.of_run(root, recordings, rows, asked.classes, config)
    answers = submit.row_probabilities(asked, heard, clips, prior, config)
    said = submit.said(asked, answers, None, submit.files(asked, recordings))
    truth = folders.hidden_labels(root, recordings, config)
    several = config.but("data.multilabel", True)  # several are heard at once
    return submit.hidden_scores(asked, answers, said, truth, several)


def measure(config):
    """Train in one way: (scores out of fold, of soundscapes by windows that lie end to end and half
    over each other, seconds of training, windows answered in a second).
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        recordings, packed, rows = clips_of(config, folder)
        started = time.perf_counter()
        own, bundle = network(config, folder, packed, rows)
        trained = time.perf_counter()
        clips = rows[rows["split"].eq("test")]
        heard = bundle.predict_packed(packed, clips)
        speed = len(clips) / (time.perf_counter() - trained)
        ways = [config.but("audio.test_steps", steps) for steps in (1, 2)]
        hidden = [soundscape_scores(way, recordings, rows, heard) for way in ways]
    return [evaluate.scores_of(own, config), *hidden], trained - started, speed


def minutes(windows):
    """Minutes on CORES cores for so many windows: of decoding, and of one network and view."""
    config = presets.load("birdclef_2025")
    model = networks.build(config, SPECIES, fresh=False).eval()
    rate = config.audio.sample_rate
    noise = np.random.default_rng(0).normal(0, 0.1, 60 * rate)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder) / "soundscape.ogg"
        soundfile.write(path, noise, rate)
        begun = time.process_time()
        for _ in range(BUDGETED // 12):
            clips = windowing.clips_of(path, config, every=True)
        decoded = time.process_time() - begun
        batch = torch.from_numpy(np.stack([clip for _, _, clip in clips]))
        model.probabilities(batch)
        begun = time.process_time()
        for _ in range(BUDGETED // 12):
            model.probabilities(batch)  # of all windows, also those that begin in between
        heard = time.process_time() - begun
    a_network = heard * windows / BUDGETED / CORES / 60
    decoding = decoded * windows / BUDGETED / CORES / 60
    return decoding, a_network


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--set", default="", help="settings of all ways, such as train.epochs=10")
    parser.add_argument("--ways", type=int, nargs="*", default=range(len(WAYS)))
    parser.add_argument("--minutes", type=int, metavar="WINDOWS", help="how long would they take?")
    asked = parser.parse_args()
    if asked.minutes:
        decoding, one = minutes(asked.minutes)
        print(f"{decoding:.1f} min to decode and cut, {one:.1f} min per network and view")
        print(f"five networks, one view: {decoding + 5 * one:.0f} min on {CORES} cores")
        return
    print("way | out of fold | windows end to end | half over each other | train s | windows/s")
    for way in [list(WAYS)[number] for number in asked.ways]:
        config = presets.load("demo_birds", settings=f"{asked.set} {WAYS[way]}")
        scores, seconds, speed = measure(config)
        aucs = ["{value:.3f} ({low:.3f}–{high:.3f})".format(**each["roc_auc"]) for each in scores]
        print(f"{way} | {' | '.join(aucs)} | {seconds:.0f} | {speed:.0f}", flush=True)


if __name__ == "__main__":
    main()
