"""Quality rules, then trim, denoise, normalise and cut into clips.

A recording passes here once: mono, resampled, DC removed, optionally high-passed, silence trimmed, optionally denoised,
brought to one peak, cut. What breaks a rule is set aside with a code and a reason before any of that.

A recording to learn from is trimmed and cut end to end (`cut`). One to be answered for is heard from
its first sample to its last, in the time of its file (`whole`), as what training would have made of it.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import librosa
import noisereduce
import numpy as np
import pandas as pd
import scipy.signal

from helpers import artifacts, audio, targets

PAUSE_DB = -80.0  # dBFS after normalising; a piece below this holds no sound
FRAME_SECONDS = 0.032  # levels are taken over frames of this length
NOISE_SAMPLES = 4096  # fewer are no sample of the noise
GATE = {"n_fft": 1024, "hop_length": 256, "chunk_size": 600000}  # samples; noisereduce's own frames and pieces
GATE_PADDING = 30000  # samples that it adds on either side; where its frames lie follows from it
SLACK_SECONDS = 1e-3  # a rest so short is rounding, and no window
VISIBLE = {"DC removed": 0.01, "silence trimmed": 0.1}  # full scales, seconds: less is not seen
VISIBLE_SHARE = 0.1  # of the RMS: what any other step must change to be seen
SHOWN_SECONDS = 30.0  # no longer recording is shown as an example, if there are others
KEEP_SECONDS = 0.05  # left on either side of a sound when its edges are cut
APART = 0.5  # of a window: a pause so long divides a file
BLOCK = 1 << 12  # frames whose levels are taken at a time
RULES = ("SILENT", "TOO_SHORT", "DUP_LABEL_CONFLICT", "DUP_SAME_LABEL")  # codes that `judge` gives


class TooManyBad(ValueError):
    """Too few usable recordings are left; the message is a table by reason."""


class ShapeError(ValueError):
    """A waveform that is not mono, [samples]: channels last would be read as thousands of channels."""


def judge(recordings, config, pairs=None):
    """Apply the quality rules to the surveyed recordings.

    Args: recordings table as in recordings.csv; config; pairs of near duplicates (recording_id, other_id), or None.
    Returns a copy whose status is "used", "quarantined" or "ignored", with code and reason. Near duplicates that stay
    carry the flag DUP_NEAR. Raises TooManyBad.
    """
    table = recordings.copy()
    table["code"] = table["reason"].where(table["status"].eq("quarantined"), "").str.partition(":")[0]
    judged = broken_rules(table["duration_seconds"], table["loudest_db"], config.clean)
    for code, reason, broken in judged:
        _set_aside(table, broken, code, reason)
    others = rivals(table, pairs)
    reasons = "the same sound lies under another label: " + others + "; listen and keep one"
    _set_aside(table, others.ne(""), "DUP_LABEL_CONFLICT", reasons)
    kept = kept_twins(table)
    _set_aside(table, kept.ne(""), "DUP_SAME_LABEL", "the same samples as " + kept + ", which is kept")
    table.loc[table["status"].eq("ok"), "status"] = "used"
    check_enough(table, config.data.max_bad_fraction)
    return _flag_near(table, pairs)


def broken_rules(duration_seconds, loudest_db, rules):
    """What may be used, and what may not: a list of (code, reason, whether the rule is broken).

    Args: duration_seconds, loudest_db of a recording (the level of its loudest 20 ms), or a Series
        of each; rules the config's Clean section.

    >>> from helpers.settings import Clean
    >>> [code for code, _, broken in broken_rules(3.0, -90.0, Clean()) if broken]
    ['SILENT']
    """
    short, silent = duration_seconds < rules.min_seconds, loudest_db < rules.silence_db
    return [
        ("TOO_SHORT", f"shorter than {rules.min_seconds:g} s", short),
        ("SILENT", f"never louder than {rules.silence_db:g} dBFS", silent),
    ]


def require_usable(decoded, rules):
    """Refuse a decoded recording that 02 would set aside.

    Raises AudioIssue with the rule's code and reason.
    """
    seconds = len(decoded.waveform) / decoded.sample_rate
    mono = audio.to_mono(decoded.waveform)[0]
    sound = mono - mono.mean(dtype=np.float64).astype(np.float32)
    loudest_db = audio.level_db(audio.frame_levels(sound, decoded.sample_rate).max(keepdims=True))
    facts = f"it lasts {seconds:.3g} s and reaches {loudest_db:.0f} dBFS"
    for code, reason, broken in broken_rules(seconds, loudest_db, rules):
        if broken:
            raise audio.AudioIssue(code, f"{reason}: {facts}")


def _set_aside(table, broken, code, reason):
    rows = table["status"].eq("ok") & broken.fillna(False).astype(bool)
    table.loc[rows, ["status", "code"]] = "quarantined", code
    table.loc[rows, "reason"] = f"{code}: " + (reason if isinstance(reason, str) else reason[rows])


def rivals(table, pairs=None):
    """Paths of the training recordings that hold a training recording's sound under another label, "" if none.

    Args: table of surveyed recordings; pairs of near duplicates, or None: then only the same samples count.
    Returns a Series of text.
    """
    train = table[table["status"].eq("ok") & table["split"].eq("train")]
    samples = train["pcm_sha256"].where(train["pcm_sha256"].ne(""), train["path"])
    sound = dict(zip(train["recording_id"], samples, strict=True))
    alike, members = {name: {name} for name in sound.values()}, {}
    for row in train.itertuples():
        members.setdefault(sound[row.recording_id], []).append((row.path, row.label))
    for one, other in pairs[["recording_id", "other_id"]].to_numpy() if pairs is not None else ():
        if one in sound and other in sound:
            alike[sound[one]].add(sound[other])
            alike[sound[other]].add(sound[one])
    found = {
        row.recording_id: sorted(
            path for name in alike[sound[row.recording_id]] for path, label in members[name] if label != row.label
        )
        for row in train.itertuples()
    }
    return table["recording_id"].map(lambda identity: ", ".join(found.get(identity, ())))


def kept_twins(table):
    """Path of the training recording with the same samples and label that is kept, the first one; "" for all others: a
    Series of text."""
    train = table[table["status"].eq("ok") & table["split"].eq("train") & table["pcm_sha256"].ne("")]
    first = train.groupby(["pcm_sha256", "label"])["path"].transform("min")
    return first.where(first.ne(train["path"]), "").reindex(table.index, fill_value="")


def _flag_near(table, pairs):
    """Flag near duplicates of which both are used: they stay together in the split."""
    if pairs is None:
        return table
    used = set(table.loc[table["status"].eq("used"), "recording_id"])
    both = pairs["recording_id"].isin(used) & pairs["other_id"].isin(used)
    near = table["recording_id"].isin([*pairs.loc[both, "recording_id"], *pairs.loc[both, "other_id"]])
    table.loc[near, "flags"] = (table.loc[near, "flags"] + " DUP_NEAR").str.strip()
    return table


def check_enough(table, limit):
    """Stop where more than the share `limit` of recordings is set aside, or fewer than two classes are left.

    A second copy of a recording that is kept is no bad recording.
    """
    considered = table["status"].ne("ignored") & ~table["reason"].str.startswith("DUP_SAME_LABEL")
    bad = table["status"].eq("quarantined") & considered
    kept = table.loc[table["split"].eq("train") & table["status"].isin(["ok", "used"]), "label"]
    classes = kept.map(targets.split).explode().nunique()
    if bad.sum() > limit * considered.sum() or classes < 2:
        reasons = table.loc[bad, "reason"].str.partition(":")[0].value_counts().to_string()
        raise TooManyBad(
            f"{bad.sum()} of {considered.sum()} recordings cannot be used, {classes} classes are left "
            f"(data.max_bad_fraction allows {limit:.0%}):\n{reasons}\n"
            "See recordings.csv and quarantine.csv for each file; raise data.max_bad_fraction to go on without them."
        )


# --- one recording -----------------------------------------------------------------------------------------


def clean(waveform, sample_rate, rules):
    """Remove DC, high-pass if asked, trim silence, denoise if asked, bring the peak to `rules.peak`.

    Args: waveform mono float32 [samples]; sample_rate in Hz; rules the config's Clean section.
    Returns float32 [samples'], samples' <= samples; all zeros for a silent recording. Raises ShapeError.
    """
    return steps(waveform, sample_rate, rules)[-1][1]


def steps(waveform, sample_rate, rules):
    """What `clean` does, one step after the other: a list of (name, waveform after it)."""
    _require_mono(waveform)
    done = [("DC removed", waveform - waveform.mean(dtype=np.float64).astype(np.float32))]
    if rules.high_pass_hz is not None:
        done.append(("high-pass filtered", high_pass(done[-1][1], sample_rate, rules.high_pass_hz)))
    if rules.trim_db is not None:
        done.append(("silence trimmed", trim(done[-1][1], sample_rate, rules.trim_db)))
    if rules.denoise:
        done.append(("noise reduced", denoise(done[-1][1], sample_rate)))
    if rules.normalise:
        return [*done, ("peak normalised", normalise(done[-1][1], rules.peak, rules.max_gain_db))]
    return [*done, ("peak limited", normalise(done[-1][1], rules.peak, max_gain_db=0))]


def effects(raw: np.ndarray, done: list, sample_rate: int) -> dict[str, float]:
    """How much each of `steps` changed: full scales of offset, seconds cut, or a share of the RMS.

    Args: raw waveform [samples]; done of `steps`; sample_rate in Hz. Returns {name: 0 or more}.
    """
    changes = {}
    before = raw
    for name, after in done:
        if name == "silence trimmed":
            changes[name] = (len(before) - len(after)) / sample_rate
        elif name == "DC removed":
            changes[name] = _rms(after - before)
        else:
            changes[name] = _rms(after - before) / max(_rms(before), 1e-9)
        before = after
    return changes


def _rms(waveform):
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))) if len(waveform) else 0.0


class Shown(NamedTuple):
    """A recording on which cleaning can be seen and heard."""

    row: NamedTuple  # of recordings.csv
    raw: np.ndarray  # as found, mono, at the config's rate
    done: list  # of `steps`
    changes: dict  # of `effects`

    @property
    def acting(self) -> list[str]:
        """The steps that change enough to be seen."""
        least = {name: VISIBLE.get(name, VISIBLE_SHARE) for name in self.changes}
        return [name for name, change in self.changes.items() if change >= least[name]]


def telling(used: pd.DataFrame, root, config, count: int = 15) -> list[Shown]:
    """Training recordings on which one sees and hears what cleaning does, chosen by measuring it.

    The first one shows as many steps as any; then, for each step that it does not show, the one on
    which that step does the most, if that can be seen at all. Only the likeliest are tried: `count`
    each by the offset and by the silence that 01 has measured, none longer than SHOWN_SECONDS where
    there are shorter ones.
    """
    train = used[used["split"].eq("train")].sort_values("duration_seconds", kind="stable")
    short = train[train["duration_seconds"].le(SHOWN_SECONDS)]
    train = short if len(short) else train.head(count)
    measured = ("dc_offset", "leading_silence_seconds", "silence_fraction")
    ranked = [train.sort_values(name, key=abs, kind="stable").tail(count) for name in measured]
    rows = list(pd.concat(ranked).drop_duplicates("recording_id").itertuples())
    look = functools.partial(_shown, root=root, config=config)
    tried = list(artifacts.in_threads(look, rows, "look for an example"))
    chosen = [max(tried, key=lambda one: (len(one.acting), min(one.changes.values())))]
    for name in chosen[0].changes:
        most = max(tried, key=lambda one, name=name: one.changes[name])
        if name in most.acting and not any(name in one.acting for one in chosen):
            chosen.append(most)
    return chosen


def acting_in_words(shown: list[Shown]) -> str:
    """What can be seen on each recording of `telling`, and which steps none of them shows."""
    lines, seen = [], set()
    for one in shown:
        acting = ", ".join(one.acting) or "no step"
        lines.append(f"{targets.in_words(one.row.label)}, {one.row.path}: {acting}")
        seen.update(one.acting)
    unseen = [step for step in shown[0].changes if step not in seen]
    lines.append(f"Shown by no recording that was tried: {', '.join(unseen) or 'none'}")
    return "\n".join(lines)


def _shown(row, root, config):
    rate = config.audio.sample_rate
    raw = audio.load(Path(root) / row.path, rate, config.audio.max_seconds)
    done = steps(raw, rate, config.clean)
    return Shown(row, raw, done, effects(raw, done, rate))


def _require_mono(waveform):
    if waveform.ndim != 1:
        raise ShapeError(f"expected a mono waveform [samples], got shape {waveform.shape}; see audio.to_mono")


def high_pass(waveform, sample_rate, cutoff_hz):
    """Take out what lies below `cutoff_hz`, without a shift in time (Butterworth, forwards and backwards: -6 dB there,
    48 dB per octave below). Raises ValueError where the cutoff is not below half the sample rate.
    """
    if not cutoff_hz < sample_rate / 2:
        raise ValueError(f"clean.high_pass_hz is {cutoff_hz:g}; it must be below half of {sample_rate} Hz")
    sections = scipy.signal.butter(4, cutoff_hz, "highpass", fs=sample_rate, output="sos")
    edge = min(len(waveform) - 1, round(3 * sample_rate / cutoff_hz))  # samples mirrored at either end
    return scipy.signal.sosfiltfilt(sections, waveform.astype(np.float64), padlen=max(0, edge)).astype(np.float32)


def trim(waveform, sample_rate, top_db, keep_seconds=KEEP_SECONDS):
    """Cut the edges that stay `top_db` below the loudest frame, keeping a little on each side.

    A recording of which next to nothing would be left (a click in near silence) is returned whole.
    """
    start, stop = edges(waveform, sample_rate, top_db, keep_seconds)
    return waveform[start:stop]


def edges(
    waveform: np.ndarray,
    sample_rate: int,
    top_db: float,
    keep_seconds: float = KEEP_SECONDS,
) -> tuple[int, int]:
    """First sample that `trim` keeps, and the first one behind those that it keeps."""
    frame, hop = frame_size(sample_rate)
    _, (start, stop) = librosa.effects.trim(waveform, top_db=top_db, frame_length=frame, hop_length=hop)
    if stop - start < audio.CLICK_SECONDS * sample_rate:
        return 0, len(waveform)
    keep = round(keep_seconds * sample_rate)
    return max(0, start - keep), min(len(waveform), stop + keep)


def frame_size(sample_rate):
    """The frames whose levels say where there is sound: their length, and from one to the next.

    Returns (samples, samples).
    """
    frame = max(4, round(FRAME_SECONDS * sample_rate))
    return frame, frame // 4


def denoise(waveform, sample_rate):
    """Spectral gating (noisereduce, Sainburg 2020, doi:10.1371/journal.pcbi.1008228).

    The noise is learned from the recording's own quietest moments, digital silence apart, and lowered by 14 dB at
    most: what was there can still be heard. Recordings too short for this are returned as they are.
    """
    _require_mono(waveform)
    noise = quietest(waveform, sample_rate)
    if len(noise) < NOISE_SAMPLES:
        return waveform
    options = {"stationary": True, "y_noise": noise, "prop_decrease": 0.8}
    options["padding"] = gate_padding(len(waveform), sample_rate)
    return noisereduce.reduce_noise(y=waveform, sr=sample_rate, **GATE, **options).astype(np.float32)


def gate_padding(n_samples, sample_rate, smooth_seconds=0.05):
    """As little silence around a waveform as leaves noisereduce's frames, and what it makes of them, where they are.

    Its own choice is 3.75 s at 16 kHz. What it takes in pieces has sound around them, and keeps that choice.
    """
    reach = GATE["n_fft"] + GATE["hop_length"] + round(smooth_seconds * sample_rate)
    whole = n_samples <= GATE["chunk_size"]
    return min(GATE_PADDING, reach + (GATE_PADDING - reach) % GATE["hop_length"]) if whole else GATE_PADDING


def quietest(waveform, sample_rate, share=0.2):
    """The quietest frames of a waveform, end to end, digital silence left out: float32 [samples]."""
    size = round(FRAME_SECONDS * sample_rate)
    frames = waveform[: len(waveform) // size * size].reshape(-1, size)
    level = np.sqrt(np.mean(np.square(frames), axis=1))
    frames, level = frames[level > 1e-5], level[level > 1e-5]
    count = max(round(share * len(frames)), -(-NOISE_SAMPLES // size))
    return frames[np.sort(np.argsort(level, kind="stable")[:count])].reshape(-1)


def normalise(waveform, peak=0.99, max_gain_db=np.inf):
    """Scale to the given peak, raising by at most `max_gain_db`; silence stays silence.

    >>> normalise(np.array([0.0, -0.5], dtype=np.float32)).tolist()
    [0.0, -0.9900000095367432]
    """
    return (waveform * gain(waveform, peak, max_gain_db)).astype(np.float32)


def gain(waveform, peak=0.99, max_gain_db=np.inf):
    """The factor that brings a waveform to the given peak, at most `max_gain_db`; 0 for silence."""
    loudest = float(np.abs(waveform).max(initial=0))
    return min(peak / loudest, 10 ** (max_gain_db / 20)) if loudest > 1e-9 else 0.0


def starts(n_samples, clip_samples, min_last_fraction):
    """First samples of the clips that a recording is cut into, end to end.

    The last piece is kept if it fills `min_last_fraction` of a clip; a recording always gives one clip.

    >>> starts(250, 100, 0.5), starts(240, 100, 0.5), starts(30, 100, 0.5)
    ([0, 100, 200], [0, 100], [0])
    """
    whole = range(0, max(1, n_samples), clip_samples)
    return [start for start in whole if start == 0 or n_samples - start >= min_last_fraction * clip_samples]


def fill(piece, clip_samples, how):
    """Bring a piece to the clip's length: zeros behind it (`pad`), or the piece again and again (`loop`)."""
    if how == "loop":
        return np.resize(piece, clip_samples)
    return np.pad(piece[:clip_samples], (0, max(0, clip_samples - len(piece))))


def cut(waveform, settings, every=False):
    """Cut a cleaned waveform into clips.

    Args: waveform float32 [samples] at settings.sample_rate; settings the config's Audio section; every keeps all
        windows, also silent and partial ones: as many as the duration in clips, rounded up.
    A piece without sound (a long pause) gives no clip otherwise, but a recording always gives one.
    Returns a list of (start_seconds, valid_seconds, clip float32 [clip_samples]).
    """
    size, rate = round(settings.clip_seconds * settings.sample_rate), settings.sample_rate
    first = starts(len(waveform), size, SLACK_SECONDS * rate / size if every else settings.min_last_fraction)
    pieces = [(start, waveform[start : start + size]) for start in first]
    heard = [
        (start, piece)
        for start, piece in pieces
        if every or (len(piece) and audio.level_db(piece - piece.mean()) > PAUSE_DB)
    ]
    return [
        (round(start / rate, 4), round(len(piece) / rate, 4), fill(piece, size, settings.short_clips))
        for start, piece in heard or pieces[:1]
    ]


def load_clean(path, config, whole=False):
    """A recording from its file to its cleaned waveform: float32 [samples] at the config's rate.

    Args: path; config; whole leaves its edges as they are, so that times count from the beginning of the file.
    Raises AudioIssue.
    """
    rules = config.clean.model_copy(update={"trim_db": None}) if whole else config.clean
    rate = config.audio.sample_rate
    return clean(audio.load(path, rate, config.audio.max_seconds), rate, rules)


# --- a whole file ------------------------------------------------------------------------------------------


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
    mono = audio.to_mono(decoded.waveform)[0]
    waveform = audio.resample(mono, decoded.sample_rate, rate)
    waveform = waveform if len(waveform) else mono[:1]
    *_, (_, before_peak), _ = steps(waveform, rate, rules.model_copy(update={"trim_db": None}))
    return in_windows(before_peak, config.audio, rules)


def in_windows(waveform, settings, rules):
    """The windows of a waveform that is cleaned but for its edges and its peak: a Whole."""
    rate = settings.sample_rate
    size = round(settings.clip_seconds * rate)
    hop, keep = frame_size(rate)[1], round(KEEP_SECONDS * rate)
    sound = sound_frames(waveform, rate, rules)
    found = takes(sound, round(APART * size / hop))
    shortest = min(round(rules.min_seconds * rate), size // 4)  # less can tell nothing, here as in 02
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
    """Which frames hold sound: louder than rules.silence_db, and within rules.trim_db of the loudest.

    What stays the same for a whole frame is no sound: without DC, a file with loud lopsided sounds
    has shifted silence. Where a click alone is so loud, it is no measure of the rest (as in `trim`).
    Args: waveform float32 [samples] at the level of its file; rules the config's Clean section.
    Returns bool [frames], a frame per hop of `frame_size`.
    """
    level, moving = _levels(waveform, *frame_size(sample_rate))
    sound = moving > 10 ** (rules.silence_db / 20)
    if rules.trim_db is None:
        return sound
    near = sound & (level > level.max() * 10 ** (-rules.trim_db / 20))
    is_click = near.sum() * frame_size(sample_rate)[1] < audio.CLICK_SECONDS * sample_rate
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
    """What lies between the pauses of a recording: first frame of each take, and one after its last.

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
    """What each window holds of each take: window, take, first frame with sound, one after the last.

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
    return gain(waveform[max(0, begin) : end], rules.peak, raised_db)


def quarantine_table(judged):
    """The rows of quarantine.csv: every recording that is set aside, with its reason."""
    return judged[judged["status"].eq("quarantined")].assign(stage=lambda table: stage_of(table["code"]))


def stage_of(codes):
    """Which stage found each problem: unreadable files in 01, broken rules in 02."""
    return pd.Series(np.where(codes.isin(RULES), "02_clean", "01_explore"), codes.index)


def write_clips(judged, root, config, folder):
    """Clean and cut every used recording, write its clips as FLAC below `folder`/<split>/<label>/.

    A test recording loses nothing: it is heard as a file in use is (`whole`), or with
    audio.test_windows in all its windows, end to end. Its times are those of the file.
    Args: judged table of `judge`; root data folder; config; folder that is written to.
    Returns a table: clip_id, recording_id, start_seconds, valid_seconds, label, split, path ("clips/…").
    """
    used = judged[judged["status"].eq("used")]
    write = functools.partial(_write_recording, root=root, config=config, folder=Path(folder))
    rows = [row for rows in artifacts.in_threads(write, list(used.itertuples()), "clean and cut") for row in rows]
    return pd.DataFrame(
        rows, columns=["clip_id", "recording_id", "start_seconds", "valid_seconds", "label", "split", "path"]
    )


def _write_recording(row, root, config, folder):
    rows = []
    clips = _clips_of(row, Path(root) / row.path, config)
    for number, (start_seconds, valid_seconds, clip) in enumerate(clips):
        clip_id = f"{row.recording_id}-{number:03d}"
        path = Path(row.split, targets.folder_name(row.label), f"{clip_id}.flac")
        (folder / path.parent).mkdir(parents=True, exist_ok=True)
        audio.write(folder / path, clip, config.audio.sample_rate)
        rows.append(
            (clip_id, row.recording_id, start_seconds, valid_seconds, row.label, row.split, f"clips/{path.as_posix()}")
        )
    return rows


def _clips_of(row, path, config):
    """The clips of a recording as `cut` gives them."""
    if row.split != "test":
        return cut(load_clean(path, config), config.audio)
    if config.audio.test_windows:
        return cut(load_clean(path, config, whole=True), config.audio, every=True)
    heard = whole(audio.decode(path, config.audio.max_seconds), config)
    if heard.pieces.empty:  # what is left of it after the high-pass, say, is silent
        return cut(load_clean(path, config), config.audio)
    starts = heard.windows["start_seconds"][heard.pieces["window"]].round(4)
    return zip(starts, heard.valid_seconds.round(4), heard.clips(), strict=True)
