"""Offline augmentation: copies of the training clips, made once with audiomentations."""

import json
import random
import tempfile
from pathlib import Path

import joblib
import numpy as np
import pandas as pd

from helpers.audio import recording
from helpers.base import artifacts, targets, work
from helpers.base.settings import Augment, Transform

RANGES = {  # lowest and highest strength where the preset names none, and their unit
    "shift": (-0.3, 0.3, "of the clip"),
    "pitch_shift": (-2.0, 2.0, "semitones"),
    "time_stretch": (0.8, 1.25, "× the speed"),
    "gaussian_noise": (0.001, 0.015, "of full scale (RMS)"),
    "reverb": (0.2, 1.2, "s until it is 60 dB down"),
}
LOOKED_AT = 24  # clips of different labels, of which one is shown
DRAWN = {  # what audiomentations calls a transform, and its strength
    "Shift": ("shift", "shift_amount"),
    "PitchShift": ("pitch_shift", "num_semitones"),
    "TimeStretch": ("time_stretch", "rate"),
    "AddGaussianNoise": ("gaussian_noise", "amplitude"),
    "ApplyImpulseResponse": ("reverb", ""),
}


def pipeline(settings, sample_rate):
    """The config's transforms as one audiomentations transform.

    Args: settings the config's Augment section; sample_rate in Hz (for the reverb's impulse
        responses).
    Returns Compose (every transform by its own p) or OneOf (one of them or nothing, all equally
        likely).
    """
    import audiomentations  # slow to import, and only this stage needs it

    transforms = [
        _transform(audiomentations, transform, settings.mode, sample_rate)
        for transform in settings.transforms
    ]
    if settings.mode == "one_of":
        return audiomentations.OneOf([*transforms, audiomentations.Gain(0, 0, p=1.0)])
    return audiomentations.Compose(transforms)


def _transform(library, settings, mode, sample_rate):
    """One audiomentations transform from its settings; in a one-of each is certain once it is
    chosen.
    """
    span, p = strengths(settings), 1.0 if mode == "one_of" else settings.p
    make = {
        "shift": lambda: library.Shift(*span, shift_unit="fraction", rollover=True, p=p),
        "pitch_shift": lambda: library.PitchShift(*span, p=p),
        "time_stretch": lambda: library.TimeStretch(*span, leave_length_unchanged=True, p=p),
        "gaussian_noise": lambda: library.AddGaussianNoise(*span, p=p),
        "reverb": lambda: library.ApplyImpulseResponse(
            impulse_responses(sample_rate, rt60_seconds=span), leave_length_unchanged=True, p=p
        ),
    }
    return make[settings.name]()


def strengths(transform: Transform) -> tuple[float, float]:
    """Lowest and highest strength that a transform draws, in the unit of RANGES."""
    lowest, highest, _ = RANGES[transform.name]
    low = lowest if transform.low is None else transform.low
    high = highest if transform.high is None else transform.high
    return low, high


def plan(settings: Augment) -> pd.DataFrame:
    """What may be done to a copy, a row per transform: its chance, its ends, and their unit."""
    each = 1 / (len(settings.transforms) + 1)  # one_of: any of them, or nothing
    rows = []
    for transform in settings.transforms:
        chance = each if settings.mode == "one_of" else transform.p
        unit = RANGES[transform.name][2]
        rows.append((transform.name.replace("_", " "), chance, *strengths(transform), unit))
    return pd.DataFrame(rows, columns=["transform", "chance", "lowest", "highest", "unit"])


def impulse_responses(sample_rate, count=8, seed=0, rt60_seconds=RANGES["reverb"][:2]):
    """Files of simple room responses: noise that falls by 60 dB within rt60_seconds (from, to).

    Returns their folder.
    """
    span = "-".join(f"{seconds:g}" for seconds in rt60_seconds)
    folder = Path(tempfile.gettempdir()) / f"earshot-rooms-{sample_rate}-{span}-{seed}"
    rng = np.random.default_rng(seed)
    for number in range(count):
        n_samples = round(rng.uniform(*rt60_seconds) * sample_rate)
        seconds = np.arange(n_samples) / sample_rate
        response = rng.standard_normal(len(seconds)) * 10 ** (-3 * seconds / seconds[-1])
        response[0] = 4 * np.abs(response).max()
        folder.mkdir(exist_ok=True)
        if not (folder / f"{number}.flac").is_file():
            with artifacts.replacing(folder / f"{number}.flac") as temporary:
                recording.write(temporary, response / np.abs(response).max(), sample_rate)
    return str(folder)


def augment_clip(waveform, sample_rate, transform, seed):
    """One augmented copy.

    Args: waveform mono float32 [samples]; transform of `pipeline`; seed int, the same gives the
        same copy.
    Returns (copy float32 [samples] with a peak of at most 0.99, what was applied: dict of name to
        parameters).
    """
    for step in transform.transforms:
        step.parameters = {
            "should_apply": None
        }  # a one-of leaves what the others drew the last time
    random.seed(seed)
    np.random.seed(seed % 2**32)  # audiomentations draws from both global generators
    copy = transform(samples=waveform, sample_rate=sample_rate)[: len(waveform)]
    peak = float(np.abs(copy).max(initial=0))
    copy = (copy * min(1.0, 0.99 / peak) if peak else copy).astype(np.float32)
    return copy, applied_transforms(transform)


def demonstrate(waveform: np.ndarray, sample_rate: int, settings: Augment, seed: int = 0) -> list:
    """Each transform of the plan alone and for certain, at its lowest and at its highest strength.

    Args: waveform mono float32 [samples]; sample_rate in Hz; settings the config's Augment section;
        seed. Returns a pair for each transform, each of (name and strength with its unit, copy).
    """
    pairs = []
    for transform in settings.transforms:
        pair = []
        for value in strengths(transform):
            copy = _copy_at(waveform, sample_rate, transform, value, seed)
            pair.append((_strength(transform, value), copy))
        pairs.append(tuple(pair))
    return pairs


