"""Clips and windows: a cleaned recording cut for training, a whole file in windows with the times
of its own.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
import pandas as pd

from helpers.audio import clean, decoder, recording
from helpers.base import targets, work

PAUSE_DB = -80.0  # dBFS after normalising; a piece below this holds no sound
SLACK_SECONDS = 1e-3  # a rest so short is rounding, and no window
APART = 0.5  # of a window: a pause so long divides a file
BLOCK = 1 << 12  # frames whose levels are taken at a time


def starts(n_samples, clip_samples, min_last_fraction):
    """First samples of the clips that a recording is cut into, end to end.

    The last piece is kept if it fills `min_last_fraction` of a clip; a recording always gives one
    clip.

    >>> starts(250, 100, 0.5), starts(240, 100, 0.5), starts(30, 100, 0.5)
    ([0, 100, 200], [0, 100], [0])
    """
    whole = range(0, max(1, n_samples), clip_samples)
    return [
        start
        for start in whole
        if start == 0 or n_samples - start >= min_last_fraction * clip_samples
    ]


def fill(piece, clip_samples, how):
    """Bring a piece to the clip's length: zeros behind it (`pad`), or the piece again and again
    (`loop`).
    """
    if how == "loop":
        return np.resize(piece, clip_samples)
    return np.pad(piece[:clip_samples], (0, max(0, clip_samples - len(piece))))


def cut(waveform, settings, every=False):
    """Cut a cleaned waveform into clips.

    Args: waveform float32 [samples] at settings.sample_rate; settings the config's Audio section;
        every keeps all windows, also silent and partial ones: as many as the duration in clips,
        rounded up.
    A piece without sound (a long pause) gives no clip otherwise, but a recording always gives one.
    Returns a list of (start_seconds, valid_seconds, clip float32 [clip_samples]).
    """
    size, rate = round(settings.clip_seconds * settings.sample_rate), settings.sample_rate
    first = starts(
        len(waveform), size, SLACK_SECONDS * rate / size if every else settings.min_last_fraction
    )
    pieces = [(start, waveform[start : start + size]) for start in first]
    heard = [
        (start, piece)
        for start, piece in pieces
        if every or (len(piece) and recording.level_db(piece - piece.mean()) > PAUSE_DB)
    ]
    return [
        (
            round(start / rate, 4),
            round(len(piece) / rate, 4),
            fill(piece, size, settings.short_clips),
        )
        for start, piece in heard or pieces[:1]
    ]


# --- a whole file
# ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Whole:
    """A whole file as the networks hear it: its windows, and what they hold of its takes.

    A take is what lies between two pauses of half a window or more. To the networks it is what a
    recording was in training: silent edges cut, one peak of its own. So a quiet sound beside a loud
    one arrives at the level at which sounds were learned, and a file that lasts no longer than a
    window is the very clip that training makes of it (but for edges below clean.silence_db, which
    training keeps where they are within clean.trim_db of the loudest moment).

    waveform: float32 [samples] at the level of the file; nothing is cut off: times are the file's.
    windows: start_seconds, end_seconds, a row per window from the first sample to the last.
    pieces: what each window holds of each take: window (its row above), take; its first and last
        sound, sound_start, sound_end (seconds); start, stop (samples of `waveform`) with a little
        around them; gain of the take.
    shortest: seconds; less of a longer take tells nothing by itself.
    """

    waveform: np.ndarray
    windows: pd.DataFrame
    pieces: pd.DataFrame
    shortest: float
    settings: object

    @property
    def valid_seconds(self):
        """Seconds that each piece holds: what its answer counts for."""
        return (self.pieces["stop"] - self.pieces["start"]) / self.settings.sample_rate

    @property
    def edges(self):
        """Where half windows begin and end (seconds); the last takes what is left of the file."""
        half = round(self.settings.clip_seconds * self.settings.sample_rate) // 2
        inner = np.arange(0, max(1, len(self.waveform) - half // 2), half)
        return np.append(inner, len(self.waveform)) / self.settings.sample_rate

    def clips(self):
        """The pieces one by one, filled up as in training: float32 [clip_samples] each."""
        size = round(self.settings.clip_seconds * self.settings.sample_rate)
        for piece in self.pieces.itertuples():
            levelled = self.waveform[piece.start : piece.stop] * float(piece.gain)
            yield fill(levelled, size, self.settings.short_clips)


def whole(decoded, config):
    """A decoded recording from its first sample to its last, cleaned and in windows: a Whole.

    Windows lie half over each other and the last one ends with the file. Those without sound have
    no piece, and nothing is said of them. Args: decoded of `audio.decode`; config.
    """
    rate, rules = config.audio.sample_rate, config.clean
    mono = recording.to_mono(decoded.waveform)[0]
    waveform = recording.resample(mono, decoded.sample_rate, rate)
    waveform = waveform if len(waveform) else mono[:1]
    *_, (_, before_peak), _ = clean.steps(
        waveform, rate, rules.model_copy(update={"trim_db": None})
    )
    return in_windows(before_peak, config.audio, rules)


def in_windows(waveform, settings, rules):
    """The windows of a waveform that is cleaned but for its edges and its peak: a Whole."""
    rate = settings.sample_rate
    size = round(settings.clip_seconds * rate)
    hop, keep = clean.frame_size(rate)[1], round(clean.KEEP_SECONDS * rate)
    sound = sound_frames(waveform, rate, rules)
    found = takes(sound, round(APART * size / hop))
    shortest = min(
        round(rules.min_seconds * rate), size // 4
    )  # less can tell nothing, here as in 02
    begins = np.array(window_starts(len(waveform), size, shortest))
    ends = np.append(begins[:-1] + size, len(waveform))
    windows = pd.DataFrame({"start_seconds": begins / rate, "end_seconds": ends / rate})
    held = _held(sound, found, begins, ends, hop, shortest // hop)
    first, last = begins[held["window"]], ends[held["window"]]
    around = found * hop + (-keep, keep)
    gains = np.array([_gain(waveform, begin, end, rules) for begin, end in around])
    start = np.maximum(held["first"] * hop - keep, first)
    stop = np.minimum(held["last"] * hop + keep, last)
    pieces = held[["window", "take"]].assign(
        sound_start=np.maximum(held["first"] * hop, first) / rate,
        sound_end=np.minimum(held["last"] * hop, last) / rate,
        start=start,
        stop=np.minimum(stop, start + size),  # the rest of the file, in its last window, is no more
        gain=gains[held["take"]],
    )
    return Whole(waveform, windows, pieces, shortest / rate, settings)


def sound_frames(waveform, sample_rate, rules):
    """Which frames hold sound: louder than rules.silence_db, and within rules.trim_db of the
    loudest.

    What stays the same for a whole frame is no sound: without DC, a file with loud lopsided sounds
    has shifted silence. Where a click alone is so loud, it is no measure of the rest (as in
    `trim`).
    Args: waveform float32 [samples] at the level of its file; rules the config's Clean section.
    Returns bool [frames], a frame per hop of `frame_size`.
    """
    level, moving = _levels(waveform, *clean.frame_size(sample_rate))
    sound = moving > 10 ** (rules.silence_db / 20)
    if rules.trim_db is None:
        return sound
    near = sound & (level > level.max() * 10 ** (-rules.trim_db / 20))
    is_click = near.sum() * clean.frame_size(sample_rate)[1] < recording.CLICK_SECONDS * sample_rate
    return sound if is_click else near


def _levels(waveform, frame, hop):
    """RMS of centred frames, as librosa.effects.trim takes it, and their deviation from their mean.

    Some frames at a time, whose overlap then takes no memory. Returns float32 [2, frames].
    """
    padded = np.pad(waveform, frame // 2)
    continued = np.pad(waveform, frame // 2, mode="edge")
    size = {"frame_length": frame, "hop_length": hop}
    count = 1 + (len(padded) - frame) // hop
    levels = np.empty((2, count), dtype=np.float32)
    for first in range(0, count, BLOCK):
        last = min(first + BLOCK, count)
        place = slice(first * hop, (last - 1) * hop + frame)
        levels[0, first:last] = librosa.feature.rms(y=padded[place], center=False, **size)[0]
        levels[1, first:last] = librosa.util.frame(continued[place], **size).std(axis=0)
    return levels


def takes(sound, pause):
    """What lies between the pauses of a recording: first frame of each take, and one after its
    last.

    Args: sound bool [frames]; pause frames without sound that divide. Returns int [takes, 2].

    >>> takes(np.array([0, 1, 0, 1, 0, 0, 0, 1, 1], dtype=bool), pause=3).tolist()
    [[1, 4], [7, 9]]
    """
    frames = np.flatnonzero(sound)
    ends = np.flatnonzero(np.diff(frames) > pause)
    firsts = np.concatenate([frames[:1], frames[ends + 1]])
    lasts = np.concatenate([frames[ends], frames[-1:]])
    return np.stack([firsts, lasts + 1], axis=1)


def window_starts(n_samples, size, slack=0):
    """First samples of the windows of a file, half over each other; the last ends with the file.

    A rest of less than `slack` samples gets no window of its own (codecs add some milliseconds).

    >>> window_starts(900, 400), window_starts(805, 400, slack=10), window_starts(30, 400)
    ([0, 200, 400, 500], [0, 200, 400], [0])
    """
    last = max(0, n_samples - size)
    starts = list(range(0, last + 1, size // 2))
    return [*starts, last] if last - starts[-1] > slack else starts


def _held(sound, found, begins, ends, hop, shortest):
    """What each window holds of each take: window, take, first frame with sound, one after the
    last.

    Args: sound bool [frames]; found takes in frames; begins, ends of the windows in samples.
    Less than `shortest` frames of a longer take are left to the windows that hold more of it.
    """
    rows = []
    for take, (first, last) in enumerate(found):
        enough = max(1, min(shortest, sound[first:last].sum()))
        for window in np.flatnonzero((begins < last * hop) & (ends > first * hop)):
            low = max(first, -(-begins[window] // hop))
            high = min(last, -(-ends[window] // hop))
            frames = low + np.flatnonzero(sound[low:high])
            if len(frames) >= enough:
                rows.append((window, take, frames[0], frames[-1] + 1))
    table = pd.DataFrame(rows, columns=["window", "take", "first", "last"], dtype=np.int64)
    return table.sort_values(["window", "take"], ignore_index=True)


def _gain(waveform, begin, end, rules):
    """What brings a stretch of samples to the peak that training brought recordings to."""
    raised_db = rules.max_gain_db if rules.normalise else 0
    return clean.gain(waveform[max(0, begin) : end], rules.peak, raised_db)


def write_clips(judged, root, config, folder):
    """Clean and cut every used recording, write its clips as FLAC below `folder`/<split>/<label>/.

    A test recording loses nothing: it is heard as a file in use is (`whole`), or with
    audio.test_windows in all its windows, end to end. Its times are those of the file.
    Args: judged table of `judge`; root data folder; config; folder that is written to.
    Returns a table: clip_id, recording_id, start_seconds, valid_seconds, label, split, path
        ("clips/…").
    """
    used = judged[judged["status"].eq("used")]
    write = functools.partial(_write_recording, root=root, config=config, folder=Path(folder))
    rows = [
        row
        for rows in work.in_threads(write, list(used.itertuples()), "clean and cut")
        for row in rows
    ]
    return pd.DataFrame(
        rows,
        columns=[
            "clip_id",
            "recording_id",
            "start_seconds",
            "valid_seconds",
            "label",
            "split",
            "path",
        ],
    )


def _write_recording(row, root, config, folder):
    rows = []
    clips = _clips_of(row, Path(root) / row.path, config)
    for number, (start_seconds, valid_seconds, clip) in enumerate(clips):
        clip_id = f"{row.recording_id}-{number:03d}"
        path = Path(row.split, targets.folder_name(row.label), f"{clip_id}.flac")
        (folder / path.parent).mkdir(parents=True, exist_ok=True)
        recording.write(folder / path, clip, config.audio.sample_rate)
        rows.append(
            (
                clip_id,
                row.recording_id,
                start_seconds,
                valid_seconds,
                row.label,
                row.split,
                f"clips/{path.as_posix()}",
            )
        )
    return rows


def _clips_of(row, path, config):
    """The clips of a recording as `cut` gives them."""
    if row.split != "test":
        return cut(clean.load_clean(path, config), config.audio)
    if config.audio.test_windows:
        return cut(clean.load_clean(path, config, whole=True), config.audio, every=True)
    heard = whole(decoder.decode(path, config.audio.max_seconds), config)
    if heard.pieces.empty:  # what is left of it after the high-pass, say, is silent
        return cut(clean.load_clean(path, config), config.audio)
    starts = heard.windows["start_seconds"][heard.pieces["window"]].round(4)
    return zip(starts, heard.valid_seconds.round(4), heard.clips(), strict=True)
