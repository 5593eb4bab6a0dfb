"""Metrics as plain arithmetic: arrays in, one value or an array of bootstrap samples out.

Rows are recordings; weights [samples, n] say how often each is drawn, so that all samples are scored at once.
"""

import numpy as np


def scores(confusion):
    """Metrics of confusion matrices [..., C, C] (true, predicted) as a flat dict of arrays [...].

    A class that is in neither truth nor prediction is left out of the means; macro recall is the mean over the
    classes that are in the truth (scikit-learn's balanced accuracy).

    >>> scores(np.array([[3, 1], [0, 4]]))["accuracy"].item()
    0.875
    """
    confusion = np.asarray(confusion, dtype=float)
    hits, true, said = np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(-1), confusion.sum(-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(said > 0, hits / said, np.where(true > 0, 0.0, np.nan))
        recall = np.where(true > 0, hits / true, np.where(said > 0, 0.0, np.nan))
        f1 = np.where(true + said > 0, 2 * hits / (true + said), np.nan)
        values = {
            "accuracy": hits.sum(-1) / confusion.sum((-2, -1)),
            "macro_precision": np.nanmean(precision, -1),
            "macro_recall": np.nanmean(np.where(true > 0, recall, np.nan), -1),
            "macro_f1": np.nanmean(f1, -1),
            "weighted_f1": np.nansum(f1 * true, -1) / true.sum(-1),
        }
    return values


def extreme_recalls(confusion, support):
    """Recall over the classes with the fewest and with the most recordings (ties pooled): two arrays [...]."""
    hits, true = np.diagonal(confusion, axis1=-2, axis2=-1), np.sum(confusion, -1)
    few, many = support == support[support > 0].min(), support == support.max()
    found = {"minority_recall": few, "majority_recall": many}
    with np.errstate(invalid="ignore"):  # a bootstrap sample without the class says nothing of it: NaN
        return {name: hits[..., which].sum(-1) / true[..., which].sum(-1) for name, which in found.items()}


def auc(positive, score, weights):
    """Area under the ROC curve for each row of weights [samples, n]: the chance that a positive outranks a negative.

    Args: positive bool [n]; score [n]. Ties count half (Fawcett 2006, doi:10.1016/j.patrec.2005.10.010).
    NaN where one side has no weight.
    """
    order = np.argsort(score, kind="stable")
    ranked, positive = score[order], positive[order]
    steps = np.flatnonzero(np.concatenate(([True], np.diff(ranked) > 0)))
    weights = weights[:, order]
    hits, misses = (np.add.reduceat(weights * side, steps, axis=1) for side in (positive, ~positive))
    below = np.cumsum(misses, axis=1) - misses
    with np.errstate(invalid="ignore", divide="ignore"):
        return (hits * (below + misses / 2)).sum(axis=1) / (hits.sum(axis=1) * misses.sum(axis=1))


def average_precision(positive, score, weights):
    """Average precision for each row of weights [samples, n]: the mean precision at the rank of each positive.

    Equal scores share a rank, as in scikit-learn's average_precision_score. NaN where no positive has weight.

    >>> average_precision(np.array([True, False, True]), np.array([0.9, 0.8, 0.7]), np.ones((1, 3))).round(4).tolist()
    [0.8333]
    """
    order = np.argsort(-score, kind="stable")
    ranked, positive, weights = score[order], positive[order], weights[:, order]
    steps = np.flatnonzero(np.concatenate(([True], np.diff(ranked) < 0)))
    hits, said = np.add.reduceat(weights * positive, steps, axis=1), np.add.reduceat(weights, steps, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.cumsum(hits, axis=1) / np.cumsum(said, axis=1)
        return np.nansum(np.where(hits > 0, hits * precision, 0), axis=1) / hits.sum(axis=1)


def macro(metric, truth, scores, weights):
    """Mean over the classes of a metric of one class, classes for which it is not defined left out: [samples].

    Args: metric `auc` or `average_precision`; truth bool [n, C]; scores [n, C]; weights [samples, n].
    """
    values = np.stack([metric(truth[:, c], scores[:, c], weights) for c in range(truth.shape[1])])
    with np.errstate(invalid="ignore"):
        return np.nansum(values, axis=0) / np.isfinite(values).sum(axis=0)


def lwlrap(truth, scores, weights):
    """Label-weighted label-ranking average precision: over all labels of all recordings, the precision at their rank.

    The metric of the Freesound Audio Tagging 2019 competition (Fonseca et al. 2019, arXiv:1906.02975): within each
    recording the classes are ranked by score. Args: truth bool [n, C]; scores [n, C]; weights [samples, n].

    >>> truth, scores = np.array([[True, False, True], [False, True, False]]), np.array([[3, 2, 1], [3, 2, 1]])
    >>> lwlrap(truth, scores, np.ones((1, 2))).round(4).tolist()  # (1/1 + 2/3 + 1/2) / 3
    [0.7222]
    """
    at_least = scores[:, None, :] >= scores[:, :, None]  # [n, class, those ranked at least as high]
    precision = (at_least & truth[:, None, :]).sum(axis=2) / at_least.sum(axis=2)
    with np.errstate(invalid="ignore"):
        return weights @ np.where(truth, precision, 0).sum(axis=1) / (weights @ truth.sum(axis=1))


def tagging_scores(truth, said, scores, weights):
    """Metrics of several labels per recording as a flat dict of arrays [samples].

    Args: truth, said bool [n, C], what is there and what was said; scores [n, C]; weights [samples, n]. A class that is
    neither there nor said is left out of macro F1.
    """
    hits, true, claimed = (weights @ table.astype(float) for table in (truth & said, truth, said))
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = np.where(true + claimed > 0, 2 * hits / (true + claimed), np.nan)
        return {
            "macro_average_precision": macro(average_precision, truth, scores, weights),
            "lwlrap": lwlrap(truth, scores, weights),
            "macro_f1": np.nanmean(f1, axis=1),
            "micro_f1": 2 * hits.sum(axis=1) / (true.sum(axis=1) + claimed.sum(axis=1)),
            "exact_match": weights @ (truth == said).all(axis=1) / weights.sum(axis=1),
            "roc_auc": macro(auc, truth, scores, weights),
        }


def best_thresholds(truth, scores):
    """The threshold of each class [C] with the best F1: halfway between two neighbouring scores.

    0.5 for a class that never, or always, is there: nothing can be chosen. Args: truth bool [n, C]; scores [n, C].

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
    if ranked[best] <= 0:  # every score would reach it, also that of a model that never heard of the class
        return 0.5
    below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    middle = (ranked[best] + below) / 2
    return float(middle if middle > below else ranked[best])  # between neighbouring numbers there is none


def wilson(value, n):
    """Wilson's score interval of a proportion over n independent trials (Wilson 1927): arrays (low, high).

    >>> [round(float(bound), 3) for bound in wilson(1.0, 10)]
    [0.722, 1.0]
    """
    z = 1.96
    centre, half = value + z**2 / (2 * n), z * np.sqrt(value * (1 - value) / n + z**2 / (4 * n**2))
    return (centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)
