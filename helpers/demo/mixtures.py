"""Writes the multi-label demo: scenes of none to three of synth's sounds at once, and a table.

The layout is that of many tagging competitions: ``train.csv`` (fname, labels with commas),
``train/``, ``test/`` and a ``sample_submission.csv`` with a column per class. A scene is recorded
in one or two takes, so a split that ignores scenes leaks.
"""

from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import soxr
from joblib import Parallel, delayed

from helpers.base import artifacts
from helpers.demo import synth
from helpers.demo.dataset import CLASS_WEIGHTS, ENCODINGS, SAMPLE_RATES, STUDIO_RATE, kept, write

VERSION = 2  # raise it whenever the same settings give other files
HOW_MANY = {0: 0.04, 1: 0.36, 2: 0.4, 3: 0.2}  # sounds in a scene, and how often
LEVEL_DB = (-10, 0)  # of each sound
EDGE_DB = 20  # an event begins and ends where its sound is so far below its loudest moment
EVENT = ("filename", "onset", "offset", "label")  # columns of the table of events
BROKEN = {"train": b"", "test": b"RIFF"}  # an unusable file on each side
BROKEN_NAME = "ffffff-1.wav"


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


def ensure(
    root: str | Path, key_path: str | Path, seed: int = 0, n_train: int = 340, n_test: int = 80
) -> Path:
    """Write the data set and the hidden key of its test side, unless they are there already.

    Beside the key lies a table of when each sound of the test side is heard, `events_path`.
    Args: root folder, made anew, or replaced if `ensure` made it; key_path CSV (filename, label),
        outside root; n_train, n_test numbers of recordings, a broken one on each side comes on top.
    Returns root. Raises ValueError for a key inside root, FileExistsError if root holds files of
        someone else.
    """

    def fill(folder):
        train, test = plan(seed, n_train, n_test)
        events = write_all(folder, train, test)
        artifacts.write_table(events_path(key_path), pd.DataFrame(events, columns=EVENT))
        return {scene.name: "|".join(scene.labels) for scene in test}, {}

    settings = {"version": VERSION, "seed": seed, "n_train": n_train, "n_test": n_test}
    kept(root, key_path, settings, fill)
    return Path(root)


def events_path(key_path: str | Path) -> Path:
    """The table beside the key: filename, onset, offset (seconds), label."""
    return Path(key_path).with_suffix(".events.csv")


def plan(seed: int, n_train: int, n_test: int) -> tuple[list[Scene], list[Scene]]:
    """Draw what the files will hold, before any sound is made: scenes to train on, and to test."""
    rng = np.random.default_rng((seed, 41))
    train = []
    number = 0
    while len(train) < n_train:
        first = draw_scene(seed, number, rng)
        n_takes = min(int(rng.integers(1, 3)), n_train - len(train))
        for take in range(1, n_takes + 1):
            train.append(draw_take(first, f"{number:06x}-{take}", take, rng))
        number += 1
    test = []
    names = [f"{name:08x}" for name in rng.choice(16**8, n_test, replace=False)]
    for place, name in enumerate(sorted(names), number):
        test.append(draw_take(draw_scene(seed, place, rng), name, 1, rng))
    return train, test


def draw_scene(seed: int, number: int, rng: np.random.Generator) -> Scene:
    """A scene: which classes are heard in it, and how it is recorded."""
    chances = np.sqrt(list(CLASS_WEIGHTS.values()))
    chances /= chances.sum()
    count = rng.choice(list(HOW_MANY), p=list(HOW_MANY.values()))
    classes = rng.choice(list(CLASS_WEIGHTS), count, replace=False, p=chances)
    rate = rng.choice(list(SAMPLE_RATES), p=list(SAMPLE_RATES.values()))
    encoding = rng.choice(["wav_16", "flac", "ogg"])
    labels = tuple(sorted(classes.tolist()))
    source = (seed, number)
    return Scene("", labels, source, 1, 0.0, int(rate), str(encoding))


def draw_take(scene: Scene, stem: str, take: int, rng: np.random.Generator) -> Scene:
    """A take of a scene, of its own length."""
    name = f"{stem}.{ENCODINGS[scene.encoding][0]}"
    return replace(scene, name=name, take=take, duration_seconds=rng.uniform(2, 6))


def perform(scene: Scene) -> tuple[np.ndarray, list]:
    """A scene's take: its sound [samples, 1] with its peak at -3 dBFS, at its sample rate, and its
    events as rows of EVENT.
    """
    drawn = np.random.default_rng(scene.seed)
    played = np.random.default_rng((*scene.seed, scene.take))
    sound = np.zeros(round(scene.duration_seconds * STUDIO_RATE))
    events = []
    for label in scene.labels:
        source = synth.draw_source(label, drawn)
        seconds = scene.duration_seconds * played.uniform(0.5, 1)
        part = synth.render(label, source, seconds, STUDIO_RATE, played)
        part *= synth.fades(part.size, STUDIO_RATE) * 10 ** (played.uniform(*LEVEL_DB) / 20)
        start = played.integers(0, sound.size - part.size + 1)
        sound[start : start + part.size] += part
        times = (start + heard_within(part)) / STUDIO_RATE
        events.append((scene.name, *times.round(4), label))
    around = synth.draw_scene(drawn)
    if scene.labels:
        snr_db = played.uniform(10, 25)
        sound = synth.place(sound, STUDIO_RATE, played, around, snr_db)
    else:
        kind = around["noise_kind"]
        sound = synth.noise(kind, scene.duration_seconds, STUDIO_RATE, played)
    sound = soxr.resample(sound, STUDIO_RATE, scene.sample_rate)
    return (10 ** (-3 / 20) * sound / np.abs(sound).max())[:, None], events


def heard_within(part: np.ndarray) -> np.ndarray:
    """First and last sample of a sound [samples] that lie within EDGE_DB of its loudest moment."""
    size = STUDIO_RATE // 100
    loudness = np.abs(part[: part.size // size * size]).reshape(-1, size).max(axis=1)
    loud = np.flatnonzero(loudness > 10 ** (-EDGE_DB / 20) * loudness.max())
    return size * np.array([loud[0], loud[-1] + 1])


def write_all(folder: Path, train: list[Scene], test: list[Scene]) -> list:
    """Write the recordings, the table of labels and the sample submission below `folder`.

    Returns the events of the test side, as rows of EVENT.
    """
    events = {}
    for side, scenes in (("train", train), ("test", test)):
        jobs = [delayed(_write_one)(folder / side, scene) for scene in scenes]
        events[side] = chain.from_iterable(Parallel(n_jobs=-1, prefer="threads")(jobs))
        (folder / side / BROKEN_NAME).write_bytes(BROKEN[side])
    rows = [f'{scene.name},"{",".join(scene.labels)}"\n' for scene in train]
    table = ["fname,labels\n", *rows, f"{BROKEN_NAME},rain\n"]
    artifacts.write_text(folder / "train.csv", "".join(table))
    names = sorted([BROKEN_NAME, *(scene.name for scene in test)])
    files = pd.Index(names, name="fname")
    sample = pd.DataFrame(0, files, sorted(CLASS_WEIGHTS))
    text = sample.to_csv(lineterminator="\n")
    artifacts.write_text(folder / "sample_submission.csv", text)
    return sorted(events["test"])


def _write_one(folder, scene):
    sound, events = perform(scene)
    write(folder / scene.name, sound, scene.sample_rate, scene.encoding)
    return events
