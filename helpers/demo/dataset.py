"""Writes the demo data set: class folders of synthetic recordings, as untidy as a real collection.

Rates, formats, levels and lengths vary, but never with the class. A source (one bell, one dog) is
recorded in one to four takes, so a split that ignores sources leaks. A dozen defects are planted on
top: see DEFECTS.
"""

import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
import soxr
from joblib import Parallel, delayed
from scipy.io import wavfile

from helpers.base import artifacts
from helpers.base.errors import ConfigError
from helpers.demo import synth

VERSION = 1  # raise it whenever the same settings give other files

STUDIO_RATE = 32_000  # Hz; everything is made at this rate, then resampled to the recorder's

# How many recordings each class gets, in proportion: four to one between the ends.
CLASS_WEIGHTS = {
    "dog_bark": 4.0,
    "rain": 3.6,
    "engine": 3.2,
    "bird": 2.8,
    "footsteps": 2.5,
    "wind": 2.2,
    "clock_tick": 1.9,
    "siren": 1.6,
    "helicopter": 1.3,
    "bell": 1.0,
}
# encoding: (extension, container and subtype as libsndfile names them, share of the sources)
ENCODINGS = {
    "wav_16": ("wav", "WAV", "PCM_16", 0.30),
    "wav_24": ("wav", "WAV", "PCM_24", 0.10),
    "wav_float": ("wav", "WAV", "FLOAT", 0.10),
    "flac": ("flac", "FLAC", "PCM_16", 0.20),
    "ogg": ("ogg", "OGG", "VORBIS", 0.15),
    "mp3": ("mp3", "MP3", "MPEG_LAYER_III", 0.15),
}
SAMPLE_RATES = {
    8000: 0.04,
    11025: 0.04,
    16000: 0.2,
    22050: 0.2,
    32000: 0.12,
    44100: 0.24,
    48000: 0.16,
}
TAKES = {1: 0.5, 2: 0.3, 3: 0.15, 4: 0.05}

# What is planted on top of the sound recordings; the marker maps each planted path to its kind.
DEFECTS = {
    "empty": "a file of 0 bytes",
    "not_audio": "a text file named .wav",
    "truncated": "a WAV whose header declares more than there is",
    "silent": "digital silence",
    "clipped": "most of the waveform cut off at full scale",
    "dc_offset": "the whole waveform shifted up by 0.3",
    "nan": "a float WAV with NaN samples",
    "apple_double": "a hidden ._ file, as macOS leaves them on foreign disks",
    "exact_duplicate": "the same bytes under another name",
    "reencoded_duplicate": "the same sound under another name and in another format",
    "two_labels": "the same bytes in the folder of another class",
    "undecodable": "a test file cut off within its header; the key has its true label",
}
DAMAGED_SOUND = {
    "silent": np.zeros_like,
    "clipped": lambda sound: np.clip(20 * sound / np.abs(sound).max(), -1, 1),
    "dc_offset": lambda sound: 0.3 + 0.5 * sound / np.abs(sound).max(),
    "nan": lambda sound: np.where((np.arange(len(sound)) % 1000 < 10)[:, None], np.nan, sound),
}
DAMAGED_BYTES = {
    "empty": lambda data: b"",
    "not_audio": lambda data: b"Field notes: the recorder's battery died before this one.\n" * 8,
    "truncated": lambda data: data[: len(data) * 2 // 5],
    "apple_double": lambda data: b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ".ljust(
        4096, b"\x00"
    ),
    "undecodable": lambda data: data[:30],
}
COPIES = ("exact_duplicate", "reencoded_duplicate", "two_labels")


@dataclass(frozen=True)
class Recording:
    """What is drawn for one file before any sound is made: who, how long, which recorder."""

    path: str  # relative to the data set's root
    label: str
    seed: int
    source: int  # the physics, the room and the microphone follow from (seed, source)
    take: int  # the timing, from (seed, source, take)
    duration_seconds: float
    sample_rate: int  # Hz
    n_channels: int
    encoding: str
    peak_dbfs: float
    snr_db: float


