"""From probabilities to answers: clips to recordings, what is said of each, what is mistaken, how
sure it was.

A table of predictions has a row per recording with label, predicted and one probability column per
class, out of fold. With several labels per recording (`multilabel`) a class is said where its
probability reaches its threshold, which the other folds have chosen.
"""

import numpy as np
import pandas as pd

from helpers.base import artifacts, targets
from helpers.metrics import scoring


def aggregate(table, by, classes, how="mean", multilabel=False, weights=None):
    """The probabilities of several rows as one: a table of the classes, indexed by what the rows
    have in common.

    Args: table; by its column, such as recording_id; classes its columns of probabilities; how
        their mean, max, the mean of the `top` (highest) third, at least one, or noisy_or: the
        chance that any row is right, were they independent (Pearl 1988, chapter 4); multilabel:
        without it, whatever is no mean is scaled to sum to 1; weights of the rows, a Series such as
        that of `weigh`; in noisy_or each is a power, in max and top a factor; None: all 1.

    >>> clips = pd.DataFrame({"recording_id": ["r", "r", "r"], "a": [0.5, 0.0, 0.4], "b": [0.5, 1.0, 0.6]})
    >>> {how: aggregate(clips, "recording_id", ["a"], how, True).loc["r", "a"].round(2).item()
    ...  for how in ("mean", "max", "top", "noisy_or")}
    {'mean': 0.3, 'max': 0.5, 'top': 0.5, 'noisy_or': 0.7}
    """
    probabilities, key = table[list(classes)], table[by]
    join = {"mean": _mean, "max": _highest, "top": _highest_third, "noisy_or": _any_of}[how]
    found = (
        join(probabilities, key)
        if weights is None
        else _weighted(join, probabilities, key, weights)
    )
    if multilabel or how == "mean":
        return found
    total = found.sum(axis=1)
    return found.div(total.where(total > 0, 1), axis=0)


def weigh(seconds, key, overlapping=True):
    """How much each window counts in what is said of its recording: as much as it holds.

    Args: seconds of sound in each window, a Series; key what windows of one recording have in
        common;
        overlapping: windows lie half over each other, and each of several counts half where they
        are counted (noisy_or).
    Returns a Series, 1 for the fullest window of a recording, or one half.
    """
    seconds = seconds.clip(lower=1e-3)
    together = seconds.groupby(key)
    several = together.transform("size") > 1
    return seconds / together.transform("max") * np.where(several & overlapping, 0.5, 1.0)


def _weighted(join, probabilities, key, weights):
    if join is _any_of:
        doubts = np.log1p(-probabilities.clip(0, 1 - 1e-12)).mul(weights, axis=0)
        return _any_of(-np.expm1(doubts), key)
    if join is _mean:
        total = probabilities.mul(weights, axis=0).groupby(key).sum()
        return total.div(weights.groupby(key).sum(), axis=0)
    relative = weights / weights.groupby(key).transform("max")
    return join(probabilities.mul(relative, axis=0), key)


def _mean(probabilities, key):
    return probabilities.groupby(key).mean()


def _highest(probabilities, key):
    return probabilities.groupby(key).max()


