"""Offline augmentation: copies of the training clips, made once with audiomentations."""

import json
import random
import tempfile
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
import pandas as pd

from helpers.audio import recording
from helpers.base import artifacts, targets, work
from helpers.base.settings import Augment, Transform

LOOKED_AT = 24  # clips of different labels, of which one is shown


class Kind(NamedTuple):
    """A kind of transform: its name in audiomentations, and how strong it is."""

    made_by: str
    parameter: str  # of audiomentations, that holds the strength drawn
    low: float  # ends where the preset names none
    high: float
    unit: str
    options: dict


KINDS = {
    "shift": Kind(
        *("Shift", "shift_amount", -0.3, 0.3, "of the clip"),
        {"shift_unit": "fraction", "rollover": True},
    ),
    "pitch_shift": Kind("PitchShift", "num_semitones", -2.0, 2.0, "semitones", {}),
    "time_stretch": Kind(
        *("TimeStretch", "rate", 0.8, 1.25, "× the speed"), {"leave_length_unchanged": True}
    ),
    "gaussian_noise": Kind(
        *("AddGaussianNoise", "amplitude", 0.001, 0.015, "of full scale (RMS)"), {}
    ),
    "reverb": Kind(
        *("ApplyImpulseResponse", "", 0.2, 1.2, "s until it is 60 dB down"),
        {"leave_length_unchanged": True},
    ),
}
NAMES = {kind.made_by: name for name, kind in KINDS.items()}


def pipeline(settings: Augment, sample_rate: int):
    """The config's transforms as one audiomentations transform.

    Args: settings the config's Augment section; sample_rate in Hz (for the reverb's impulse
        responses).
    Returns Compose (every transform by its own p) or OneOf (one of them or nothing, all equally
        likely).
    """
    import audiomentations  # slow to import, and only this stage needs it

    one_of = settings.mode == "one_of"
    steps = []
    for transform in settings.transforms:
        kind = KINDS[transform.name]
        strength = strengths(transform)
        if transform.name == "reverb":
            strength = [impulse_responses(sample_rate, rt60_seconds=strength)]
        p = 1.0 if one_of else transform.p  # in a one-of each is certain once it is chosen
        steps.append(getattr(audiomentations, kind.made_by)(*strength, p=p, **kind.options))
    if one_of:
        return audiomentations.OneOf([*steps, audiomentations.Gain(0, 0, p=1.0)])
    return audiomentations.Compose(steps)


def strengths(transform: Transform) -> tuple[float, float]:
    """Lowest and highest strength that a transform draws, in the unit of its Kind."""
    kind = KINDS[transform.name]
    low = kind.low if transform.low is None else transform.low
    high = kind.high if transform.high is None else transform.high
    return low, high


def plan(settings: Augment) -> pd.DataFrame:
    """What may be done to a copy, a row per transform: its chance, its ends, and their unit."""
    each = 1 / (len(settings.transforms) + 1)  # one_of: any of them, or nothing
    rows = []
    for transform in settings.transforms:
        chance = each if settings.mode == "one_of" else transform.p
        unit = KINDS[transform.name].unit
        rows.append((_words(transform.name), chance, *strengths(transform), unit))
    return pd.DataFrame(rows, columns=["transform", "chance", "lowest", "highest", "unit"])


def impulse_responses(
    sample_rate: int,
    count: int = 8,
    seed: int = 0,
    rt60_seconds: tuple[float, float] = KINDS["reverb"][2:4],
) -> str:
    """Files of simple room responses: noise that falls by 60 dB within rt60_seconds (from, to).

    Returns their folder.
    """
    span = "-".join(f"{seconds:g}" for seconds in rt60_seconds)
    folder = Path(tempfile.gettempdir()) / f"earshot-rooms-{sample_rate}-{span}-{seed}"
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        n_samples = round(rng.uniform(*rt60_seconds) * sample_rate)
        decay = 10 ** (-3 * np.arange(n_samples) / (n_samples - 1))
        response = rng.standard_normal(n_samples) * decay
        response[0] = 4 * np.abs(response).max()
        path = folder / f"{number}.flac"
        if not path.is_file():
            with artifacts.replacing(path) as temporary:
                recording.write(temporary, response / response[0], sample_rate)
    return str(folder)


