"""Clips and windows: a recording cut for training, a whole file in windows with its own times."""

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
import pandas as pd

from helpers.audio import clean, recording
from helpers.audio.decoder import BLOCK, Decoded
from helpers.base import errors, targets, work
from helpers.base.settings import Audio, Clean

SILENCE_DB = Clean().silence_db  # dBFS; what never gets louder is silent, unless a preset differs
SLACK_SECONDS = 1e-3  # a rest so short is rounding, and no window
APART = 0.5  # of a window: a pause so long divides a file
OVERLAP = 0.5  # of a window: so much of it lies over the next
MOST_OVERLAP = 0.95
FRAMES = 1 << 12  # whose levels are taken at a time
PIECES = {  # columns of a whole file's pieces
    **{"window": int, "take": int, "sound_start": float, "sound_end": float},
    **{"start": int, "stop": int, "gain": float},
}
ACTIVITY_SECONDS = 0.02  # of the frames by which clips are chosen
CLIPS = ["clip_id", "recording_id", "start_seconds", "valid_seconds", "label", "split", "path"]


def starts(n_samples: int, clip_samples: int, min_last_fraction: float) -> list[int]:
    """First samples of the clips that a recording is cut into, end to end.

    The last piece is kept if it fills `min_last_fraction` of a clip; a recording always gives one
    clip.

    >>> starts(250, 100, 0.5), starts(240, 100, 0.5), starts(30, 100, 0.5)
    ([0, 100, 200], [0, 100], [0])
    """
    n_last = min_last_fraction * clip_samples
    return [
        0,
        *(s for s in range(clip_samples, n_samples, clip_samples) if n_samples - s >= n_last),
    ]


