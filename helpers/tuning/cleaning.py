"""The cleaning ledger: what each cleaning step is worth.

The same recordings, groups, folds and seeds, only the sound differs. Test recordings and augmented
copies take no part; the model is a quick one.
"""

import time
import warnings
from itertools import chain
from pathlib import Path

import pandas as pd

from helpers.audio import clean, features, recording, windowing
from helpers.base import work
from helpers.base.settings import Config
from helpers.compare import classic
from helpers.metrics import decisions
from helpers.tuning import changes, variants

MODEL = "dnn"  # quick, and sees the whole feature table
SEEDS = 5  # one seed of a small network is noise; scores are means over so many


def measure_steps(
    used: pd.DataFrame, clips: pd.DataFrame, root: Path, config: Config
) -> pd.DataFrame:
    """Toggle each cleaning step alone and measure what that does to the score.

    Args: used the training recordings that 02_clean used, as in recordings.csv; clips their rows of
        clips.csv; root data folder; config.
    Returns a table, a row per trial: step, setting (the run's), tried, metric, reference and
        toggled (the scores, means over the seeds), change (toggled minus reference) with its 95 %
        interval change_low and change_high, seeds_sd (the change's deviation between seeds),
        verdict, seconds.
    """
    reference = quick_predictions(feature_table(used, clips, root, config), config)
    rows = []
    tried = changes.trials(config, changes.STEPS)
    for trial in work.progress(tried, "cleaning ledger", len(tried)):
        started = time.perf_counter()
        varied = variants.vary(config, *trial[1:3])
        toggled = quick_predictions(feature_table(used, clips, root, varied), varied)
        seconds = round(time.perf_counter() - started, 1)
        rows.append(changes.row(trial, config, reference, toggled, seconds))
    return pd.DataFrame(rows)


def feature_table(
    used: pd.DataFrame, clips: pd.DataFrame, root: Path, config: Config
) -> pd.DataFrame:
    """The feature table of recordings cleaned as the config says, groups and folds those of clips.

    Nothing is written: each recording goes from its file to its clips' features at once.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="librosa")
        described = work.in_threads(
            lambda row: describe(row, root, config), list(used.itertuples()), "clean and describe"
        )
        table = pd.DataFrame(list(chain.from_iterable(described))).round(6)
    facts = ["recording_id", "group", "fold"]
    keys = ["recording_id"]
    if config.data.start_column:  # a clip's label is its own; clips that no label touches have none
        table = table.drop(columns="label")
        facts += ["label", "start_seconds"]
        keys += ["start_seconds"]
    return table.merge(clips[facts].drop_duplicates(), on=keys)


def describe(row, root: Path, config: Config) -> list[dict]:
    """The clips of a recording as rows of the feature table: cut as by 02, described as by 04.

    Args: row of recordings.csv; root data folder; config.
    """
    rows = []
    cleaned = clean.load_clean(Path(root) / row.path, config)
    for number, (start, valid_seconds, clip) in enumerate(windowing.cut(cleaned, config.audio)):
        samples = clip[: max(1, round(valid_seconds * config.audio.sample_rate))]
        identity = {
            "clip_id": f"{row.recording_id}-{number:03d}",
            "parent_id": "",
            "recording_id": row.recording_id,
            "label": row.label,
            "split": row.split,
            "start_seconds": start,
        }
        stored = features.unpack(recording.to_steps(samples))
        rows.append({**identity, **features.describe(stored, config)})
    return rows


def quick_predictions(table: pd.DataFrame, config: Config) -> list[pd.DataFrame]:
    """Out-of-fold predictions per recording of the quick model, a table for each of SEEDS seeds."""
    tables = []
    for seed in range(config.seed, config.seed + SEEDS):
        out_of_fold, _ = classic.cross_validate(MODEL, table, config.but("seed", seed))
        tables.append(decisions.per_recording(out_of_fold, table, config.data.multilabel))
    return tables
