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
CLIPS_HEARD = 48_000  # by a network in all its epochs, about
EPOCHS = (20, 150)
LARGE = 10_000  # clips; of larger sets the fewest epochs fall with the root of their size
KEYS = ("audio.clip_seconds", "features.hop_length", "train.epochs")


def settle(values, root, sample_rate):
    """Numbers for the keys that are `auto`.

    Clips are as long as nine of ten recordings, so that most fit in one; a hop gives a clip about FRAMES frames; epochs
    let a network hear about CLIPS_HEARD clips, and more of a large set. Where nothing can be measured the keys are left
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
    hop = _between(HOP_SECONDS, clip / FRAMES) * sample_rate
    clips = len(paths) * max(1.0, statistics.mean(seconds) / clip)
    chosen = {
        "audio.clip_seconds": round(clip, 1),
        "features.hop_length": 16 * round(hop / 16),
        "train.epochs": epochs(clips),
    }
    return {key: chosen[key] for key in wanted}


def is_size(value):
    """Whether a value is a number above 0, and not one without end.

    >>> [is_size(value) for value in (16000, 0.5, "16k", None, 0, float("nan"), float("inf"))]
    [True, True, False, False, False, False, False]
    """
    return isinstance(value, (int, float)) and 0 < value < math.inf


def epochs(clips):
    """How often a network hears a set of so many clips.

    >>> [epochs(clips) for clips in (100, 400, 2000, 10_000, 100_000)]
    [150, 120, 24, 20, 6]
    """
    fewest = EPOCHS[0] * min(1.0, (LARGE / clips) ** 0.5)
    return max(1, round(_between((fewest, EPOCHS[1]), CLIPS_HEARD / clips)))


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
