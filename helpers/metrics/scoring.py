"""Metrics as plain arithmetic: arrays in, one value or an array of bootstrap samples out.

Rows are recordings; weights [samples, n] say how often each is drawn, so that all samples are
scored at once.
"""

import numpy as np
from scipy import sparse

NORMAL = 1.96  # standard errors to either side that hold 95 % of the normal law


def scores(hits, true, said):
    """Metrics of one label per row as a flat dict of arrays [...], from counts per class [..., C].

    A class that is in neither truth nor prediction is left out of the means; macro recall is the
    mean over the classes that are in the truth (scikit-learn's balanced accuracy). Args: hits how
    often a class was said where it is there; true how often it is there; said how often it was
    said.

    >>> scores(np.array([3, 4]), np.array([4, 4]), np.array([3, 5]))["accuracy"].item()
    0.875
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(said > 0, hits / said, np.where(true > 0, 0.0, np.nan))
        recall = np.where(true > 0, hits / true, np.where(said > 0, 0.0, np.nan))
        f1 = np.where(true + said > 0, 2 * hits / (true + said), np.nan)
        values = {
            "accuracy": hits.sum(-1) / true.sum(-1),
            "macro_precision": np.nanmean(precision, -1),
            "macro_recall": np.nanmean(np.where(true > 0, recall, np.nan), -1),
            "macro_f1": np.nanmean(f1, -1),
            "weighted_f1": np.nansum(f1 * true, -1) / true.sum(-1),
        }
    return values


def extreme_recalls(hits, true, support):
    """Recall over the classes with the fewest and with the most recordings (ties pooled): two
    arrays [...].

    Args: hits, true counts per class [..., C]; support [C] by which the classes are few and many.
    """
    few, many = support == support[support > 0].min(), support == support.max()
    found = {"minority_recall": few, "majority_recall": many}
    with np.errstate(
        invalid="ignore"
    ):  # a bootstrap sample without the class says nothing of it: NaN
        return {
            name: hits[..., which].sum(-1) / true[..., which].sum(-1)
            for name, which in found.items()
        }


def auc(positive, score, weights):
    """Area under the ROC curve for each row of weights [samples, n]: the chance that a positive
    outranks a negative.

    Args: positive bool [n]; score [n]. Ties count half (Fawcett 2006,
    doi:10.1016/j.patrec.2005.10.010). NaN where one side has no weight.
    """
    hits, misses = _by_level(positive, score, weights)
    passed = np.cumsum(misses, axis=0)
    outranked = (passed[:-1:2] + passed[1::2]) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return (hits * outranked).sum(axis=0) / (hits.sum(axis=0) * passed[-1])


def average_precision(positive, score, weights):
    """Average precision for each row of weights [samples, n]: the mean precision at the rank of
    each positive.

    Equal scores share a rank, as in scikit-learn's average_precision_score. NaN where no positive
    has weight.

    >>> average_precision(np.array([True, False, True]), np.array([0.9, 0.8, 0.7]), np.ones((1, 3))).round(4).tolist()
    [0.8333]
    """
    hits, misses = (table[::-1] for table in _by_level(positive, score, weights))
    found, passed = np.cumsum(hits, axis=0), np.cumsum(misses, axis=0)[1::2]
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = found / (found + passed)
        return np.where(hits > 0, hits * precision, 0).sum(axis=0) / hits.sum(axis=0)


def _by_level(positive, score, weights):
    """Weights of the positives and of the others, summed at and between the L distinct scores of
    the positives.

    Where else the others lie counts in no ranking, so only the positives' scores are sorted. Lowest
    first.
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


def macro(metric, truth, scores, weights):
    """Mean over the classes of a metric of one class, classes for which it is not defined left out:
    [samples].

    Args: metric `auc` or `average_precision`; truth bool [n, C]; scores [n, C]; weights [samples,
        n].
    """
    values = each_class(metric, truth, scores, weights)
    with np.errstate(invalid="ignore"):
        return np.nansum(values, axis=1) / np.isfinite(values).sum(axis=1)


