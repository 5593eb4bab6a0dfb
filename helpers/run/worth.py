"""What a run's choices are worth: each cleaning step, each ingredient of the recipe, changed alone.

``python -m helpers worth cleaning --run demo`` (or ``make ablate``) measures the cleaning ledger on
a run that has finished 02_clean: the same recordings, groups, folds and seeds, only the sound
differs. Test recordings and augmented copies take no part; the model is a quick one.

``python -m helpers worth recipe --run esc10`` (or ``make ablation``) measures the ablation on a run
that has finished 04_features. No test fold takes part: in each round the networks learn from all
folds but two and are scored on one of those, the validation fold (K. Piczak's protocol for ESC,
https://github.com/karolpiczak/paper-2015-esc-convnet), so that a recipe may be chosen by these
numbers.

Either way the change is measured recording by recording.
"""

import hashlib
import json
import re
import tempfile
import time
import warnings
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.audio import clean, features, recording, windowing
from helpers.base import artifacts, code, errors, work
from helpers.base.settings import Audio, Config
from helpers.compare import classic
from helpers.compare.variants import value_of, vary
from helpers.data import folders
from helpers.metrics import decisions, evaluate
from helpers.run import journal, stages
from helpers.splits import partition
from helpers.training import train

# What is tried: a name, its setting, the value that is "off", the value tried where it is off.
STEPS = (
    ("high-pass", "clean.high_pass_hz", None, 50.0),
    ("high-pass", "clean.high_pass_hz", None, 100.0),
    ("trim", "clean.trim_db", None, 50.0),
    ("denoise", "clean.denoise", False, True),
    ("normalise", "clean.normalise", False, True),
)
PSEUDO = "train.pseudo_labels"
INGREDIENTS = (
    ("residual network", "model.name", "cnn", "resnet"),
    ("frequency coordinate", "model.coordinate", False, True),
    ("mean and maximum over time", "model.pooling", "mean", "mean_max"),
    ("attention over time", "model.pooling", "mean_max", "attention"),
    ("energy normalised (PCEN)", "features.kind", "log_mel", "pcen"),
    ("a second spectrogram", "features.more_n_fft", (), (4096,)),
    ("dropout", "model.dropout", 0.0, 0.2),
    ("looped short clips", "audio.short_clips", "pad", "loop"),
    ("half clips", "train.crop", 1.0, 0.5),
    ("shift around the circle", "train.shift", 0.0, 1.0),
    ("random speed", "train.speed", 0.0, 0.2),
    ("random gain", "train.gain_db", 0.0, 6.0),
    ("polarity", "train.polarity", False, True),
    ("coloured noise", "train.noise_db", None, 20.0),
    ("filter augmentation", "train.filter_db", 0.0, 3.5),
    ("masks (SpecAugment)", "train.masks", 0, 2),
    ("mixing", "train.mix", "none", "mixup"),
    ("between-class mixing", "train.mix", "mixup", "between_class"),
    ("label smoothing", "train.label_smoothing", 0.0, 0.05),
    ("average of weights (EMA)", "train.ema", 0.0, 0.99),
    ("weight decay", "train.weight_decay", 0.0, 0.05),
    ("test-time views", "train.views", 1, 8),
    ("two seeds", "train.seeds", 1, 2),
    ("pseudo-labels", PSEUDO, None, 0.9),
)
UNITS = {"clean.high_pass_hz": " Hz", "clean.trim_db": " dB"}
LEDGER = "cleaning_ledger.csv"
ABLATION = "ablation.csv"
MODEL = "dnn"  # of the ledger: quick, and sees the whole feature table
SEEDS = 5  # one seed of a small network is noise; the ledger's scores are means over so many


# --- what is tried


def trials(config: Config, steps: tuple, only: tuple[str, ...] = ()) -> list[tuple]:
    """What is tried: a list of (name, setting, value, whether it is on and taken out).

    What the run has is taken out, what it lacks is added; what other settings forbid is left out:
    labels that hold from a second on allow no trimming.

    Args: config; steps STEPS or INGREDIENTS; only names of settings, such as "train.mix"; none:
        all.
    """
    tried = {}
    for name, setting, off, on in steps:
        takes_out = value_of(config, setting) != off
        value = off if takes_out else on
        wanted = not only or setting in only
        if wanted and (setting, value) not in tried and allows(config, setting, value):
            tried[setting, value] = (name, setting, value, takes_out)
    return list(tried.values())


def allows(config: Config, setting: str, value) -> bool:
    """Whether the config's other settings allow a change, and it means anything for its network."""
    if setting in ("model.coordinate", "model.pooling") and config.model.name != "resnet":
        return False
    if setting == "train.shift" and config.train.crop < 1:  # a part begins anywhere already
        return False
    try:
        vary(config, setting, value)
    except ValueError:
        return False
    return True


# --- in words


def in_words(setting: str, value) -> str:
    """A setting for reading.

    >>> in_words("clean.trim_db", 50.0), in_words("train.mix", "none"), in_words("train.ema", 0.99)
    ('50 dB', 'none', '0.99')
    >>> in_words("clean.denoise", True), in_words("clean.high_pass_hz", None)
    ('on', 'off')
    """
    if value is None or isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return value if isinstance(value, str) else f"{value:g}{UNITS.get(setting, '')}"


