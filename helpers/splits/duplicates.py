"""Near-duplicates: the same samples under another name, re-encoded, louder, shifted or cut out.

A recording is whitened: every spot of its spectrogram is brought to one level, but for what lies
far below the second around it. Triples of spectral peaks are its landmarks (after Wang 2003, "An
industrial-strength audio search algorithm"). Where landmarks of two recordings agree on an offset,
the whitened waveforms are laid over each other, and the samples decide. Landmarks rather than
embeddings: they say at which offset two recordings agree, a cut leaves the others as they were, and
sorting finds equal ones, so nothing is compared with everything; embeddings of rain lie close to
any rain. Found are stretches of a second, or of half of what one recording sounds, from about 0.25
s. A tone or a dead regular clock proves nothing: it is as like itself elsewhere. What is played
faster or slower is another sound.
"""

import functools
from dataclasses import astuple, dataclass, replace
from itertools import combinations, pairwise
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import pandas as pd
from scipy.ndimage import maximum_filter, uniform_filter, uniform_filter1d
from scipy.signal import ShortTimeFFT, correlate

from helpers.audio import recording
from helpers.base import work
from helpers.base.errors import AudioIssue

RATE = 8000  # Hz; all recordings are compared at this rate
BAND_HZ = (100, 3400)  # below lies mains hum, above it what telephone codecs drop
WINDOW = 512  # samples
HOP = 128  # samples
# Samples whitened at a time: 65 s, so that a long recording needs no more memory.
BLOCK = 4096 * HOP
LEVEL_SIZE = (9, 9)  # bins and frames over which a level is taken: 140 Hz, 0.2 s
# Below the mean of a second (so many frames): what is weaker fades, as codecs and noise replace it.
FLOOR_DB = -25.0
FLOOR_FRAMES = 63
QUIET = 2e-7  # power of a bin: noise at -90 dBFS, the least that is heard
STEPS = 480  # of int8 to the unit: the loudest whitened sounds come near 127
PEAK_SIZE = (15, 7)  # bins and frames in which a peak is the largest
# A landmark: a peak and two of the next PARTNERS, no farther off than so many bins and frames.
PARTNERS = 4
MAX_BINS = 60
MAX_FRAMES = 63

# These bounds keep the search linear: a landmark that is everywhere (a tone's) is compared with its
# neighbours only.
REPEATS = 4  # equal landmarks of one recording that count
NEIGHBOURS = 16  # equal landmarks of the next recordings that one is compared with
COUNTED = 250_000  # landmarks whose votes are counted at a time
PART = 1000  # unlabelled recordings that are compared at a time, or as many as there are others
VOTES = 3  # landmarks that must agree on an offset
OFFSETS = 3  # that are tried per pair
PLACES = 32  # offsets that are tried per recording

REACH = 3 * HOP  # samples by which an offset of landmarks may be wrong
FRAME = RATE // 16  # samples over which agreement is taken
# Measured: whitened ESC-10 recordings of one class correlate by 0.1 at most (999 of 1000 pairs, any
# offset), re-encoded copies by 0.95, copies under noise at 30 dB by 0.65 and more. `doubt` is 0.04
# for most copies, 0.38 for the worst (but 8-bit copies of very quiet recordings go beyond), and
# 0.43 or more for 1200 pairs of takes of one synthetic source.
LIKENESS = 0.5  # least correlation of the shared stretch
PROOF = 0.4  # most that `doubt` may be
# A stretch that is more like another, a second away or more, was copied there: a loop, not a tone.
LOOP = 0.97
# A shared stretch lasts so long, or holds so much of what one recording sounds.
MIN_SECONDS = 1.0
MIN_SHARE = 0.5
MIN_SOUNDING = 0.15  # seconds of it that are not silence: a click is like any click
COLUMNS = {"recording_id": "str", "other_id": "str"}
COLUMNS |= dict.fromkeys(("offset_seconds", "overlap_seconds", "correlation"), "float64")


@dataclass(frozen=True)
class Fingerprint:
    """A recording to compare, at RATE, and its landmarks."""

    whitened: np.ndarray  # int8 [samples]
    loudness: np.ndarray  # power [samples / HOP]
    keys: np.ndarray  # of the landmarks
    frames: np.ndarray  # where they begin


@dataclass(frozen=True)
class Match:
    """Where the other recording starts in the first, how long both agree, and how well."""

    offset_seconds: float
    overlap_seconds: float
    correlation: float  # absolute


