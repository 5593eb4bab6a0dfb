"""The results of a run on ESC-10 as files that are small enough to keep: a table, its protocol,
per-clip probabilities.

``python -m benchmarks.esc10 --run esc10_gpu`` after ``make run-all PRESET=esc10_gpu`` (add
``DATA=path/to/ESC-10`` to both where the recordings lie elsewhere) writes results/esc10_gpu.json
and results/esc10_gpu.csv.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

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
    config, rows = Config(**run["config"]), artifacts.read_table(folder / "waveforms.csv")
    clips = rows[rows["split"].eq("train") & rows["parent_id"].eq("")]
    several = folder / "models" / "cnn" / "seeds.csv"
    together = artifacts.read_table(folder / "models" / "cnn" / "out_of_fold.csv")
    table = artifacts.read_table(several) if several.is_file() else together.assign(seed=0)
    single = {
        int(seed): accuracy(part.drop(columns="seed"), clips, config)
        for seed, part in table.groupby("seed")
    }
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
        "versions": run["versions"],
        "cpu_cores": run["machine"]["cpu_cores"],
        "git_commit": run["git_commit"],
        "train_seconds": run["stages"]["05_train_cnn"]["seconds"],
    }
    return found, table.round(4)


def accuracy(table, clips, config):
    """The share of recordings that one seed's networks have right, in all and by fold."""
    found = decisions.per_recording(table, clips, False, config.model.aggregate)
    right = found["label"].eq(found["predicted"])
    by_fold = right.groupby(found["fold"]).mean().round(4)
    return {
        "accuracy": round(float(right.mean()), 4),
        "folds": {str(fold): v for fold, v in by_fold.items()},
    }


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
    options = parser.parse_args(arguments)
    try:
        found, table = results(artifacts.existing_run(options.run))
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
    return 0


if __name__ == "__main__":
    sys.exit(main())
