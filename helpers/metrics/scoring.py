"""Metrics as plain arithmetic: arrays in, an array of bootstrap samples out.

Rows are recordings; weights [samples, n] say how often each is drawn, so that all samples are
scored at once. truth and said are bool [n, C], what is there and what was said; scores are [n, C].
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from numpy import ndarray
from scipy import sparse
from scipy.stats import rankdata

NORMAL = 1.96  # standard errors to either side that hold 95 % of the normal law


@dataclass(frozen=True)
class Metric:
    """A metric that evaluate.metric may name."""

    score: Callable  # (truth [n, C], what it judges [n, C], weights [samples, n]) -> [samples]
    judges: str  # "said": the answers, bool; "scores": their ranking, float
    spelled: str  # for reading


METRICS: dict[str, Metric] = {}  # by name


def metric(name: str, judges: str, spelled: str = "") -> Callable:
    """Decorator: the function below it is a metric that evaluate.metric may name.

    >>> METRICS["cmap"].score is cmap, METRICS["cmap"].judges, METRICS["cmap"].spelled
    (True, 'scores', 'padded cmAP')
    """

    def enter(score):
        METRICS[name] = Metric(score, judges, spelled or name.replace("_", " "))
        return score

    return enter


def measure(
    names: Collection[str],
    truth: ndarray,
    said: ndarray,
    scores: ndarray,
    weights: ndarray,
    k: int = 3,
) -> dict:
    """Metrics by name: {name: [samples]}.

    Args: names of metrics of answers (as of `of_answers`) or of METRICS; truth, said bool [n, C];
        scores [n, C]; weights [samples, n]; k of map_at_k.
    """
    values = of_answers(truth, said, weights)
    for name in set(names) - set(values):
        judged = said if METRICS[name].judges == "said" else scores
        options = {"k": k} if name == "map_at_k" else {}
        values[name] = METRICS[name].score(truth, judged, weights, **options)
    return {name: values[name] for name in names}


def of_answers(
    truth: ndarray,
    said: ndarray,
    weights: ndarray,
) -> dict:
    """Every metric of answers, said or not: {name: [samples]}. Accuracy is of whole rows."""
    hits, true, claimed = (weights @ table.astype(float) for table in (truth & said, truth, said))
    micro_f1 = _share(2 * hits.sum(axis=1), true.sum(axis=1) + claimed.sum(axis=1))
    right = exact_match(truth, said, weights)
    return {
        **scores(hits, true, claimed),
        **extreme_recalls(hits, true, truth.sum(axis=0)),
        "accuracy": right,
        "exact_match": right,
        "micro_f1": micro_f1,
        "row_f1": row_f1(truth, said, weights),
    }


def scores(
    hits: ndarray,
    true: ndarray,
    said: ndarray,
) -> dict:
    """Metrics of one label per row as a flat dict of arrays [...], from counts per class [..., C].

    A class that is in neither truth nor prediction is left out of the means; macro recall is the
    mean over the classes that are in the truth (scikit-learn's balanced accuracy).

    Args: hits how often a class was said where it is there; true how often it is there; said how
        often it was said.

    >>> scores(np.array([3, 4]), np.array([4, 4]), np.array([3, 5]))["accuracy"].item()
    0.875
    """
    never_said = np.where(true > 0, 0.0, np.nan)
    precision = np.where(said > 0, _share(hits, said), never_said)
    f1 = _share(2 * hits, true + said)
    rows = true.sum(-1)
    return {
        "accuracy": _share(hits.sum(-1), rows),
        "macro_precision": _mean(precision),
        "macro_recall": _mean(_share(hits, true)),
        "macro_f1": _mean(f1),
        "weighted_f1": _share(np.nansum(f1 * true, -1), rows),
    }


def _mean(values):
    """Mean over the last axis of what is a number; NaN where nothing is."""
    return _share(np.nansum(values, -1), np.isfinite(values).sum(-1))


def _share(part, whole):
    """A part of a whole; NaN where both are 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return part / whole


def recalls(
    truth: ndarray,
    said: ndarray,
    weights: ndarray,
) -> ndarray:
    """Recall of each class: [samples, C], NaN where it is not there."""
    return _share(weights @ (truth & said).astype(float), weights @ truth.astype(float))


def extremes(support: ndarray) -> dict:
    """The classes with the fewest, and those with the most recordings: bool [C], by their metric.

    >>> {name: classes.tolist() for name, classes in extremes(np.array([2, 5, 0, 2])).items()}
    {'minority_recall': [True, False, False, True], 'majority_recall': [False, True, False, False]}
    """
    fewest = support[support > 0].min(initial=support.max())
    return {"minority_recall": support == fewest, "majority_recall": support == support.max()}


def extreme_recalls(
    hits: ndarray,
    true: ndarray,
    support: ndarray,
) -> dict:
    """Recall over the smallest classes and over the largest (ties pooled): two arrays [...].

    A bootstrap sample without the class says nothing of it: NaN.

    Args: hits, true counts per class [..., C]; support [C] by which the classes are few and many.
    """
    return {
        name: _share(hits[..., which].sum(-1), true[..., which].sum(-1))
        for name, which in extremes(support).items()
    }


def auc(
    positive: ndarray,
    score: ndarray,
    weights: ndarray,
) -> ndarray:
    """Area under the ROC curve: the chance that a positive outranks a negative. Array [samples].

    Ties count half (Fawcett 2006, doi:10.1016/j.patrec.2005.10.010). NaN where one side has no
    weight.

    Args: positive bool [n]; score [n]; weights [samples, n].
    """
    hits, misses = _by_level(positive, score, weights)
    passed = np.cumsum(misses, axis=0)
    below = passed[:-1:2]
    up_to = passed[1::2]
    outranked = (below + up_to) / 2
    return _share((hits * outranked).sum(axis=0), hits.sum(axis=0) * passed[-1])


def average_precision(
    positive: ndarray,
    score: ndarray,
    weights: ndarray,
) -> ndarray:
    """Average precision: the mean precision at the rank of each positive. Array [samples].

    Equal scores share a rank, as in scikit-learn's average_precision_score. NaN where no positive
    has weight. Args as of `auc`.

    >>> positive, score = np.array([True, False, True]), np.array([0.9, 0.8, 0.7])
    >>> average_precision(positive, score, np.ones((1, 3))).round(4).tolist()  # (1/1 + 2/3) / 2
    [0.8333]
    """
    hits, misses = _by_level(positive, score, weights)
    hits = hits[::-1]  # highest first
    passed = np.cumsum(misses[::-1], axis=0)
    found = np.cumsum(hits, axis=0)
    precision = _share(found, found + passed[1::2])
    return _share(np.nansum(hits * precision, axis=0), hits.sum(axis=0))


def _by_level(positive, score, weights):
    """Weights of the positives and of the others at, and between, the L scores of the positives.

    Where else the others lie counts in no ranking, so only the positives' scores are sorted.
    Lowest first.

    Returns (hits [L, samples] at each score; misses [2 L + 1, samples] below the first score, at
    it, between it and the second, at that, …).
    """
    levels = np.unique(score[positive])
    place = np.searchsorted(levels, score, "left") + np.searchsorted(levels, score, "right")
    hits = _summed(place[positive] // 2, len(levels), weights[:, positive])
    return hits, _summed(place[~positive], 2 * len(levels) + 1, weights[:, ~positive])


def _summed(place, n_places, weights):
    """Weights [samples, n] summed by the place [n] of their rows: float [n_places, samples]."""
    pick = sparse.csr_array(
        (np.ones(len(place), weights.dtype), (place, np.arange(len(place)))), (n_places, len(place))
    )
    return (pick @ weights.T).astype(float)


def macro(
    metric: Callable,
    truth: ndarray,
    scores: ndarray,
    weights: ndarray,
) -> ndarray:
    """Mean over the classes of a metric of one class, undefined ones left out: [samples].

    Args: metric `auc` or `average_precision`; truth bool [n, C]; scores [n, C]; weights [samples,
        n].
    """
    return _mean(each_class(metric, truth, scores, weights))


def each_class(
    metric: Callable,
    truth: ndarray,
    scores: ndarray,
    weights: ndarray,
) -> ndarray:
    """A metric of one class, for each class: [samples, C]. Args as of `macro`."""
    values = [metric(there, score, weights) for there, score in zip(truth.T, scores.T, strict=True)]
    return np.stack(values, axis=1)


@metric("roc_auc", "scores", "ROC AUC")
def macro_auc(truth: ndarray, scores: ndarray, weights: ndarray) -> ndarray:
    """Mean over the classes of `auc`, each against the rest: [samples]. Args as of `macro`."""
    return macro(auc, truth, scores, weights)


@metric("macro_average_precision", "scores")
def macro_average_precision(truth: ndarray, scores: ndarray, weights: ndarray) -> ndarray:
    """Mean over the classes of `average_precision`: [samples]. Args as of `macro`."""
    return macro(average_precision, truth, scores, weights)


@metric("lwlrap", "scores")
def lwlrap(truth: ndarray, scores: ndarray, weights: ndarray) -> ndarray:
    """Label-weighted label-ranking average precision: [samples].

    Over all labels of all recordings, the precision at their rank; within each recording the
    classes are ranked by score. The metric of the Freesound Audio Tagging 2019 competition
    (Fonseca et al. 2019, arXiv:1906.02975).

    Args: truth bool [n, C]; scores [n, C]; weights [samples, n].

    >>> truth = np.array([[True, False, True], [False, True, False]])
    >>> scores = np.array([[3, 2, 1], [3, 2, 1]])
    >>> lwlrap(truth, scores, np.ones((1, 2))).round(4).tolist()  # (1/1 + 2/3 + 1/2) / 3
    [0.7222]
    """
    rank = rankdata(-scores, "max", axis=1)
    rank_of_labels = rankdata(np.where(truth, -scores, np.inf), "max", axis=1)  # among labels
    precision = (truth * rank_of_labels / rank).sum(axis=1)
    return _share(weights @ precision, weights @ truth.sum(axis=1))


@metric("map_at_k", "scores", "MAP@k")
def map_at_k(truth: ndarray, scores: ndarray, weights: ndarray, k: int = 3) -> ndarray:
    """Mean average precision of the k best classes of each row: [samples].

    With one label it is 1/rank, or 0 beyond rank k. With m labels the precisions at those found
    are averaged over min(m, k); rows without a label do not count. Equal scores rank in the order
    of the classes, as a submission writes them. The metric of Freesound Audio Tagging 2018 (Fonseca
    et al. 2018, arXiv:1807.09902).

    Args: truth bool [n, C]; scores [n, C]; weights [samples, n]; k.

    >>> truth = np.array([[True, False, False], [False, False, True]])
    >>> scores, ones = np.array([[2, 3, 1], [2, 3, 1]]), np.ones((1, 2))
    >>> map_at_k(truth, scores, ones, k=2).tolist()  # (1/2 + 0) / 2
    [0.25]
    >>> map_at_k(truth, scores, ones, k=3).round(4).tolist()  # (1/2 + 1/3) / 2
    [0.4167]
    """
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    there = np.take_along_axis(truth, best, axis=1)
    n_labels = truth.sum(axis=1)
    ranks = np.arange(1, best.shape[1] + 1)
    precision = np.cumsum(there, axis=1) / ranks
    found = (there * precision).sum(axis=1)
    of_row = found / np.clip(n_labels, 1, k)
    return _share(weights @ of_row, weights @ (n_labels > 0))


@metric("cmap", "scores", "padded cmAP")
def cmap(truth: ndarray, scores: ndarray, weights: ndarray, pad: int = 5) -> ndarray:
    """Padded class-mean average precision: [samples].

    `pad` rows are added in which every class is there, with score 1. So a class that is never there
    counts too, and one with few recordings counts less. The metric of BirdCLEF 2023
    (kaggle.com/competitions/birdclef-2023).

    Args: truth bool [n, C]; scores [n, C] in [0, 1]; weights [samples, n].

    >>> truth = np.array([[True, False], [False, False]])
    >>> scores = np.array([[0.2, 0.9], [0.6, 0.9]])
    >>> cmap(truth, scores, np.ones((1, 2)), pad=1).round(4).tolist()  # ((1/1 + 2/3) / 2 + 1/1) / 2
    [0.9167]
    """
    below = ((0, pad), (0, 0))
    beside = ((0, 0), (0, pad))
    return macro(
        average_precision,
        np.pad(truth, below, constant_values=True),
        np.pad(scores, below, constant_values=1),
        np.pad(weights, beside, constant_values=1),
    )


@metric("row_f1", "said", "row-wise F1")
def row_f1(truth: ndarray, said: ndarray, weights: ndarray) -> ndarray:
    """Mean over the rows of the F1 of what was said: [samples].

    Where nothing is there and nothing is said it is 1; such a row is called nocall. The metric of
    Cornell Birdcall Identification 2020 and BirdCLEF 2021.

    Args: truth, said bool [n, C]; weights [samples, n].

    >>> truth = np.array([[True, True], [False, False], [False, False]])
    >>> said = np.array([[True, False], [False, True], [False, False]])
    >>> row_f1(truth, said, np.ones((1, 3))).round(4).tolist()  # (2/3 + 0 + 1) / 3
    [0.5556]
    """
    both = truth.sum(axis=1) + said.sum(axis=1)
    f1 = np.where(both > 0, 2 * (truth & said).sum(axis=1) / np.maximum(both, 1), 1)
    return weights @ f1 / weights.sum(axis=1)


@metric("accuracy", "said")
def exact_match(truth: ndarray, said: ndarray, weights: ndarray) -> ndarray:
    """Share of the rows of which exactly what is there was said: [samples].

    With one label per row it is accuracy.

    >>> truth, said = np.eye(2, dtype=bool), np.array([[True, False], [True, True]])
    >>> exact_match(truth, said, np.array([[1, 1], [3, 1]])).tolist()
    [0.5, 0.75]
    """
    right = (truth == said).all(axis=1).astype(float)
    return weights @ right / weights.sum(axis=1)


@metric("macro_f1", "said", "macro F1")
def macro_f1(truth: ndarray, said: ndarray, weights: ndarray) -> ndarray:
    """Mean over the classes of F1, those neither there nor said left out: [samples]."""
    return of_answers(truth, said, weights)["macro_f1"]


def best_thresholds(truth: ndarray, scores: ndarray) -> ndarray:
    """The threshold of each class [C] with the best F1: halfway between two neighbouring scores.

    0.5 for a class that never, or always, is there: nothing can be chosen.

    Args: truth bool [n, C]; scores [n, C].

    >>> truth, scores = np.array([[True], [True], [False]]), np.array([[0.9], [0.4], [0.2]])
    >>> best_thresholds(truth, scores).round(2).tolist()
    [0.3]
    """
    return np.array([_best_threshold(*column) for column in zip(truth.T, scores.T, strict=True)])


def _best_threshold(positive, score):
    if positive.all() or not positive.any():
        return 0.5
    order = np.argsort(-score, kind="stable")
    ranked = np.append(score[order], 0.0)
    f1 = 2 * np.cumsum(positive[order]) / (np.arange(1, len(ranked)) + positive.sum())
    f1[np.diff(ranked[:-1], append=-np.inf) == 0] = -1  # a threshold does not part equal scores
    best = int(np.argmax(f1))
    lowest = ranked[best]
    below = ranked[best + 1]
    if lowest <= 0:  # every score would reach it, also of a model that never heard of the class
        return 0.5
    middle = (lowest + below) / 2
    return float(middle if middle > below else lowest)  # neighbouring numbers have none between


def wilson(
    value: ndarray,
    n: ndarray,
    reach: ndarray | float = NORMAL,
) -> tuple[ndarray, ndarray]:
    """Wilson's score interval of a proportion (Wilson 1927): arrays (low, high).

    Args: value in 0..1; n independent trials; reach, standard errors to either side.

    >>> [round(float(bound), 3) for bound in wilson(1.0, 10)]
    [0.722, 1.0]
    """
    trials = reach**2 / n
    centre = value + trials / 2
    variance = value * (1 - value) / n
    half = np.sqrt(reach**2 * variance + (trials / 2) ** 2)
    return (centre - half) / (1 + trials), (centre + half) / (1 + trials)
