"""Recordings in the order of how doubtful their label is, from out-of-fold probabilities.

Confident learning (Northcutt et al. 2021, arXiv:1911.00068): a model that never learned from a
recording says how probable each class is; each probability is compared with what the model usually
gives to recordings of that class. So a class that is hard for the model is not doubted as a whole.
"""

import numpy as np
import pandas as pd
from numpy import ndarray
from scipy.special import expit

from helpers.base import targets
from helpers.metrics import decisions

# By benchmarks/label_errors.py, ten seeds: wrong were 9.3 of 10, 14.9 of 20, 18.2 of 40.
MEASURED = (
    "For scale, on ESC-10 with 20 of 400 labels turned wrong on purpose (SVM and XGBoost, mean of"
    " ten trials): of the 10 labels doubted first 9 were wrong, of the first 20 15, of the first 40"
    " 18; 95 were doubted in all."
)
DOUBTED = 0.5  # doubt from which on the models prefer another label than the given one
# probabilities below count as this one, so that no single model that is too sure decides alone
LEAST = 1e-3


def rank(predictions_by_model: dict, multilabel: bool = False) -> pd.DataFrame:
    """Recordings, or with several labels pairs of recording and class, the most doubtful first.

    Args: predictions_by_model {name: table of `decisions.per_recording`}, out of fold, of the same
        recordings.
    Returns a table: recording_id, group (its source), label (the given one), suggested (the most
        probable other one; with several labels the given one with one class more or less), doubt in
        0..1 (a score to rank by, made of the models' mean log odds; from DOUBTED on they prefer the
        other label; it is not the chance that the label is wrong, because they err far oftener than
        labels do), confidence_given and confidence_suggested (their mean probabilities),
        rank (1 is the most doubtful).
    Raises ValueError where the tables are not of the same recordings, labels and classes.
    """
    facts, tables = _aligned(predictions_by_model)
    doubts = _of_pairs(facts, tables) if multilabel else _of_recordings(facts, tables)
    ranked = doubts.sort_values(
        ["doubt", "recording_id"], ascending=[False, True], kind="stable", ignore_index=True
    )
    return ranked.assign(rank=ranked.index + 1)


def one_per_source(ranked: pd.DataFrame) -> pd.DataFrame:
    """The most doubtful label of each source: one unusual source is one finding.

    Args: ranked table of `rank`. Returns its rows in their order, with `more`: how many others of
        the source are doubted.
    """
    doubted = ranked["doubt"].ge(DOUBTED).astype(int)
    others = doubted.groupby(ranked["group"]).transform("sum") - doubted
    return ranked.assign(more=others).drop_duplicates("group", ignore_index=True)


def spread(ranked: pd.DataFrame) -> pd.DataFrame:
    """The same rows, the most doubtful of every source first, then the second of every source …"""
    place = ranked.groupby("group").cumcount()
    return ranked.assign(_place=place).sort_values(["_place", "rank"]).drop(columns="_place")


def in_words(ranked: pd.DataFrame) -> str:
    """How many labels the models doubt, and how little that means."""
    doubted = ranked[ranked["doubt"].ge(DOUBTED)]
    n_recordings = doubted["recording_id"].nunique()
    n_sources = doubted["group"].nunique()
    n_all = ranked["recording_id"].nunique()
    return (
        f"The models doubt the label of {n_recordings} of {n_all} recordings, from"
        f" {targets.counted(n_sources, 'source', 'sources')}: there another answer is more probable"
        " than it usually is. The rank says what to"
        " listen to first; it is not the chance that a label is wrong, and most of these labels may"
        f" be right. {MEASURED}"
    )


def log_odds(probabilities: ndarray, given: ndarray) -> ndarray:
    """How much more probable each class is than the given one, as logarithms [n, C].

    Every class is measured by the mean probability that its own recordings get, the threshold of
    confident learning.

    Args: probabilities [n, C]; given [n] index of the label.
    """
    floored = np.maximum(probabilities, LEAST)
    is_given = np.arange(floored.shape[1]) == given[:, None]
    counts = is_given.sum(axis=0)
    mean = (floored * is_given).sum(axis=0) / np.maximum(counts, 1)
    usual = np.where(counts > 0, mean, 1.0)
    logs = np.log(floored / usual)
    return logs - logs[is_given][:, None]


def _of_recordings(facts, tables):
    """One label per recording: the class that is most probable beside the given one."""
    classes = tables[0].columns
    given = classes.get_indexer(facts["label"])
    numbers, doubts = _doubts([table.to_numpy() for table in tables], given)
    return pd.concat([facts.assign(suggested=classes[numbers].astype(object)), doubts], axis=1)


def _of_pairs(facts, tables):
    """Several labels per recording: each class is a question of its own, whether it is there."""
    classes = list(tables[0])
    truth = targets.matrix(facts["label"], classes).astype(int)
    parts = []
    for name, given in zip(classes, truth.T, strict=True):
        answers = [np.stack([1 - table[name], table[name]], axis=1) for table in tables]
        _, doubts = _doubts(answers, given)
        suggested = [targets.join({*targets.split(label)} ^ {name}) for label in facts["label"]]
        parts.append(pd.concat([facts.assign(suggested=suggested), doubts], axis=1))
    return pd.concat(parts, ignore_index=True)


def _doubts(answers, given):
    """What the models hold against a label.

    Args: answers, each model's probabilities [n, C]; given [n] index of the label.
    Returns (index of the class that speaks most against it [n]; a table of how much).
    """
    rows = np.arange(len(given))
    against = np.mean([log_odds(answer, given) for answer in answers], axis=0)
    against[rows, given] = -np.inf
    suggested = against.argmax(axis=1)
    mean = np.mean(answers, axis=0)
    doubts = {
        "doubt": expit(against[rows, suggested]),
        "confidence_given": mean[rows, given],
        "confidence_suggested": mean[rows, suggested],
    }
    return suggested, pd.DataFrame(doubts)


def _aligned(predictions_by_model):
    """The recordings (recording_id, group, label) and each model's probabilities of them."""
    if not predictions_by_model:
        raise ValueError(
            "No model has predicted anything: rank needs the predictions of one model at least."
        )
    tables = {
        name: table.set_index("recording_id").sort_index()
        for name, table in predictions_by_model.items()
    }
    first, like = next(iter(tables.items()))
    classes = decisions.class_columns(like)
    for name, table in tables.items():
        same = table["label"].equals(like["label"])  # and their index
        if not same or set(decisions.class_columns(table)) != set(classes):
            raise ValueError(
                f"{name} and {first} have not predicted the same recordings, labels and classes."
            )
    return like[["group", "label"]].reset_index(), [table[classes] for table in tables.values()]
