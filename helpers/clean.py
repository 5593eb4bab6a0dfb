"""Quality rules, then trim, denoise, normalise and cut into clips.

A recording passes here once: DC removed, mono, resampled, silence trimmed, optionally denoised, brought to one
peak, cut. What breaks a rule is set aside with a code and a reason before any of that.
"""

from pathlib import Path

import joblib
import librosa
import noisereduce
import numpy as np
import pandas as pd

from helpers import artifacts, audio, targets

PAUSE_DB = -80.0  # dBFS after normalising; a piece below this holds no sound
FRAME_SECONDS = 0.032  # levels are taken over frames of this length
NOISE_SAMPLES = 4096  # fewer are no sample of the noise
CLICK_SECONDS = 0.15  # less than this is left by trimming only where the loudest moment is a click


class TooManyBad(ValueError):
    """Too few usable recordings are left; the message is a table by reason."""


def judge(recordings, config):
    """Apply the quality rules to the surveyed recordings.

    Args: recordings table as in recordings.csv; config.
    Returns a copy whose status is "used", "quarantined" or "ignored", with code and reason.
    Raises TooManyBad.
    """
    table = recordings.copy()
    table["code"] = table["reason"].where(table["status"].eq("quarantined"), "").str.partition(":")[0]
    rules = config.clean
    too_short, silent = table["duration_seconds"] < rules.min_seconds, table["rms_db"] < rules.silence_db
    _set_aside(table, too_short, "TOO_SHORT", f"shorter than {rules.min_seconds:g} s")
    _set_aside(table, silent, "SILENT", f"never louder than {rules.silence_db:g} dBFS")
    conflicting = conflicting_labels(table)
    _set_aside(table, conflicting, "DUP_LABEL_CONFLICT", "the same sound lies under two labels; listen and keep one")
    for samples, twins in table[conflicting].groupby("pcm_sha256"):
        table.loc[conflicting & table["pcm_sha256"].eq(samples), "reason"] += f" of {', '.join(twins['path'])}"
    table.loc[table["status"].eq("ok"), "status"] = "used"
    check_enough(table, config.data.max_bad_fraction)
    return table


def _set_aside(table, broken, code, reason):
    rows = table["status"].eq("ok") & broken.fillna(False).astype(bool)
    table.loc[rows, ["status", "code", "reason"]] = "quarantined", code, f"{code}: {reason}"


def conflicting_labels(table):
    """Which training recordings hold samples that also lie under another label: bool per row."""
    train = table["status"].eq("ok") & table["split"].eq("train")
    labels = table[train].groupby("pcm_sha256")["label"].nunique()
    return train & table["pcm_sha256"].isin(labels.index[labels > 1])


def check_enough(table, limit):
    """Stop where more than the share `limit` of recordings is set aside, or fewer than two classes are left."""
    bad, considered = table["status"].eq("quarantined"), table["status"].ne("ignored")
    kept = table.loc[table["split"].eq("train") & ~bad & considered, "label"]
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
    """Remove DC, trim silence, denoise if asked, bring the peak to `rules.peak`.

    Args: waveform mono float32 [samples]; sample_rate in Hz; rules the config's Clean section.
    Returns float32 [samples'], samples' <= samples; all zeros for a silent recording.
    """
    return steps(waveform, sample_rate, rules)[-1][1]


def steps(waveform, sample_rate, rules):
    """What `clean` does, one step after the other: a list of (name, waveform after it)."""
    done = [("DC removed", waveform - waveform.mean(dtype=np.float64).astype(np.float32))]
    if rules.trim_db is not None:
        done.append(("silence trimmed", trim(done[-1][1], sample_rate, rules.trim_db)))
    if rules.denoise:
        done.append(("noise reduced", denoise(done[-1][1], sample_rate)))
    return [*done, ("peak normalised", normalise(done[-1][1], rules.peak))]