def _highest_third(probabilities, key):
    place = probabilities.groupby(key).rank(method="first", ascending=False)
    counted = (key.groupby(key).transform("size") // 3).clip(lower=1)
    return _mean(probabilities.where(place.le(counted, axis=0)), key)


def _any_of(probabilities, key):
    with np.errstate(divide="ignore"):  # a probability of 1 leaves no doubt: minus infinity
        doubts = np.log1p(-probabilities.clip(0, 1))
    return np.expm1(doubts.groupby(key).sum()).abs()


def per_recording(clip_probabilities, clips, multilabel=False, how="mean"):
    """The clips' probabilities per recording, as `aggregate` joins them.

    Args: clip_probabilities table with clip_id and a column per class; clips table with clip_id,
        recording_id, label, group, fold. Returns a table: recording_id, fold, label, group,
        predicted, then the classes.
    """
    classes = class_columns(clip_probabilities)
    joined = clip_probabilities[["clip_id", *classes]].merge(
        clips[["clip_id", "recording_id"]], on="clip_id"
    )
    found = aggregate(joined, "recording_id", classes, how, multilabel)
    facts = clips.groupby("recording_id")[["fold", "label", "group"]].first().loc[found.index]
    if multilabel:  # clips may hold a part of their recording's labels each
        facts["label"] = clips.groupby("recording_id")["label"].agg(targets.union).loc[found.index]
    return pd.concat([facts, _predicted(found, facts, multilabel), found], axis=1).reset_index()


def per_clip(clip_probabilities, clips, multilabel=False):
    """The same table with a row per clip: clip_id, fold, the classes, label, group, predicted."""
    joined = clip_probabilities.merge(clips[["clip_id", "label", "group"]], on="clip_id")
    return joined.assign(
        predicted=_predicted(joined[class_columns(clip_probabilities)], joined, multilabel)
    )


def _predicted(probabilities, facts, multilabel):
    """What is said of each row: its most probable class, or the classes that reach the other folds'
    thresholds.
    """
    if not multilabel:
        return probabilities.idxmax(axis=1).rename("predicted")
    parts = []
    for fold in facts["fold"].unique():
        others = facts["fold"].ne(fold)
        parts.append(
            say(
                probabilities[~others],
                thresholds(probabilities[others], facts.loc[others, "label"]),
            )
        )
    return pd.concat(parts).loc[probabilities.index].rename("predicted")


def thresholds(probabilities, labels):
    """The threshold of each class with the best F1: a Series. Args: probabilities table [n, C];
    labels [n].
    """
    truth = targets.matrix(labels, list(probabilities)) > 0
    return pd.Series(
        scoring.best_thresholds(truth, probabilities.to_numpy()), index=list(probabilities)
    )


def say(probabilities, thresholds=None):
    """The answer for each row of a table of probabilities: the most probable class, or all that
    reach thresholds.
    """
    if thresholds is None:
        return probabilities.idxmax(axis=1)
    reached = probabilities.ge(thresholds[list(probabilities)]).to_numpy()
    said = [targets.join(probabilities.columns[row]) for row in reached]
    return pd.Series(said, index=probabilities.index, dtype=str)


def class_columns(table):
    """The probability columns of a table of predictions: whatever is not identity."""
    return [column for column in table if column not in artifacts.IDENTITY]


def group_confusions(predictions, labels):
    """Confusion counts per group: int array [groups, true class, predicted class]."""
    group = pd.factorize(predictions["group"])[0]
    index = {label: number for number, label in enumerate(labels)}
    counts = np.zeros((group.max() + 1, len(labels), len(labels)), dtype=np.int64)
    np.add.at(
        counts, (group, predictions["label"].map(index), predictions["predicted"].map(index)), 1
    )
    return counts


def group_counts(predictions, labels):
    """How often each class was rightly said, is there, and was said, per group: three tables float
    [groups, class].

    With many classes they are far smaller than the confusions of all groups.
    """
    group, index = (
        pd.factorize(predictions["group"])[0],
        {label: number for number, label in enumerate(labels)},
    )
    there, said = (predictions[column].map(index).to_numpy() for column in ("label", "predicted"))
    tables = np.zeros((3, group.max() + 1, len(labels)))
    for table, column, counted in zip(
        tables, (there, there, said), (there == said, 1, 1), strict=True
    ):
        np.add.at(table, (group, column), counted)
    return tuple(tables)


def confusion(predictions, multilabel=False):
    """Which class is taken for which: counts [true, predicted].

    With several labels per recording a row is a class that is there: on the diagonal how often it
    was said, beside it how often another class was said that is not there.
    """
    labels = class_columns(predictions)
    if not multilabel:
        return group_confusions(predictions.assign(group=""), labels)[0]
    truth, said = (targets.matrix(predictions[column], labels) for column in ("label", "predicted"))
    return (truth.T @ (said * (1 - truth)) + np.diag((truth * said).sum(axis=0))).astype(int)


def calibration(predictions, bins=10, multilabel=False):
    """How often the model is right at each confidence: table confidence, accuracy, recordings; and
    the ECE.

    Expected calibration error: Guo et al. 2017, arXiv:1706.04599. With several labels per recording
    every class of every recording is an answer of its own. Returns (table, ece).
    """
    classes = class_columns(predictions)
    confidence = predictions[classes].max(axis=1)
    right = predictions["label"].eq(predictions["predicted"])
    if multilabel:
        confidence = predictions[classes].stack().reset_index(drop=True)
        right = pd.Series(targets.matrix(predictions["label"], classes).ravel() > 0)
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    table = (
        pd.DataFrame({"confidence": confidence, "accuracy": right.astype(float)})
        .groupby(bin_of)
        .agg(["mean", "size"])
    )
    table = pd.DataFrame(
        {
            "confidence": table["confidence"]["mean"],
            "accuracy": table["accuracy"]["mean"],
            "recordings": table["accuracy"]["size"],
        }
    )
    ece = float(
        (table["recordings"] * (table["confidence"] - table["accuracy"]).abs()).sum() / len(right)
    )
    return table.reset_index(drop=True), ece


def worst(predictions, count, multilabel=False):
    """The most confident mistakes, the surest first: wrong rows with the `confidence` of the wrong
    answer.

    With several labels per recording that is the most probable class that is not there, or one
    minus the probability of the class that is there and was least expected, whichever is larger.
    """
    classes = class_columns(predictions)
    wrong = predictions[predictions["label"] != predictions["predicted"]].copy()
    if multilabel:
        truth = targets.matrix(wrong["label"], classes)
        wrong["confidence"] = np.abs(truth - wrong[classes].to_numpy()).max(axis=1, initial=0)
    else:
        wrong["confidence"] = [row[row["predicted"]] for _, row in wrong.iterrows()]
    return wrong.sort_values("confidence", ascending=False).head(count)
