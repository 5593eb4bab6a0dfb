"""The cleaning ledger: what each cleaning step does to the score, so that a step stays on only if
it helps.

``python -m helpers ablate --run demo`` (or ``make ablate``) measures it on a run that has finished
02_clean. Each step is toggled alone against the run's own settings. Recordings, groups, folds and
seeds stay the same, only the sound differs, so the change is measured recording by recording. Test
recordings and augmented copies take no part.
"""

import contextlib
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import pandas as pd

from helpers.audio import features, recording, windowing
from helpers.base import artifacts, errors, work
from helpers.compare import classic
from helpers.data import folders
from helpers.metrics import decisions, evaluate
from helpers.run import journal, stages

# the step's setting in the section clean, and its values: off first, then what is tried where it is
# off
STEPS = {
    "high-pass": ("high_pass_hz", (None, 50.0, 100.0)),
    "trim": ("trim_db", (None, 50.0)),
    "denoise": ("denoise", (False, True)),
    "normalise": ("normalise", (False, True)),
}
UNITS = {"high_pass_hz": "Hz", "trim_db": "dB"}
FILE = "cleaning_ledger.csv"
MODEL = "dnn"  # quick, and sees the whole feature table
SEEDS = 5  # one seed of a small network is noise; the scores are means over so many


def trials(config):
    """What is tried: a list of (step, name of its setting, value). What is on is tried off, what is
    off is tried on.

    What the config's other settings forbid is left out: labels that hold from a second on allow no
    trimming.
    """
    return [
        (step, name, value)
        for step, (name, (off, *on)) in STEPS.items()
        for value in ([off] if getattr(config.clean, name) != off else on)
        if _fits(config, name, value)
    ]


def _fits(config, name, value):
    try:
        vary(config, name, value)
    except ValueError:
        return False
    return True


def vary(config, name, value):
    """The config with one setting of the section clean changed. Raises ValueError where others
    forbid it.
    """
    rules = config.clean.model_copy(update={name: value})
    return type(config).model_validate({**config.model_dump(), "clean": rules})


def measure(used, clips, root, config):
    """Toggle each cleaning step alone and measure what that does to the score.

    Args: used the training recordings that 02_clean used, as in recordings.csv; clips their rows of
        clips.csv; root data folder; config.
    Returns a table, a row per trial: step, setting (the run's), tried, metric, reference and
    toggled (the scores, means over the seeds), change (toggled minus reference) with its 95 %
    interval change_low and change_high, seeds_sd (the change's deviation between seeds), verdict,
    seconds.
    """
    tried = trials(config)
    variants = [config, *(vary(config, name, value) for _, name, value in tried)]
    found, seconds = [], []
    for variant in work.progress(variants, "cleaning ledger", len(variants)):
        started = time.perf_counter()
        found.append(predictions(feature_table(used, clips, root, variant), variant))
        seconds.append(round(time.perf_counter() - started, 1))
    rows, metric = [], evaluate.HEADLINE[config.data.multilabel][0]
    for (step, name, value), toggled, cost in zip(tried, found[1:], seconds[1:], strict=True):
        current = getattr(config.clean, name)
        change = evaluate.paired_change(found[0], toggled, config)
        said = verdict(current != STEPS[step][1][0], change["change_low"], change["change_high"])
        words = {
            "step": step,
            "setting": in_words(name, current),
            "tried": in_words(name, value),
            "metric": metric,
        }
        rows.append({**words, **change, "verdict": said, "seconds": cost})
    return pd.DataFrame(rows)


def in_words(name, value):
    """A setting for reading.

    >>> in_words("trim_db", 50.0), in_words("denoise", True), in_words("high_pass_hz", None)
    ('50 dB', 'on', 'off')
    """
    if value is None or isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g} {UNITS[name]}"


# --- one variant
# -------------------------------------------------------------------------------------------


def feature_table(used, clips, root, config):
    """The feature table of the recordings, cleaned as the config says; groups and folds are those
    of `clips`.

    Nothing is written: each recording goes from its file to its clips' features at once.
    """
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor(joblib.cpu_count()) as pool,
    ):  # which ends before it is left
        warnings.filterwarnings("ignore", category=UserWarning, module="librosa")
        with contextlib.closing(
            pool.map(lambda row: describe(row, root, config), used.itertuples())
        ) as described:
            described = work.progress(described, "clean and describe", len(used))
            table = pd.DataFrame([row for rows in described for row in rows]).round(6)
    facts = ["recording_id", "group", "fold"]
    if config.data.start_column:  # a clip's label is its own; clips that no label touches have none
        table, facts = table.drop(columns="label"), [*facts, "label", "start_seconds"]
    return table.merge(clips[facts].drop_duplicates(), on=[name for name in facts if name in table])


