"""From probabilities to answers: what is said of each recording, what is mistaken, how sure it was.

A table of predictions has a row per recording with label, predicted and one probability column per
class, out of fold. With several labels per recording (`multilabel`) a class is said where its
probability reaches its threshold, which the other folds have chosen.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy import ndarray

from helpers.base import artifacts, targets
from helpers.metrics import scoring


def aggregate(
    table: pd.DataFrame,
    by: str,
    classes: Iterable[str],
    how: str = "mean",
    multilabel: bool = False,
    weights: pd.Series | None = None,
) -> pd.DataFrame:
    """The probabilities of several rows as one: a table of the classes, by what the rows share.

    Args: table; by its column, such as recording_id; classes its columns of probabilities; how
        their mean, max, the mean of the `top` (highest) third, at least one, or noisy_or: the
        chance that any row is right, were they independent (Pearl 1988, chapter 4); multilabel:
        without it, whatever is no mean is scaled to sum to 1; weights of the rows, a Series such as
        that of `weigh`; in noisy_or each is a power, in max and top a factor; None: all 1.

    >>> clips = pd.DataFrame({"recording_id": ["r", "r", "r"], "a": [0.5, 0.0, 0.4]})
    >>> for how in ("mean", "max", "top", "noisy_or"):
    ...     print(how, aggregate(clips, "recording_id", ["a"], how, multilabel=True)["a"].to_list())
    mean [0.3]
    max [0.5]
    top [0.5]
    noisy_or [0.7]
    """
    key = table[by]
    weights = pd.Series(1.0, table.index) if weights is None else weights
    join = {"mean": _mean, "max": _highest, "top": _highest_third, "noisy_or": _any_of}[how]
    joined = join(table[list(classes)], key, weights)
    if multilabel or how == "mean":
        return joined
    total = joined.sum(axis=1)
    return joined.div(total.where(total > 0, 1), axis=0)


def weigh(
    seconds: pd.Series,
    key: pd.Series,
    overlap: float = 0.5,
) -> pd.Series:
    """How much each window counts in what is said of its recording: as much as it holds.

    Args: seconds of sound in each window; key what windows of one recording have in common; overlap
        share of a window that lies over the next: each of several counts so much less where they
        are counted (noisy_or).
    Returns a Series, 1 for the fullest window of a recording, or 1 - overlap.
    """
    shares = _relative(seconds.clip(lower=1e-3), key)
    several = key.groupby(key).transform("size") > 1
    return shares * np.where(several, 1 - overlap, 1.0)


def _relative(weights, key):
    return weights / weights.groupby(key).transform("max")


def _mean(probabilities, key, weights):
    weighted = probabilities.mul(weights, axis=0).groupby(key).mean()
    return weighted.div(weights.groupby(key).mean(), axis=0)


def _highest(probabilities, key, weights):
    return probabilities.mul(_relative(weights, key), axis=0).groupby(key).max()


def _highest_third(probabilities, key, weights):
    weighted = probabilities.mul(_relative(weights, key), axis=0)
    place = weighted.groupby(key).rank(method="first", ascending=False)
    third = (key.groupby(key).transform("size") // 3).clip(lower=1)
    return weighted.where(place.le(third, axis=0)).groupby(key).mean()


def _any_of(probabilities, key, weights):
    with np.errstate(divide="ignore"):  # a probability of 1 leaves no doubt: minus infinity
        doubts = np.log1p(-probabilities.clip(0, 1)).mul(weights, axis=0)
    return np.expm1(doubts.groupby(key).sum()).abs()


def per_recording(
    clip_probabilities: pd.DataFrame,
    clips: pd.DataFrame,
    multilabel: bool = False,
    how: str = "mean",
) -> pd.DataFrame:
    """The clips' probabilities per recording, as `aggregate` joins them.

    Args: clip_probabilities table with clip_id and a column per class; clips table with clip_id,
        recording_id, label, group, fold.
    Returns a table: recording_id, fold, label, group, predicted, then the classes.
    """
    classes = class_columns(clip_probabilities)
    joined = clip_probabilities[["clip_id", *classes]].merge(
        clips[["clip_id", "recording_id"]], on="clip_id"
    )
    probabilities = aggregate(joined, "recording_id", classes, how, multilabel)
    recordings = clips.groupby("recording_id")
    facts = recordings[["fold", "label", "group"]].first()
    if multilabel:  # clips may hold a part of their recording's labels each
        facts["label"] = recordings["label"].agg(targets.union)
    return answered(facts.loc[probabilities.index], probabilities, multilabel).reset_index()


def answered(
    facts: pd.DataFrame, probabilities: pd.DataFrame, multilabel: bool = False
) -> pd.DataFrame:
    """A table of predictions: the facts (fold and label among them), predicted, then the classes.

    Args: facts and probabilities with one index.
    """
    predicted = _predicted(probabilities, facts, multilabel)
    return pd.concat([facts, predicted, probabilities], axis=1)


def per_clip(
    clip_probabilities: pd.DataFrame,
    clips: pd.DataFrame,
    multilabel: bool = False,
) -> pd.DataFrame:
    """The same table with a row per clip: clip_id, fold, the classes, label, group, predicted."""
    joined = clip_probabilities.merge(clips[["clip_id", "label", "group"]], on="clip_id")
    probabilities = joined[class_columns(clip_probabilities)]
    return joined.assign(predicted=_predicted(probabilities, joined, multilabel))


def _predicted(probabilities, facts, multilabel):
    """What is said of each row; of several labels, by the thresholds of the other folds."""
    if not multilabel:
        return say(probabilities).rename("predicted")
    parts = []
    for fold in facts["fold"].unique():
        tested = facts["fold"].eq(fold)
        chosen = thresholds(probabilities[~tested], facts.loc[~tested, "label"])
        parts.append(say(probabilities[tested], chosen))
    return pd.concat(parts).loc[probabilities.index].rename("predicted")


def thresholds(probabilities: pd.DataFrame, labels: pd.Series) -> pd.Series:
    """The threshold of each class with the best F1, by class.

    Args: probabilities table [n, C]; labels [n].
    """
    truth = targets.matrix(labels, list(probabilities)) > 0
    best = scoring.best_thresholds(truth, probabilities.to_numpy())
    return pd.Series(best, index=list(probabilities))


def say(probabilities: pd.DataFrame, thresholds: pd.Series | None = None) -> pd.Series:
    """The answer for each row: the most probable class, or all classes that reach thresholds.

    Args: probabilities table [n, C]; thresholds by class where there may be several labels.
    """
    if thresholds is None:
        return probabilities.idxmax(axis=1)
    reached = probabilities.ge(thresholds[list(probabilities)]).to_numpy()
    answers = [targets.join(probabilities.columns[row]) for row in reached]
    return pd.Series(answers, index=probabilities.index, dtype=str)


def class_columns(table: pd.DataFrame) -> list[str]:
    """The probability columns of a table of predictions: whatever is not identity."""
    return [column for column in table if column not in artifacts.IDENTITY]


def answers(predictions: pd.DataFrame) -> tuple[ndarray, ndarray, ndarray]:
    """A table of predictions as (truth bool [n, C], said bool [n, C], probabilities [n, C])."""
    classes = class_columns(predictions)
    truth = targets.matrix(predictions["label"], classes) > 0
    said = targets.matrix(predictions["predicted"], classes) > 0
    return truth, said, predictions[classes].to_numpy()


def confusion(predictions: pd.DataFrame) -> ndarray:
    """Which class is taken for which: counts int [true, predicted].

    With several labels per recording a row is a class that is there: on the diagonal how often it
    was said, beside it how often another class was said that is not there.
    """
    truth, said, _ = answers(predictions)
    wrongly_said = truth.T.astype(int) @ (said & ~truth)
    return wrongly_said + np.diag((truth & said).sum(axis=0))


def calibration(
    predictions: pd.DataFrame,
    bins: int = 10,
    multilabel: bool = False,
) -> tuple[pd.DataFrame, float]:
    """How often the model is right at each confidence.

    Expected calibration error: Guo et al. 2017, arXiv:1706.04599. With several labels per recording
    every class of every recording is an answer of its own.

    Returns (a table of confidence, accuracy and recordings, a row per bin that holds any; the ECE).
    """
    truth, _, probabilities = answers(predictions)
    if multilabel:
        confidence = probabilities.ravel()
        right = truth.ravel()
    else:
        confidence = probabilities.max(axis=1)
        right = predictions["label"].eq(predictions["predicted"]).to_numpy()
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    pairs = pd.DataFrame({"confidence": confidence, "accuracy": right.astype(float)})
    by_bin = pairs.groupby(bin_of)
    table = by_bin.mean().assign(recordings=by_bin.size()).reset_index(drop=True)
    gap = (table["confidence"] - table["accuracy"]).abs()
    return table, float((table["recordings"] * gap).sum() / len(pairs))


def one_of_each(predictions: pd.DataFrame, config, count: int = 12) -> pd.DataFrame:
    """Rows of one recording each of up to so many classes, drawn blindly, right or wrong."""
    classes = targets.by_class(predictions, config.data.multilabel).groupby("label")
    drawn = classes.sample(1, random_state=config.seed)["recording_id"].head(count)
    return predictions[predictions["recording_id"].isin(drawn)]


def worst(
    predictions: pd.DataFrame,
    count: int,
    multilabel: bool = False,
) -> pd.DataFrame:
    """The most confident mistakes, the surest first, with the `confidence` of the wrong answer.

    With several labels per recording that is the most probable class that is not there, or one
    minus the probability of the class that is there and was least expected, whichever is larger.
    """
    wrong = predictions[predictions["label"] != predictions["predicted"]]
    truth, said, probabilities = answers(wrong)
    against = np.abs(truth - probabilities) if multilabel else probabilities * said
    surest_first = wrong.assign(confidence=against.max(axis=1, initial=0))
    return surest_first.sort_values("confidence", ascending=False).head(count)


def of_recordings(out_of_fold: pd.DataFrame, rows: pd.DataFrame, config) -> pd.DataFrame:
    """A model's out-of-fold probabilities per recording, as `per_recording`; rows of clips."""
    clips = rows.query("parent_id == ''")
    return per_recording(out_of_fold, clips, config.data.multilabel, config.model.aggregate)


def with_paths(predictions: pd.DataFrame, recordings: pd.DataFrame) -> pd.DataFrame:
    """A table of predictions that others can read: each recording with its path.

    Args: predictions; recordings of recordings.csv.
    """
    paths = recordings.set_index("recording_id")["path"]
    table = predictions.copy()
    table.insert(1, "path", table["recording_id"].map(paths))
    return table


def own_thresholds(predictions: pd.DataFrame) -> pd.Series:
    """The thresholds, by class, with the best F1 on all of a table of predictions."""
    return thresholds(predictions[class_columns(predictions)], predictions["label"])