def find(
    root: str | Path, recordings: pd.DataFrame, max_seconds: float = float("inf")
) -> pd.DataFrame:
    """Pairs of recordings that hold the same sound.

    Recordings with equal samples are each paired with the first of them, which alone is compared
    with others; of many near-duplicates of one sound, each is paired with some. A second of sound
    takes 10 kB of memory and 8 kB on disk; of many unlabelled recordings a part at a time does.

    Args: root data folder; recordings table of audio.survey; max_seconds longest recording that is
        decoded.
    Returns a table of COLUMNS, each pair once, in the order of the recordings. What cannot be
        decoded has no pair.
    """
    usable = recordings.query("status in ('ok', 'used')").reset_index(drop=True)
    samples = usable["pcm_sha256"].fillna("")
    samples = samples.where(samples.ne(""), usable["recording_id"])
    leaders = usable.index[~samples.duplicated()]
    first = samples.map(pd.Series(leaders, samples[leaders]))
    pairs = [
        (first[row], row, 0.0, usable.at[row, "duration_seconds"], 1.0)
        for row in usable.index.difference(leaders)
    ]
    for members, known in _parts(usable.loc[leaders]):
        paths = [Path(root) / path for path in usable.loc[members, "path"]]
        for one, other, match in _matches(paths, max_seconds):
            if other >= known:
                pairs.append((members[one], members[other], *np.round(astuple(match), 4)))
    table = pd.DataFrame(sorted(pairs), columns=list(COLUMNS))
    identities = usable["recording_id"]
    for side in ("recording_id", "other_id"):
        table[side] = table[side].map(identities)
    return table.astype(COLUMNS)


def _parts(rows):
    """Which recordings are compared with each other: lists of (their index, how many of the first
    ones have been compared before).

    Unlabelled ones, which come last, are compared with all others, and among themselves with those
    of their part.
    """
    unlabelled = rows.get("split", pd.Series("", rows.index)).eq("unlabelled")
    others = rows.index[~unlabelled]
    field = rows.index[unlabelled]
    size = max(len(others), PART)
    parts = []
    for first in range(0, max(1, len(field)), size):
        members = [*others, *field[first : first + size]]
        known = len(others) if first else 0
        parts.append((members, known))
    return parts


def _matches(paths, max_seconds):
    """The confirmed pairs among files: a list of (one, other, Match) by position.

    Each file is decoded once; its whitened samples wait on disk.
    """
    listen = functools.partial(_listen, max_seconds=max_seconds)
    with TemporaryFile() as file:
        prints = []
        ends = [0]
        for heard in work.in_threads(listen, paths, "fingerprints"):
            file.write(heard.whitened.tobytes())
            ends.append(ends[-1] + len(heard.whitened))
            prints.append(replace(heard, whitened=None))
        file.flush()
        sounds = np.memmap(file, np.int8, mode="r") if ends[-1] else np.zeros(0, np.int8)
        parts = [sounds[start:end] for start, end in pairwise(ends)]
        prints = [replace(p, whitened=part) for p, part in zip(prints, parts, strict=True)]
        places = candidates(prints)

        def examine(pair):
            one, other = pair
            return one, other, compare(prints[one], prints[other], places[pair])

        matches = list(work.in_threads(examine, list(places), "near-duplicates"))
    return [(one, other, match) for one, other, match in matches if match]


def _listen(path, max_seconds):
    try:
        return fingerprint(recording.load(path, RATE, max_seconds), RATE)
    except AudioIssue:
        return fingerprint([], RATE)


def compare(
    one: Fingerprint, other: Fingerprint, places: list[tuple[int, int]] | None = None
) -> Match | None:
    """The longest Match of two Fingerprints, or None.

    Args: places (offset, anchor), those of `candidates`, if known.
    """
    if places is None:
        places = candidates([one, other]).get((0, 1), [])
    matches = [align(one, other, offset, anchor) for offset, anchor in places]
    return max(filter(None, matches), key=lambda match: match.overlap_seconds, default=None)


# --- fingerprints


