"""Recordings as arrays: load, survey, measure, resample, write. Nothing else in Earshot opens a
recording.
"""

import functools
import hashlib
import io
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import soxr

from helpers.audio.containers import MIN_RATE
from helpers.audio.decoder import decode
from helpers.base import artifacts, work
from helpers.base.errors import AudioIssue

SILENCE_DB = -60.0  # dBFS: a 20-ms frame below this counts as silence
FLOOR_DB = -120.0  # dBFS: the level given to digital silence
FRAME_SECONDS = 0.02  # levels are measured over frames of this length
TRIM_DB = 50.0  # edges so far below the loudest frame are not the sound
CLICK_SECONDS = 0.15  # less than this is left by trimming only where the loudest moment is a click
EDGE_DB = 40.0  # spectra of real sounds fall by less within a third of an octave
RANGE_DB = 80.0  # what lies further below the loudest frequency is no content
NOISE_16_BIT_DB = -98.0  # dBFS, with a little to spare
NARROW = 0.55  # share of half the sample rate; a narrower band was recorded at another rate
STEPS = 32768  # of 16 bits between silence and full scale
BLOCK = 1 << 20  # samples hashed at a time
FLAGS = {  # what can be wrong with a recording that can be used, and what it means
    "CLIPPED": "The tops of the wave are cut flat: it was recorded too loud. Nothing mends it.",
    "DC_OFFSET": "The wave sits beside zero. It cannot be heard; 02 takes the offset out.",
    "LOW_BANDWIDTH": "The spectrum breaks off far below what the sample rate could hold: an earlier"
    " copy had a lower rate, or a codec saved space. It matters if only some classes are cut off.",
    "OVER_RANGE": "Samples lie above full scale, where players clip them. 02 lowers the peak.",
    "PHASE_CANCEL": "The channels are opposites of each other: their mean would be silence."
    " The first one is used alone.",
    "TRIM_SKIPPED": "A short sound in near silence: cutting the silence away would leave next to"
    " nothing, so 02 keeps the edges.",
    "EXT_MISMATCH": "The content is of another format than the name says. It is read all the same.",
}
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
    if waveform.shape[1] == 1:
        return waveform[:, 0], False
    mono = waveform.mean(axis=1, dtype=np.float32)
    loudness, mono_loudness = (
        np.mean(np.square(waveform, dtype=np.float64)),
        np.mean(np.square(mono, dtype=np.float64)),
    )
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
    """Write mono float32 in [-1, 1] as 16-bit FLAC. Raises ValueError on what would be written as a
    click.
    """
    waveform = np.asarray(waveform, dtype=np.float32)
    if waveform.ndim != 1 or not np.isfinite(waveform).all() or np.abs(waveform).max(initial=0) > 1:
        raise ValueError(
            f"{path}: expected a finite mono waveform within [-1, 1], got shape {waveform.shape}"
        )
    whole = (
        io.BytesIO()
    )  # libsndfile comes back to the header at the end, and on a disk that takes milliseconds
    soundfile.write(whole, to_steps(waveform), sample_rate, format="FLAC", subtype="PCM_16")
    Path(path).write_bytes(whole.getbuffer())


def to_steps(waveform):
    """A waveform in [-1, 1] as 16-bit steps, the way libsndfile stores it: int16 of the same shape.

    >>> to_steps(np.array([-1.0, 0.5, 1.0], dtype=np.float32)).tolist()
    [-32768, 16384, 32767]
    """
    return np.clip(np.rint(waveform * STEPS), -STEPS, STEPS - 1).astype(np.int16)


def read_steps(path):
    """What `write` wrote, in its steps: int16 [samples]. Raises AudioIssue where that is not there
    any more.
    """
    try:
        return soundfile.read(path, dtype="int16")[0]
    except soundfile.LibsndfileError as error:
        raise AudioIssue(
            "UNREADABLE", f"{path}: {error.error_string} Run 02_clean.ipynb again."
        ) from None