def augment_clip(
    waveform: np.ndarray, sample_rate: int, transform, seed: int
) -> tuple[np.ndarray, dict]:
    """One augmented copy.

    Args: waveform mono float32 [samples]; transform of `pipeline`; seed, the same gives the same
        copy.
    Returns (copy float32 [samples] with a peak of at most 0.99, what was applied: {name of a
        transform: its parameters}).
    """
    for step in transform.transforms:  # a one-of leaves what the others drew the last time
        step.parameters = {"should_apply": None}
    random.seed(seed)
    np.random.seed(seed % 2**32)  # audiomentations draws from both global generators
    copy = transform(samples=waveform, sample_rate=sample_rate)[: len(waveform)]
    gain = 0.99 / max(0.99, float(np.abs(copy).max(initial=0)))
    return (copy * gain).astype(np.float32), applied_transforms(transform)


def demonstrate(waveform: np.ndarray, sample_rate: int, settings: Augment, seed: int = 0) -> list:
    """Each transform of the plan alone and for certain, at its lowest and at its highest strength.

    Args: waveform mono float32 [samples]; sample_rate in Hz; settings the config's Augment section;
        seed. Returns a pair for each transform, each of (name and strength with its unit, copy).
    """
    pairs = []
    for transform in settings.transforms:
        pair = []
        for strength in strengths(transform):
            alone = transform.model_copy(update={"p": 1.0, "low": strength, "high": strength})
            step = pipeline(Augment(transforms=(alone,)), sample_rate)
            title = f"{_words(transform.name)} {strength:g} {KINDS[transform.name].unit}"
            pair.append((title, augment_clip(waveform, sample_rate, step, seed)[0]))
        pairs.append(tuple(pair))
    return pairs


def _words(name):
    return name.replace("_", " ")


def telling(clips: pd.DataFrame, run_folder, config) -> tuple[str, np.ndarray]:
    """A training clip, of one per label, that shows what a transform does: (label, waveform).

    Args: clips table of clips.csv; run_folder that their paths start from; config.
    """
    rate = config.audio.sample_rate
    fullest = clips.sort_values("valid_seconds", ascending=False, kind="stable")  # little is padded
    train = fullest.query("split == 'train'").drop_duplicates("label").head(LOOKED_AT)
    paths = dict(zip(train["label"], train["path"], strict=True))
    waveforms = {
        label: recording.load(Path(run_folder) / path, rate) for label, path in paths.items()
    }
    label = most_varied(waveforms, rate)
    return label, waveforms[label]


def most_varied(waveforms: dict[str, np.ndarray], sample_rate: int) -> str:
    """The name of the waveform whose level varies most: it shows what moves or stretches it."""
    frames = {name: recording.frame_levels(sound, sample_rate) for name, sound in waveforms.items()}
    return max(frames, key=lambda name: frames[name].std() / max(frames[name].mean(), 1e-9))


def in_words(applied: dict) -> str:
    """What was done to a copy, in one line, with units.

    >>> in_words({"PitchShift": {"num_semitones": -1.5}, "Shift": {"shift_amount": 0.25}})
    'pitch shift -1.5 semitones, shift 0.25 of the clip'
    """
    return ", ".join(_drawn(name, parameters) for name, parameters in applied.items())


def _drawn(applied, parameters):
    name = NAMES[applied]
    kind = KINDS[name]
    if kind.parameter not in parameters:
        return _words(name)
    return f"{_words(name)} {parameters[kind.parameter]:.3g} {kind.unit}"


def shares(copies: pd.DataFrame) -> pd.DataFrame:
    """The share of copies that each transform touched; copies of augmented.csv."""
    applied = copies["transforms"].map(json.loads).explode().dropna()
    counts = applied.map(NAMES).map(_words).value_counts() / max(len(copies), 1)
    return counts.rename("share of copies").rename_axis("transform").reset_index()


