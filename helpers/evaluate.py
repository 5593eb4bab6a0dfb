"""Metrics as flat dicts, with an interval on every number.

Conventions: a table of predictions has a row per recording with label, predicted and one probability column per
class, out of fold. Intervals are 95 % percentile intervals of a bootstrap that draws whole groups, because
recordings of one source are not independent (Efron & Tibshirani 1993, chapter 13).
"""

import numpy as np
import pandas as pd

from helpers import artifacts

LEVEL = 0.95


def per_recording(clip_probabilities, clips):
    """Mean of the clips' probabilities per recording.

    Args: clip_probabilities table with clip_id and a column per class; clips table with clip_id, recording_id,
        label, group, fold. Returns a table: recording_id, fold, label, group, predicted, then the classes.
    """
    classes = class_columns(clip_probabilities)
    joined = clip_probabilities[["clip_id", *classes]].merge(clips[["clip_id", "recording_id"]], on="clip_id")
    means = joined.groupby("recording_id")[classes].mean()
    facts = clips.groupby("recording_id")[["fold", "label", "group"]].first().loc[means.index]
    predicted = means.idxmax(axis=1).rename("predicted")
    return pd.concat([facts, predicted, means], axis=1).reset_index()


def per_clip(clip_probabilities, clips):
    """The same table with a row per clip: clip_id, label, group, predicted, then the classes."""
    classes = class_columns(clip_probabilities)
    joined = clip_probabilities.merge(clips[["clip_id", "label", "group"]], on="clip_id")
    return joined.assign(predicted=joined[classes].idxmax(axis=1))


def protocol(n_folds, select):
    """How the scores come about, in the words that metrics.json and the report carry."""
    chosen = {
        "validation": "The epoch is chosen on another fold than the one that is scored.",
        "last": "The last epoch is used; nothing is chosen.",
    }
    return (
        f"Pooled out-of-fold predictions of {n_folds} folds, a recording's clips averaged. {chosen[select]} "
        "Intervals: 95 % bootstrap over sources."
    )


def class_columns(table):
    """The probability columns of a table of predictions: whatever is not identity."""
    return [column for column in table if column not in artifacts.IDENTITY]


def group_confusions(predictions, labels):
    """Confusion counts per group: int array [groups, true class, predicted class]."""
    group = pd.factorize(predictions["group"])[0]
    index = {label: number for number, label in enumerate(labels)}
    counts = np.zeros((group.max() + 1, len(labels), len(labels)), dtype=np.int64)
    np.add.at(counts, (group, predictions["label"].map(index), predictions["predicted"].map(index)), 1)
    return counts


def bootstrap_weights(n_groups, n_samples, seed):
    """How often each group is drawn in each bootstrap sample: [samples, groups], rows sum to n_groups."""
    return np.random.default_rng(seed).multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_samples)


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


def wilson(value, n):
    """Wilson's score interval of a proportion over n independent trials (Wilson 1927): arrays (low, high).

    >>> [round(float(bound), 3) for bound in wilson(1.0, 10)]
    [0.722, 1.0]
    """
    z = 1.96
    centre, half = value + z**2 / (2 * n), z * np.sqrt(value * (1 - value) / n + z**2 / (4 * n**2))
    return (centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)


