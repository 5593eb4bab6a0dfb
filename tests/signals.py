"""Signals, files and tables that the tests are made of."""

import io
import struct

import av
import numpy as np
import pandas as pd
import soundfile

from helpers import artifacts


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


# --- files -------------------------------------------------------------------------------------------------


def encoded(waveform, sample_rate=16000, format="WAV", subtype=None):
    """A waveform as the bytes of a file that libsndfile writes."""
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, sample_rate, format=format, subtype=subtype)
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


def wav_bytes(data=bytes(2000), codec=1, channels=1, sample_rate=16000, bits=16, declared=None, extra=b""):
    """A WAV file put together by hand: every field of its header can be a lie."""
    width = channels * bits // 8
    head = struct.pack("<HHIIHH", codec, channels, sample_rate, sample_rate * width % 2**32, width, bits) + extra
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


# --- tables ------------------------------------------------------------------------------------------------


def recordings_table(*rows):
    """A table as in recordings.csv: a sound, usable training recording per dict, but for what the dict says."""
    usual = {"label": "dog", "split": "train", "status": "ok", "rms_db": -20.0, "duration_seconds": 1.0}
    columns = artifacts.SCHEMAS["recordings.csv"]
    table = pd.DataFrame(
        [
            {"recording_id": f"r{n}", "path": f"{n}.wav", "pcm_sha256": f"pcm{n}", **usual, **row}
            for n, row in enumerate(rows)
        ],
        columns=list(columns),
    )
    for column, kind in columns.items():
        table[column] = table[column].fillna("").astype(kind) if kind == artifacts.TEXT else table[column].astype(kind)
    return table