def ensure(
    root: str | Path, key_path: str | Path, seed: int = 0, n_train: int = 340, n_test: int = 80
) -> dict[str, int]:
    """Write the data set and the hidden key of its test side, unless they are there already.

    The same arguments give the same bytes.

    Args: root folder, made anew, or replaced if `ensure` made it; key_path CSV (filename, label),
        outside root; n_train, n_test numbers of sound recordings, at least 10 each; the defects
        come on top.
    Returns the counts {"train", "test", "defects", "sources"} (files, defects included).
    Raises ValueError for impossible arguments, FileExistsError if root holds files of someone else.
    """
    fewest = len(CLASS_WEIGHTS)
    if min(n_train, n_test) < fewest:
        raise ConfigError(f"n_train={n_train}, n_test={n_test}: each must be at least {fewest}")
    settings = {"version": VERSION, "seed": seed, "n_train": n_train, "n_test": n_test}
    return kept(root, key_path, settings, lambda folder: _fill(folder, seed, n_train, n_test))[
        "counts"
    ]


def kept(root, key_path, settings: dict, fill: Callable) -> dict:
    """A data set made with `fill`, unless it is there with exactly these settings.

    Args: root, key_path as of `ensure`; settings that the files follow from; fill writes them into
        a folder and returns (the key: {file name: label}, facts to be noted).
    Returns what the marker holds: the settings and the facts. Raises ValueError, FileExistsError.
    """
    root = Path(root)
    key_path = Path(key_path)
    if key_path.resolve().is_relative_to(root.resolve()):
        reason = f"lies inside {root} and gives the labels away; put it outside"
        raise ConfigError(f"the key {key_path} {reason}")
    marker = marker_path(key_path)
    place = Path(os.path.relpath(root, key_path.parent)).as_posix()
    settings = {**settings, "root": place}
    notes = artifacts.read_json(marker) if marker.is_file() else {"root": None}
    if settings.items() <= notes.items() and root.is_dir() and key_path.is_file():
        return notes
    if root.exists() and notes.get("root", place) != place and any(root.iterdir()):
        raise FileExistsError(f"{root} holds files that {marker} does not claim; move it away")
    # From here on the folder is in doubt: the marker says whose it is, but matches no settings.
    artifacts.write_json(marker, {"root": place})
    with artifacts.replacing(root) as folder:
        key, facts = fill(folder)
    rows = [f"{name},{label}\n" for name, label in sorted(key.items())]
    artifacts.write_text(key_path, "filename,label\n" + "".join(rows))
    artifacts.write_json(marker, settings | facts)
    return settings | facts


def marker_path(key_path: str | Path) -> Path:
    """The JSON beside the key: settings, and what was noted of the files."""
    return Path(key_path).with_suffix(".json")


def _fill(folder, seed, n_train, n_test):
    """Write the set; notes counts, defects {path: kind} and originals {copy: original}."""
    train, test, planted, originals = plan(seed, n_train, n_test)
    _write_all(folder, train + test, planted, originals)
    keyed = test + [recording for recording, kind in planted if kind == "undecodable"]
    counts = {
        "train": n_train + len(planted) - 1,
        "test": len(keyed),
        "defects": len(planted),
        "sources": len({recording.source for recording in train + test}),
    }
    defects = {recording.path: kind for recording, kind in planted}
    key = {Path(recording.path).name: recording.label for recording in keyed}
    return key, {"counts": counts, "defects": defects, "originals": originals}


def plan(seed: int, n_train: int, n_test: int) -> tuple[list, list, list, dict]:
    """Draw every recording of the set, without making a sound.

    Returns: train and test, lists of Recording; planted, a list of (Recording, kind of DEFECTS);
        originals, a dict from each planted copy's path to the path it copies.
    """
    rng = np.random.default_rng(seed)
    sources = iter(rng.choice(16**6, size=n_train + n_test + len(DEFECTS), replace=False).tolist())
    train = _draw_side("train", n_train, seed, sources, rng)
    test = _draw_side("test", n_test, seed, sources, rng)
    damaged = [kind for kind in DEFECTS if kind not in COPIES]
    planted = [(_draw_defect(kind, seed, sources, rng), kind) for kind in damaged]
    originals = {}
    copied = rng.choice(len(train), size=len(COPIES), replace=False)
    for index, kind in zip(copied, COPIES, strict=True):
        copy = _draw_copy(train[index], kind, next(sources), rng)
        planted.append((copy, kind))
        originals[copy.path] = train[index].path
    return train, test, planted, originals


