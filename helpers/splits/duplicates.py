"""Near-duplicates: the same samples under another name, re-encoded, resampled, louder, shifted or
cut out.

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
from itertools import combinations
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
WINDOW, HOP = 512, 128  # samples
BLOCK = (
    4096 * HOP
)  # samples whitened at a time: 65 s, so that a long recording needs no more memory
LEVEL_SIZE = (9, 9)  # bins and frames over which a level is taken: 140 Hz, 0.2 s
FLOOR_DB, FLOOR_FRAMES = (
    -25.0,
    63,
)  # from the mean of a second: what is weaker fades, as codecs and noise replace it
QUIET = 2e-7  # power of a bin: noise at -90 dBFS, the least that is heard
STEPS = 480  # of int8 to the unit: the loudest whitened sounds come near 127
PEAK_SIZE = (15, 7)  # bins and frames in which a peak is the largest
PARTNERS, MAX_BINS, MAX_FRAMES = (
    4,
    60,
    63,
)  # a landmark: a peak and two of the next four, no farther off than this

# These bounds keep the search linear: a landmark that is everywhere (a tone's) is compared with its
# neighbours only.
REPEATS = 4  # equal landmarks of one recording that count
NEIGHBOURS = 16  # equal landmarks of the next recordings that one is compared with
COUNTED = 250_000  # landmarks whose votes are counted at a time
VOTES = 3  # landmarks that must agree on an offset
OFFSETS, PLACES = 3, 32  # offsets that are tried per pair, and per recording

REACH = 3 * HOP  # samples by which an offset of landmarks may be wrong
FRAME = RATE // 16  # samples over which agreement is taken
# Measured: whitened ESC-10 recordings of one class correlate by 0.1 at most (999 of 1000 pairs, any
# offset), re-encoded
# copies by 0.95, copies under noise at 30 dB by 0.65 and more. `doubt` is 0.04 for most copies,
# 0.38 for the worst (but
# 8-bit copies of very quiet recordings go beyond), and 0.43 or more for 1200 pairs of takes of one
# synthetic source.
LIKENESS = 0.5  # least correlation of the shared stretch
PROOF = 0.4  # most that `doubt` may be
# a stretch that is more like another, a second away or more, was copied there: a loop, not a tone
LOOP = 0.97
MIN_SECONDS, MIN_SHARE = (
    1.0,
    0.5,
)  # a shared stretch lasts so long, or holds so much of what one recording sounds
MIN_SOUNDING = 0.15  # seconds of it that are not silence: a click is like any click
COLUMNS = {"recording_id": "str", "other_id": "str"}
COLUMNS |= dict.fromkeys(("offset_seconds", "overlap_seconds", "correlation"), "float64")


@dataclass(frozen=True)
class Fingerprint:
    """A recording to compare: whitened int8 [samples] at RATE, its loudness (power) [samples /
    HOP], its landmarks.
    """

    whitened: np.ndarray
    loudness: np.ndarray
    keys: np.ndarray
    frames: np.ndarray


@dataclass(frozen=True)
class Match:
    """Where the other recording starts in the first, how long both agree, and the correlation there
    (absolute).
    """

    offset_seconds: float
    overlap_seconds: float
    correlation: float


def find(root, recordings, max_seconds=float("inf")):
    """Pairs of recordings that hold the same sound.

    Recordings with equal samples are each paired with the first of them, which alone is compared
    with others; of many near-duplicates of one sound, each is paired with some. A second of sound
    takes 10 kB of memory and 8 kB on disk.

    Args: root data folder; recordings table of audio.survey; max_seconds longest recording that is
        decoded.
    Returns a table of COLUMNS, each pair once, in the order of the recordings. What cannot be
        decoded has no pair.
    """
    usable = recordings[recordings["status"].isin(["ok", "used"])].reset_index(drop=True)
    samples = usable["pcm_sha256"].where(
        usable["pcm_sha256"].fillna("").ne(""), usable["recording_id"]
    )
    first = usable.groupby(samples).cumcount().eq(0)
    leader = samples.map(dict(zip(samples[first], usable.index[first], strict=True)))
    rows = [
        (leader[row], row, 0.0, usable.at[row, "duration_seconds"], 1.0)
        for row in usable.index[~first]
    ]
    place = usable.index[first].tolist()
    for one, other, match in _matches(
        [Path(root) / path for path in usable.loc[first, "path"]], max_seconds
    ):
        rows.append((place[one], place[other], *(round(number, 4) for number in astuple(match))))
    names = usable["recording_id"].tolist()
    rows = [(names[one], names[other], *numbers) for one, other, *numbers in sorted(rows)]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def _matches(paths, max_seconds):
    """The confirmed pairs among files: a list of (one, other, Match) by position. Each file is
    decoded once.
    """
    listened = work.in_threads(
        functools.partial(_listen, max_seconds=max_seconds), paths, "fingerprints"
    )
    prints, start = [], 0
    with TemporaryFile() as file:
        for heard in listened:
            file.write(heard.whitened.tobytes())
            prints.append(
                replace(heard, whitened=slice(start, start := start + len(heard.whitened)))
            )
        file.flush()
        sounds = np.memmap(file, np.int8, mode="r") if start else np.zeros(0, np.int8)
        prints = [replace(heard, whitened=sounds[heard.whitened]) for heard in prints]
        pairs = candidates(prints)

        def examine(pair):
            return (*pair, compare(*(prints[place] for place in pair), pairs[pair]))

        return [
            found for found in work.in_threads(examine, list(pairs), "near-duplicates") if found[-1]
        ]


def _listen(path, max_seconds):
    try:
        return fingerprint(recording.load(path, RATE, max_seconds), RATE)
    except AudioIssue:
        return fingerprint([], RATE)


def compare(one, other, places=None):
    """The longest Match of two Fingerprints, or None; places (offset, anchor) are those of
    `candidates`, if known.
    """
    places = candidates([one, other]).get((0, 1), []) if places is None else places
    found = [match for place in places if (match := align(one, other, *place))]
    return max(found, key=lambda match: match.overlap_seconds, default=None)


# --- fingerprints
# ------------------------------------------------------------------------------------------


def fingerprint(waveform, sample_rate):
    """The Fingerprint of a mono waveform [samples]; silence has no landmarks."""
    waveform = np.asarray(waveform, np.float32)
    waveform = recording.resample(waveform, sample_rate, RATE) if len(waveform) else waveform
    starts = range(0, max(len(waveform), 1), BLOCK)
    whitened, loudness, keys, frames = zip(
        *(_whiten(waveform[start : start + BLOCK]) for start in starts), strict=True
    )
    frames = [part + start // HOP for part, start in zip(frames, starts, strict=True)]
    return Fingerprint(*(np.concatenate(parts) for parts in (whitened, loudness, keys, frames)))


def _whiten(block):
    """Whitened samples, loudness, landmark keys and frames of a block of a recording."""
    transform = ShortTimeFFT(np.hanning(WINDOW + 1)[:-1], HOP, RATE)
    inside = (transform.f >= BAND_HZ[0]) & (transform.f <= BAND_HZ[1])
    spectrum = transform.stft(np.pad(block, (0, max(0, WINDOW - len(block))))) * inside[:, None]
    power = np.abs(spectrum) ** 2
    floor = 10 ** (FLOOR_DB / 10) * uniform_filter1d(power[inside].mean(axis=0), FLOOR_FRAMES)
    level = np.maximum(uniform_filter(power, LEVEL_SIZE), 0) + np.maximum(floor, 0) + QUIET
    whitened = transform.istft(spectrum / np.sqrt(level), k1=max(len(block), WINDOW))[: len(block)]
    loudness = power.sum(axis=0, dtype=np.float32)[-transform.p_min :][: len(block) // HOP + 1]
    return (
        np.clip(np.round(STEPS * whitened), -127, 127).astype(np.int8),
        loudness,
        *_landmarks(power / level),
    )


def _landmarks(relative):
    """Keys (bin of a peak, ways to two later ones) and frames of the landmarks of a spectrogram
    [bins, frames].
    """
    peaks = (relative == maximum_filter(relative, PEAK_SIZE)) & (relative > 1)
    frames, bins = (index.astype(np.int32) for index in np.nonzero(peaks.T))
    later = np.searchsorted(frames, frames, side="right")  # the first peak of a later frame
    keys, starts = [], []
    for places in combinations(range(PARTNERS), 2):
        here = np.flatnonzero(later + places[1] < len(frames))
        key, near = bins[here].astype(np.int64), np.ones(len(here), bool)
        for there in (later[here] + place for place in places):
            higher, after = bins[there] - bins[here], frames[there] - frames[here]
            near &= (np.abs(higher) <= MAX_BINS) & (after <= MAX_FRAMES)
            key = (key * (2 * MAX_BINS + 1) + higher + MAX_BINS) * (MAX_FRAMES + 1) + after
        keys.append(
            key[near].astype(np.uint32)
        )  # what lies above 32 bits is dropped: equal ones stay equal
        starts.append(frames[here][near])
    return np.concatenate(keys), np.concatenate(starts)


# --- search
# ------------------------------------------------------------------------------------------------


def candidates(prints):
    """Pairs of Fingerprints whose landmarks agree on an offset.

    Returns {(one, other): [(offset, anchor), ...]} in samples: where the other starts in the one,
    and a place in the one at which they agree; the best supported offset first.
    """
    sizes = [len(heard.keys) for heard in prints]
    ends, owners = np.cumsum(sizes), np.repeat(np.arange(len(prints), dtype=np.int32), sizes)
    keys = np.concatenate([np.zeros(0, np.uint32), *(heard.keys for heard in prints)])
    frames = np.concatenate([np.zeros(0, np.int32), *(heard.frames for heard in prints)])
    order = np.lexsort((owners, keys))  # stable: frames stay in order
    keys, owners, frames = keys[order], owners[order], frames[order]
    seldom = np.ones(len(keys), bool)
    seldom[REPEATS:] = (keys[REPEATS:] != keys[:-REPEATS]) | (owners[REPEATS:] != owners[:-REPEATS])
    keys, owners, frames = keys[seldom], owners[seldom], frames[seldom]
    places, first = {}, 0
    while first < len(prints):
        last = max(first + 1, int(np.searchsorted(ends, ends[first] + COUNTED)))
        for row in _elect(keys, owners, frames, first, last, len(prints)).itertuples():
            places.setdefault((row.one, row.other), []).append((row.offset * HOP, row.anchor * HOP))
        first = last
    return places


def _elect(keys, owners, frames, first, last, n_recordings):
    """The best offsets between each of the recordings first to last - 1 and later ones, most votes
    first.
    """
    asked = np.flatnonzero((owners >= first) & (owners < last))
    ballots, anchors = [np.zeros(0, np.int64)], [np.zeros(0, np.int32)]
    for step in range(1, NEIGHBOURS + 1):
        at = asked[asked + step < len(keys)]
        at = at[(keys[at + step] == keys[at]) & (owners[at + step] != owners[at])]
        pair = (owners[at] - first).astype(np.int64) * n_recordings + owners[at + step]
        ballots.append((pair << 24) + frames[at] - frames[at + step] + (1 << 23))
        anchors.append(frames[at])
    ballots, index, votes = np.unique(
        np.concatenate(ballots), return_index=True, return_counts=True
    )
    adjacent = np.diff(ballots, append=0) == 1
    before, after = np.roll(votes * adjacent, 1), np.roll(votes, -1) * adjacent
    best = (votes + before + after >= VOTES) & (votes >= before) & (votes > after)
    pair, offset = np.divmod(ballots[best], 1 << 24)
    table = pd.DataFrame({"one": pair // n_recordings + first, "other": pair % n_recordings})
    table["offset"], table["anchor"] = offset - (1 << 23), np.concatenate(anchors)[index[best]]
    table["votes"] = (votes + before + after)[best]
    table = table.sort_values(["one", "votes"], ascending=[True, False], kind="stable")
    return table.groupby(["one", "other"]).head(OFFSETS).groupby("one").head(PLACES)


# --- proof
# -------------------------------------------------------------------------------------------------


def align(one, other, offset, anchor):
    """The Match of two Fingerprints at about an offset, or None.

    Args: offset where the other starts in the one, anchor a place in the one where they agree, both
        in samples, the offset off by REACH at most.
    """
    offset, polarity = _exact_offset(one.whitened, other.whitened, offset, anchor)
    if not polarity:
        return None
    whole = int(np.floor(offset))
    start, end = max(whole, 0), min(whole + len(other.whitened), len(one.whitened))
    there = polarity * _delayed(other.whitened[start - whole : end - whole], offset - whole)
    first, last, likeness, sounding = _shared(one.whitened[start:end].astype(np.float32), there)
    in_one, in_other = (slice(first + begin, last + begin) for begin in (start, start - whole))
    share = max(
        heard.loudness[place.start // HOP : place.stop // HOP + 1].sum()
        / max(heard.loudness.sum(), QUIET)
        for heard, place in ((one, in_one), (other, in_other))
    )
    long_enough = (last - first) / RATE >= MIN_SECONDS or share >= MIN_SHARE
    if likeness < LIKENESS or sounding < MIN_SOUNDING or not long_enough:
        return None
    proven = doubt(likeness, one.whitened, other.whitened, in_one, in_other) <= PROOF
    return Match(offset / RATE, (last - first) / RATE, likeness) if proven else None


def doubt(likeness, one, other, in_one, in_other):
    """What a stretch shared by two whitened sounds (slices of them) leaves unexplained, against the
    best other place.

    Near 0 where only this place fits, 1 where others fit as well: a tone's, or those of two takes
    of a clock.
    """
    sides = (
        (one[in_one], one, in_one),
        (one[in_one], other, in_other),
        (other[in_other], one, in_one),
    )
    near, far = np.max(
        [_echoes(piece, sound, place.start) for piece, sound, place in sides], axis=0
    )
    return (1 - likeness) / (1 - min(near if far > LOOP else max(near, far), 0.999))


def _exact_offset(one, other, offset, anchor):
    """Offset in fractions of a sample, and the polarity (0: too short), from four seconds around
    the anchor.
    """
    start, end = (
        max(anchor - 2 * RATE, offset, 0),
        min(anchor + 2 * RATE, offset + len(other), len(one)),
    )
    if end - start < FRAME:
        return offset, 0
    begin = start - offset - REACH  # in the other
    heard = other[max(begin, 0) : end - offset + REACH].astype(np.float32)
    heard = np.pad(heard, (max(-begin, 0), end - start + 2 * REACH - len(heard) - max(-begin, 0)))
    likeness = correlate(heard, one[start:end].astype(np.float32), mode="valid", method="fft")
    best = int(np.clip(np.abs(likeness).argmax(), 1, 2 * REACH - 1))
    before, top, after = likeness[best - 1 : best + 2]
    bend = before - 2 * top + after
    fraction = np.clip((before - after) / (2 * bend), -0.5, 0.5) if bend else 0.0
    return float(offset + REACH - best - fraction), int(np.sign(top))


def _delayed(sound, samples):
    """A sound [samples] delayed by a fraction of a sample."""
    taps = np.arange(-8, 9)
    kernel = np.sinc(taps - samples) * np.hanning(len(taps) + 2)[1:-1]
    return np.convolve(sound.astype(np.float32), kernel.astype(np.float32))[8 : 8 + len(sound)]


def _shared(x, y):
    """The stretch in which two aligned sounds agree best: (first sample, last, correlation, seconds
    that sound).

    It is the run of frames with the largest sum of what they share less LIKENESS of what they hold
    (Kadane's run).
    """
    frames = len(x) // FRAME
    x, y = x[: frames * FRAME].reshape(frames, FRAME), y[: frames * FRAME].reshape(frames, FRAME)
    common, held = np.sum(x * y, axis=1), np.sqrt(np.sum(x**2, axis=1) * np.sum(y**2, axis=1))
    gain = np.append(0, np.cumsum(common - LIKENESS * held, dtype=np.float64))
    last = int(np.argmax(gain - np.minimum.accumulate(gain)))
    first = last - int(np.argmin(gain[last::-1]))
    run = slice(first, last)
    if not held[run].sum():
        return 0, 0, 0.0, 0.0
    likeness = float(common[run].sum() / np.sqrt(np.sum(x[run] ** 2) * np.sum(y[run] ** 2)))
    sounding = float(held[run].sum() ** 2 / np.sum(held[run] ** 2)) * FRAME / RATE
    return first * FRAME, last * FRAME, likeness, sounding


def _echoes(piece, sound, place):
    """Largest correlations of a piece [samples] with other places of a sound: up to a second away,
    up to eight.
    """
    piece = piece[: 8 * RATE].astype(np.float32)
    start = max(place - 8 * RATE, 0)
    sound = sound[start : place + len(piece) + 8 * RATE].astype(np.float32)
    half = len(piece) // 2
    lags = np.arange(-half, len(sound) - len(piece) + half + 1)
    likeness = correlate(np.pad(sound, half), piece, mode="valid", method="fft")
    likeness = np.max([np.abs(_delayed(likeness, part)) for part in (-0.25, 0, 0.25, 0.5)], axis=0)
    in_sound, in_piece = (
        np.append(0, np.cumsum(part**2, dtype=np.float64)) for part in (sound, piece)
    )
    begin, end = np.maximum(lags, 0), np.minimum(lags + len(piece), len(sound))
    in_sound, in_piece = (
        in_sound[end] - in_sound[begin],
        in_piece[end - lags] - in_piece[begin - lags],
    )
    likeness /= np.sqrt(
        np.maximum(in_piece, in_piece.max() / 2) * np.maximum(in_sound, in_piece.max() / 100)
    )
    away = np.abs(lags - (place - start))
    near = (away > RATE // 100) & (away < RATE)  # the nearest 10 ms are the same place
    return np.max(likeness[near], initial=0), np.max(likeness[away >= RATE], initial=0)