def verdict(on: bool, low: float, high: float) -> str:
    """What the interval of a change says of a step: it stays, or comes, on only if it helps.

    Args: on whether the run has the step on, so that it was taken out; low, high of the change. An
        interval that holds 0 is no difference.

    >>> verdict(True, -0.05, -0.01), verdict(False, -0.01, 0.02)
    ('keep: it helps', 'no difference: leave it off')
    """
    if low <= 0 <= high:
        return f"no difference: {'turn' if on else 'leave'} it off"
    if on:
        return "drop: it costs" if low > 0 else "keep: it helps"
    return "turn on: it helps" if low > 0 else "leave off: it costs"


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """A measured table for reading: scores in percent, changes in points with their interval."""
    changes = table[["change", "change_low", "change_high"]].to_numpy()
    metric = evaluate.in_words(table["metric"].iloc[0])
    return pd.DataFrame(
        {
            "step": table["step"],
            "setting": table["setting"],
            metric: table["reference"].map(lambda score: f"{100 * score:.1f} %"),
            "tried": table["tried"],
            "change in points": [evaluate.points(*change) for change in changes],
            "between seeds": table["seeds_sd"].map(lambda spread: f"±{100 * spread:.1f}"),
            "verdict": table["verdict"],
        }
    )


def _row(trial, config, reference, toggled, seconds):
    """A measured trial. Args: reference, toggled tables of predictions, one per seed."""
    name, setting, value, on = trial
    change = evaluate.paired_change(reference, toggled, config)
    return {
        "step": name,
        "setting": in_words(setting, value_of(config, setting)),
        "tried": in_words(setting, value),
        "metric": evaluate.HEADLINE[config.data.multilabel][0],
        **change,
        "verdict": verdict(on, change["change_low"], change["change_high"]),
        "seconds": seconds,
    }


def _read(path, column, key):
    """A measured table, or None: where there is none, or it was measured on something else."""
    table = artifacts.read_table(path) if path.is_file() else None
    return table if table is not None and table[column].eq(key).all() else None


# --- the cleaning ledger


def write_ledger(config: Config, run: str | None = None) -> pd.DataFrame:
    """Measure a run's cleaning ledger and write it, whole or not at all.

    Args: config; run name or None (the preset's). Returns the table of `measure_steps`. Raises
        StageError, naming the notebook to run first, unless 02_clean is done with these settings
        and recordings; SourceError.
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
    table = measure_steps(used, clips, root, config)
    artifacts.write_table(folder / LEDGER, table.assign(clips_sha256=_clips_digest(folder)))
    return table


def read_ledger(folder: Path) -> pd.DataFrame | None:
    """A run's ledger, or None: where there is none, or the clips have changed since."""
    return _read(Path(folder) / LEDGER, "clips_sha256", _clips_digest(folder))


def _clips_digest(folder):
    return journal.record(folder, "02_clean").get("outputs", {}).get("clips")


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
    tried = trials(config, STEPS)
    for trial in work.progress(tried, "cleaning ledger", len(tried)):
        started = time.perf_counter()
        varied = vary(config, *trial[1:3])
        toggled = quick_predictions(feature_table(used, clips, root, varied), varied)
        seconds = round(time.perf_counter() - started, 1)
        rows.append(_row(trial, config, reference, toggled, seconds))
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


# --- the ablation of the recipe


def write_ablation(
    config: Config, run: str | None = None, seeds: int = 1, only: tuple[str, ...] = ()
) -> Iterator[pd.DataFrame]:
    """Measure a run's ablation, writing and yielding the table after each row.

    Args: config; run name or None; seeds and only as of `measure_ingredients`. Raises StageError
        unless 04_features is done.
    """
    folder = stages.ready_folder(config, run)
    train.require_strangers(folder, config)
    for table in measure_ingredients(folder, config, seeds, only):
        artifacts.write_table(folder / ABLATION, table)
        yield table


def read_ablation(folder: Path, config: Config, rows: pd.DataFrame) -> pd.DataFrame | None:
    """A run's ablation, or None: where there is none, or recipe or clips have changed since."""
    return _read(Path(folder) / ABLATION, "recipe", key_of(config, rows))


def measure_ingredients(
    folder: Path, config: Config, seeds: int = 1, only: tuple[str, ...] = ()
) -> Iterator[pd.DataFrame]:
    """Train the run's recipe and each changed one; yield what is measured so far, after each.

    Args: folder of the run; config; seeds per trial; only as of `trials`. What was trained before
        with the same settings is taken from the run's ablation/, so a measurement that was stopped
        goes on.
    Yields tables as of `measure_steps`.
    """
    rows = artifacts.read_table(folder / "waveforms.csv")
    packed = np.load(folder / "waveforms.npy", mmap_mode="r")
    reference, _ = predictions(folder, packed, rows, config, seeds)
    measured = []
    tried = trials(config, INGREDIENTS, only)
    if not train.unlabelled(rows).any() and any(trial[1] == PSEUDO for trial in tried):
        print("Pseudo-labels are left out: there is neither a test set nor data.unlabelled.")
        tried = [trial for trial in tried if trial[1] != PSEUDO]
    for trial in tried:
        varied = vary(config, *trial[1:3])
        toggled, seconds = predictions(folder, packed, rows, varied, seeds)
        row = _row(trial, config, reference, toggled, seconds)
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
