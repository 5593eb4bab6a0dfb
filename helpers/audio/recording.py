"""Recordings as arrays: load, survey, measure, resample, write.

Nothing else in Earshot opens a recording.
"""

import functools
import hashlib
import io
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import soundfile
import soxr

from helpers.audio.containers import FORMATS, MIN_RATE
from helpers.audio.decoder import BLOCK, Decoded, decode, stream
from helpers.base import artifacts, targets, work
from helpers.base.errors import AudioIssue, TooManyBad

SILENCE_DB = -60.0  # dBFS: a 20-ms frame below this counts as silence
FLOOR_DB = -120.0  # dBFS: the level given to digital silence
FRAME_SECONDS = 0.02  # levels are measured over frames of this length
TRIM_DB = 50.0  # edges so far below the loudest frame are not the sound
CLICK_SECONDS = 0.15  # less than this is left by trimming only where the loudest moment is a click
EDGE_DB = 40.0  # spectra of real sounds fall by less within a third of an octave
CANCELS = 1e-3  # of the channels' power: their mean has less only where they cancel
RANGE_DB = 80.0  # what lies further below the loudest frequency is no content
NOISE_16_BIT_DB = -98.0  # dBFS, with a little to spare
NARROW = 0.55  # share of half the sample rate; a narrower band was recorded at another rate
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # Hz
STEPS = 32768  # of 16 bits between silence and full scale
IN_MEMORY = 1 << 26  # bytes of a waveform; a longer one lies on disk: 17 minutes at 16 kHz
MOST = 1e10  # samples over all channels that are read: a day of stereo at 48 kHz has 8.3e9
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


def load(
    source: str | Path | Decoded, sample_rate: int, max_seconds: float = float("inf")
) -> np.ndarray:
    """A recording as mono at `sample_rate` (Hz): float32 [samples], DC kept. Raises AudioIssue."""
    decoded = source if isinstance(source, Decoded) else decode(source, max_seconds)
    return mono_at(decoded, sample_rate)


def mono_at(decoded: Decoded, sample_rate: int) -> np.ndarray:
    """A decoded recording as mono at `sample_rate` (Hz): float32 [samples], at least one."""
    mono = to_mono(decoded.waveform)[0]
    resampled = resample(mono, decoded.sample_rate, sample_rate)
    return resampled if len(resampled) else mono[:1]


def to_mono(waveform: np.ndarray) -> tuple[np.ndarray, bool]:
    """Mean of the channels, or the first one where the mean cancels (channels in opposite phase).

    Args: waveform [samples, channels]. Returns (waveform [samples], whether the channels cancel).
    """
    if waveform.shape[1] == 1:
        return waveform[:, 0], False
    mono = waveform.mean(axis=1, dtype=np.float32)
    if _power(mono) < _power(waveform) * CANCELS:
        return waveform[:, 0].copy(), True
    return mono, False


def _power(waveform):
    return np.mean(np.square(waveform, dtype=np.float64))


def resample(waveform: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Resample float32 [samples] from one rate (Hz) to another with soxr's high quality."""
    if from_rate == to_rate:
        return waveform
    return soxr.resample(waveform, from_rate, to_rate, quality="HQ").astype(np.float32)


# --- of any length


class Samples:
    """A mono waveform of any length, read like an array, by slices.

    While it is short it lies in memory, else in a temporary file that goes when this does.
    Args: blocks float32 [samples], one after the other; centred: without their DC.

    >>> samples = Samples([np.float32([1, 2]), np.float32([6])])
    >>> len(samples), samples[1:].tolist()
    (3, [-1.0, 3.0])
    """

    def __init__(self, blocks: Iterable[np.ndarray], centred: bool = True):
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115
        self._count = 0
        total = 0.0
        for block in blocks:
            self._file.write(np.ascontiguousarray(block, np.float32))
            self._count += len(block)
            total += block.sum(dtype=np.float64)
        self._offset = np.float32(total / max(1, self._count) if centred else 0)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, part: slice) -> np.ndarray:
        start, stop, _ = part.indices(self._count)
        self._file.seek(4 * start)
        held = self._file.read(4 * max(0, stop - start))
        return np.frombuffer(held, np.float32) - self._offset