def class_counts(n_recordings: int) -> dict[str, int]:
    """Share n_recordings (at least one per class) among the classes by CLASS_WEIGHTS."""
    weights = np.array(list(CLASS_WEIGHTS.values()))
    shares = weights / weights.sum()
    wanted = 1 + shares * (n_recordings - len(weights))
    counts = np.floor(wanted).astype(int)
    most_short = np.argsort(counts - wanted, kind="stable")
    counts[most_short[: n_recordings - counts.sum()]] += 1
    return dict(zip(CLASS_WEIGHTS, counts.tolist(), strict=True))


def perform(recording: Recording) -> np.ndarray:
    """Make the sound of a planned recording: [samples, channels], peak as planned, ends faded."""
    source = [recording.seed, recording.source]
    source_rng = np.random.default_rng(source)
    take_rng = np.random.default_rng([*source, recording.take])
    physics = synth.draw_source(recording.label, source_rng)
    scene = synth.draw_scene(source_rng)
    seconds = recording.duration_seconds
    sound = synth.render(recording.label, physics, seconds, STUDIO_RATE, take_rng)
    sound = synth.place(sound, STUDIO_RATE, take_rng, scene, recording.snr_db)
    sound = soxr.resample(sound, STUDIO_RATE, recording.sample_rate)
    sound *= synth.fades(sound.size, recording.sample_rate)
    channels = [sound]
    if recording.n_channels == 2:  # the nearer microphone hears it 0.1 ms earlier, and louder
        channels.append(0.7 * np.roll(sound, int(0.0001 * recording.sample_rate) + 1))
    gain = 10 ** (recording.peak_dbfs / 20) / np.abs(channels).max()
    return np.stack(channels, axis=1) * gain


def write(path: Path, sound: np.ndarray, sample_rate: int, encoding: str):
    """Write a sound [samples, channels] in one of the ENCODINGS, the same bytes every time."""
    _, container, subtype, _ = ENCODINGS[encoding]
    path.parent.mkdir(parents=True, exist_ok=True)
    if encoding == "wav_float":  # libsndfile would put the time of day into the header
        wavfile.write(path, sample_rate, sound.astype(np.float32))
    else:
        soundfile.write(path, sound, sample_rate, format=container, subtype=subtype)
    if encoding == "ogg":
        path.write_bytes(_fixed_serial(path.read_bytes()))


def _draw_side(side, n_recordings, seed, sources, rng):
    counts = class_counts(n_recordings).items()
    return [take for label, n in counts for take in _draw_class(side, label, n, seed, sources, rng)]


