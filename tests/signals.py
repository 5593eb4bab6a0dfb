"""Signals, files and tables that the tests are made of."""

import io
import struct

import av
import numpy as np
import pandas as pd
import soundfile

from helpers.base import artifacts


def tone(frequency=440.0, seconds=1.0, sample_rate=16000, amplitude=0.5):
    """A sine: float32 [samples]."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    return (amplitude * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def noise(seconds=1.0, sample_rate=16000, rms=0.1, seed=0):
    """White Gaussian noise: float32 [samples]."""
    generator = np.random.default_rng(seed)
    return (rms * generator.standard_normal(round(seconds * sample_rate))).astype(np.float32)


def snr_db(heard, truth):
    """Level of `truth` over the level of what `heard` differs from it by."""
    error = np.asarray(heard, dtype=np.float64) - truth
    return 10 * np.log10(np.sum(np.square(truth, dtype=np.float64)) / max(np.sum(error**2), 1e-30))


# --- files -------------------------------------------------------------------------------------


def encoded(waveform, sample_rate=16000, format="WAV", subtype=None, endian=None):
    """A waveform as the bytes of a file that libsndfile writes."""
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, sample_rate, format=format, subtype=subtype, endian=endian)
    return buffer.getvalue()


def encoded_av(waveform, sample_rate=16000, format="ipod", codec="aac"):
    """A mono waveform as the bytes of a file that FFmpeg writes (m4a by default)."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format) as file:
        stream = file.add_stream(codec, rate=sample_rate)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
        frame.sample_rate = sample_rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)
    return buffer.getvalue()


def encoded_mp3(waveform, sample_rate=16000, counted=True, variable=False):
    """A mono waveform as an MP3 of constant or variable bitrate, with or without a header that
    counts its frames.
    """
    buffer, options = io.BytesIO(), {"write_xing": str(int(counted)), "id3v2_version": "0"}
    with av.open(buffer, "w", format="mp3", options=options) as file:
        stream = file.add_stream(
            "libmp3lame", rate=sample_rate, options={"q:a": "4"} if variable else {"b": "64000"}
        )
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(
            np.asarray(waveform, np.float32)[None], format="fltp", layout="mono"
        )
        frame.sample_rate = sample_rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)
    return buffer.getvalue()


def half(content, share=0.5):
    """The first part of a file."""
    return content[: int(len(content) * share)]


def id3(n_bytes):
    """An ID3v2 tag whose body is so long."""
    length = bytes(n_bytes >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\x00\x00" + length + bytes(n_bytes)


def chunk(name, body):
    """A chunk of a WAV, padded to an even length."""
    return name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def riff(*chunks):
    """A WAV of these chunks."""
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def wav_format(codec=1, channels=1, sample_rate=16000, bits=16, width=None):
    """A WAV's format chunk; width: bytes of a sample over all channels."""
    width = channels * bits // 8 if width is None else width
    return chunk(
        b"fmt ",
        struct.pack("<HHIIHH", codec, channels, sample_rate, sample_rate * width, width, bits),
    )


def wav_bytes(
    data=bytes(2000), codec=1, channels=1, sample_rate=16000, bits=16, declared=None, extra=b""
):
    """A WAV file put together by hand: every field of its header can be a lie."""
    width = channels * bits // 8
    head = (
        struct.pack(
            "<HHIIHH", codec, channels, sample_rate, sample_rate * width % 2**32, width, bits
        )
        + extra
    )
    chunks = b"fmt " + struct.pack("<I", len(head)) + head
    chunks += b"data" + struct.pack("<I", len(data) if declared is None else declared) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def write_wav(path, waveform, sample_rate=16000):
    """Write a 16-bit WAV, its folders included; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, sample_rate, format="WAV", subtype="PCM_16")
    return path


def plant(root, *names, content=b"x"):
    """Make files below `root`, their folders included; returns root."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


# --- damaged files -----------------------------------------------------------------------------

WHOLE = {
    "WAV": lambda sound: encoded(sound),
    "FLAC": lambda sound: encoded(sound, format="FLAC"),
    "OGG": lambda sound: encoded(sound, format="OGG"),
    "MP3": lambda sound: encoded(sound, format="MP3"),
    "AIFF": lambda sound: encoded(sound, format="AIFF"),
    "AU": lambda sound: encoded(sound, format="AU"),
    "M4A": lambda sound: encoded_av(sound),
    "AAC": lambda sound: encoded_av(sound, format="adts"),
    "WEBM": lambda sound: encoded_av(sound, 48000, "webm", "libopus"),
}
EXTREMES = (
    b"\x00",
    b"\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\xff" * 4,
    b"\x80\x00",
    b"\x01\x00\x00\x00",
)


def mutants(container, number, seed=0):
    """So many damaged copies of files of a container: yields (how it was damaged, bytes)."""
    sound = tone(440, 0.5) + noise(0.5)
    whole = {name: make(sound) for name, make in WHOLE.items()}
    originals = [whole[container], WHOLE[container](sound[:3000])]
    for index in range(number):
        rng = np.random.default_rng([seed, index])
        content = bytearray(originals[rng.integers(2)])
        kind = list(DAMAGES)[index % len(DAMAGES)]
        yield kind, bytes(DAMAGES[kind](content, rng, whole))


def _place(content, rng):
    """A place in a file, half of the time near its start."""
    return int(rng.integers(min(len(content), rng.choice([96, len(content)]))))


def _flip(content, rng, whole):
    for _ in range(rng.integers(1, 20)):
        content[_place(content, rng)] ^= 1 << int(rng.integers(8))
    return content


def _overwrite(content, rng, whole):
    at, length = _place(content, rng), int(rng.integers(1, 300))
    content[at : at + length] = (
        rng.bytes(length) if rng.integers(2) else bytes([rng.integers(256)]) * length
    )
    return content


def _insert(content, rng, whole):
    at = _place(content, rng)
    content[at:at] = rng.bytes(int(rng.integers(1, 300)))
    return content


def _drop(content, rng, whole):
    at = _place(content, rng)
    del content[at : at + int(rng.integers(1, 300))]
    return content


def _set_field(content, rng, whole):
    for _ in range(rng.integers(1, 4)):
        at, value = int(rng.integers(64)), EXTREMES[rng.integers(len(EXTREMES))]
        content[at : at + len(value)] = value
    return content


def _splice(content, rng, whole):
    other = whole[rng.choice(sorted(whole))]
    return content[: _place(content, rng)] + other[_place(other, rng) :]


DAMAGES = {
    "bits flipped": _flip,
    "bytes overwritten": _overwrite,
    "cut": lambda content, rng, whole: content[: _place(content, rng)],
    "bytes inserted": _insert,
    "bytes dropped": _drop,
    "fields set": _set_field,
    "two files spliced": _splice,
}


# --- tables ------------------------------------------------------------------------------------


def recordings_table(*rows):
    """A table as in recordings.csv: a sound, usable training recording per dict, but for what the
    dict says.
    """
    usual = {
        "label": "dog",
        "split": "train",
        "status": "ok",
        "loudest_db": -20.0,
        "duration_seconds": 1.0,
    }
    columns = artifacts.SCHEMAS["recordings.csv"]
    table = pd.DataFrame(
        [
            {"recording_id": f"r{n}", "path": f"{n}.wav", "pcm_sha256": f"pcm{n}", **usual, **row}
            for n, row in enumerate(rows)
        ],
        columns=list(columns),
    )
    for column, kind in columns.items():
        table[column] = (
            table[column].fillna("").astype(kind)
            if kind == artifacts.TEXT
            else table[column].astype(kind)
        )
    return table