class Mono(NamedTuple):
    """A recording of any length as one channel, with what decides whether it can be used."""

    samples: Samples  # at the rate that was asked for
    sample_rate: int  # Hz, as found; so are the next
    seconds: float
    loudest_db: float  # as of the function


def read(
    source: str | Path | Decoded,
    sample_rate: int,
    max_seconds: float = float("inf"),
    progress: Callable = work.quietly,
    mix: bool = True,
) -> Mono:
    """A recording as mono at `sample_rate` (Hz), block by block: memory does not grow with it.

    Args: source its path, or what `decode` made of it; sample_rate; max_seconds; progress as
        `work.progress`; mix: the mean of the channels, unless it cancels, instead of the first.
    Raises AudioIssue.
    """
    if isinstance(source, Decoded):
        rate = source.sample_rate
        frames = len(source.waveform)
        blocks = [source.waveform]
    else:
        header, blocks = stream(source, max_seconds, MOST)
        rate = header.sample_rate
        frames = header.frames
    tally = Tally(rate)
    steps = progress(_even(blocks, tally.step), "read", -(-frames // tally.step) or None)
    samples = Samples(_resampled(tally.mono(steps, mix), rate, sample_rate))
    if mix and tally.cancels:
        return read(source, sample_rate, max_seconds, progress, mix=False)
    return Mono(samples, rate, tally.count / rate, tally.loudest_db)


class Tally:
    """What decides whether a recording can be used, counted while it passes as mono."""

    def __init__(self, sample_rate: int):
        self.frame = max(1, round(FRAME_SECONDS * sample_rate))
        self.step = BLOCK // self.frame * self.frame
        self.frames = []  # mean and power of each 20 ms, [2, frames] for each block
        self.count = 0
        self.sums = np.zeros(3)  # of the samples, of their powers, of those of all channels

    def mono(self, blocks: Iterable[np.ndarray], mix: bool) -> Iterator[np.ndarray]:
        """Blocks [`step`, channels] as mono: the mean of the channels, or the first one."""
        for block in blocks:
            is_mixed = mix and block.shape[1] > 1
            mono = block.mean(axis=1, dtype=np.float32) if is_mixed else block[:, 0]
            count = len(mono)
            size = self.frame if self.count else min(self.frame, count)
            frames = mono[: count // size * size].reshape(-1, size).astype(np.float64)
            powers = np.square(frames)
            self.frames.append([frames.mean(axis=1), powers.mean(axis=1)])
            self.count += count
            total = mono.sum(dtype=np.float64)
            self.sums += [total, count * _power(mono), count * _power(block)]
            yield mono

    @property
    def cancels(self) -> bool:
        """Whether the mean of the channels is next to nothing beside them, as in `to_mono`."""
        return bool(self.sums[1] < self.sums[2] * CANCELS)

    @property
    def loudest_db(self) -> float:
        """What the function of this name says of the whole."""
        offset = self.sums[0] / self.count
        means, powers = np.concatenate(self.frames, axis=1)
        without_dc = powers - 2 * offset * means + offset**2
        return level_db(np.sqrt(without_dc.max(keepdims=True).clip(min=0)))


def _even(blocks, size):
    """Blocks [samples, channels] at one length; the last one may be shorter."""
    rest = None
    for block in blocks:
        joined = block if rest is None else np.concatenate([rest, block])
        whole = len(joined) // size * size
        yield from (joined[first : first + size] for first in range(0, whole, size))
        rest = joined[whole:]
    if len(rest):
        yield rest


def _resampled(blocks, from_rate, to_rate):
    """Blocks [samples] at another rate, as `mono_at` has them of the whole: one sample at least."""
    if from_rate == to_rate:
        yield from blocks
        return
    resampler = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality="HQ")
    count = 0
    for block in blocks:
        held = block[:1]
        piece = resampler.resample_chunk(np.ascontiguousarray(block))
        count += len(piece)
        yield piece
    rest = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
    yield rest if count + len(rest) else held


def write(path: str | Path, waveform: np.ndarray, sample_rate: int):
    """Write mono float32 in [-1, 1] as 16-bit FLAC. Raises ValueError on what would be a click."""
    waveform = np.asarray(waveform, dtype=np.float32)
    if waveform.ndim != 1 or not (np.abs(waveform) <= 1).all():  # nor is NaN
        shape = f"got shape {waveform.shape}"
        raise ValueError(f"{path}: expected a finite mono waveform within [-1, 1], {shape}")
    # libsndfile comes back to the header at the end, and on a disk that takes milliseconds.
    file = io.BytesIO()
    soundfile.write(file, to_steps(waveform), sample_rate, format="FLAC", subtype="PCM_16")
    Path(path).write_bytes(file.getbuffer())


def to_steps(waveform: np.ndarray) -> np.ndarray:
    """A waveform in [-1, 1] as 16-bit steps, the way libsndfile stores it: int16 of the same shape.

    >>> to_steps(np.array([-1.0, 0.5, 1.0], dtype=np.float32)).tolist()
    [-32768, 16384, 32767]
    """
    return np.clip(np.rint(waveform * STEPS), -STEPS, STEPS - 1).astype(np.int16)


def read_steps(path: str | Path) -> np.ndarray:
    """What `write` wrote, in its steps: int16 [samples]. Raises AudioIssue where it is gone."""
    try:
        return soundfile.read(path, dtype="int16")[0]
    except soundfile.LibsndfileError as error:
        raise AudioIssue(
            "UNREADABLE", f"{path}: {error.error_string} Run 02_clean.ipynb again."
        ) from None


def encode_mp3(waveform: np.ndarray, sample_rate: int) -> bytes:
    """Mono float32 [samples] as MP3, small enough to travel inside a page.

    Rates that MP3 lacks are resampled.
    """
    rate = min(MP3_RATES, key=lambda legal: abs(legal - sample_rate))
    samples = np.clip(resample(waveform, sample_rate, rate), -1, 1)
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="MP3")
    return file.getvalue()


# --- measuring


def level_db(waveform: np.ndarray) -> float:
    """RMS level in dBFS, never below FLOOR_DB.

    >>> level_db(np.zeros(10)), round(level_db(np.ones(10)), 1)
    (-120.0, 0.0)
    """
    power = _power(waveform) if len(waveform) else 0.0
    return max(20 * float(np.log10(max(np.sqrt(power), 1e-12))), FLOOR_DB)


def loudest_db(waveform: np.ndarray, sample_rate: int) -> float:
    """Level in dBFS of the loudest 20 ms of mono float32 [samples], DC apart.

    Where this is below clean.silence_db, there is no sound.
    """
    sound = waveform - waveform.mean(dtype=np.float64).astype(np.float32)
    return level_db(frame_levels(sound, sample_rate).max(keepdims=True))


def measure(decoded: Decoded) -> dict:
    """The facts about a decoded recording that recordings.csv lists, as a flat dict."""
    waveform = decoded.waveform
    rate = decoded.sample_rate
    mono, cancels = to_mono(waveform)
    peak = float(np.abs(waveform).max())
    offset = float(mono.mean(dtype=np.float64))
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
    """SHA-256 of the 16-bit samples and the rate: equal for equal sound in any lossless file."""
    digest = hashlib.sha256()
    for start in range(0, len(waveform), BLOCK):
        steps = np.multiply(waveform[start : start + BLOCK], 32767, dtype=np.float64, order="C")
        digest.update(np.rint(steps, out=steps).astype(np.int64))
    digest.update(str(rate).encode())
    return digest.hexdigest()


def one_of_each_flag(recordings: pd.DataFrame) -> pd.DataFrame:
    """A usable recording for each flag that occurs, one with no other flag if there is any.

    Args: recordings table with status and flags. Returns their rows, with a column `flag`, and
    `flagged`, how many recordings have it.
    """
    usable = recordings.query("status == 'ok'")
    flags = usable.assign(flag=usable["flags"].str.split()).explode("flag")
    flags = flags[flags["flag"].notna()]
    flagged = flags.groupby("flag")["recording_id"].transform("size")
    flags = flags.assign(flagged=flagged, has_others=flags["flags"].ne(flags["flag"]))
    order = flags.sort_values(["flag", "has_others"], kind="stable")
    return order.drop_duplicates("flag").drop(columns="has_others")


def clipped_fraction(channel: np.ndarray) -> float:
    """Share of samples on a flat top: three or more in a row within 0.01 % of the peak.

    Args: channel float32 [samples]. Quiet channels have none.
    """
    peak = np.abs(channel).max(initial=0)
    if peak < 0.01:
        return 0.0
    at_peak = np.abs(channel) >= (1 - 1e-4) * peak
    changes = np.flatnonzero(np.diff(at_peak, prepend=False, append=False))
    runs = changes[1::2] - changes[::2]
    return float(runs[runs >= 3].sum() / len(channel))


def frame_levels(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """RMS of 20-ms frames, end to end: float [frames]; what is shorter than that is one frame."""
    size = min(max(1, round(FRAME_SECONDS * sample_rate)), len(waveform))
    frames = waveform[: len(waveform) // size * size].reshape(-1, size)
    return np.sqrt(np.mean(np.square(frames), axis=1))


def leading_silence_seconds(levels: np.ndarray) -> float:
    """Time before the first frame that comes within 40 dB of the loudest one: the same at any gain.

    Args: levels of `frame_levels`.

    >>> leading_silence_seconds(np.array([0.001, 0.001, 0.2, 0.5, 0.001]))
    0.04
    """
    return float(np.argmax(levels >= levels.max() / 100)) * FRAME_SECONDS


def noise_floor_db(levels: np.ndarray) -> float:
    """Level of the quietest tenth of the frames in dBFS, never below FLOOR_DB.

    Args: levels of `frame_levels`.
    """
    return level_db(np.sort(levels)[: max(1, round(len(levels) / 10))])


def _is_a_click(levels):
    """Would trimming leave next to nothing: is all within TRIM_DB of the loudest close together?"""
    loud = np.flatnonzero(levels >= levels.max() * 10 ** (-TRIM_DB / 20))
    seconds = (loud[-1] - loud[0] + 1) * FRAME_SECONDS
    return seconds < CLICK_SECONDS and len(levels) * FRAME_SECONDS > seconds + 2 * CLICK_SECONDS


def bandwidth_hz(waveform: np.ndarray, sample_rate: int) -> tuple[float, bool]:
    """Highest frequency with real content, and whether no natural sound ends as it does there.

    Such an edge is what a lower sample rate or a codec leaves: the band below is filled, all above
    lies EDGE_DB lower. Without one it is the highest frequency that is above the noise of 16 bits
    and less than RANGE_DB below the loudest.
    Args: waveform float32 [samples] without DC. Returns (Hz, whether there is an edge).
    """
    frequency, level = _spectrum(waveform, sample_rate)
    noise = NOISE_16_BIT_DB - 10 * np.log10(len(level))
    # The loudest above each frequency; codecs leave nothing at all of faint bands.
    above = np.maximum(np.maximum.accumulate(level[::-1])[::-1], noise)
    top = len(level) / 1.3 - 1
    lowest = min(np.searchsorted(frequency, 0.9 * MIN_RATE / 2), top)  # no band ends lower
    places = np.unique(np.geomspace(lowest, top, 100).astype(int))
    edges = (1.3 * places).astype(int)
    filled = np.array([_tenth(level[place // 4 : place - place // 20]) for place in places])
    drops = filled - above[edges]
    edge = edges[drops.argmax()]
    is_edge = bool(drops.max() >= EDGE_DB)
    if is_edge:
        heard = level[:edge] > above[edge] + drops.max() / 2
    else:
        heard = level > max(level.max() - RANGE_DB, noise)
    bins = np.flatnonzero(heard)
    highest = float(frequency[bins[-1]]) if len(bins) else 0.0
    return highest, is_edge


def _tenth(values):
    """The 10th percentile of values [n], as NumPy interpolates it, without its checks."""
    place = 0.1 * (len(values) - 1)
    around = np.sort(values)[int(place) : int(place) + 2]
    return around[0] + place % 1 * (around[-1] - around[0])


def _spectrum(waveform, sample_rate, most=1000):
    """Mean power spectrum of Hann windows of 25 to 50 ms: (Hz [bins], dB [bins]).

    There are at most so many, spread evenly.
    """
    size = 2 ** int(np.log2(sample_rate / 20))
    hann = np.hanning(size).astype(np.float32)
    padded = np.pad(waveform, (0, max(0, size - len(waveform))))
    count = min(most, 2 * len(padded) // size - 1)
    last = len(padded) - size
    starts = np.linspace(0, last, count).astype(int)
    powers = []
    for start in starts:
        window = padded[start : start + size] * hann
        powers.append(np.square(np.abs(np.fft.rfft(window))))
    edged = np.pad(np.mean(powers, axis=0), 1, "edge")
    smooth = np.convolve(edged, np.full(3, 1 / 3), "valid")
    density = smooth / np.sum(np.square(hann)) / (size / 2)
    frequency = np.fft.rfftfreq(size, 1 / sample_rate)
    return frequency, 10 * np.log10(density + 1e-20)


def survey(
    root: str | Path, recordings: pd.DataFrame, max_seconds: float = float("inf")
) -> pd.DataFrame:
    """Decode and measure every recording whose status is ok; set aside what cannot be used.

    Args: root data folder; recordings table of sources.find.
    Returns a new table with the columns of recordings.csv.
    """
    table = recordings.copy()
    for column, kind in artifacts.SCHEMAS["recordings.csv"].items():
        if column not in table:
            table[column] = "" if kind == artifacts.TEXT else None
    ok = table.index[table["status"].eq("ok")]
    paths = [Path(root) / path for path in table.loc[ok, "path"]]
    examine = functools.partial(_examine, max_seconds=max_seconds)
    surveyed = work.in_threads(examine, paths, "recordings")
    for index, facts in zip(ok, surveyed, strict=True):
        for column, value in facts.items():
            table.at[index, column] = value
    return table


def check_enough(table: pd.DataFrame, limit: float) -> None:
    """Stop where more than the share `limit` is set aside, or fewer than two classes are left.

    A second copy of a recording that is kept is no bad recording; what is unlabelled may be bad.
    """
    considered = table["status"].ne("ignored") & table["split"].ne("unlabelled")
    considered &= ~table["reason"].str.startswith("DUP_SAME_LABEL")
    bad = table["status"].eq("quarantined") & considered
    kept = table.query("split == 'train' and status in ('ok', 'used')")["label"]
    classes = kept.map(targets.split).explode().nunique()
    if bad.sum() > limit * considered.sum() or classes < 2:
        reasons = table.loc[bad, "reason"].str.partition(":")[0].value_counts().to_string()
        raise TooManyBad(
            f"{bad.sum()} of {considered.sum()} recordings cannot be used, {classes} classes are "
            f"left (data.max_bad_fraction allows {limit:.0%}):\n{reasons}\n"
            "See recordings.csv and quarantine.csv for each file; raise data.max_bad_fraction to "
            "go on without them."
        )


def _examine(path, max_seconds):
    """The facts about one file, or what is wrong with it."""
    sha256 = artifacts.content_digest(path) if path.is_file() else ""
    try:
        facts = measure(decode(path, max_seconds))
    except AudioIssue as issue:
        return {"sha256": sha256, "status": "quarantined", "reason": str(issue)}
    container = facts["codec"].partition("/")[0]
    if path.suffix.casefold() not in FORMATS[container].suffixes.split():
        facts["flags"] = f"{facts['flags']} EXT_MISMATCH".strip()
    return {"sha256": sha256, **facts}
