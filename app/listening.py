"""A sound for the app: decoded, checked by the run's own rules, scored window by window.

torch and the rest are imported when a sound is to be scored, so that the page is there at once.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from app import charts

LEGAL_RATES = (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000)  # Hz, what the recorder can be asked for


@dataclass(frozen=True)
class Scored:
    """A recording as the model heard it: waveform at the model's rate, a row per window, a line of facts."""

    waveform: object
    windows: pd.DataFrame
    facts: str


def recorder_rate(sample_rate):
    """The rate to record at: the model's, or the next higher one that the recorder knows.

    >>> recorder_rate(22050), recorder_rate(20000), recorder_rate(96000)
    (22050, 22050, 48000)
    """
    return next((rate for rate in LEGAL_RATES if rate >= sample_rate), LEGAL_RATES[-1])


def score(data, bundle):
    """Decode, clean and score the bytes of a file of any name. Raises AudioIssue for what cannot be used."""
    from helpers import audio, clean

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording"  # what it is, its first bytes say
        try:
            path.write_bytes(data)
            decoded = audio.decode(path, bundle.config.audio.max_seconds)
            check(decoded, bundle.config.clean)
            waveform = clean.load_clean(path, bundle.config)
            return Scored(waveform, bundle.windows(waveform), facts(decoded, waveform, bundle.config))
        except (MemoryError, OSError):
            raise audio.AudioIssue("TOO_LARGE", f"a file of {len(data) / 1e6:.0f} MB") from None


def check(decoded, rules):
    """Refuse what the run's own quality rules would have set aside. Raises AudioIssue."""
    from helpers import audio

    seconds, mono = len(decoded.waveform) / decoded.sample_rate, audio.to_mono(decoded.waveform)[0]
    if seconds < rules.min_seconds:
        raise audio.AudioIssue("TOO_SHORT", f"{seconds:.3f} s; at least {rules.min_seconds:g} s (clean.min_seconds)")
    if (level := audio.level_db(mono - mono.mean())) < rules.silence_db:
        raise audio.AudioIssue("SILENT", f"{level:.0f} dBFS; at least {rules.silence_db:g} (clean.silence_db)")


def facts(decoded, waveform, config):
    """One line: what came in, and what the model was given of it."""
    rate, channels = decoded.sample_rate, decoded.waveform.shape[1]
    seconds, left = len(decoded.waveform) / rate, len(waveform) / config.audio.sample_rate
    form = {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")
    trimmed = f", {seconds - left:.1f} s of silent edges cut" if seconds - left > 0.05 else ""
    given = f"heard as {config.audio.sample_rate / 1000:g} kHz mono{trimmed}"
    return f"{decoded.codec.split('/')[0]} · {charts.clock(seconds)} · {rate / 1000:g} kHz · {form} → {given}"


def heard(probabilities, bundle):
    """The classes that count as heard: the most probable one, or with several labels all that reach their thresholds.

    Args: probabilities Series by class, highest first. Returns an Index of classes.
    """
    names = probabilities.index
    return names[probabilities >= bundle.thresholds[names]] if bundle.multilabel else names[:1]


def tally(windows, bundle):
    """In how many windows each class counts as heard: a Series, most frequent first, classes of none left out."""
    rows = (row.sort_values(ascending=False) for _, row in windows[bundle.labels].iterrows())
    return pd.Series([name for row in rows for name in heard(row, bundle)], dtype=object).value_counts()


def doubt(windows):
    """Words before an answer of less than even odds: unsure, or sure of each window but not of the same class.

    >>> doubt(pd.DataFrame({"dog": [0.9, 0.1], "rain": [0.0, 0.8]}).iloc[:1])
    ''
    >>> doubt(pd.DataFrame({"dog": [0.9, 0.0, 0.1], "rain": [0.0, 0.8, 0.1], "sea": [0.1, 0.2, 0.8]}))
    'Changing, most of all '
    """
    if windows.mean().max() >= 0.5:
        return ""
    return "Changing, most of all " if windows.max(axis=1).median() >= 0.5 else "Unsure, perhaps "