def bounds(value, samples, n_groups):
    """95 % percentile interval of bootstrap samples [samples, ...]; Wilson's over groups where none of them varies.

    A bootstrap cannot imagine a mistake that it has not seen: a class without one would get the interval 100-100 %.
    """
    low, high = np.nanquantile(np.asarray(samples, dtype=float), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    wilson_low, wilson_high = wilson(np.clip(value, 0, 1), np.maximum(n_groups, 1))
    certain = low == high
    return np.where(certain, wilson_low, low), np.where(certain, np.minimum(wilson_high, 1), high)


def interval(value, samples, n_groups):
    """A value with its 95 % interval: {"value", "low", "high"}, fractions."""
    low, high = bounds(value, samples, n_groups)
    return {"value": round(float(value), 5), "low": round(float(low), 5), "high": round(float(high), 5)}


def summary(predictions, n_samples=2000, seed=0):
    """Every headline metric of a table of predictions with its interval: {metric: {value, low, high}}."""
    labels = class_columns(predictions)
    counts = group_confusions(predictions, labels)
    weights = bootstrap_weights(len(counts), n_samples, seed)
    drawn = np.einsum("bg,gij->bij", weights, counts)
    support = counts.sum((0, 2))
    point = {**scores(counts.sum(0)), **extreme_recalls(counts.sum(0), support)}
    samples = {**scores(drawn), **extreme_recalls(drawn, support)}
    n_groups = dict.fromkeys(point, len(counts))
    for name, size in (("minority_recall", support[support > 0].min()), ("majority_recall", support.max())):
        n_groups[name] = int(counts[:, support == size].any((1, 2)).sum())
    result = {name: interval(value, samples[name], n_groups[name]) for name, value in point.items()}
    return {**result, "roc_auc": auc_interval(predictions, labels, weights)}


def auc_interval(predictions, labels, weights):
    """Macro one-against-rest area under the ROC curve, classes without recordings left out, with its interval."""
    group = pd.factorize(predictions["group"])[0]
    samples = macro_auc(predictions, labels, weights[:, group])
    return interval(macro_auc(predictions, labels), samples, weights.shape[1])


def macro_auc(predictions, labels, weights=None):
    """Mean over the classes of `auc`, each against the rest; a class without recordings, or with all, is left out.

    Args: weights of the rows [n], or [samples, n] for as many areas at once, or None. Returns float or array [samples].
    """
    weights = np.ones(len(predictions)) if weights is None else np.asarray(weights, dtype=float)
    areas = [auc(predictions["label"].eq(label), predictions[label], np.atleast_2d(weights)) for label in labels]
    with np.errstate(invalid="ignore"):
        mean = np.nansum(areas, axis=0) / np.isfinite(areas).sum(axis=0)
    return mean if weights.ndim == 2 else float(mean[0])


def auc(positive, score, weights):
    """Area under the ROC curve for each row of weights [samples, n]: the chance that a positive outranks a negative.

    Ties count half (Fawcett 2006, doi:10.1016/j.patrec.2005.10.010). NaN where one side has no weight.
    """
    order = np.argsort(score.to_numpy(), kind="stable")
    ranked, positive = score.to_numpy()[order], positive.to_numpy()[order]
    steps = np.flatnonzero(np.concatenate(([True], np.diff(ranked) > 0)))
    weights = weights[:, order]
    hits, misses = (np.add.reduceat(weights * side, steps, axis=1) for side in (positive, ~positive))
    below = np.cumsum(misses, axis=1) - misses
    with np.errstate(invalid="ignore", divide="ignore"):
        return (hits * (below + misses / 2)).sum(axis=1) / (hits.sum(axis=1) * misses.sum(axis=1))


def per_class(predictions, n_samples=2000, seed=0):
    """Table of precision, recall and F1 per class with support; recall with its interval. Worst recall first."""
    labels = class_columns(predictions)
    counts = group_confusions(predictions, labels)
    drawn = np.einsum("bg,gij->bij", bootstrap_weights(len(counts), n_samples, seed), counts)
    total = counts.sum(0)
    hits, true, said = np.diagonal(total), total.sum(1), total.sum(0)
    with np.errstate(invalid="ignore"):
        recalls = np.diagonal(drawn, axis1=1, axis2=2) / drawn.sum(2)
    groups_with_class = (counts.sum(2) > 0).sum(0)
    table = pd.DataFrame({"label": labels, "recordings": true, "precision": hits / np.maximum(said, 1)})
    table["recall"] = hits / np.maximum(true, 1)
    table["recall_low"], table["recall_high"] = bounds(table["recall"].to_numpy(), recalls, groups_with_class)
    table["f1"] = 2 * hits / np.maximum(true + said, 1)
    return table.sort_values("recall", ignore_index=True)


def calibration(predictions, bins=10):
    """How often the model is right at each confidence: table confidence, accuracy, recordings; and the ECE.

    Expected calibration error: Guo et al. 2017, arXiv:1706.04599. Returns (table, ece).
    """
    classes = class_columns(predictions)
    confidence = predictions[classes].max(axis=1)
    right = predictions["label"].eq(predictions["predicted"])
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    table = (
        pd.DataFrame({"confidence": confidence, "accuracy": right.astype(float)}).groupby(bin_of).agg(["mean", "size"])
    )
    table = pd.DataFrame(
        {
            "confidence": table["confidence"]["mean"],
            "accuracy": table["accuracy"]["mean"],
            "recordings": table["accuracy"]["size"],
        }
    )
    ece = float((table["recordings"] * (table["confidence"] - table["accuracy"]).abs()).sum() / len(predictions))
    return table.reset_index(drop=True), ece


def percent(entry):
    """A metric with its interval in words.

    >>> percent({"value": 0.931, "low": 0.9, "high": 0.954})
    '93.1 % (90.0–95.4)'
    """
    return f"{100 * entry['value']:.1f} % ({100 * entry['low']:.1f}–{100 * entry['high']:.1f})"


def worst(predictions, count):
    """The most confident mistakes: the wrong rows whose predicted class got the most probability, its `confidence`."""
    wrong = predictions[predictions["label"] != predictions["predicted"]].copy()
    wrong["confidence"] = [row[row["predicted"]] for _, row in wrong.iterrows()]
    return wrong.sort_values("confidence", ascending=False).head(count)


def metrics(predictions, clip_predictions, protocol, settings, seed):
    """What metrics.json holds: protocol, counts, each headline metric per recording with its interval; clips second."""
    headline = summary(predictions, settings.bootstrap_samples, seed)
    clips = summary(clip_predictions, settings.bootstrap_samples, seed)
    return {
        "protocol": protocol,
        "n_recordings": len(predictions),
        "n_groups": int(predictions["group"].nunique()),
        "n_classes": len(class_columns(predictions)),
        **headline,
        "expected_calibration_error": round(calibration(predictions)[1], 5),
        "majority_class_accuracy": round(float(predictions["label"].value_counts(normalize=True).iloc[0]), 5),
        "per_clip": {"n_clips": len(clip_predictions), "accuracy": clips["accuracy"], "macro_f1": clips["macro_f1"]},
    }


def leaderboard_row(name, predictions, settings, seed, **costs):
    """A row of leaderboard.csv: the metrics of system S3 with their intervals, then what the model costs."""
    found, row = summary(predictions, settings.bootstrap_samples, seed), {"model": name}
    for metric in ("accuracy", "macro_f1", "weighted_f1", "minority_recall", "majority_recall"):
        row |= {
            metric: found[metric]["value"],
            f"{metric}_low": found[metric]["low"],
            f"{metric}_high": found[metric]["high"],
        }
    return row | costs