def encode_mp3(waveform, sample_rate):
    """Mono float32 as MP3 bytes, small enough to travel inside a page. Rates that MP3 lacks are
    resampled.
    """
    rate = min(
        (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
        key=lambda legal: abs(legal - sample_rate),
    )
    buffer = io.BytesIO()
    soundfile.write(
        buffer, np.clip(resample(waveform, sample_rate, rate), -1, 1), rate, format="MP3"
    )
    return buffer.getvalue()


# --- measuring
# ---------------------------------------------------------------------------------------------


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
    sound = mono - np.float32(offset)
    levels = frame_levels(sound, rate)
    bandwidth, is_edge = bandwidth_hz(sound, rate)
    flags = {
        "CLIPPED": clipped > 0.05,
        "DC_OFFSET": abs(offset) > 0.05,
        "LOW_BANDWIDTH": is_edge and bandwidth < NARROW * rate / 2,
        "OVER_RANGE": peak > 1.0,
        "PHASE_CANCEL": cancels,
        "TRIM_SKIPPED": _is_a_click(levels),
    }
    return {
        "duration_seconds": round(len(waveform) / rate, 4),
        "sample_rate": rate,
        "channels": waveform.shape[1],
        "codec": decoded.codec,
        "bit_depth": decoded.bit_depth,
        "peak": round(peak, 6),
        "rms_db": round(level_db(sound), 2),
        "loudest_db": round(level_db(levels.max(keepdims=True)), 2),
        "silence_fraction": round(float(np.mean(levels < 10 ** (SILENCE_DB / 20))), 4),
        "clipped_fraction": round(clipped, 5),
        "dc_offset": round(offset, 5),
        "leading_silence_seconds": round(leading_silence_seconds(levels), 4),
        "noise_floor_db": round(noise_floor_db(levels), 2),
        "bandwidth_hz": round(bandwidth, 1),
        "flags": " ".join(flag for flag, raised in flags.items() if raised),
        "pcm_sha256": _pcm_digest(waveform, rate),
    }


def _pcm_digest(waveform, rate):
    """SHA-256 of the samples as 16-bit numbers and of the rate: equal for equal sound in any
    lossless file.
    """
    whole = hashlib.sha256()
    for start in range(0, len(waveform), BLOCK):
        steps = np.multiply(waveform[start : start + BLOCK], 32767, dtype=np.float64, order="C")
        whole.update(np.rint(steps, out=steps).astype(np.int64))
    whole.update(str(rate).encode())
    return whole.hexdigest()


def one_of_each_flag(recordings: pd.DataFrame) -> pd.DataFrame:
    """A usable recording for each flag that occurs, one with no other flag if there is any.

    Args: recordings table with status and flags. Returns their rows, with a column `flag`, and
    `flagged`, how many recordings have it.
    """
    usable = recordings[recordings["status"].eq("ok")]
    flags = usable.assign(flag=usable["flags"].str.split()).explode("flag")
    flags = flags[flags["flag"].notna()]
    flagged = flags.groupby("flag")["recording_id"].transform("size")
    flags = flags.assign(flagged=flagged, has_others=flags["flags"].ne(flags["flag"]))
    order = flags.sort_values(["flag", "has_others"], kind="stable")
    return order.drop_duplicates("flag").drop(columns="has_others")


def clipped_fraction(channel):
    """Share of samples on a flat top: three or more in a row within 0.01 % of the peak. Quiet
    channels have none.
    """
    peak = np.abs(channel).max(initial=0)
    if peak < 0.01:
        return 0.0
    at_peak = np.abs(channel) >= (1 - 1e-4) * peak
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate(([0], at_peak.astype(np.int8), [0])))))[
        ::2
    ]
    return float(runs[runs >= 3].sum() / len(channel))


