"""The ablation: what each ingredient of the recipe is worth.

No test fold takes part: in each round the networks learn from all folds but two and are scored on
one of those, the validation fold (K. Piczak's protocol for ESC,
https://github.com/karolpiczak/paper-2015-esc-convnet), so that a recipe may be chosen by these
numbers.
"""

import hashlib
import json
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.audio import windowing
from helpers.base import artifacts, code
from helpers.base.settings import Audio, Config
from helpers.metrics import decisions
from helpers.rounds import learner, train
from helpers.splits import partition
from helpers.tuning import changes, variants


def measure_ingredients(
    folder: Path, config: Config, seeds: int = 1, only: tuple[str, ...] = ()
) -> Iterator[pd.DataFrame]:
    """Train the run's recipe and each changed one; yield what is measured so far, after each.

    Args: folder of the run; config; seeds per trial; only as of `changes.trials`. What was trained
        before with the same settings is taken from the run's ablation/, so a measurement that was
        stopped goes on.
    Yields tables as of `cleaning.measure_steps`.
    """
    rows = artifacts.read_table(folder / "waveforms.csv")
    packed = np.load(folder / "waveforms.npy", mmap_mode="r")
    reference, _ = predictions(folder, packed, rows, config, seeds)
    measured = []
    tried = changes.trials(config, changes.INGREDIENTS, only)
    if not learner.unlabelled(rows).any() and any(trial[1] == changes.PSEUDO for trial in tried):
        print("Pseudo-labels are left out: there is neither a test set nor data.unlabelled.")
        tried = [trial for trial in tried if trial[1] != changes.PSEUDO]
    for trial in tried:
        varied = variants.vary(config, *trial[1:3])
        toggled, seconds = predictions(folder, packed, rows, varied, seeds)
        row = changes.row(trial, config, reference, toggled, seconds)
        row["verdict"] = re.sub("(no difference).*", r"\1", row["verdict"])
        measured.append(row)
        yield pd.DataFrame(measured).assign(recipe=key_of(config, rows))


def predictions(folder: Path, packed: np.ndarray, rows: pd.DataFrame, config: Config, seeds: int):
    """Predictions per recording of the validation folds, a table for each seed, and the seconds.

    They are kept below the run's ablation/, so that nothing is trained twice.
    Args: folder of the run; packed int16 [clips, samples]; rows of waveforms.csv; config; seeds.
    """
    clips = rows[rows["split"].eq("train") & rows["parent_id"].eq("")]
    tables = []
    seconds = 0.0
    for seed in range(config.seed, config.seed + seeds):
        varied = config.but("seed", seed)
        place = folder / "ablation" / key_of(varied, rows)
        if not (place / "seconds.json").is_file():  # which is written last
            _train(place, packed, rows, varied)
        seconds += artifacts.read_json(place / "seconds.json")
        table = artifacts.read_table(place / "out_of_fold.csv")
        tables.append(
            decisions.per_recording(table, clips, config.data.multilabel, config.model.aggregate)
        )
    return tables, seconds


def key_of(config: Config, rows: pd.DataFrame) -> str:
    """A name for what is trained: equal names mean equal networks."""
    sections = {"audio", "clean", "features", "model", "train", "seed"}
    settings = json.dumps(config.model_dump(mode="json", include=sections), sort_keys=True)
    clips = rows[["clip_id", "label", "fold"]].to_csv(index=False)
    whole = settings + clips + code.module_digest("training.fit")
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def _train(place, packed, rows, config):
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        clips = filled(packed, rows, config.audio, Path(scratch) / "waveforms.npy")
        table, _ = train.cross_validate(
            clips, rows, config, scratch, checkpoint_folder=place, plan=plan(rows)
        )
    artifacts.write_table(place / "out_of_fold.csv", table)
    for path in place.glob("*.safetensors"):
        path.unlink()
    artifacts.write_json(place / "seconds.json", round(time.perf_counter() - started, 1))


def plan(rows: pd.DataFrame) -> list[dict]:
    """The rounds: each fold once the one that is scored, the fold before it left alone.

    Returns a list of rounds as of `partition.rounds`, whose `test` is the validation fold.
    """
    return [
        {"test": turn["validation"], "validation": None, "train": turn["train"]}
        for turn in partition.rounds(rows["fold"].dropna(), "validation")
    ]


def filled(packed: np.ndarray, rows: pd.DataFrame, settings: Audio, path: Path) -> np.ndarray:
    """The packed clips, short ones filled as `settings.short_clips` says, whatever they were.

    Args: packed int16 [clips, samples]; rows of waveforms.csv; settings the config's Audio section;
        path of the array to write. Returns the array.
    """
    size = packed.shape[1]
    lengths = rows["valid_seconds"] * settings.sample_rate
    lengths = lengths.round().clip(1, size).astype(int)
    made = np.lib.format.open_memmap(path, mode="w+", dtype=np.int16, shape=packed.shape)
    made[len(rows) :] = packed[len(rows) :]  # noise
    for index, length in enumerate(lengths):
        sound = packed[index][:length]
        made[index] = windowing.fill(sound, size, settings.short_clips)
    return made