def standing_out(waveform: np.ndarray, sample_rate: int, size: int, count: int) -> list[int]:
    """First samples of the clips in which most stands out, none over another, in their order.

    What stands out is energy above each frequency's own median over the recording, in logarithms:
    so a call of a second counts, and a hum that is always there does not, however loud it is.
    Args: waveform [samples], longer than a clip; size samples of a clip; count of clips.
    """
    frame = round(ACTIVITY_SECONDS * sample_rate)
    spectrum = librosa.stft(waveform, n_fft=2 * frame, hop_length=frame)
    power = np.square(np.abs(spectrum))
    usual = np.median(power, axis=1, keepdims=True)
    usual += 1e-9 * power.max() + 1e-30
    above = np.log1p(power / usual).mean(axis=0)
    total = np.append(0.0, np.cumsum(above))
    last = (len(waveform) - size) // frame
    step = max(1, size // (10 * frame))
    begins = np.append(np.arange(0, last, step), last)
    held = total[begins + size // frame] - total[begins]
    best_first = begins[np.argsort(-held, kind="stable")]
    chosen = []
    for begin in (best_first * frame).tolist():
        if all(abs(begin - other) >= size for other in chosen):
            chosen.append(begin)
    return sorted(chosen[:count])


def fill(piece: np.ndarray, clip_samples: int, how: str) -> np.ndarray:
    """A piece [samples] at the clip's length: zeros behind it (`pad`), or it repeated (`loop`)."""
    if how == "loop":
        return np.resize(piece, clip_samples)
    return librosa.util.fix_length(piece, size=clip_samples)


def cut(
    waveform: np.ndarray, settings: Audio, silence_db: float = SILENCE_DB, every: bool = False
) -> list[tuple[float, float, np.ndarray]]:
    """Cut a cleaned waveform into clips.

    A piece that never gets louder than `silence_db` gives no clip, but a recording always gives
    one. With settings.max_clips no more are kept, as settings.choose says. With `every` all windows
    are kept, also silent and partial ones: as many as the duration in clips, rounded up, and with
    settings.test_steps whole ones that begin in between.

    Args: waveform float32 [samples] at settings.sample_rate; settings the config's Audio section;
        silence_db dBFS of the loudest 20 ms; every.
    Returns a list of (start_seconds, valid_seconds, clip float32 [clip_samples]).
    """
    rate = settings.sample_rate
    size = round(settings.clip_seconds * rate)
    most = None if every else settings.max_clips
    clips = []
    for start in _begins(waveform, settings, size, every):
        piece = waveform[start : start + size]
        if every or (len(piece) and recording.loudest_db(piece, rate) >= silence_db):
            clip = fill(piece, size, settings.short_clips)
            clips.append((round(start / rate, 4), round(len(piece) / rate, 4), clip))
    return clips[:most] or cut(waveform[:size], settings, every=True)


def _begins(waveform, settings, size, every):
    """First samples of the clips of `cut`."""
    if every:
        least = SLACK_SECONDS * settings.sample_rate / size
        begins = set(starts(len(waveform), size, least))
        for step in range(1, settings.test_steps):
            first = round(size * step / settings.test_steps)
            begins.update(range(first, len(waveform) - size + 1, size))
        return sorted(begins)
    begins = starts(len(waveform), size, settings.min_last_fraction)
    most = settings.max_clips or len(begins)
    if most < len(begins) and settings.choose == "energy":
        return standing_out(waveform, settings.sample_rate, size, most)
    return begins


def clips_of(source: str | Path | Decoded, config, every: bool = False) -> list:
    """A recording from its file to its clips, as `cut` gives them; with `every` none of it is lost.

    Raises AudioIssue.
    """
    waveform = clean.load_clean(source, config, whole=every)
    return cut(waveform, config.audio, config.clean.silence_db, every)


# --- a whole file


@dataclass(frozen=True)
class Whole:
    """A whole file as the networks hear it: its windows, and what they hold of its takes.

    A take is what lies between two pauses of half a window or more. To the networks it is what a
    recording was in training: silent edges cut, one peak of its own. So a quiet sound beside a loud
    one arrives at the level at which sounds were learned, and a file that lasts no longer than a
    window is the very clip that training makes of it (but for edges below clean.silence_db, which
    training keeps where they are within clean.trim_db of the loudest moment).

    samples: float32 [samples] at the level of the file, an array or `recording.Samples`; nothing is
        cut off: times are the file's.
    windows: start_seconds, end_seconds, a row per window from the first sample to the last.
    pieces: what each window holds of each take: window (its row above), take; its first and last
        sound, sound_start, sound_end (seconds); start, stop (of `samples`) with a little around
        them; gain of the take.
    shortest: seconds; less of a longer take tells nothing by itself.
    overlap: share of a window that lies over the next.
    nyquist_hz: no frequency above it was heard.
    """

    samples: np.ndarray | recording.Samples
    windows: pd.DataFrame
    pieces: pd.DataFrame
    shortest: float
    settings: Audio
    overlap: float
    nyquist_hz: float

    @property
    def waveform(self) -> np.ndarray:
        """All samples in memory; of a long file take slices of `samples`."""
        return self.samples[:]

    @property
    def size(self) -> int:
        """Samples of a window."""
        return round(self.settings.clip_seconds * self.settings.sample_rate)

    @property
    def valid_seconds(self) -> pd.Series:
        """Seconds that each piece holds: what its answer counts for."""
        return (self.pieces["stop"] - self.pieces["start"]) / self.settings.sample_rate

    @property
    def edges(self) -> np.ndarray:
        """Where one window after the other begins, and the end of the file (seconds).

        What lies between two of them lies in one window, also what is left behind the last.
        """
        count = len(self.samples)
        step = step_of(self.size, self.overlap)
        left = min(step, self.size - step) // 2
        inner = np.arange(0, max(1, count - left), step)
        return np.append(inner, count) / self.settings.sample_rate

    def clips(self) -> Iterator[np.ndarray]:
        """The pieces one by one, filled up as in training: float32 [clip_samples] each."""
        for piece in self.pieces.itertuples():
            levelled = self.samples[piece.start : piece.stop] * float(piece.gain)
            yield fill(levelled, self.size, self.settings.short_clips)


def whole(source: Decoded | recording.Mono, config, overlap: float = OVERLAP) -> Whole:
    """A recording from its first sample to its last, cleaned and in windows.

    Windows lie half over each other, or as `overlap` says, and the last one ends with the file.
    Those without sound have no piece, and nothing is said of them.
    Args: source of `recording.read` or `decoder.decode`; config; overlap, a share of a window.
    """
    rate = config.audio.sample_rate
    mono = source if isinstance(source, recording.Mono) else recording.read(source, rate)
    samples = clean.whole(mono.samples, rate, config.clean)
    count = len(samples)
    size = round(config.audio.clip_seconds * rate)
    step = step_of(size, overlap)
    shortest = min(round(config.clean.min_seconds * rate), size // 4)  # as in 02
    begins = np.array(window_starts(count, size, shortest, step))
    ends = np.append(begins[:-1] + size, count)
    windows = pd.DataFrame({"start_seconds": begins / rate, "end_seconds": ends / rate})
    pieces = _pieces(samples, begins, ends, shortest, rate, config.clean)
    nyquist_hz = min(rate, mono.sample_rate) / 2
    facts = (shortest / rate, config.audio, overlap, nyquist_hz)
    return Whole(samples, windows, pieces, *facts)


def step_of(size: int, overlap: float) -> int:
    """Samples from one window of `size` to the next. Raises ConfigError for no such overlap.

    >>> step_of(8000, 0.5), step_of(8000, 0)
    (4000, 8000)
    """
    if not 0 <= overlap <= MOST_OVERLAP:
        said = f"an overlap of {overlap:g}: it is a share of a window, from 0 to {MOST_OVERLAP}"
        raise errors.ConfigError(said)
    return max(1, int(size * (1 - overlap)))


def _pieces(samples, begins, ends, shortest, rate, rules):
    """What each window holds of each take: the PIECES.

    Less than `shortest` samples of a longer take are left to the windows that hold more of it.
    Args: samples; begins, ends of the windows in samples; shortest; rate in Hz; rules.
    """
    hop = clean.frame_size(rate)[1]
    sound = sound_frames(samples, rate, rules)
    pause = round(APART * (ends[0] - begins[0]) / hop)
    shared = (ends[:-1] - begins[1:] >= shortest).all()  # what is so short lies in one window
    longest = ends[0] - begins[0]  # of the last window's rest
    rows = []
    for take, (first, last) in enumerate(takes(sound, pause)):
        gain = _gain(samples, first * hop, last * hop, rate, rules)
        held = sound[first:last].sum()
        in_one = held if shared else -(-held // 2)
        enough = max(1, min(shortest // hop, in_one))
        touched = (begins < last * hop) & (ends > first * hop)
        for window in np.flatnonzero(touched):
            begin = begins[window]
            end = ends[window]
            low = max(first, -(-begin // hop))
            high = min(last, -(-end // hop))
            frames = low + np.flatnonzero(sound[low:high])
            if len(frames) >= enough:
                part = _part(frames[0] * hop, (frames[-1] + 1) * hop, begin, end, rate, longest)
                rows.append((window, take, *part, gain))
    values = np.array(sorted(rows), dtype=float).reshape(-1, len(PIECES))
    columns = zip(PIECES.items(), values.T, strict=True)
    return pd.DataFrame({name: column.astype(kind) for (name, kind), column in columns})


def _part(start, stop, begin, end, rate, longest):
    """A sound in a window: from when to when (seconds), and its samples with a little around, no
    more than `longest`.
    """
    keep = round(clean.KEEP_SECONDS * rate)
    times = (max(start, begin) / rate, min(stop, end) / rate)
    first = max(start - keep, begin)
    return *times, first, min(stop + keep, end, first + longest)


def _gain(samples, start, stop, rate, rules):
    """The gain of a take, which need not fit into memory."""
    keep = round(clean.KEEP_SECONDS * rate)
    start = max(0, start - keep)
    stop = min(stop + keep, len(samples))
    firsts = range(start, stop, BLOCK)
    parts = (samples[first : min(first + BLOCK, stop)] for first in firsts)
    peaks = np.array([np.abs(part).max() for part in parts])
    raised_db = rules.max_gain_db if rules.normalise else 0
    return clean.gain(peaks, rules.peak, raised_db)


def sound_frames(samples, sample_rate: int, rules: Clean) -> np.ndarray:
    """Which frames hold sound: above rules.silence_db, and within rules.trim_db of the loudest.

    What stays the same for a whole frame is no sound: without DC, a file with loud lopsided sounds
    has shifted silence. Where a click alone is so loud, it is no measure of the rest (as in
    `trim`).
    Args: samples float32 [samples] at the level of their file; rules the config's Clean section.
    Returns bool [frames], a frame per hop of `frame_size`.
    """
    frame, hop = clean.frame_size(sample_rate)
    level, moving = _levels(samples, frame, hop)
    sound = moving > 10 ** (rules.silence_db / 20)
    if rules.trim_db is None:
        return sound
    near = sound & (level > level.max() * 10 ** (-rules.trim_db / 20))
    is_click = near.sum() * hop < recording.CLICK_SECONDS * sample_rate
    return sound if is_click else near


def _levels(samples, frame, hop):
    """RMS of centred frames, as librosa.effects.trim takes it, and their deviation from their mean.

    Some frames at a time: neither their overlap nor the samples need fit into memory. Returns two
    of float32 [frames].
    """
    size = {"frame_length": frame, "hop_length": hop, "axis": 0}
    half = frame // 2
    count = 1 + (len(samples) + 2 * half - frame) // hop
    levels = []
    moving = []
    for first in range(0, count, FRAMES):
        start = first * hop - half
        stop = start + (min(FRAMES, count - first) - 1) * hop + frame
        part = samples[max(0, start) : stop]
        beyond = (max(0, -start), max(0, stop - len(samples)))
        silent = librosa.util.frame(np.pad(part, beyond), **size)
        continued = librosa.util.frame(np.pad(part, beyond, mode="edge"), **size)
        levels.append(np.sqrt(np.mean(np.square(silent), axis=1)))
        moving.append(continued.std(axis=1))
    return np.concatenate(levels), np.concatenate(moving)


def takes(sound: np.ndarray, pause: int) -> np.ndarray:
    """What lies between a recording's pauses: first frame of each take, and one after its last.

    Args: sound bool [frames]; pause frames without sound that divide. Returns int [takes, 2].

    >>> takes(np.array([0, 1, 0, 1, 0, 0, 0, 1, 1], dtype=bool), pause=3).tolist()
    [[1, 4], [7, 9]]
    """
    frames = np.flatnonzero(sound)
    gaps = np.diff(frames)
    ends = np.flatnonzero(gaps > pause)
    firsts = np.concatenate([frames[:1], frames[ends + 1]])
    lasts = np.concatenate([frames[ends], frames[-1:]])
    return np.stack([firsts, lasts + 1], axis=1)


def window_starts(n_samples: int, size: int, slack: int, step: int) -> list[int]:
    """First samples of the windows of a file, one every `step`; the last one ends with the file.

    A rest of less than `slack` samples gets no window of its own (codecs add some milliseconds).

    >>> window_starts(900, 400, 0, 200), window_starts(805, 400, 10, 200)
    ([0, 200, 400, 500], [0, 200, 400])
    """
    last = max(0, n_samples - size)
    starts = list(range(0, last + 1, step))
    return [*starts, last] if last - starts[-1] > slack else starts


# --- on disk


def write_clips(judged: pd.DataFrame, root, config, folder) -> pd.DataFrame:
    """Clean and cut every used recording; write its clips to `folder`/<split>/<label>/ as FLAC.

    A test recording loses nothing: it is heard as a file in use is (`whole`), or with
    audio.test_windows in all its windows, end to end. Its times are those of the file.
    Args: judged table of `judge`; root data folder; config; folder that is written to.
    Returns a table: clip_id, recording_id, start_seconds, valid_seconds, label, split, path
        ("clips/…").
    """
    used = judged[judged["status"].eq("used")]
    write = functools.partial(_write_recording, root=root, config=config, folder=Path(folder))
    rows = []
    for written in work.in_threads(write, list(used.itertuples()), "clean and cut"):
        rows += written
    return pd.DataFrame(rows, columns=CLIPS)


def _write_recording(row, root, config, folder):
    rows = []
    place = Path(row.split, targets.folder_name(row.label))
    (folder / place).mkdir(parents=True, exist_ok=True)
    for number, (start, valid, clip) in enumerate(_clips_of(row, Path(root) / row.path, config)):
        clip_id = f"{row.recording_id}-{number:03d}"
        path = place / f"{clip_id}.flac"
        recording.write(folder / path, clip, config.audio.sample_rate)
        where = f"clips/{path.as_posix()}"
        rows.append((clip_id, row.recording_id, start, valid, row.label, row.split, where))
    return rows


def _clips_of(row, path, config) -> Iterable:
    """The clips of a recording as `cut` gives them."""
    return test_clips(path, config) if row.split == "test" else clips_of(path, config)


def test_clips(source: str | Path | Decoded, config) -> Iterable:
    """The clips of a test recording, of which nothing is lost: as `cut` gives them.

    Raises AudioIssue.
    """
    if config.audio.test_windows:
        return clips_of(source, config, every=True)
    rate = config.audio.sample_rate
    heard = whole(recording.read(source, rate, config.audio.max_seconds), config)
    if heard.pieces.empty:  # what is left of it after the high-pass, say, is silent
        return clips_of(source, config)
    starts = heard.windows["start_seconds"][heard.pieces["window"]].round(4)
    return zip(starts, heard.valid_seconds.round(4), heard.clips(), strict=True)
