"""Sound events: how well what was heard agrees with what is there, in time.

Two questions of Mesaros et al. 2016 (doi:10.3390/app6060162), counted as their sed_eval does. By
segment: is a class active in the same seconds? By event: is there an event of the same class that
begins, and ends, at the same time? An event of either side is matched once at most.

Tables of events have a row each: filename, onset, offset (seconds), label.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy import ndarray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from helpers.metrics import evaluate, intervals

SEGMENT = 1.0  # seconds
COLLAR = 0.2  # seconds by which an onset or an offset may be off
SHARE = 0.5  # of an event's length, by which its offset may be off where that is more
ROUNDED = 1e-9
KINDS = ("segment", "event")


def counts(
    truth: pd.DataFrame, heard: pd.DataFrame, files: Sequence[str], labels: Sequence[str]
) -> ndarray:
    """What was found, by kind, file and class: int [KINDS, files, labels, 3].

    The last axis holds how many are right, how many wrong, how many missed.
    Args: truth, heard tables of events; files names of all that were heard; labels the classes.
    """
    there = _by_pair(truth)
    said = _by_pair(heard)
    nothing = np.zeros((0, 2))
    table = np.zeros((len(KINDS), len(files), len(labels), 3), dtype=int)
    for row, file in enumerate(files):
        for column, label in enumerate(labels):
            sides = (there.get((file, label), nothing), said.get((file, label), nothing))
            table[0, row, column] = of_segments(*sides)
            table[1, row, column] = of_events(*sides)
    return table


def _by_pair(events):
    """Onsets and offsets [events, 2] by file and label."""
    groups = events.groupby(["filename", "label"])
    return {pair: part[["onset", "offset"]].to_numpy(float) for pair, part in groups}


def of_segments(there: ndarray, said: ndarray) -> tuple[int, int, int]:
    """Right, wrong and missed segments of one class in one file; events [events, 2] in seconds.

    >>> of_segments(np.array([[0.5, 2.5]]), np.array([[1.0, 4.0]]))  # 0, 1, 2 and 1, 2, 3
    (2, 1, 1)
    """
    active = _segments(there)
    heard = _segments(said)
    return len(active & heard), len(heard - active), len(active - heard)


def _segments(events):
    """The segments that events touch: their numbers."""
    first = np.floor(events[:, 0] / SEGMENT).astype(int)
    last = np.ceil(events[:, 1] / SEGMENT).astype(int)
    spans = [range(*span) for span in zip(first, last, strict=True)]
    return set().union(*spans)


def of_events(there: ndarray, said: ndarray) -> tuple[int, int, int]:
    """Right, wrong and missed events of one class in one file; events [events, 2] in seconds.

    >>> of_events(np.array([[1.0, 3.0]]), np.array([[1.1, 3.9], [5.0, 6.0]]))
    (1, 1, 0)
    """
    onset, offset = there.T[..., None]
    late = np.abs(onset - said[:, 0])
    longer = np.abs(offset - said[:, 1])
    reach = np.maximum(COLLAR, SHARE * (offset - onset))
    begins = late <= COLLAR + ROUNDED
    ends = longer <= reach + ROUNDED
    partners = maximum_bipartite_matching(csr_array(begins & ends))
    right = int(sum(partners >= 0))
    return right, len(said) - right, len(there) - right


def f1(table: ndarray) -> dict[str, ndarray]:
    """Micro and macro F1 [...] of counts [..., labels, 3]; macro: of the classes that are there."""
    of_class = _f1(table)
    right, _, missed = np.moveaxis(table, -1, 0)
    is_there = right + missed > 0
    classes = is_there.sum(axis=-1).clip(min=1)
    macro = np.where(is_there, of_class, 0).sum(axis=-1) / classes
    everything = table.sum(axis=-2)
    return {"micro": _f1(everything), "macro": macro}


def _f1(table):
    right, wrong, missed = np.moveaxis(table, -1, 0)
    both = 2 * right + wrong + missed
    return 2 * right / both.clip(min=1)


def scores(
    truth: pd.DataFrame,
    heard: pd.DataFrame,
    files: Sequence[str],
    labels: Sequence[str],
    n_samples: int = 2000,
    seed: int = 0,
) -> dict:
    """F1 by kind and mean, such as event_macro_f1, each {"value", "low", "high"}, and how many
    events and files there are. The bootstrap draws files. Args as of `counts`.
    """
    table = counts(truth, heard, files, labels)
    drawn = intervals.bootstrap_weights(len(files), n_samples, seed)
    weights = np.concatenate([np.ones((1, len(files)), int), drawn])
    found = {"n_events": len(truth), "n_files": len(files)}
    for kind, by_file in zip(KINDS, table, strict=True):
        samples = f1(np.tensordot(weights, by_file, axes=1))
        sizes = np.ones(len(files))
        for mean, values in samples.items():
            found[f"{kind}_{mean}_f1"] = intervals.interval(values, sizes)
    return found


def in_words(scores: dict) -> str:
    """What `scores` say, in a sentence or two."""
    segment, event = (evaluate.percent(scores[f"{kind}_macro_f1"]) for kind in KINDS)
    return (
        f"Macro F1 in time: {segment} by seconds, {event} by events that begin within"
        f" {1000 * COLLAR:.0f} ms and end in time, over {scores['n_events']} known events of"
        f" {scores['n_files']} test recordings."
    )