def _strength(transform, value):
    """A transform and how strong it is, such as "pitch shift -2 semitones"."""
    return f"{transform.name.replace('_', ' ')} {value:g} {RANGES[transform.name][2]}"


def _copy_at(waveform, sample_rate, transform, strength, seed):
    """A copy to which a transform was done with exactly this strength."""
    certain = transform.model_copy(update={"p": 1.0, "low": strength, "high": strength})
    alone = pipeline(Augment(transforms=(certain,)), sample_rate)
    return augment_clip(waveform, sample_rate, alone, seed)[0]


def telling(clips: pd.DataFrame, run_folder, config) -> tuple[str, np.ndarray]:
    """A training clip, of one per label, that shows what a transform does: (label, waveform).

    Args: clips table of clips.csv; run_folder that their paths start from; config.
    """
    rate, train = config.audio.sample_rate, clips[clips["split"].eq("train")]
    paths = train.groupby("label").head(1).set_index("label")["path"].head(LOOKED_AT)
    waveforms = {
        label: recording.load(Path(run_folder) / path, rate) for label, path in paths.items()
    }
    label = most_varied(waveforms, rate)
    return label, waveforms[label]


def most_varied(waveforms: dict, sample_rate: int) -> str:
    """The name of the waveform whose level varies most: it shows what moves or stretches it."""
    frames = {name: recording.frame_levels(sound, sample_rate) for name, sound in waveforms.items()}
    return max(frames, key=lambda name: frames[name].std() / max(frames[name].mean(), 1e-9))


def in_words(applied):
    """What was done to a copy, in one line, with units.

    >>> in_words({"PitchShift": {"num_semitones": -1.5}, "Shift": {"shift_amount": 0.25}})
    'pitch shift -1.5 semitones, shift 0.25 of the clip'
    """
    return ", ".join(_drawn(name, parameters) for name, parameters in applied.items())


def _drawn(applied, parameters):
    name, parameter = DRAWN[applied]
    if parameter not in parameters:
        return name.replace("_", " ")
    return f"{name.replace('_', ' ')} {parameters[parameter]:.3g} {RANGES[name][2]}"


def shares(copies: pd.DataFrame) -> pd.DataFrame:
    """The share of copies that each transform touched; copies of augmented.csv."""
    applied = copies["transforms"].map(json.loads).explode().dropna()
    names = applied.map(lambda name: DRAWN[name][0].replace("_", " "))
    counts = names.value_counts() / max(len(copies), 1)
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


def applied_transforms(transform):
    """What a transform did the last time: {name: its drawn parameters}."""
    steps = {
        type(step).__name__: step.parameters
        for step in transform.transforms
        if step.parameters.get("should_apply")
    }
    steps.pop("Gain", None)  # the zero gain that stands for "nothing" in a one-of
    return {
        name: {k: _plain(v) for k, v in drawn.items() if k != "should_apply"}
        for name, drawn in steps.items()
    }


def _plain(value):
    """A drawn parameter for the record: rounded, and a file by its name alone."""
    if isinstance(value, (str, Path)):
        return Path(value).name
    return round(value, 5) if isinstance(value, float) else value


def write_copies(clips, run_folder, config, folder):
    """Write up to config.augment.copies augmented copies of each training clip below `folder`.

    A copy for which no transform was drawn would be its parent once more, and is left out.

    Args: clips table of clips.csv; run_folder that their paths start from; config; folder that is
        written to.
    Returns the rows of augmented.csv; every copy has a unique id and keeps its parent's group and
        fold.
    """
    train = clips[clips["split"].eq("train")]
    batches = np.array_split(np.arange(len(train)), max(1, len(train) // 16))
    jobs = (
        joblib.delayed(_write_batch)(train.iloc[batch], batch, run_folder, config, Path(folder))
        for batch in batches
        if len(batch)
    )
    done = joblib.Parallel(n_jobs=-1, return_as="generator")(jobs)
    rows = [
        row
        for rows in work.progress(done, "augment (batches of 16 clips)", len(batches))
        for row in rows
    ]
    return (
        pd.DataFrame(rows, columns=list(artifacts.SCHEMAS["augmented.csv"]))
        if rows
        else _no_copies()
    )


def _no_copies():
    return pd.DataFrame(
        {column: pd.Series(dtype=str) for column in artifacts.SCHEMAS["augmented.csv"]}
    )


def _write_batch(clips, numbers, run_folder, config, folder):
    transform, rows, rate = (
        pipeline(config.augment, config.audio.sample_rate),
        [],
        config.audio.sample_rate,
    )
    for number, clip in zip(numbers, clips.itertuples(), strict=True):
        waveform = recording.load(Path(run_folder) / clip.path, rate)
        for copy in range(config.augment.copies):
            seed = int(
                np.random.SeedSequence((config.seed, int(number), copy)).generate_state(1)[0]
            )
            augmented, applied = augment_clip(waveform, rate, transform, seed)
            if not applied:
                continue
            path = Path(targets.folder_name(clip.label), f"{clip.clip_id}-a{copy}.flac")
            (folder / path.parent).mkdir(parents=True, exist_ok=True)
            recording.write(folder / path, augmented, rate)
            done = json.dumps(applied, default=str)
            row = (
                path.stem,
                clip.clip_id,
                clip.recording_id,
                clip.label,
                clip.group,
                f"augmented/{path.as_posix()}",
                done,
                clip.fold,
            )
            rows.append(row)
    return rows
