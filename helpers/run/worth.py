"""What a run's choices are worth: each cleaning step, each ingredient of the recipe, changed alone.

``python -m helpers worth cleaning --run demo`` (or ``make ablate``) measures the cleaning ledger on
a run that has finished 02_clean, ``python -m helpers worth recipe --run esc10`` (or
``make ablation``) the ablation on a run that has finished 04_features. Either way the change is
measured recording by recording.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from helpers.base import artifacts, errors
from helpers.base.settings import Config
from helpers.data import folders
from helpers.rounds import train
from helpers.run import journal, stages
from helpers.tuning import ablation, cleaning

LEDGER = "cleaning_ledger.csv"
ABLATION = "ablation.csv"


def write_ledger(config: Config, run: str | None = None) -> pd.DataFrame:
    """Measure a run's cleaning ledger and write it, whole or not at all.

    Args: config; run name or None (the preset's). Returns the table of `cleaning.measure_steps`.
        Raises StageError, naming the notebook to run first, unless 02_clean is done with these
        settings and recordings; SourceError.
    """
    folder = stages.ready_folder(config, run, "clips.csv")
    root = folders.locate(config)
    if reason := stages.why_stale(stages.spec("02_clean"), config, folder, root):
        raise errors.StageError(
            f"02_clean is out of date in {folder} ({reason}). Run 02_clean.ipynb first, with the "
            "same preset, data, run and settings (or `make run-all`)."
        )
    recordings = artifacts.read_table(folder / "recordings.csv")
    clips = artifacts.read_table(folder / "clips.csv")
    clips = clips[clips["split"].eq("train")]
    used = recordings[recordings["recording_id"].isin(clips["recording_id"])]
    table = cleaning.measure_steps(used, clips, root, config)
    artifacts.write_table(folder / LEDGER, table.assign(clips_sha256=_clips_digest(folder)))
    return table


def read_ledger(folder: Path) -> pd.DataFrame | None:
    """A run's ledger, or None: where there is none, or the clips have changed since."""
    return _read(Path(folder) / LEDGER, "clips_sha256", _clips_digest(folder))


def _clips_digest(folder):
    return journal.record(folder, "02_clean").get("outputs", {}).get("clips")


def write_ablation(
    config: Config, run: str | None = None, seeds: int = 1, only: tuple[str, ...] = ()
) -> Iterator[pd.DataFrame]:
    """Measure a run's ablation, writing and yielding the table after each row.

    Args: config; run name or None; seeds and only as of `ablation.measure_ingredients`. Raises
        StageError unless 04_features is done.
    """
    folder = stages.ready_folder(config, run)
    train.require_strangers(folder, config)
    for table in ablation.measure_ingredients(folder, config, seeds, only):
        artifacts.write_table(folder / ABLATION, table)
        yield table


def read_ablation(folder: Path, config: Config, rows: pd.DataFrame) -> pd.DataFrame | None:
    """A run's ablation, or None: where there is none, or recipe or clips have changed since."""
    return _read(Path(folder) / ABLATION, "recipe", ablation.key_of(config, rows))


def _read(path, column, key):
    """A measured table, or None: where there is none, or it was measured on something else."""
    table = artifacts.read_table(path) if path.is_file() else None
    return table if table is not None and table[column].eq(key).all() else None