def fingerprint(waveform: np.ndarray, sample_rate: int) -> Fingerprint:
    """The Fingerprint of a mono waveform [samples]; silence has no landmarks."""
    waveform = np.asarray(waveform, np.float32)
    waveform = recording.resample(waveform, sample_rate, RATE) if len(waveform) else waveform
    starts = range(0, max(len(waveform), 1), BLOCK)
    parts = []
    for start in starts:
        levels, loudness, keys, frames = _whiten(waveform[start : start + BLOCK])
        parts.append((levels, loudness, keys, frames + start // HOP))
    return Fingerprint(*map(np.concatenate, zip(*parts, strict=True)))


def _whiten(block):
    """Whitened samples, loudness, landmark keys and frames of a block of a recording."""
    window = np.hanning(WINDOW + 1)[:-1]
    transform = ShortTimeFFT(window, HOP, RATE)
    lowest, highest = BAND_HZ
    inside = (transform.f >= lowest) & (transform.f <= highest)
    missing = max(0, WINDOW - len(block))
    padded = np.pad(block, (0, missing))
    spectrum = transform.stft(padded)
    spectrum *= inside[:, None]
    power = np.abs(spectrum) ** 2
    usual = power[inside].mean(axis=0)
    floor = 10 ** (FLOOR_DB / 10) * uniform_filter1d(usual, FLOOR_FRAMES)
    level = np.maximum(uniform_filter(power, LEVEL_SIZE), 0)
    level = level + np.maximum(floor, 0) + QUIET
    whitened = transform.istft(spectrum / np.sqrt(level), k1=len(padded))
    levels = np.round(STEPS * whitened[: len(block)])
    levels = np.clip(levels, -127, 127).astype(np.int8)
    loudness = power.sum(axis=0, dtype=np.float32)
    loudness = loudness[-transform.p_min :][: len(block) // HOP + 1]
    keys, frames = _landmarks(power / level)
    return levels, loudness, keys, frames


def _landmarks(relative):
    """Keys and frames of the landmarks of a spectrogram [bins, frames].

    A landmark is a peak p and two of the PARTNERS peaks after its frame; its key holds the bin of p
    and the ways, in bins and frames, from p to each of the two::

        bins            2
             p                      later[p] is the first peak of a later frame: 1
                    1       3
    """
    highest = relative == maximum_filter(relative, PEAK_SIZE)
    peaks = np.argwhere((highest & (relative > 1)).T)
    frames, bins = peaks.astype(np.int32).T
    later = np.searchsorted(frames, frames, side="right")
    ways = (2 * MAX_BINS + 1) * (MAX_FRAMES + 1)  # from a peak to another
    keys = []
    starts = []
    for first, second in combinations(range(PARTNERS), 2):
        peak = np.flatnonzero(later + second < len(frames))
        key = bins[peak].astype(np.int64)
        near = np.ones(len(peak), bool)
        for partner in (later[peak] + first, later[peak] + second):
            higher = bins[partner] - bins[peak]
            after = frames[partner] - frames[peak]
            near &= (np.abs(higher) <= MAX_BINS) & (after <= MAX_FRAMES)
            way = (higher + MAX_BINS) * (MAX_FRAMES + 1) + after
            key = key * ways + way
        keys.append(key[near].astype(np.uint32))  # what 32 bits drop leaves equal ones equal
        starts.append(frames[peak][near])
    return np.concatenate(keys), np.concatenate(starts)


# --- search


def candidates(prints: list[Fingerprint]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Pairs of Fingerprints whose landmarks agree on an offset.

    Returns {(one, other): [(offset, anchor), ...]} in samples: where the other starts in the one,
    and a place in the one at which they agree; the best supported offset first.
    """
    sizes = [len(heard.keys) for heard in prints]
    landmarks = _seldom(prints, sizes)
    ends = np.cumsum(sizes)
    places = {}
    first = 0
    while first < len(prints):
        last = max(first + 1, int(np.searchsorted(ends, ends[first] + COUNTED)))
        for row in _elect(*landmarks, first, last).itertuples():
            place = (row.offset * HOP, row.anchor * HOP)
            places.setdefault((row.one, row.other), []).append(place)
        first = last
    return places


def _seldom(prints, sizes):
    """All landmarks sorted by key, then recording: keys, owners, frames.

    Of those that repeat within a recording only the first REPEATS are kept.
    """
    owners = np.repeat(np.arange(len(prints), dtype=np.int32), sizes)
    keys = [heard.keys for heard in prints]
    frames = [heard.frames for heard in prints]
    keys = np.concatenate([np.zeros(0, np.uint32), *keys])
    frames = np.concatenate([np.zeros(0, np.int32), *frames])
    order = np.lexsort((owners, keys))  # stable: frames stay in order
    keys = keys[order]
    owners = owners[order]
    frames = frames[order]
    seldom = np.ones(len(keys), bool)
    seldom[REPEATS:] = keys[REPEATS:] != keys[:-REPEATS]
    seldom[REPEATS:] |= owners[REPEATS:] != owners[:-REPEATS]
    return keys[seldom], owners[seldom], frames[seldom]


def _elect(keys, owners, frames, first, last):
    """The best offsets between each of the recordings first to last - 1 and others.

    Landmarks of one key stand side by side, sorted by recording; each is laid beside the next
    NEIGHBOURS, and their frames vote for an offset. Votes one frame off count for the best::

        key     7   7   7               offset   10  11  12  13
        owner   a   b   c               votes     0   2   5   1
        frame  52  40   9
        votes of a and b for 12         a and b: 12, with 8 votes

    Returns a table one, other, offset, anchor (frames), votes; of each one the most votes first.
    """
    asked = np.flatnonzero((owners >= first) & (owners < last))
    steps = range(1, NEIGHBOURS + 1)
    votes = pd.concat([_votes(keys, owners, frames, asked, step) for step in steps])
    offsets = votes.groupby(["one", "other", "offset"])["anchor"]
    table = offsets.agg(anchor="first", votes="size").reset_index()
    steps = table[["one", "other", "offset"]].diff()
    follows = steps.eq([0, 0, 1]).all(axis=1)  # the same pair, one frame further
    followed = follows.shift(-1, fill_value=False)
    before = table["votes"].shift().where(follows, 0)
    after = table["votes"].shift(-1).where(followed, 0)
    best = table["votes"].ge(before) & table["votes"].gt(after)
    table["votes"] += (before + after).astype(int)
    table = table[best & table["votes"].ge(VOTES)]
    table = table.sort_values("votes", ascending=False, kind="stable")
    table = table.sort_values("one", kind="stable")
    table = table.groupby(["one", "other"]).head(OFFSETS)
    return table.groupby("one").head(PLACES)


def _votes(keys, owners, frames, asked, step):
    """What the landmarks at the places `asked` and those `step` further on vote for."""
    here = asked[asked + step < len(keys)]
    here = here[keys[here + step] == keys[here]]
    here = here[owners[here + step] != owners[here]]
    there = here + step
    return pd.DataFrame(
        {
            "one": owners[here],
            "other": owners[there],
            "offset": frames[here] - frames[there],
            "anchor": frames[here],
        }
    )


# --- proof


def align(one: Fingerprint, other: Fingerprint, offset: int, anchor: int) -> Match | None:
    """The Match of two Fingerprints at about an offset, or None.

    Args: offset where the other starts in the one, anchor a place in the one where they agree, both
        in samples, the offset off by REACH at most.
    """
    offset, polarity = _exact_offset(one.whitened, other.whitened, offset, anchor)
    if not polarity:
        return None
    whole = int(np.floor(offset))
    start = max(whole, 0)
    end = min(whole + len(other.whitened), len(one.whitened))
    here = one.whitened[start:end].astype(np.float32)
    there = other.whitened[start - whole : end - whole]
    there = polarity * _delayed(there, offset - whole)
    first, last, likeness, sounding = _shared(here, there)
    in_one = slice(start + first, start + last)
    in_other = slice(in_one.start - whole, in_one.stop - whole)
    seconds = (last - first) / RATE
    share = max(_share(one.loudness, in_one), _share(other.loudness, in_other))
    long_enough = seconds >= MIN_SECONDS or share >= MIN_SHARE
    if likeness < LIKENESS or sounding < MIN_SOUNDING or not long_enough:
        return None
    if doubt(likeness, one.whitened, other.whitened, in_one, in_other) > PROOF:
        return None
    return Match(offset / RATE, seconds, likeness)


def _share(loudness, place):
    """Share of what a recording sounds that lies in a slice of its samples."""
    part = loudness[place.start // HOP : place.stop // HOP + 1]
    return part.sum() / max(loudness.sum(), QUIET)


def doubt(
    likeness: float, one: np.ndarray, other: np.ndarray, in_one: slice, in_other: slice
) -> float:
    """What a stretch shared by two sounds leaves unexplained, against the best other place.

    Near 0 where only this place fits, 1 where others fit as well: a tone's, or those of two takes
    of a clock. Args: likeness of the stretch; whitened sounds [samples], and where it lies in each.
    """
    echoes = [
        _echoes(one[in_one], one, in_one.start),
        _echoes(one[in_one], other, in_other.start),
        _echoes(other[in_other], one, in_one.start),
    ]
    near, far = np.max(echoes, axis=0)
    best = near if far > LOOP else max(near, far)
    return (1 - likeness) / (1 - min(best, 0.999))


def _exact_offset(one, other, offset, anchor):
    """Offset in fractions of a sample, and the polarity (0: too short).

    From four seconds around the anchor; of the other sound REACH samples more on both sides, zeros
    where it has none.
    """
    around = 2 * RATE
    start = max(anchor - around, offset, 0)
    end = min(anchor + around, offset + len(other), len(one))
    if end - start < FRAME:
        return offset, 0
    begin = start - offset - REACH  # in the other
    stop = end - offset + REACH
    missing = (max(-begin, 0), max(stop - len(other), 0))
    heard = np.pad(other[max(begin, 0) : stop], missing)
    likeness = _correlation(heard, one[start:end])
    best = np.abs(likeness).argmax()
    best = int(np.clip(best, 1, 2 * REACH - 1))
    before, top, after = likeness[best - 1 : best + 2]
    bend = before - 2 * top + after  # of the parabola through them
    fraction = (before - after) / (2 * bend) if bend else 0.0
    fraction = np.clip(fraction, -0.5, 0.5)
    return float(offset + REACH - best - fraction), int(np.sign(top))


def _correlation(sound, piece):
    """Correlation of a piece with a sound at each place [len(sound) - len(piece) + 1]."""
    sound = sound.astype(np.float32)
    return correlate(sound, piece.astype(np.float32), mode="valid", method="fft")


def _delayed(sound, samples):
    """A sound [samples] delayed by a fraction of a sample."""
    taps = np.arange(-8, 9)
    window = np.hanning(len(taps) + 2)[1:-1]
    kernel = window * np.sinc(taps - samples)
    kernel = kernel.astype(np.float32)
    delayed = np.convolve(sound.astype(np.float32), kernel)
    return delayed[8 : 8 + len(sound)]


def _shared(x, y):
    """The stretch in which two aligned sounds agree best, found by frames.

    It is the run of frames with the largest sum of what they share less LIKENESS of what they hold
    (Kadane's run). Returns (first sample, last, correlation, seconds that sound).
    """
    samples = len(x) // FRAME * FRAME
    x = x[:samples].reshape(-1, FRAME)
    y = y[:samples].reshape(-1, FRAME)
    common = np.sum(x * y, axis=1)
    power_x = np.sum(x**2, axis=1)
    power_y = np.sum(y**2, axis=1)
    held = np.sqrt(power_x * power_y)
    gain = np.cumsum(common - LIKENESS * held, dtype=np.float64)
    gain = np.append(0, gain)
    last = int(np.argmax(gain - np.minimum.accumulate(gain)))
    first = last - int(np.argmin(gain[last::-1]))
    run = slice(first, last)
    whole = held[run].sum()
    if not whole:
        return 0, 0, 0.0, 0.0
    power = np.sum(x[run] ** 2) * np.sum(y[run] ** 2)
    likeness = common[run].sum() / np.sqrt(power)
    frames = whole**2 / np.sum(held[run] ** 2)  # if all were as loud as the loudest
    return first * FRAME, last * FRAME, float(likeness), float(frames) * FRAME / RATE


def _echoes(piece, sound, place):
    """Largest correlations of a piece [samples], cut at `place`, with other places of a sound.

    Returns those up to a second away, and those up to eight.
    """
    around = 8 * RATE
    piece = piece[:around].astype(np.float32)
    start = max(place - around, 0)
    end = place + len(piece) + around
    sound = sound[start:end].astype(np.float32)
    half = len(piece) // 2
    lags = np.arange(-half, len(sound) - len(piece) + half + 1)
    common = _correlation(np.pad(sound, half), piece)
    delayed = [_delayed(common, part) for part in (-0.25, 0, 0.25, 0.5)]
    common = np.abs(delayed).max(axis=0)
    begin = np.maximum(lags, 0)
    end = np.minimum(lags + len(piece), len(sound))
    in_sound = _power(sound, begin, end)
    in_piece = _power(piece, begin - lags, end - lags)
    loudest = in_piece.max()
    least = np.maximum(in_piece, loudest / 2) * np.maximum(in_sound, loudest / 100)
    likeness = common / np.sqrt(least)
    away = np.abs(lags - (place - start))
    far = away >= RATE
    near = (away > RATE // 100) & ~far  # the nearest 10 ms are the same place
    return np.max(likeness[near], initial=0), np.max(likeness[far], initial=0)


def _power(sound, begin, end):
    """Sums of squares of a sound between samples."""
    total = np.append(0, np.cumsum(sound**2, dtype=np.float64))
    return total[end] - total[begin]


def in_words(named: pd.DataFrame, looked_for: bool = True) -> str:
    """How many pairs hold the same sound. Args: named of `partition.named`; looked_for at all."""
    if not looked_for:
        return (
            "Not looked for: split.near_duplicates is false, so only files of equal samples are"
            " found."
        )
    differing = (named["label"] != named["label_of_other"]).sum()
    pairs = f"Pairs that hold the same sound: {len(named)}"
    return f"{pairs}, of which with different labels: {differing}."
