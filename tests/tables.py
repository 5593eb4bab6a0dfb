"""Small settings, sounds and tables that several test files build on."""

import numpy as np
import pandas as pd

from helpers.base.settings import Config

SMALL = {
    "audio": {"sample_rate": 8000, "clip_seconds": 0.5},
    "features": {"n_fft": 256, "hop_length": 128, "n_mels": 16, "f_min": 50.0},
    "model": {"name": "cnn", "channels": (8, 16), "dropout": 0.0},
    "train": {
        **{
            "epochs": 4,
            "batch_size": 8,
            "views": 1,
            "threads": 1,
            "learning_rate": 0.01,
            "masks": 0,
            "ema": 0.0,
        },
        **{
            "select": "validation",
            "mix": "mixup",
            "speed": 0.1,
            "polarity": False,
            "precision": "fp32",
        },
    },
    "evaluate": {"bootstrap_samples": 200},
}


def small_config(**sections):
    """A Config of half-second clips at 8 kHz and a network of two small blocks; sections change
    single settings.
    """
    changed = {
        name: {**SMALL.get(name, {}), **value} if isinstance(value, dict) else value
        for name, value in sections.items()
    }
    return Config(**{**SMALL, **changed})


def tone(frequency_hz, sample_rate=8000, seconds=0.5, amplitude=0.5):
    """A sine, float32 [samples]."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    return (amplitude * np.sin(2 * np.pi * frequency_hz * time)).astype(np.float32)


def noise(n_samples, seed=0, amplitude=0.1):
    """White noise, float32 [samples]."""
    return (
        (amplitude * np.random.default_rng(seed).standard_normal(n_samples))
        .clip(-1, 1)
        .astype(np.float32)
    )


def tone_clips(
    pitches=(("high", 2000), ("low", 400)), folds=3, groups_per_fold=2, clips_per_group=2, seed=0
):
    """Noisy tones as a packed array and its rows of waveforms.csv: easy classes, every class in
    every fold.

    Returns (packed int16 [clips, 4000], rows).
    """
    packed, rows = [], []
    for label, pitch_hz in pitches:
        for fold in range(1, folds + 1):
            for member in range(groups_per_fold):
                for take in range(clips_per_group):
                    name = f"{label}{fold}{member}{take}"
                    sound = tone(pitch_hz * (1 + 0.02 * member)) + noise(
                        4000, seed + len(rows), 0.05
                    )
                    packed.append(np.round(sound.clip(-1, 1) * 32767).astype(np.int16))
                    rows.append(
                        (
                            f"{name}-000",
                            "",
                            name,
                            label,
                            "train",
                            f"{label}{fold}{member}",
                            "",
                            fold,
                            0.0,
                            0.5,
                        )
                    )
    columns = ["clip_id", "parent_id", "recording_id", "label", "split", "group", "path", "fold"]
    table = pd.DataFrame(rows, columns=[*columns, "start_seconds", "valid_seconds"])
    return np.stack(packed), table.astype({"fold": "Int64"})


def tone_scenes(seed=0, **shape):
    """Clips in which two tones, one or none are heard: labels "high|low", "high", "low" and "", all
    in every fold.

    Args: seed; shape as of tone_clips. Returns (packed int16 [clips, 4000], rows).
    """
    packed, rows = tone_clips(
        [(label, 0) for label in ("high|low", "high", "low", "")], seed=seed, **shape
    )
    for number, label in enumerate(rows["label"]):
        heard = [
            tone(pitch_hz, amplitude=0.25)
            for name, pitch_hz in (("high", 2000), ("low", 400))
            if name in label
        ]
        packed[number] = np.round(
            (sum(heard) + noise(4000, seed + number, 0.05)).clip(-1, 1) * 32767
        )
    return packed, rows


def feature_rows(labels=("a", "b", "c"), folds=3, groups_per_fold=2, clips_per_group=3, seed=0):
    """A feature table in which every class has its own mean: separable, every class in every
    fold.
    """
    rng, rows = np.random.default_rng(seed), []
    for number, label in enumerate(labels):
        for fold in range(1, folds + 1):
            for member in range(groups_per_fold):
                for take in range(clips_per_group):
                    identity = {
                        "clip_id": f"{label}{fold}{member}{take}",
                        "parent_id": "",
                        "label": label,
                    }
                    place = {"split": "train", "group": f"{label}{fold}{member}", "fold": fold}
                    values = 4 * (np.arange(4) == number) + 0.5 * rng.standard_normal(4)
                    names = ("mfcc_01_mean", "mfcc_02_mean", "mfcc_03_mean", "rms_std")
                    rows.append({**identity, **place, **dict(zip(names, values, strict=True))})
    table = pd.DataFrame(rows)
    table.insert(2, "recording_id", table["clip_id"])
    return table


def tagged_rows(seed=0, **shape):
    """A feature table with the labels "p|q", "p", "q" and "": each of the two labels has a feature
    of its own.
    """
    table = feature_rows(("p|q", "p", "q", ""), seed=seed, **shape)
    table.loc[:, "mfcc_01_mean":] = 0.5 * np.random.default_rng(seed).standard_normal(
        (len(table), 4)
    )
    for label, column in (("p", "mfcc_01_mean"), ("q", "mfcc_02_mean")):
        table[column] += 4 * table["label"].str.contains(label)
    return table


def prediction_rows(labels, predicted, groups=None, classes=("a", "b", "c"), confidence=0.8):
    """A table of predictions: each row's `predicted` class gets `confidence`, the others share what
    is left.
    """
    rows = pd.DataFrame(
        {"recording_id": [f"r{i}" for i in range(len(labels))], "fold": 1, "label": list(labels)}
    )
    rows["group"] = rows["recording_id"] if groups is None else list(groups)
    rows["predicted"] = list(predicted)
    for name in classes:
        rows[name] = np.where(
            rows["predicted"].eq(name), confidence, (1 - confidence) / (len(classes) - 1)
        )
    return rows


def tagging_rows(n=60, seed=0, classes=("a", "b", "c"), groups=None):
    """A table of predictions with several labels, one or none per recording: probabilities that are
    often right.
    """
    rng = np.random.default_rng(seed)
    truth = (
        np.vstack([np.eye(len(classes)), rng.uniform(size=(n - len(classes), len(classes))) < 0.4])
        > 0
    )
    found = (0.3 * truth + rng.uniform(0, 0.7, truth.shape)).round(2)
    names = np.array(classes)
    rows = pd.DataFrame({"recording_id": [f"r{i}" for i in range(n)], "fold": np.arange(n) % 3 + 1})
    rows["label"] = ["|".join(names[row]) for row in truth]
    rows["group"] = rows["recording_id"] if groups is None else list(groups)
    rows["predicted"] = ["|".join(names[row]) for row in found >= 0.45]
    return pd.concat([rows, pd.DataFrame(found, columns=names)], axis=1)