def trim(waveform, sample_rate, top_db, keep_seconds=0.05):
    """Cut the edges that stay `top_db` below the loudest frame, keeping a little on each side.

    A recording of which next to nothing would be left (a click in near silence) is returned whole.
    """
    frame = max(4, round(FRAME_SECONDS * sample_rate))
    _, (start, stop) = librosa.effects.trim(waveform, top_db=top_db, frame_length=frame, hop_length=frame // 4)
    if stop - start < CLICK_SECONDS * sample_rate:
        return waveform
    keep = round(keep_seconds * sample_rate)
    return waveform[max(0, start - keep) : stop + keep]


def denoise(waveform, sample_rate):
    """Spectral gating (noisereduce, Sainburg 2020, doi:10.1371/journal.pcbi.1008228).

    The noise is learned from the recording's own quietest moments, digital silence apart, and lowered by 14 dB at
    most: what was there can still be heard. Recordings too short for this are returned as they are.
    """
    if waveform.ndim != 1:
        raise ValueError(f"denoise takes a mono waveform [samples], got shape {waveform.shape}")
    noise = quietest(waveform, sample_rate)
    if len(noise) < NOISE_SAMPLES:
        return waveform
    options = {"stationary": True, "y_noise": noise, "prop_decrease": 0.8}
    return noisereduce.reduce_noise(y=waveform, sr=sample_rate, **options).astype(np.float32)


def quietest(waveform, sample_rate, share=0.2):
    """The quietest frames of a waveform, end to end, digital silence left out: float32 [samples]."""
    size = round(FRAME_SECONDS * sample_rate)
    frames = waveform[: len(waveform) // size * size].reshape(-1, size)
    level = np.sqrt(np.mean(np.square(frames), axis=1))
    frames, level = frames[level > 1e-5], level[level > 1e-5]
    count = max(round(share * len(frames)), -(-NOISE_SAMPLES // size))
    return frames[np.sort(np.argsort(level, kind="stable")[:count])].reshape(-1)


def normalise(waveform, peak=0.99):
    """Scale to the given peak; silence stays silence.

    >>> normalise(np.array([0.0, -0.5], dtype=np.float32)).tolist()
    [0.0, -0.9900000095367432]
    """
    loudest = float(np.abs(waveform).max(initial=0))
    return (
        (waveform * (peak / loudest)).astype(np.float32)
        if loudest > 1e-9
        else np.zeros_like(waveform, dtype=np.float32)
    )


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


def cut(waveform, settings):
    """Cut a cleaned waveform into clips.

    Args: waveform float32 [samples] at settings.sample_rate; settings the config's Audio section.
    A piece without sound (a long pause) gives no clip, but a recording always gives one.
    Returns a list of (start_seconds, valid_seconds, clip float32 [clip_samples]).
    """
    size, rate = round(settings.clip_seconds * settings.sample_rate), settings.sample_rate
    first = starts(len(waveform), size, settings.min_last_fraction)
    pieces = [(start, waveform[start : start + size]) for start in first]
    heard = [
        (start, piece) for start, piece in pieces if len(piece) and audio.level_db(piece - piece.mean()) > PAUSE_DB
    ]
    return [
        (round(start / rate, 4), round(len(piece) / rate, 4), fill(piece, size, settings.short_clips))
        for start, piece in heard or pieces[:1]
    ]


def load_clean(path, config):
    """A recording from its file to its cleaned waveform: float32 [samples] at the config's rate. Raises AudioIssue."""
    return clean(
        audio.load(path, config.audio.sample_rate, config.audio.max_seconds), config.audio.sample_rate, config.clean
    )


def quarantine_table(judged):
    """The rows of quarantine.csv: every recording that is set aside, with its reason."""
    return judged[judged["status"].eq("quarantined")].assign(stage=lambda table: stage_of(table["code"]))


def stage_of(codes):
    """Which stage found each problem: unreadable files in 01, broken rules in 02."""
    return pd.Series(
        np.where(codes.isin(["SILENT", "TOO_SHORT", "DUP_LABEL_CONFLICT"]), "02_clean", "01_explore"), codes.index
    )


def write_clips(judged, root, config, folder):
    """Clean and cut every used recording, write its clips as FLAC below `folder`/<split>/<label>/.

    Args: judged table of `judge`; root data folder; config; folder that is written to.
    Returns a table: clip_id, recording_id, start_seconds, valid_seconds, label, split, path ("clips/…").
    """
    used = judged[judged["status"].eq("used")]
    jobs = (joblib.delayed(_write_recording)(row, root, config, Path(folder)) for row in used.itertuples())
    done = joblib.Parallel(n_jobs=-1, prefer="threads", return_as="generator")(jobs)
    rows = [row for rows in artifacts.progress(done, "clean and cut", len(used)) for row in rows]
    return pd.DataFrame(
        rows, columns=["clip_id", "recording_id", "start_seconds", "valid_seconds", "label", "split", "path"]
    )


def _write_recording(row, root, config, folder):
    waveform = load_clean(Path(root) / row.path, config)
    rows = []
    for number, (start_seconds, valid_seconds, clip) in enumerate(cut(waveform, config.audio)):
        clip_id = f"{row.recording_id}-{number:03d}"
        path = Path(row.split, targets.folder_name(row.label), f"{clip_id}.flac")
        (folder / path.parent).mkdir(parents=True, exist_ok=True)
        audio.write(folder / path, clip, config.audio.sample_rate)
        rows.append(
            (clip_id, row.recording_id, start_seconds, valid_seconds, row.label, row.split, f"clips/{path.as_posix()}")
        )
    return rows
