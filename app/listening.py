"""A sound for the app: decoded, and heard by the run's networks from end to end, as `make predict`
does it.

torch and the rest are imported when a sound is to be scored, so that the page is there at once.
"""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from app import charts

LEGAL_RATES = (
    8000,
    11025,
    16000,
    22050,
    24000,
    32000,
    44100,
    48000,
)  # Hz, what the recorder can be asked for


@dataclass(frozen=True)
class Scored:
    """A recording as the model heard it: waveform at the model's rate, what was heard of it, a line
    of facts; parts of it as the page has shown them, by their first second.
    """

    waveform: object
    heard: object
    facts: str
    parts: dict = field(default_factory=dict)


def ready(folder):
    """The networks of a run, and all that an answer needs imported and tried once.

    It is called in a thread as soon as the page is there, so that the first answer is quick.
    """
    import numpy as np

    from app import player
    from helpers.audio.decoder import Decoded
    from helpers.compare import inference

    bundle = inference.Bundle(folder)
    rate = bundle.config.audio.sample_rate
    noise = np.random.default_rng(0).normal(0, 0.1, (2 * rate, 1)).astype(np.float32)
    heard = bundle.hear(Decoded(noise, rate, "WAV", 16))
    player.part(heard.heard.waveform, bundle.config)
    heard.files()
    return bundle


def recorder_rate(sample_rate):
    """The rate to record at: the model's, or the next higher one that the recorder knows.

    >>> recorder_rate(22050), recorder_rate(20000), recorder_rate(96000)
    (22050, 22050, 48000)
    """
    return next((rate for rate in LEGAL_RATES if rate >= sample_rate), LEGAL_RATES[-1])


def score(data, bundle, **how):
    """Decode, clean and score the bytes of a file of any name.

    Args: data; bundle; overlap and threshold as of `Bundle.hear`. Raises AudioIssue for what cannot
    be used.
    """
    from helpers.audio import clean, decoder
    from helpers.base import errors

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording"  # what it is, its first bytes say
        try:
            path.write_bytes(data)
            decoded = decoder.decode(path, bundle.config.audio.max_seconds)
            heard = bundle.hear(decoded, **how)
            shown = clean.normalise(heard.heard.waveform, bundle.config.clean.peak)
            return Scored(shown, heard, facts(decoded, bundle.config))
        except (MemoryError, OSError):
            raise errors.AudioIssue("TOO_LARGE", f"a file of {len(data) / 1e6:.0f} MB") from None


def facts(decoded, config):
    """One line: what came in, and what the model was given of it."""
    rate, channels = decoded.sample_rate, decoded.waveform.shape[1]
    seconds = len(decoded.waveform) / rate
    form = {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")
    given = f"heard as {config.audio.sample_rate / 1000:g} kHz mono"
    return (
        f"{decoded.codec.split('/')[0]} · {charts.clock(seconds)} · {rate / 1000:g} kHz · "
        f"{form} → {given}"
    )


def counted(heard):
    """The classes that count as heard: the most probable one, or with several labels all that reach
    their thresholds; none that does not reach the threshold that was asked for.
    """
    said = heard.answer().index
    return said if heard.thresholds is not None else said[:1]


def doubt(overall, windows):
    """Words before an answer of less than even odds: unsure, or sure of each window but not of the
    same class.

    Args: overall probabilities of the recording; windows those over time, a row per window with
        sound.

    >>> import pandas as pd
    >>> columns = ["dog", "rain", "sea"]
    >>> unlike = pd.DataFrame([[0.9, 0.0, 0.1], [0.0, 0.8, 0.2], [0.1, 0.1, 0.8]], columns=columns)
    >>> doubt(unlike.loc[0], unlike), doubt(unlike.mean(), unlike), doubt(unlike.mean(), unlike / 2)
    ('', 'Changing, most of all ', 'Unsure, perhaps ')
    """
    if overall.max() >= 0.5:
        return ""
    return "Changing, most of all " if windows.max(axis=1).median() >= 0.5 else "Unsure, perhaps "