def frame_levels(waveform, sample_rate):
    """RMS of 20-ms frames, end to end: float [frames]. A waveform shorter than that is one frame."""
    size = max(1, round(FRAME_SECONDS * sample_rate))
    frames = (
        waveform[: len(waveform) // size * size].reshape(-1, size)
        if len(waveform) >= size
        else waveform[None]
    )
    return np.sqrt(np.mean(np.square(frames), axis=1))


def silence_fraction(waveform, sample_rate):
    """Share of 20-ms frames whose RMS is below SILENCE_DB."""
    return float(np.mean(frame_levels(waveform, sample_rate) < 10 ** (SILENCE_DB / 20)))


def leading_silence_seconds(levels):
    """Time before the first frame that comes within 40 dB of the loudest one: the same at any gain.

    Args: levels of `frame_levels`.

    >>> leading_silence_seconds(np.array([0.001, 0.001, 0.2, 0.5, 0.001]))
    0.04
    """
    return float(np.argmax(levels >= levels.max() / 100)) * FRAME_SECONDS


def noise_floor_db(levels):
    """Level of the quietest tenth of the frames in dBFS, never below FLOOR_DB. Args: levels of
    `frame_levels`.
    """
    return level_db(np.sort(levels)[: max(1, round(len(levels) / 10))])


def _is_a_click(levels):
    """Would trimming leave next to nothing: do all frames within TRIM_DB of the loudest lie close
    together?
    """
    loud = np.flatnonzero(levels >= levels.max() * 10 ** (-TRIM_DB / 20))
    heard = (loud[-1] - loud[0] + 1) * FRAME_SECONDS
    return heard < CLICK_SECONDS and len(levels) * FRAME_SECONDS > heard + 2 * CLICK_SECONDS


def bandwidth_hz(waveform, sample_rate):
    """Highest frequency with real content, and whether the spectrum breaks off there as no natural
    sound's does.

    A break-off is what a lower sample rate or a codec leaves: the band below is filled, all above
    lies EDGE_DB lower. Without one it is the highest frequency that is above the noise of 16 bits
    and less than RANGE_DB below the loudest.
    Args: waveform float32 [samples] without DC. Returns (Hz, bool).
    """
    frequency, level = _spectrum(waveform, sample_rate)
    noise = NOISE_16_BIT_DB - 10 * np.log10(len(level))
    above = np.maximum(
        np.maximum.accumulate(level[::-1])[::-1], noise
    )  # codecs leave nothing at all of faint bands
    top = len(level) / 1.3 - 1
    lowest = min(
        np.searchsorted(frequency, 0.9 * MIN_RATE / 2), top
    )  # no recorder's band ends lower
    places = np.unique(np.geomspace(lowest, top, 100).astype(int))
    drops = np.array([_tenth(level[k // 4 : k - k // 20]) - above[int(1.3 * k)] for k in places])
    edge = int(1.3 * places[drops.argmax()])
    if is_edge := bool(drops.max() >= EDGE_DB):
        heard = level[:edge] > above[edge] + drops.max() / 2
    else:
        heard = level > max(level.max() - RANGE_DB, noise)
    return float(frequency[np.flatnonzero(heard)[-1]]) if heard.any() else 0.0, is_edge


def _tenth(values):
    """The 10th percentile of values [n], as NumPy interpolates it, without its checks."""
    place = 0.1 * (len(values) - 1)
    below, above = int(place), min(int(place) + 1, len(values) - 1)
    lowest = np.partition(values, (below, above))
    return lowest[below] + (place - below) * (lowest[above] - lowest[below])


def _spectrum(waveform, sample_rate, most=1000):
    """Mean power spectrum of at most so many Hann windows of 25 to 50 ms, spread evenly: (Hz
    [bins], dB [bins]).
    """
    size = 2 ** int(np.log2(sample_rate / 20))
    padded, hann = (
        np.pad(waveform, (0, max(0, size - len(waveform)))),
        np.hanning(size).astype(np.float32),
    )
    starts = np.linspace(0, len(padded) - size, min(most, 2 * len(padded) // size - 1)).astype(int)
    power = np.mean(
        [np.square(np.abs(np.fft.rfft(padded[at : at + size] * hann))) for at in starts], axis=0
    )
    power = (
        np.convolve(np.pad(power, 1, "edge"), np.full(3, 1 / 3), "valid")
        / np.sum(np.square(hann))
        / (size / 2)
    )
    return np.fft.rfftfreq(size, 1 / sample_rate), 10 * np.log10(power + 1e-20)


def survey(root, recordings, max_seconds=float("inf")):
    """Decode and measure every recording whose status is ok; set aside, with the reason, what
    cannot be used.

    Args: root data folder; recordings table of sources.find.
    Returns a new table with the columns of recordings.csv.
    """
    ok = recordings["status"].eq("ok")
    paths = [Path(root) / path for path in recordings.loc[ok, "path"]]
    facts = list(
        work.in_threads(functools.partial(_examine, max_seconds=max_seconds), paths, "recordings")
    )
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
