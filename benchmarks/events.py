"""What do a head whose frames answer and other front ends find, in clips and in time?

``python -m benchmarks.events --run demo_multilabel`` trains the network of a run that has finished
04_features in several ways, each differing from it in a setting, and scores each out of fold, per
recording, and in time, on the test recordings whose events are known: the multi-label demo's. Folds
and seed are the same in all ways. The first line is what remains of the first way's answers for
whole recordings if each is said from a recording's first second to its last.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import birds
from helpers.base import artifacts
from helpers.compare import medley
from helpers.data import folders
from helpers.metrics import evaluate
from helpers.run import presets, stages

WAYS = {
    "mean and maximum over time": ("model.pooling", "mean_max"),
    "attention over time": ("model.pooling", "attention"),
    "energy normalised (PCEN)": ("features.kind", "pcen"),
    "a second spectrogram": ("features.more_n_fft", (4096,)),
}
COLUMNS = ("macro AP out of fold", "by seconds", "by events")


def from_first_to_last(heard, bundle, root):
    """The answers for the recordings of a table of events as events, each as long as all of it."""
    rows = []
    for path, name in heard[["path", "filename"]].drop_duplicates().itertuples(index=False):
        hearing = bundle.hear(Path(root) / path)
        seconds = hearing.heard.edges[-1]
        said = hearing.answer().index
        rows += [(path, name, 0.0, seconds, label) for label in ("", *said)]
    return pd.DataFrame(rows, columns=["path", "filename", "onset", "offset", "label"])


def measure(config, folder, recordings, known, whole=False):
    """Train in one way: (scores out of fold, a list of those in time).

    With `whole` the second of these is that of `from_first_to_last`.
    """
    root = folders.locate(config)
    rows = artifacts.read_table(folder / "waveforms.csv")
    packed = np.load(folder / "waveforms.npy", mmap_mode="r")
    with tempfile.TemporaryDirectory() as scratch:
        own, bundle = birds.network(config, Path(scratch), packed, rows)
        heard = medley.heard_in(known, recordings, rows, bundle, root)
        tables = [heard, from_first_to_last(heard, bundle, root)] if whole else [heard]
    in_time = [medley.found_in_time(known, table, bundle.labels, config) for table in tables]
    return evaluate.scores_of(own, config), in_time


def said(name, clips, in_time):
    """A line of the table."""
    average = evaluate.percent(clips["macro_average_precision"]) if clips else ""
    kinds = [evaluate.percent(in_time[f"{kind}_macro_f1"]) for kind in ("segment", "event")]
    return " | ".join([name, average, *kinds])


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", default="demo_multilabel")
    parser.add_argument("--set", default="", help="settings of all ways, such as train.epochs=10")
    parser.add_argument("--fast", action="store_true", help="the small run: does it work at all?")
    parser.add_argument("--ways", type=int, nargs="*", default=range(len(WAYS)))
    asked = parser.parse_args()
    config = presets.load("demo_multilabel", settings=asked.set, fast=asked.fast)
    folder = stages.ready_folder(config, asked.run)
    recordings = artifacts.read_table(folder / "recordings.csv")
    known = folders.hidden_events(folders.locate(config), config)
    print(" | ".join(["way", *COLUMNS]))
    for number in asked.ways:
        name = list(WAYS)[number]
        clips, in_time = measure(config.but(*WAYS[name]), folder, recordings, known, number == 0)
        if number == 0:
            print(said("answers said from first to last", None, in_time[1]))
        print(said(name, clips, in_time[0]), flush=True)


if __name__ == "__main__":
    main()