def with_parents(copies: pd.DataFrame, clips: pd.DataFrame, run_folder, sample_rate: int) -> list:
    """Copies and their parents: for each ((title, waveform), (title, waveform, what was done))."""
    paths = clips.set_index("clip_id")["path"]
    pairs = []
    for row in copies.itertuples():
        parent = recording.load(Path(run_folder) / paths[row.parent_id], sample_rate)
        copy = recording.load(Path(run_folder) / row.path, sample_rate)
        name = targets.in_words(row.label)
        done = in_words(json.loads(row.transforms))
        pairs.append(((f"{name}, parent", parent), (f"{name}, copy", copy, done)))
    return pairs


def who_learns(config) -> str:
    """Which models of this run learn from the copies, in words."""
    if not config.augment.copies:
        return "No copies are made in this run (augment.copies is 0): no model learns from any."
    fixed = config.compare.augmented_copies
    tables = "learn" if fixed else "do not learn"
    says = "The models on the feature table (mfcc_linear, svm, xgboost, dnn in 06)"
    says += f" {tables} from these copies (compare.augmented_copies is {str(fixed).lower()})."
    if config.train.augmented_copies:
        return f"{says} So do the networks of 05 and 06 (train.augmented_copies is true)."
    says += " The networks of 05 and 06 never do (train.augmented_copies is false):"
    return f"{says} they alter every clip anew in each step of training, which 05 shows."


def applied_transforms(transform) -> dict[str, dict]:
    """What a transform did the last time: {name in audiomentations: its drawn parameters}."""
    applied = {}
    for step in transform.transforms:
        drawn = dict(step.parameters)
        name = type(step).__name__
        if drawn.pop("should_apply", False) and name in NAMES:  # not the Gain that does nothing
            applied[name] = {key: _plain(value) for key, value in drawn.items()}
    return applied


def _plain(value):
    """A drawn parameter for the record: rounded, and a file by its name alone."""
    if isinstance(value, (str, Path)):
        return Path(value).name
    return round(value, 5) if isinstance(value, float) else value


def write_copies(clips: pd.DataFrame, run_folder, config, folder) -> pd.DataFrame:
    """Write up to config.augment.copies augmented copies of each training clip below `folder`.

    A copy for which no transform was drawn would be its parent once more, and is left out.

    Args: clips table of clips.csv; run_folder that their paths start from; config; folder that is
        written to.
    Returns the rows of augmented.csv; every copy has a unique id and keeps its parent's group and
        fold.
    """
    train = clips.query("split == 'train'")
    batches = [range(len(train))[first : first + 16] for first in range(0, len(train), 16)]
    write = joblib.delayed(_write_batch)
    jobs = (write(train.iloc[batch], batch, run_folder, config, Path(folder)) for batch in batches)
    done = joblib.Parallel(n_jobs=-1, return_as="generator")(jobs)
    rows = []
    for written in work.progress(done, "augment (batches of 16 clips)", len(batches)):
        rows += written
    columns = list(artifacts.SCHEMAS["augmented.csv"])
    return pd.DataFrame(rows, columns=columns, dtype=None if rows else str)


def _write_batch(clips, numbers, run_folder, config, folder):
    """Write the copies of some clips; numbers are their places among all, for the seeds."""
    rate = config.audio.sample_rate
    transform = pipeline(config.augment, rate)
    rows = []
    for number, clip in zip(numbers, clips.itertuples(), strict=True):
        waveform = recording.load(Path(run_folder) / clip.path, rate)
        place = Path(targets.folder_name(clip.label))
        (folder / place).mkdir(parents=True, exist_ok=True)
        for copy in range(config.augment.copies):
            seed = np.random.SeedSequence((config.seed, number, copy)).generate_state(1)[0]
            augmented, applied = augment_clip(waveform, rate, transform, int(seed))
            if applied:
                path = place / f"{clip.clip_id}-a{copy}.flac"
                recording.write(folder / path, augmented, rate)
                row = {
                    "clip_id": path.stem,
                    "parent_id": clip.clip_id,
                    "path": f"augmented/{path.as_posix()}",
                    "transforms": json.dumps(applied, default=str),
                }
                rows.append(clip._asdict() | row)
    return rows