def each_class(metric, truth, scores, weights):
    """A metric of one class, for each class: [samples, C]. Args as of `macro`."""
    return np.stack(
        [metric(truth[:, c], scores[:, c], weights) for c in range(truth.shape[1])], axis=1
    )


def lwlrap(truth, scores, weights):
    """Label-weighted label-ranking average precision: over all labels of all recordings, the
    precision at their rank.

    The metric of the Freesound Audio Tagging 2019 competition (Fonseca et al. 2019,
    arXiv:1906.02975): within each recording the classes are ranked by score. Args: truth bool [n,
    C]; scores [n, C]; weights [samples, n].

    >>> truth, scores = np.array([[True, False, True], [False, True, False]]), np.array([[3, 2, 1], [3, 2, 1]])
    >>> lwlrap(truth, scores, np.ones((1, 2))).round(4).tolist()  # (1/1 + 2/3 + 1/2) / 3
    [0.7222]
    """
    there, last = _ranked(truth, scores)
    precision = np.take_along_axis(np.cumsum(there, axis=1), last, axis=1) / (last + 1)
    with np.errstate(invalid="ignore"):
        return weights @ np.where(there, precision, 0).sum(axis=1) / (weights @ truth.sum(axis=1))


def _ranked(truth, scores):
    """Truth [n, C] in the order of falling scores, and at each place the last place with the same
    score: int [n, C].
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    there, ranked = (np.take_along_axis(table, order, axis=1) for table in (truth, scores))
    ends = np.pad(ranked[:, 1:] < ranked[:, :-1], ((0, 0), (0, 1)), constant_values=True)
    places = np.where(ends, np.arange(scores.shape[1]), scores.shape[1])
    return there, np.minimum.accumulate(places[:, ::-1], axis=1)[:, ::-1]


def map_at_k(truth, scores, weights, k=3):
    """Mean average precision of the k best classes of each row: with one label 1/rank, or 0 beyond
    rank k.

    With m labels the precisions at those found are averaged over min(m, k); rows without a label do
    not count. Equal scores rank in the order of the classes, as a submission writes them. The
    metric of Freesound Audio Tagging 2018 (Fonseca et al. 2018, arXiv:1807.09902). Args: truth bool
    [n, C]; scores [n, C]; weights [samples, n]; k.

    >>> truth, scores = np.array([[True, False, False], [False, False, True]]), np.array([[2, 3, 1], [2, 3, 1]])
    >>> [map_at_k(truth, scores, np.ones((1, 2)), k).round(4).item() for k in (2, 3)]  # (1/2 + 0) / 2; (1/2 + 1/3) / 2
    [0.25, 0.4167]
    """
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    there, labels = np.take_along_axis(truth, best, axis=1), truth.sum(axis=1)
    precision = np.where(there, np.cumsum(there, axis=1) / np.arange(1, best.shape[1] + 1), 0).sum(
        axis=1
    )
    with np.errstate(invalid="ignore"):
        return weights @ (precision / np.clip(labels, 1, k)) / (weights @ (labels > 0))


def cmap(truth, scores, weights, pad=5):
    """Padded class-mean average precision: `pad` rows are added in which every class is there, with
    score 1.

    So a class that is never there counts too, and one with few recordings counts less. The metric
    of BirdCLEF 2023 (kaggle.com/competitions/birdclef-2023). Args: truth bool [n, C]; scores [n, C]
    in [0, 1]; weights [samples, n].

    >>> truth, scores = np.array([[True, False], [False, False]]), np.array([[0.2, 0.9], [0.6, 0.9]])
    >>> cmap(truth, scores, np.ones((1, 2)), pad=1).round(4).tolist()  # ((1/1 + 2/3) / 2 + 1/1) / 2
    [0.9167]
    """
    truth, scores = (
        np.vstack([table, np.ones((pad, table.shape[1]), table.dtype)]) for table in (truth, scores)
    )
    return macro(
        average_precision, truth, scores, np.pad(weights, ((0, 0), (0, pad)), constant_values=1)
    )


def row_f1(truth, said, weights):
    """Mean over the rows of the F1 of what was said: where nothing is there and nothing is said, 1.

    The metric of Cornell Birdcall Identification 2020 and BirdCLEF 2021, where such a row is called
    nocall.
    Args: truth, said bool [n, C]; weights [samples, n].

    >>> truth, said = np.array([[True, True], [False, False], [False, False]]), np.eye(3, 2, dtype=bool)
    >>> row_f1(truth, said, np.ones((1, 3))).round(4).tolist()  # (2/3 + 0 + 1) / 3
    [0.5556]
    """
    both = truth.sum(axis=1) + said.sum(axis=1)
    f1 = np.where(both > 0, 2 * (truth & said).sum(axis=1) / np.maximum(both, 1), 1)
    return weights @ f1 / weights.sum(axis=1)


def exact_match(truth, said, weights):
    """Share of the rows of which exactly what is there was said; with one label per row, accuracy:
    [samples].

    >>> exact_match(np.eye(2, dtype=bool), np.array([[True, False], [True, True]]), np.array([[1, 1], [3, 1]])).tolist()
    [0.5, 0.75]
    """
    right = (truth == said).all(axis=1).astype(float)
    return weights @ right / weights.sum(axis=1)


def macro_f1(truth, said, weights):
    """Mean over the classes of F1, classes that are neither there nor said left out: [samples].

    Args: truth, said bool [n, C]; weights [samples, n].
    """
    hits, true, claimed = (weights @ table.astype(float) for table in (truth & said, truth, said))
    return scores(hits, true, claimed)["macro_f1"]


def tagging_scores(truth, said, scores, weights):
    """Metrics of several labels per recording as a flat dict of arrays [samples].

    Args: truth, said bool [n, C], what is there and what was said; scores [n, C]; weights [samples,
    n]. A class that is neither there nor said is left out of macro F1.
    """
    hits, true, claimed = (weights @ table.astype(float) for table in (truth & said, truth, said))
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = np.where(true + claimed > 0, 2 * hits / (true + claimed), np.nan)
        return {
            "macro_average_precision": macro(average_precision, truth, scores, weights),
            "lwlrap": lwlrap(truth, scores, weights),
            "macro_f1": np.nanmean(f1, axis=1),
            "micro_f1": 2 * hits.sum(axis=1) / (true.sum(axis=1) + claimed.sum(axis=1)),
            "exact_match": exact_match(truth, said, weights),
            "roc_auc": macro(auc, truth, scores, weights),
        }


def best_thresholds(truth, scores):
    """The threshold of each class [C] with the best F1: halfway between two neighbouring scores.

    0.5 for a class that never, or always, is there: nothing can be chosen. Args: truth bool [n, C];
    scores [n, C].

    >>> best_thresholds(np.array([[True], [True], [False]]), np.array([[0.9], [0.4], [0.2]])).round(2).tolist()
    [0.3]
    """
    return np.array([_best_threshold(truth[:, c], scores[:, c]) for c in range(truth.shape[1])])


def _best_threshold(positive, score):
    if positive.all() or not positive.any():
        return 0.5
    order = np.argsort(-score, kind="stable")
    ranked, hits = score[order], np.cumsum(positive[order])
    f1 = 2 * hits / (np.arange(1, len(score) + 1) + positive.sum())
    last_of_ties = np.append(np.diff(ranked) < 0, True)
    best = int(np.argmax(np.where(last_of_ties, f1, -1)))
    if (
        ranked[best] <= 0
    ):  # every score would reach it, also that of a model that never heard of the class
        return 0.5
    below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    middle = (ranked[best] + below) / 2
    return float(
        middle if middle > below else ranked[best]
    )  # between neighbouring numbers there is none


def wilson(value, n, reach=NORMAL):
    """Wilson's score interval of a proportion over n independent trials (Wilson 1927): arrays (low,
    high).

    Args: value; n; reach, how many standard errors it goes to either side.

    >>> [round(float(bound), 3) for bound in wilson(1.0, 10)]
    [0.722, 1.0]
    """
    centre = value + reach**2 / (2 * n)
    half = reach * np.sqrt(value * (1 - value) / n + reach**2 / (4 * n**2))
    return (centre - half) / (1 + reach**2 / n), (centre + half) / (1 + reach**2 / n)