def _draw_class(side, label, n_recordings, seed, sources, rng):
    """Draw takes of fresh sources until the class has its recordings, if it can of five."""
    recordings = []
    while len(recordings) < n_recordings:
        first = _draw_recording(side, label, seed, next(sources), rng)
        n_takes = min(_pick(TAKES, rng), n_recordings - len(recordings), max(1, n_recordings // 5))
        recordings += [_draw_take(first, side, take, rng) for take in range(1, n_takes + 1)]
    return recordings


def _draw_recording(side, label, seed, source, rng, encoding=None):
    """A source's first take: the recorder's rate, channels and format stay for its other takes."""
    encoding = encoding or _pick({name: share for name, (*_, share) in ENCODINGS.items()}, rng)
    sample_rate = _pick(SAMPLE_RATES, rng)
    n_channels = int(rng.integers(1, 3))
    first = Recording("", label, seed, source, 1, 0, sample_rate, n_channels, encoding, 0, 0)
    return _draw_take(first, side, 1, rng)


def _draw_take(first, side, take, rng):
    shortest, longest = _pick({(1.1, 2): 0.1, (2, 5): 0.8, (5, 11.8): 0.1}, rng)
    extension = ENCODINGS[first.encoding][0]
    extension = extension.upper() if rng.uniform() < 0.1 else extension
    name = f"{first.label}/{first.source:06x}-{take}"
    if side == "test":
        name = f"{rng.integers(16**8):08x}"
    # Lossy decoders overshoot the encoded peak, so those files keep more headroom.
    loudest = -4 if first.encoding in ("ogg", "mp3") else -1
    return replace(
        first,
        path=f"{side}/{name}.{extension}",
        take=take,
        duration_seconds=rng.uniform(shortest, longest),
        peak_dbfs=rng.uniform(-30, loudest),
        snr_db=rng.uniform(0, 25),
    )


def _draw_defect(kind, seed, sources, rng):
    side = "test" if kind == "undecodable" else "train"
    encoding = "wav_float" if kind == "nan" else "wav_16"
    label = str(rng.choice(list(CLASS_WEIGHTS)))
    recording = _draw_recording(side, label, seed, next(sources), rng, encoding)
    path = Path(recording.path).with_suffix(".wav")
    path = path.with_name("._" + path.name) if kind == "apple_double" else path
    return replace(recording, path=path.as_posix())


def _draw_copy(original, kind, source, rng):
    """Where a copy goes: under a new source's name, for two_labels in another class."""
    others = [label for label in CLASS_WEIGHTS if label != original.label]
    label = str(rng.choice(others)) if kind == "two_labels" else original.label
    encoding = original.encoding
    if kind == "reencoded_duplicate":
        encoding = "wav_16" if original.encoding == "mp3" else "mp3"
    path = f"train/{label}/{source:06x}-1.{ENCODINGS[encoding][0]}"
    return replace(original, path=path, label=label, encoding=encoding)


def _write_all(folder, recordings, planted, originals):
    damaged = [(recording, kind) for recording, kind in planted if kind not in COPIES]
    jobs = [(recording, None) for recording in recordings] + damaged
    Parallel(n_jobs=-1, prefer="threads")(delayed(_write_one)(folder, *job) for job in jobs)
    for recording, kind in planted:
        if kind in COPIES:
            original = folder / originals[recording.path]
            _write_copy(original, folder / recording.path, recording.encoding, kind)


def _write_one(folder, recording, kind):
    path = folder / recording.path
    sound = DAMAGED_SOUND.get(kind, np.asarray)(perform(recording))
    write(path, sound, recording.sample_rate, recording.encoding)
    if kind in DAMAGED_BYTES:
        path.write_bytes(DAMAGED_BYTES[kind](path.read_bytes()))


def _write_copy(original, path, encoding, kind):
    if kind == "reencoded_duplicate":
        sound, sample_rate = soundfile.read(original, always_2d=True)
        write(path, sound, sample_rate, encoding)
    else:
        path.write_bytes(original.read_bytes())


def _fixed_serial(data):
    """An Ogg stream with serial number 1 where libsndfile drew one, checksums anew (RFC 3533)."""
    mirror = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
    pages = bytearray(data)
    start = 0
    while start < len(pages):
        body = start + 27 + pages[start + 26]
        end = body + sum(pages[start + 27 : body])
        pages[start + 14 : start + 18] = b"\x01\x00\x00\x00"
        pages[start + 22 : start + 26] = bytes(4)
        # Ogg's checksum is zlib's with the bits mirrored and nothing inverted.
        checksum = zlib.crc32(pages[start:end].translate(mirror), 0xFFFFFFFF) ^ 0xFFFFFFFF
        pages[start + 22 : start + 26] = checksum.to_bytes(4, "big").translate(mirror)
        start = end
    return bytes(pages)


def _pick(shares, rng):
    """One of the keys of {value: share}."""
    return list(shares)[rng.choice(len(shares), p=list(shares.values()))]
