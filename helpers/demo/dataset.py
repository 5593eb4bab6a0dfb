"""Writes the demo data set: class folders of synthetic recordings, as untidy as a real collection.

Rates, formats, levels and lengths vary, but never with the class. A source (one bell, one dog) is
recorded in one to four takes, so a split that ignores sources leaks. A dozen defects are planted on
top: see DEFECTS.
"""

import os
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
import soxr
from joblib import Parallel, delayed
from scipy.io import wavfile

from helpers.base import artifacts
from helpers.demo import synth

VERSION = 1  # raise it whenever the same settings give other files

STUDIO_RATE = 32_000  # Hz; everything is made at this rate, then resampled to the recorder's

# How many recordings each class gets, in proportion: four to one between the largest and the
# smallest.
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

# What is planted on top of the sound recordings. The marker file maps each planted path to its
# kind.
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
    """What is drawn for one file before any sound is made: who, how long, through which recorder."""

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


def make(root, key_path, seed=0, n_train=340, n_test=80):
    """Write the data set and the hidden key of its test side; the same arguments give the same
    bytes.

    Args: root folder, made anew, or replaced if `make` made it; key_path CSV (filename, label),
        outside root; n_train, n_test numbers of sound recordings, at least 10 each; the defects
        come on top.
    Returns the counts {"train", "test", "defects", "sources"} (files, defects included).
    Raises ValueError for impossible arguments, FileExistsError if root holds files of someone else.
    """
    root, key_path = Path(root), Path(key_path)
    _check(root, key_path, n_train, n_test)
    settings = _settings(root, key_path, seed, n_train, n_test)
    train, test, planted, originals = plan(seed, n_train, n_test)
    # From here on the folder is in doubt: the marker says whose it is, but matches no settings.
    artifacts.write_json(marker_path(key_path), {"root": settings["root"]})
    with artifacts.replacing(root) as folder:
        _write_all(folder, train + test, planted, originals)
    keyed = test + [recording for recording, kind in planted if kind == "undecodable"]
    rows = sorted(f"{Path(recording.path).name},{recording.label}\n" for recording in keyed)
    artifacts.write_text(key_path, "filename,label\n" + "".join(rows))
    counts = {"train": n_train + len(planted) - 1, "test": len(keyed), "defects": len(planted)}
    counts["sources"] = len({recording.source for recording in train + test})
    defects = {recording.path: kind for recording, kind in planted}
    facts = {"counts": counts, "defects": defects, "originals": originals}
    artifacts.write_json(marker_path(key_path), settings | facts)
    return counts


def ensure(root, key_path, seed=0, n_train=340, n_test=80):
    """Make the data set unless it is there with exactly these settings; otherwise as `make`."""
    marker = marker_path(key_path)
    settings = _settings(root, key_path, seed, n_train, n_test)
    if marker.is_file() and Path(root).is_dir() and Path(key_path).is_file():
        found = artifacts.read_json(marker)
        if settings.items() <= found.items():
            return found["counts"]
    return make(root, key_path, seed, n_train, n_test)


def marker_path(key_path):
    """The JSON beside the key: settings, counts, defects {path: kind}, originals {copy: original}."""
    return Path(key_path).with_suffix(".json")


def plan(seed, n_train, n_test):
    """Draw every recording of the set, without making a sound.

    Returns: train and test, lists of Recording; planted, a list of (Recording, kind of DEFECTS);
        originals, a dict from each planted copy's path to the path it copies.
    """
    rng = np.random.default_rng(seed)
    sources = iter(rng.choice(16**6, size=n_train + n_test + len(DEFECTS), replace=False).tolist())
    train, test = (
        _draw_side(side, n, seed, sources, rng)
        for side, n in (("train", n_train), ("test", n_test))
    )
    planted = [
        (_draw_defect(kind, seed, sources, rng), kind) for kind in DEFECTS if kind not in COPIES
    ]
    copied = rng.choice(len(train), size=len(COPIES), replace=False)
    copies = [
        _draw_copy(train[i], kind, next(sources), rng)
        for i, kind in zip(copied, COPIES, strict=True)
    ]
    originals = {copy.path: train[i].path for copy, i in zip(copies, copied, strict=True)}
    return train, test, planted + list(zip(copies, COPIES, strict=True)), originals


def class_counts(n_recordings):
    """Share n_recordings (at least one per class) among the classes by CLASS_WEIGHTS: {label:
    count}.
    """
    shares = np.array(list(CLASS_WEIGHTS.values())) / sum(CLASS_WEIGHTS.values())
    wanted = 1 + shares * (n_recordings - len(shares))
    counts = np.floor(wanted).astype(int)
    counts[np.argsort(counts - wanted, kind="stable")[: n_recordings - counts.sum()]] += 1
    return dict(zip(CLASS_WEIGHTS, counts.tolist(), strict=True))


def perform(recording):
    """Make the sound of a planned recording: float array [samples, channels], peak as planned, ends
    faded.
    """
    source_rng = np.random.default_rng([recording.seed, recording.source])
    physics, scene = synth.draw_source(recording.label, source_rng), synth.draw_scene(source_rng)
    take_rng = np.random.default_rng([recording.seed, recording.source, recording.take])
    sound = synth.render(
        recording.label, physics, recording.duration_seconds, STUDIO_RATE, take_rng
    )
    sound = synth.place(sound, STUDIO_RATE, take_rng, scene, recording.snr_db)
    sound = soxr.resample(sound, STUDIO_RATE, recording.sample_rate)
    sound *= synth.fades(sound.size, recording.sample_rate)
    if recording.n_channels == 2:  # the nearer microphone hears it 0.1 ms earlier, and louder
        far = 0.7 * np.roll(sound, int(0.0001 * recording.sample_rate) + 1)
        sound = np.stack([sound, far], axis=1)
    return (sound * (10 ** (recording.peak_dbfs / 20) / np.abs(sound).max())).reshape(
        len(sound), -1
    )