def describe(row, root, config):
    """The clips of a recording as rows of the feature table: cleaned and cut as 02 does, described
    as 04 does.

    Args: row of recordings.csv; root data folder; config. Returns a list of dicts.
    """
    rows = []
    cut = windowing.clips_of(Path(root) / row.path, config)
    for number, (start_seconds, valid_seconds, clip) in enumerate(cut):
        heard = clip[: max(1, round(valid_seconds * config.audio.sample_rate))]
        heard = features.unpack(recording.to_steps(heard))  # as a clip is stored
        identity = {
            "clip_id": f"{row.recording_id}-{number:03d}",
            "parent_id": "",
            "recording_id": row.recording_id,
        }
        place = {"label": row.label, "split": row.split, "start_seconds": start_seconds}
        rows.append({**identity, **place, **features.describe(heard, config)})
    return rows


def predictions(table, config):
    """Out-of-fold predictions per recording of the quick model, a table for each of SEEDS seeds."""
    found = []
    for seed in range(config.seed, config.seed + SEEDS):
        out_of_fold, _ = classic.cross_validate(
            MODEL, table, config.model_copy(update={"seed": seed})
        )
        found.append(decisions.per_recording(out_of_fold, table, config.data.multilabel))
    return found


# --- in words
# ----------------------------------------------------------------------------------------------


def verdict(on, low, high):
    """What the interval of the change that toggling brings says of a step: it stays, or comes, on
    only if it helps.

    Args: on whether the run has the step on; low, high of the change. An interval that holds 0 is
        no difference.

    >>> verdict(True, -0.05, -0.01), verdict(False, -0.01, 0.02)
    ('keep: it helps', 'no difference: leave it off')
    """
    if low <= 0 <= high:
        return f"no difference: {'turn' if on else 'leave'} it off"
    if on:
        return "drop: it costs" if low > 0 else "keep: it helps"
    return "turn on: it helps" if low > 0 else "leave off: it costs"


# --- a run
# -------------------------------------------------------------------------------------------------


def write(config, run=None):
    """Measure the ledger of a run and write it, whole or not at all, to <run
    folder>/cleaning_ledger.csv.

    Args: config; run name or None (the preset's). Returns the table of `measure`. Raises
    StageError, naming the notebook to run first, unless 02_clean is done with these settings and
    recordings; SourceError.
    """
    folder = journal.run_folder(config, run)
    root = _cleaned_root(config, folder)
    recordings, clips = (
        artifacts.read_table(folder / name) for name in ("recordings.csv", "clips.csv")
    )
    clips = clips[clips["split"].eq("train")]
    used = recordings[recordings["recording_id"].isin(clips["recording_id"])]
    table = measure(used, clips, root, config)
    artifacts.write_table(folder / FILE, table.assign(clips_sha256=_clips_digest(folder)))
    return table


def _cleaned_root(config, folder):
    """The data folder of a run whose 02_clean is done and up to date."""
    done = journal.read_run(folder).get("stages", {})
    first = [
        stage.name
        for stage in stages.STAGES[:2]
        if done.get(stage.name, {}).get("status") != "done"
    ]
    again = "with the same preset, data, run and settings (or `make run-all`)"
    if first:
        raise errors.StageError(
            f"The cleaning ledger needs clips.csv, which is not there yet in {folder}. "
            f"Run {first[0]}.ipynb first, {again}."
        )
    root = folders.locate(config)
    if reason := stages.why_stale(stages.spec("02_clean"), config, folder, root):
        raise errors.StageError(
            f"02_clean is out of date in {folder} ({reason}). Run 02_clean.ipynb first, {again}."
        )
    return root


def _clips_digest(folder):
    record = journal.read_run(folder).get("stages", {}).get("02_clean", {})
    return record.get("outputs", {}).get("clips")


def read(folder):
    """A run's ledger, or None: where there is none, or where the clips have changed since it was
    measured.
    """
    path = Path(folder) / FILE
    table = artifacts.read_table(path) if path.is_file() else None
    return (
        table
        if table is not None and table["clips_sha256"].eq(_clips_digest(folder)).all()
        else None
    )


def shown(table):
    """The ledger for reading: the scores in percent, the change in points with its interval.

    Args: table of `measure`. Returns a table of text.
    """
    changes = table[["change", "change_low", "change_high"]].to_numpy()
    return pd.DataFrame(
        {
            "step": table["step"],
            "setting": table["setting"],
            evaluate.in_words(table["metric"].iloc[0]): [
                f"{100 * value:.1f} %" for value in table["reference"]
            ],
            "tried": table["tried"],
            "change in points": [evaluate.points(*change) for change in changes],
            "between seeds": [f"±{100 * value:.1f}" for value in table["seeds_sd"]],
            "verdict": table["verdict"],
        }
    )
