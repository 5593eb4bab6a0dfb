"""Settings that follow from the recordings where a preset says `auto`: clip length, hop, epochs.

Words want short clips and few samples between frames, scenes want long ones; a small set wants more passes than a large
one. What is chosen stands in the run's configuration as a number.
"""

import math
import statistics
from pathlib import Path

import soundfile

from helpers import layouts

AUTO = "auto"
LOOKED_AT = 200  # recordings whose header is read
CLIP_SECONDS = (0.5, 5.0)  # the shortest and the longest clip chosen
HOP_SECONDS = (0.01, 0.032)
FRAMES = 157  # of a clip, about
CLIPS_HEARD = 48_000  # of FRAMES by a network in all its epochs, about; of shorter clips more
EPOCHS = (20, 150)
LARGE = 10_000  # clips; of larger sets the fewest epochs fall with the root of their size
KEYS = ("audio.clip_seconds", "features.hop_length", "train.epochs")


def settle(values, root, sample_rate):
    """Numbers for the keys that are `auto`.

    Clips are as long as nine of ten recordings, so that most fit in one; a hop gives a clip about
    FRAMES frames; epochs are those of `epochs`. Where nothing can be measured the keys are left
    out: the defaults hold.

    Args: values {key: its value, perhaps AUTO} for KEYS; root folder of recordings or None; sample_rate in Hz.
    Returns {key: number} for the keys that were AUTO.
    """
    wanted = [key for key, value in values.items() if value == AUTO]
    paths = layouts.recordings(root) if wanted and root and Path(root).is_dir() else []
    seconds = durations([Path(root) / path for path in paths])
    if len(seconds) < 2:
        return {}
    longest = statistics.quantiles(seconds, n=10, method="inclusive")[-1]
    given = values["audio.clip_seconds"]
    clip = given if is_size(given) else _between(CLIP_SECONDS, -(-longest // 0.1) * 0.1)
    hop = _between(HOP_SECONDS, clip / FRAMES)
    clips = len(paths) * max(1.0, statistics.mean(seconds) / clip)
    chosen = {
        "audio.clip_seconds": round(clip, 1),
        "features.hop_length": 16 * round(hop * sample_rate / 16),
        "train.epochs": epochs(clips, frames=clip / hop),
    }
    return {key: chosen[key] for key in wanted}


def is_size(value):
    """Whether a value is a number above 0, and not one without end.

    >>> [is_size(value) for value in (16000, 0.5, "16k", None, 0, float("nan"), float("inf"))]
    [True, True, False, False, False, False, False]
    """
    return isinstance(value, (int, float)) and 0 < value < math.inf


def epochs(clips, frames=FRAMES):
    """How often a network hears a set of so many clips of so many frames.

    All sets cost about the same work, but for the smallest, which are heard EPOCHS[1] times, and
    the largest, which are heard EPOCHS[0] times or, above LARGE clips, fewer.

    >>> [epochs(clips) for clips in (100, 400, 2000, 10_000, 100_000)]
    [150, 120, 24, 20, 6]
    >>> [epochs(clips, frames=60) for clips in (500, 2000, 10_000)]  # of 0.6 s
    [150, 63, 20]
    """
    fewest = EPOCHS[0] * min(1.0, (LARGE / clips) ** 0.5)
    return max(1, round(_between((fewest, EPOCHS[1]), CLIPS_HEARD * FRAMES / frames / clips)))


def durations(paths):
    """Seconds of up to LOOKED_AT recordings, evenly spaced in the list; what soundfile cannot read is left out."""
    found = []
    for path in paths[:: -(-len(paths) // LOOKED_AT) or 1]:
        try:
            found.append(soundfile.info(path).duration)
        except (soundfile.LibsndfileError, OSError, UnicodeEncodeError):  # the last: a name that is not UTF-8
            continue
    return found


def _between(limits, value):
    return min(max(value, limits[0]), limits[1])
