"""The results of a run on ESC-10 as files that are small enough to keep.

``python -m benchmarks.esc10 --run esc10_gpu`` after ``make run-all PRESET=esc10_gpu`` (add
``DATA=path/to/ESC-10`` to both where the recordings lie elsewhere) writes a table with its
protocol, results/esc10_gpu.json, and every clip's probabilities, results/esc10_gpu.csv.
``--against results/esc10-seeds.csv`` says how the accuracy differs from those, in pairs.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.base import artifacts, errors
from helpers.base.settings import Config
from helpers.metrics import decisions, evaluate
from helpers.run import journal

PROTOCOL = (
    "Official five folds, each tested once by networks that learned from the other four; the "
    "last epoch is kept, "
    "nothing is chosen on a tested fold; trained from scratch, without other data. A recording "
    "that shares its sound "
    "with another fold is moved there (see the split certificate). Accuracy per recording, "
    "pooled over the folds."
)


def results(folder):
    """The results of a run: (a dict for reading, the probabilities per clip and seed)."""
    run = journal.read_run(folder)
    config = Config(**run["config"])
    clips = training_clips(folder)
    several = folder / "models" / "cnn" / "seeds.csv"
    together = artifacts.read_table(folder / "models" / "cnn" / "out_of_fold.csv")
    table = artifacts.read_table(several) if several.is_file() else together.assign(seed=0)
    answers = by_seed(table, clips, config)
    single = {seed: accuracy(part) for seed, part in answers.items()}
    predicted = decisions.per_recording(together, clips, False, config.model.aggregate)
    values = np.array([score["accuracy"] for score in single.values()])
    found = {
        "protocol": PROTOCOL,
        "preset": config.preset,
        "seed": config.seed,
        "recordings": len(predicted),
        "single": {str(seed): score for seed, score in single.items()},
        "single_mean": round(float(values.mean()), 4),
        "single_deviation": round(float(values.std(ddof=1)), 4) if len(values) > 1 else None,
        "ensemble": evaluate.scores_of(predicted, config)["accuracy"],
        "wrong_for_most_seeds": hardest(answers),
        "versions": run["versions"],
        "cpu_cores": run["machine"]["cpu_cores"],
        "git_commit": run["git_commit"],
        "train_seconds": run["stages"]["05_train_cnn"]["seconds"],
    }
    return found, table.round(4)


def training_clips(folder):
    """The rows of waveforms.csv that networks are tested on."""
    rows = artifacts.read_table(folder / "waveforms.csv")
    return rows[rows["split"].eq("train") & rows["parent_id"].eq("")]


def by_seed(table, clips, config):
    """The answers of each seed's networks per recording: {seed: table}."""
    how = config.model.aggregate
    return {
        int(seed): decisions.per_recording(part.drop(columns="seed"), clips, False, how)
        for seed, part in table.groupby("seed")
    }


def difference(table, other, folder):
    """The accuracy of a run less that of another table of probabilities, in points, paired over
    sources, the mean over their seeds.
    """
    config = Config(**journal.read_run(folder)["config"])
    clips = training_clips(folder)
    before, after = (list(by_seed(one, clips, config).values()) for one in (other, table))
    change = evaluate.paired_change(before, after, config)
    return evaluate.points(change["change"], change["change_low"], change["change_high"])


def accuracy(found):
    """The share of recordings that one seed's networks have right, in all and by fold."""
    right = found["label"].eq(found["predicted"])
    by_fold = right.groupby(found["fold"]).mean().round(4)
    return {
        "accuracy": round(float(right.mean()), 4),
        "folds": {str(fold): v for fold, v in by_fold.items()},
    }


def hardest(answers):
    """How many recordings of each class most seeds have wrong, the most first: {label: count}."""
    whole = pd.concat(answers.values())
    wrong = whole["label"].ne(whole["predicted"])
    share = wrong.groupby([whole["recording_id"], whole["label"]]).mean()
    return share[share > 0.5].groupby("label").size().sort_values(ascending=False).to_dict()


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.esc10", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--run", default="esc10", help="name of the run below outputs/ (default: esc10)"
    )
    parser.add_argument(
        "--to", default="results", help="folder that the files go to (default: results)"
    )
    parser.add_argument("--against", metavar="CSV", help="another run's probabilities, as written")
    options = parser.parse_args(arguments)
    try:
        folder = artifacts.existing_run(options.run)
        found, table = results(folder)
    except (errors.StageError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    target = Path(options.to)
    target.mkdir(parents=True, exist_ok=True)
    artifacts.write_json(target / f"{options.run}.json", found)
    table.to_csv(target / f"{options.run}.csv", index=False)
    print(
        f"single {found['single_mean']:.2%} (sd {found['single_deviation'] or 0:.2%}), ensemble",
        found["ensemble"],
    )
    wrong = found["wrong_for_most_seeds"]
    print("wrong for most seeds:", sum(wrong.values()), wrong)
    if options.against:
        print("points more than those:", difference(table, pd.read_csv(options.against), folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
