"""Offline augmentation: copies of the training clips, made once with audiomentations."""

import json
import random
import tempfile
from pathlib import Path

import joblib
import numpy as np
import pandas as pd

from helpers import artifacts, audio, targets
from helpers.settings import Augment, Transform

# The transforms of the systems that Earshot unites, with their ranges, to be heard in 03_augment.
SHOWN = tuple(Transform(name=name) for name in ("shift", "pitch_shift", "time_stretch", "gaussian_noise", "reverb"))


def pipeline(settings, sample_rate):
    """The config's transforms as one audiomentations transform.

    Args: settings the config's Augment section; sample_rate in Hz (for the reverb's impulse responses).
    Returns Compose (every transform by its own p) or OneOf (one of them or nothing, all equally likely).
    """
    import audiomentations  # slow to import, and only this stage needs it

    transforms = [
        _transform(audiomentations, transform, settings.mode, sample_rate) for transform in settings.transforms
    ]
    if settings.mode == "one_of":
        return audiomentations.OneOf([*transforms, audiomentations.Gain(0, 0, p=1.0)])
    return audiomentations.Compose(transforms)


def _transform(library, settings, mode, sample_rate):
    """One audiomentations transform from its settings; in a one-of each is certain once it is chosen."""
    low, high, p = settings.low, settings.high, 1.0 if mode == "one_of" else settings.p
    make = {
        "shift": lambda: library.Shift(*_range(low, high, -0.3, 0.3), shift_unit="fraction", rollover=True, p=p),
        "pitch_shift": lambda: library.PitchShift(*_range(low, high, -2, 2), p=p),
        "time_stretch": lambda: library.TimeStretch(*_range(low, high, 0.8, 1.25), leave_length_unchanged=True, p=p),
        "gaussian_noise": lambda: library.AddGaussianNoise(*_range(low, high, 0.001, 0.015), p=p),
        "reverb": lambda: library.ApplyImpulseResponse(
            impulse_responses(sample_rate), leave_length_unchanged=True, p=p
        ),
    }
    return make[settings.name]()


def _range(low, high, default_low, default_high):
    return (default_low if low is None else low), (default_high if high is None else high)


def impulse_responses(sample_rate, count=8, seed=0):
    """Files of simple room responses: exponentially decaying noise, RT60 0.2-1.2 s. Returns their folder."""
    folder = Path(tempfile.gettempdir()) / f"earshot-rooms-{sample_rate}-{seed}"
    rng = np.random.default_rng(seed)
    for number in range(count):
        seconds = np.arange(round(rng.uniform(0.2, 1.2) * sample_rate)) / sample_rate
        response = rng.standard_normal(len(seconds)) * 10 ** (-3 * seconds / seconds[-1])
        response[0] = 4 * np.abs(response).max()
        folder.mkdir(exist_ok=True)
        if not (folder / f"{number}.flac").is_file():
            with artifacts.replacing(folder / f"{number}.flac") as temporary:
                audio.write(temporary, response / np.abs(response).max(), sample_rate)
    return str(folder)


def augment_clip(waveform, sample_rate, transform, seed):
    """One augmented copy.

    Args: waveform mono float32 [samples]; transform of `pipeline`; seed int, the same gives the same copy.
    Returns (copy float32 [samples] with a peak of at most 0.99, what was applied: dict of name to parameters).
    """
    for step in transform.transforms:
        step.parameters = {"should_apply": None}  # a one-of leaves what the others drew the last time
    random.seed(seed)
    np.random.seed(seed % 2**32)  # audiomentations draws from both global generators
    copy = transform(samples=waveform, sample_rate=sample_rate)[: len(waveform)]
    peak = float(np.abs(copy).max(initial=0))
    copy = (copy * min(1.0, 0.99 / peak) if peak else copy).astype(np.float32)
    return copy, applied_transforms(transform)


def demonstrate(waveform, sample_rate, transforms, seed=0):
    """Each transform applied alone and for certain: a list of (name, parameters, copy), for ears and eyes."""
    copies = []
    for number, transform in enumerate(transforms):
        certain = pipeline(Augment(transforms=(transform.model_copy(update={"p": 1.0}),)), sample_rate)
        copy, applied = augment_clip(waveform, sample_rate, certain, seed + number)
        copies.append((transform.name, applied, copy))
    return copies


def in_words(applied):
    """What was done to a copy, in one line.

    >>> in_words({"PitchShift": {"num_semitones": -1.5}, "Shift": {"num_places_to_shift": 80}})
    'PitchShift (num semitones -1.5), Shift (num places to shift 80)'
    """
    steps = [(name, {k: v for k, v in drawn.items() if isinstance(v, (int, float))}) for name, drawn in applied.items()]
    details = [(name, ", ".join(f"{k.replace('_', ' ')} {v:.3g}" for k, v in drawn.items())) for name, drawn in steps]
    return ", ".join(f"{name} ({detail})" if detail else name for name, detail in details)


def applied_transforms(transform):
    """What a transform did the last time: {name: its drawn parameters}."""
    steps = {
        type(step).__name__: step.parameters for step in transform.transforms if step.parameters.get("should_apply")
    }
    steps.pop("Gain", None)  # the zero gain that stands for "nothing" in a one-of
    return {name: {k: _plain(v) for k, v in drawn.items() if k != "should_apply"} for name, drawn in steps.items()}


def _plain(value):
    """A drawn parameter for the record: rounded, and a file by its name alone."""
    if isinstance(value, (str, Path)):
        return Path(value).name
    return round(value, 5) if isinstance(value, float) else value


def write_copies(clips, run_folder, config, folder):
    """Write up to config.augment.copies augmented copies of each training clip below `folder`.

    A copy for which no transform was drawn would be its parent once more, and is left out.

    Args: clips table of clips.csv; run_folder that their paths start from; config; folder that is written to.
    Returns the rows of augmented.csv; every copy has a unique id and keeps its parent's group and fold.
    """
    train = clips[clips["split"].eq("train")]
    batches = np.array_split(np.arange(len(train)), max(1, len(train) // 16))
    jobs = (
        joblib.delayed(_write_batch)(train.iloc[batch], batch, run_folder, config, Path(folder))
        for batch in batches
        if len(batch)
    )
    done = joblib.Parallel(n_jobs=-1, return_as="generator")(jobs)
    rows = [row for rows in artifacts.progress(done, "augment (batches of 16 clips)", len(batches)) for row in rows]
    return pd.DataFrame(rows, columns=list(artifacts.SCHEMAS["augmented.csv"])) if rows else _no_copies()


def _no_copies():
    return pd.DataFrame({column: pd.Series(dtype=str) for column in artifacts.SCHEMAS["augmented.csv"]})


def _write_batch(clips, numbers, run_folder, config, folder):
    transform, rows, rate = pipeline(config.augment, config.audio.sample_rate), [], config.audio.sample_rate
    for number, clip in zip(numbers, clips.itertuples(), strict=True):
        waveform = audio.load(Path(run_folder) / clip.path, rate)
        for copy in range(config.augment.copies):
            seed = int(np.random.SeedSequence((config.seed, int(number), copy)).generate_state(1)[0])
            augmented, applied = augment_clip(waveform, rate, transform, seed)
            if not applied:
                continue
            path = Path(targets.folder_name(clip.label), f"{clip.clip_id}-a{copy}.flac")
            (folder / path.parent).mkdir(parents=True, exist_ok=True)
            audio.write(folder / path, augmented, rate)
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
