"""Recordings as arrays: load, survey, measure, resample, write. Nothing else in Earshot opens a recording."""

import hashlib
import io
from pathlib import Path

import joblib
import numpy as np
import soundfile
import soxr

from helpers import artifacts
from helpers.decoder import AudioIssue, decode

SILENCE_DB = -60.0  # dBFS: a 20-ms frame below this counts as silence
FLOOR_DB = -120.0  # dBFS: the level given to digital silence
SUFFIXES = {
    "WAV": {".wav"},
    "FLAC": {".flac"},
    "OGG": {".ogg", ".oga", ".opus"},
    "MP3": {".mp3"},
    "AIFF": {".aif", ".aiff"},
    "AU": {".au"},
    "MP4": {".m4a", ".mp4", ".aac"},
    "WEBM": {".webm"},
    "AAC": {".aac"},
}


def load(path, sample_rate, max_seconds=float("inf")):
    """A recording as mono at `sample_rate`: float32 [samples], DC kept. Raises AudioIssue."""
    decoded = decode(path, max_seconds)
    mono = to_mono(decoded.waveform)[0]
    resampled = resample(mono, decoded.sample_rate, sample_rate)
    return resampled if len(resampled) else mono[:1]


def to_mono(waveform):
    """Mean of the channels, or the first one where the mean cancels (channels in opposite phase).

    Args: waveform [samples, channels]. Returns (waveform [samples], whether the channels cancel).
    """
    mono = waveform.mean(axis=1, dtype=np.float32)
    loudness, mono_loudness = np.mean(np.square(waveform, dtype=np.float64)), np.mean(np.square(mono, dtype=np.float64))
    cancels = bool(mono_loudness < loudness * 10 ** (-30 / 10))
    return (waveform[:, 0].copy(), True) if cancels else (mono, False)


def resample(waveform, from_rate, to_rate):
    """Resample float32 [samples] from one rate (Hz) to another with soxr's high quality."""
    return (
        waveform
        if from_rate == to_rate
        else soxr.resample(waveform, from_rate, to_rate, quality="HQ").astype(np.float32)
    )


def write(path, waveform, sample_rate):
    """Write mono float32 in [-1, 1] as 16-bit FLAC. Raises ValueError on what would be written as a click."""
    waveform = np.asarray(waveform, dtype=np.float32)
    if waveform.ndim != 1 or not np.isfinite(waveform).all() or np.abs(waveform).max(initial=0) > 1:
        raise ValueError(f"{path}: expected a finite mono waveform within [-1, 1], got shape {waveform.shape}")
    soundfile.write(path, waveform, sample_rate, format="FLAC", subtype="PCM_16")


def encode_mp3(waveform, sample_rate):
    """Mono float32 as MP3 bytes, small enough to travel inside a page. Rates that MP3 lacks are resampled."""
    rate = min(
        (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000), key=lambda legal: abs(legal - sample_rate)
    )
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(resample(waveform, sample_rate, rate), -1, 1), rate, format="MP3")
    return buffer.getvalue()


# --- measuring ---------------------------------------------------------------------------------------------


def level_db(waveform):
    """RMS level in dBFS, never below FLOOR_DB.

    >>> level_db(np.zeros(10)), round(level_db(np.ones(10)), 1)
    (-120.0, 0.0)
    """
    rms = float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))) if len(waveform) else 0.0
    return max(20 * float(np.log10(max(rms, 1e-12))), FLOOR_DB)


def measure(decoded):
    """The facts about a decoded recording that recordings.csv lists, as a flat dict."""
    waveform, rate = decoded.waveform, decoded.sample_rate
    mono, cancels = to_mono(waveform)
    peak, offset = float(np.abs(waveform).max()), float(mono.mean(dtype=np.float64))
    clipped = max(clipped_fraction(channel) for channel in waveform.T)
    flags = {
        "CLIPPED": clipped > 0.05,
        "DC_OFFSET": abs(offset) > 0.05,
        "OVER_RANGE": peak > 1.0,
        "PHASE_CANCEL": cancels,
    }
    return {
        "duration_seconds": round(len(waveform) / rate, 4),
        "sample_rate": rate,
        "channels": waveform.shape[1],
        "codec": decoded.codec,
        "bit_depth": decoded.bit_depth,
        "peak": round(peak, 6),
        "rms_db": round(level_db(mono - offset), 2),
        "silence_fraction": round(silence_fraction(mono - offset, rate), 4),
        "clipped_fraction": round(clipped, 5),
        "dc_offset": round(offset, 5),
        "flags": " ".join(flag for flag, raised in flags.items() if raised),
        "pcm_sha256": hashlib.sha256(
            np.round(waveform.astype(np.float64) * 32767).astype(np.int64).tobytes() + str(rate).encode()
        ).hexdigest(),
    }


def clipped_fraction(channel):
    """Share of samples on a flat top: three or more in a row within 0.01 % of the peak. Quiet channels have none."""
    peak = np.abs(channel).max(initial=0)
    if peak < 0.01:
        return 0.0
    at_peak = np.abs(channel) >= (1 - 1e-4) * peak
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate(([0], at_peak.astype(np.int8), [0])))))[::2]
    return float(runs[runs >= 3].sum() / len(channel))


def silence_fraction(waveform, sample_rate, frame_seconds=0.02):
    """Share of 20-ms frames whose RMS is below SILENCE_DB."""
    size = max(1, round(frame_seconds * sample_rate))
    frames = waveform[: len(waveform) // size * size].reshape(-1, size) if len(waveform) >= size else waveform[None]
    return float(np.mean(np.sqrt(np.mean(np.square(frames), axis=1)) < 10 ** (SILENCE_DB / 20)))


def survey(root, recordings, max_seconds=float("inf")):
    """Decode and measure every recording whose status is ok; set aside, with the reason, what cannot be used.

    Args: root data folder; recordings table of sources.find.
    Returns a new table with the columns of recordings.csv.
    """
    ok = recordings["status"].eq("ok")
    paths = [Path(root) / path for path in recordings.loc[ok, "path"]]
    jobs = (joblib.delayed(_examine)(path, max_seconds) for path in paths)
    found = joblib.Parallel(n_jobs=-1, prefer="threads", return_as="generator")(jobs)
    facts = list(artifacts.progress(found, "recordings", len(paths)))
    table = recordings.copy()
    for column, kind in artifacts.SCHEMAS["recordings.csv"].items():
        if column not in table:
            table[column] = "" if kind == artifacts.TEXT else None
    for index, fact in zip(table.index[ok], facts, strict=True):
        for column, value in fact.items():
            table.at[index, column] = value
    return table


def _examine(path, max_seconds):
    """The facts about one file, or what is wrong with it."""
    sha256 = artifacts.content_digest(path) if path.is_file() else ""
    try:
        facts = measure(decode(path, max_seconds))
    except AudioIssue as issue:
        return {"sha256": sha256, "status": "quarantined", "reason": str(issue)}
    if path.suffix.casefold() not in SUFFIXES[facts["codec"].partition("/")[0]]:
        facts["flags"] = f"{facts['flags']} EXT_MISMATCH".strip()
    return {"sha256": sha256, **facts}