def write(path, sound, sample_rate, encoding):
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
    """Draw takes of fresh sources until the class has its recordings, from five sources or more if
    it can.
    """
    recordings = []
    while len(recordings) < n_recordings:
        first = _draw_recording(side, label, seed, next(sources), rng)
        n_takes = min(_pick(TAKES, rng), n_recordings - len(recordings), max(1, n_recordings // 5))
        recordings += [_draw_take(first, side, take, rng) for take in range(1, n_takes + 1)]
    return recordings


def _draw_recording(side, label, seed, source, rng, encoding=None):
    """A source's first take: the recorder's rate, channels and format stay for its other takes."""
    encoding = encoding or _pick({name: share for name, (*_, share) in ENCODINGS.items()}, rng)
    sample_rate, n_channels = _pick(SAMPLE_RATES, rng), int(rng.integers(1, 3))
    first = Recording("", label, seed, source, 1, 0, sample_rate, n_channels, encoding, 0, 0)
    return _draw_take(first, side, 1, rng)


def _draw_take(first, side, take, rng):
    shortest, longest = _pick({(1.1, 2): 0.1, (2, 5): 0.8, (5, 11.8): 0.1}, rng)
    extension = ENCODINGS[first.encoding][0]
    extension = extension.upper() if rng.uniform() < 0.1 else extension
    name = (
        f"{rng.integers(16**8):08x}"
        if side == "test"
        else f"{first.label}/{first.source:06x}-{take}"
    )
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
    """Where a copy of an original goes: under a new source's name, in another class for two_labels."""
    others = [label for label in CLASS_WEIGHTS if label != original.label]
    label = str(rng.choice(others)) if kind == "two_labels" else original.label
    encoding = original.encoding
    if kind == "reencoded_duplicate":
        encoding = "wav_16" if original.encoding == "mp3" else "mp3"
    extension = ENCODINGS[encoding][0]
    return replace(
        original, path=f"train/{label}/{source:06x}-1.{extension}", label=label, encoding=encoding
    )


def _write_all(folder, recordings, planted, originals):
    damaged = [(recording, kind) for recording, kind in planted if kind not in COPIES]
    jobs = [(recording, None) for recording in recordings] + damaged
    Parallel(n_jobs=-1, prefer="threads")(delayed(_write_one)(folder, *job) for job in jobs)
    for recording, kind in planted:
        if kind in COPIES:
            _write_copy(
                folder / originals[recording.path], folder / recording.path, recording, kind
            )


def _write_one(folder, recording, kind):
    path = folder / recording.path
    sound = DAMAGED_SOUND.get(kind, np.asarray)(perform(recording))
    write(path, sound, recording.sample_rate, recording.encoding)
    if kind in DAMAGED_BYTES:
        path.write_bytes(DAMAGED_BYTES[kind](path.read_bytes()))


def _write_copy(original, path, recording, kind):
    if kind == "reencoded_duplicate":
        sound, sample_rate = soundfile.read(original, always_2d=True)
        write(path, sound, sample_rate, recording.encoding)
    else:
        path.write_bytes(original.read_bytes())


def _fixed_serial(data):
    """An Ogg stream with serial number 1 where libsndfile drew one, page checksums renewed (RFC
    3533).
    """
    mirror = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
    pages, start = [], 0
    while start < len(data):
        n_segments = data[start + 26]
        end = start + 27 + n_segments + sum(data[start + 27 : start + 27 + n_segments])
        page = bytearray(data[start:end])
        page[14:18], page[22:26] = b"\x01\x00\x00\x00", b"\x00\x00\x00\x00"
        # Ogg's checksum is zlib's with the bits mirrored and nothing inverted.
        checksum = zlib.crc32(page.translate(mirror), 0xFFFFFFFF) ^ 0xFFFFFFFF
        page[22:26] = int(f"{checksum:032b}"[::-1], 2).to_bytes(4, "little")
        pages.append(bytes(page))
        start = end
    return b"".join(pages)


def _pick(shares, rng):
    """One of the keys of {value: share}."""
    return list(shares)[rng.choice(len(shares), p=list(shares.values()))]


def _settings(root, key_path, seed, n_train, n_test):
    place = Path(os.path.relpath(root, Path(key_path).parent)).as_posix()
    return {"version": VERSION, "root": place, "seed": seed, "n_train": n_train, "n_test": n_test}


def _check(root, key_path, n_train, n_test):
    if min(n_train, n_test) < len(CLASS_WEIGHTS):
        raise ValueError(
            f"n_train={n_train}, n_test={n_test}: each must be at least {len(CLASS_WEIGHTS)}"
        )
    if key_path.resolve().is_relative_to(root.resolve()):
        raise ValueError(
            f"the key {key_path} lies inside {root} and gives the labels away; put it outside"
        )
    marker = marker_path(key_path)
    place = _settings(root, key_path, 0, 0, 0)["root"]
    ours = marker.is_file() and artifacts.read_json(marker).get("root") == place
    if root.exists() and not ours and any(root.iterdir()):
        raise FileExistsError(f"{root} holds files that {marker} does not claim; move it away")
