"""What a listener is worth where recordings are few, against a network trained from scratch.

``python -m benchmarks.listener --run demo --listener run:esc10`` prints a table. In each round one
fold of the run is held out; of the others 2, 5, 10 and all recordings per class are drawn. Both
sides learn from the same recordings and answer the same held-out ones. The pooled answers give a
score with its interval, and the difference a paired one. Sweeps draw anew and are averaged. So that
few recordings are not heard too seldom, the network makes as many steps as with all of them, but at
most LONGER times as many epochs. Nothing is chosen. With several labels a recording counts for each
class that it holds.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.audio import features
from helpers.base import artifacts, targets
from helpers.base.settings import Config
from helpers.compare import classic
from helpers.listeners import embed
from helpers.metrics import decisions, evaluate, intervals
from helpers.rounds import train
from helpers.splits import partition

LONGER = 8
ALL = "all"


def draw(recordings: pd.DataFrame, count: int, multilabel: bool, rng) -> list[str]:
    """The ids of so many recordings of each class, all of a class that has fewer.

    Args: recordings with recording_id and label; count, or ALL; multilabel; rng of NumPy.
    """
    if count == ALL:
        return list(recordings["recording_id"])
    kept = {}
    counts = {}
    for row in recordings.sample(frac=1, random_state=rng).itertuples():
        labels = targets.split(row.label, multilabel) or [""]
        if any(counts.get(label, 0) < count for label in labels):
            kept[row.recording_id] = row.label
            for label in labels:
                counts[label] = counts.get(label, 0) + 1
    return list(kept)


def head(name, table, config, turn, drawn) -> pd.DataFrame:
    """The answers of a model on embeddings to a held-out fold: clip_id, fold, classes."""
    labels = targets.classes(table, config.data.multilabel)
    training = partition.fold_rows(table, turn["train"])
    training = training[training["recording_id"].isin(drawn)]
    test = partition.fold_rows(table, [turn["test"]]).reset_index(drop=True)
    answers = classic.predict(classic.fit(name, training, labels, config), test)
    return pd.concat([test[["clip_id", "fold"]], answers], axis=1)


def scratch(packed, rows, config, turn, drawn) -> pd.DataFrame:
    """The answers of a network that learned from nothing else."""
    everything = partition.fold_rows(rows, turn["train"])
    is_learned = everything["recording_id"].isin(drawn)
    longer = min(LONGER, len(everything) / is_learned.sum())
    config = config.but("train.epochs", round(config.train.epochs * longer))
    test = partition.fold_rows(rows, [turn["test"]])
    some = pd.concat([everything[is_learned], test])
    with tempfile.TemporaryDirectory() as folder:
        return train.cross_validate(packed, some, config, folder, plan=[turn])[0]


def compare(folder: Path, config: Config, counts: list, sweeps: int, name: str):
    """Both sides for each count: dicts count, scratch, listener, points.

    Args: folder of a run that 04 has finished; config with features.listener; counts of recordings
        per class; sweeps; name of the model on embeddings.
    """
    rows = artifacts.read_table(folder / "waveforms.csv")
    packed = np.load(folder / "waveforms.npy", mmap_mode="r")
    heard = embed.listener(config, folder)
    vectors = embed.embeddings(heard, packed[: len(rows)], config.audio.sample_rate)
    table = pd.concat([rows[features.IDENTITY], embed.table(vectors)], axis=1)
    plan = partition.rounds(rows["fold"].dropna(), "last", config.split.test_folds)
    for count in counts:
        sides = {"scratch": [], "listener": []}
        for sweep in range(sweeps):
            answers = {"scratch": [], "listener": []}
            for turn in plan:
                rng = np.random.default_rng([config.seed, sweep, turn["test"]])
                learned = partition.fold_rows(rows, turn["train"])
                recordings = learned.drop_duplicates("recording_id")
                drawn = draw(recordings, count, config.data.multilabel, rng)
                varied = config.but("seed", config.seed + sweep)
                answers["scratch"].append(scratch(packed, rows, varied, turn, drawn))
                answers["listener"].append(head(name, table, varied, turn, drawn))
            for side, parts in answers.items():
                pooled = pd.concat(parts, ignore_index=True)
                sides[side].append(decisions.of_recordings(pooled, rows, config))
        change = evaluate.paired_change(sides["scratch"], sides["listener"], config)
        ends = (change["change"], change["change_low"], change["change_high"])
        scores = {side: score(tables, config) for side, tables in sides.items()}
        yield {"per class": count, **scores, "difference": evaluate.points(*ends)}


def score(tables: list, config: Config) -> str:
    """The mean score of some tables of predictions, with its interval, in words."""
    metric = evaluate.HEADLINE[config.data.multilabel][0]
    weights = evaluate.draws(tables[0], config.evaluate.bootstrap_samples, config.seed)
    samples = [evaluate.score_samples(table, weights, metric) for table in tables]
    sizes = evaluate.group_sizes(tables[0])
    return evaluate.percent(intervals.interval(np.mean(samples, axis=0), sizes))


def main(arguments=None):
    """Print the table, in Markdown."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.listener", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--run", required=True, help="name of a run that 04 has finished")
    parser.add_argument("--listener", required=True, help="as features.listener, such as run:esc10")
    parser.add_argument("--counts", nargs="+", default=["2", "5", "10", ALL], metavar="N")
    parser.add_argument("--sweeps", type=int, default=3, help="draws per fold (default: 3)")
    parser.add_argument("--head", default="listener_linear", help="model on the embeddings")
    parser.add_argument("--folds", type=int, help="so many folds are held out (default: all)")
    parser.add_argument("--epochs", type=int, help="of the network with all recordings")
    asked = parser.parse_args(arguments)
    folder = artifacts.existing_run(asked.run)
    config = Config(**artifacts.read_json(folder / "run.json")["config"])
    changes = {"train.epochs": asked.epochs, "split.test_folds": asked.folds}
    for key, value in {**changes, "features.listener": asked.listener}.items():
        config = config if value is None else config.but(key, value)
    counts = [count if count == ALL else int(count) for count in asked.counts]
    metric = evaluate.in_words(evaluate.HEADLINE[config.data.multilabel][0])
    print(f"| recordings per class | from scratch, {metric} | {asked.head} | points |")
    print("|---|---|---|---|")
    for row in compare(folder, config, counts, asked.sweeps, asked.head):
        print("|", " | ".join(str(value) for value in row.values()), "|", flush=True)


if __name__ == "__main__":
    main()
