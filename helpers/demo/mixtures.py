"""Writes the multi-label demo: scenes in which none to three of synth's sounds are heard at once,
labels in a table.

The layout is that of many tagging competitions: ``train.csv`` (fname, labels with commas),
``train/``, ``test/`` and a ``sample_submission.csv`` with a column per class. A scene is recorded
in one or two takes, so a split that ignores scenes leaks.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from joblib import Parallel, delayed

from helpers.base import artifacts
from helpers.demo import dataset, synth

VERSION = 1  # raise it whenever the same settings give other files
HOW_MANY = {0: 0.04, 1: 0.36, 2: 0.4, 3: 0.2}  # sounds in a scene, and how often
LEVEL_DB = (-10, 0)  # of each sound
BROKEN = {"train": b"", "test": b"RIFF"}  # an unusable file on each side


@dataclass(frozen=True)
class Scene:
    """What is drawn for one file before any sound is made."""

    name: str  # <scene>-<take>.<extension> on the training side, which tells what belongs together
    labels: tuple  # classes heard in it
    seed: tuple  # the sounds' physics, the room and the microphone follow from it
    take: int  # the timing and the levels, from (seed, take)
    duration_seconds: float
    sample_rate: int  # Hz
    encoding: str


def ensure(root, key_path, seed=0, n_train=340, n_test=80):
    """Write the data set and the hidden key of its test side, unless they are there with exactly
    these settings.

    Args: root folder, replaced if it is there; key_path CSV (filename, label), outside root;
        n_train, n_test numbers of recordings, a broken one on each side comes on top. Returns root.
        Raises ValueError for a key inside root.
    """
    root, key_path = Path(root), Path(key_path)
    settings = {"version": VERSION, "seed": seed, "n_train": n_train, "n_test": n_test}
    if key_path.resolve().is_relative_to(root.resolve()):
        raise ValueError(
            f"the key {key_path} lies inside {root} and gives the labels away; put it outside"
        )
    marker = key_path.with_suffix(".json")
    if (
        root.is_dir()
        and key_path.is_file()
        and marker.is_file()
        and artifacts.read_json(marker) == settings
    ):
        return root
    train, test = plan(seed, n_train, n_test)
    marker.unlink(missing_ok=True)  # from here on the folder is in doubt
    with artifacts.replacing(root) as folder:
        write_all(folder, train, test)
    rows = [f"{scene.name},{'|'.join(scene.labels)}\n" for scene in test]
    artifacts.write_text(key_path, "filename,label\n" + "".join(rows))
    artifacts.write_json(marker, settings)
    return root


def plan(seed, n_train, n_test):
    """Draw what the files will hold, before any sound is made: (scenes to train on, scenes to test
    on).
    """
    rng, train, number = np.random.default_rng((seed, 41)), [], 0
    while len(train) < n_train:
        first = draw_scene(seed, number, rng)
        takes = min(int(rng.integers(1, 3)), n_train - len(train))
        train += [
            draw_take(first, f"{number:06x}-{take}", take, rng) for take in range(1, takes + 1)
        ]
        number += 1
    names = [f"{name:08x}" for name in rng.choice(16**8, n_test, replace=False)]
    test = [
        draw_take(draw_scene(seed, number + i, rng), name, 1, rng)
        for i, name in enumerate(sorted(names))
    ]
    return train, test


def draw_scene(seed, number, rng):
    """A scene: which classes are heard in it, and how it is recorded."""
    chances = np.sqrt(list(dataset.CLASS_WEIGHTS.values()))
    count = rng.choice(list(HOW_MANY), p=list(HOW_MANY.values()))
    labels = rng.choice(
        list(dataset.CLASS_WEIGHTS), count, replace=False, p=chances / chances.sum()
    )
    rate = rng.choice(list(dataset.SAMPLE_RATES), p=list(dataset.SAMPLE_RATES.values()))
    encoding = str(rng.choice(["wav_16", "flac", "ogg"]))
    return Scene("", tuple(sorted(map(str, labels))), (seed, number), 1, 0.0, int(rate), encoding)


def draw_take(scene, stem, take, rng):
    """A take of a scene, of its own length."""
    name = f"{stem}.{dataset.ENCODINGS[scene.encoding][0]}"
    return Scene(
        name, scene.labels, scene.seed, take, rng.uniform(2, 6), scene.sample_rate, scene.encoding
    )


def perform(scene):
    """The sound of a scene's take, float [samples, 1] with its peak at -3 dBFS, at its sample rate."""
    drawn, played = (
        np.random.default_rng(scene.seed),
        np.random.default_rng((*scene.seed, scene.take)),
    )
    sound = np.zeros(round(scene.duration_seconds * dataset.STUDIO_RATE))
    for label in scene.labels:
        source = synth.draw_source(label, drawn)
        seconds = scene.duration_seconds * played.uniform(0.5, 1)
        heard = synth.render(label, source, seconds, dataset.STUDIO_RATE, played)
        heard = (
            heard
            * synth.fades(heard.size, dataset.STUDIO_RATE)
            * 10 ** (played.uniform(*LEVEL_DB) / 20)
        )
        start = played.integers(0, sound.size - heard.size + 1)
        sound[start : start + heard.size] += heard
    around = synth.draw_scene(drawn)
    if scene.labels:
        sound = synth.place(
            sound, dataset.STUDIO_RATE, played, around, snr_db=played.uniform(10, 25)
        )
    else:
        sound = synth.noise(
            around["noise_kind"], scene.duration_seconds, dataset.STUDIO_RATE, played
        )
    sound = soxr.resample(sound, dataset.STUDIO_RATE, scene.sample_rate)
    return (10 ** (-3 / 20) * sound / np.abs(sound).max())[:, None]


def write_all(folder, train, test):
    """Write the recordings, the table of labels and the sample submission below `folder`."""
    for side, scenes in (("train", train), ("test", test)):
        jobs = (
            delayed(dataset.write)(folder / side / s.name, perform(s), s.sample_rate, s.encoding)
            for s in scenes
        )
        Parallel(n_jobs=-1, prefer="threads")(jobs)
        (folder / side / "ffffff-1.wav").write_bytes(BROKEN[side])
    rows = [f'{scene.name},"{",".join(scene.labels)}"\n' for scene in train]
    artifacts.write_text(
        folder / "train.csv", "fname,labels\n" + "".join([*rows, "ffffff-1.wav,rain\n"])
    )
    classes, names = (
        sorted(dataset.CLASS_WEIGHTS),
        sorted([*(scene.name for scene in test), "ffffff-1.wav"]),
    )
    lines = [f"{name},{','.join(['0'] * len(classes))}\n" for name in names]
    artifacts.write_text(
        folder / "sample_submission.csv", f"fname,{','.join(classes)}\n" + "".join(lines)
    )
