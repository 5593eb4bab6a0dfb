"""Metrics as flat dicts, with an interval on every number.

Conventions: a table of predictions has a row per recording with label, predicted and one probability column per
class, out of fold. Intervals are 95 % percentile intervals of a bootstrap that draws whole groups, because
recordings of one source are not independent (Efron & Tibshirani 1993, chapter 13).
"""

from functools import partial

import numpy as np
import pandas as pd

from helpers import decisions, scoring, targets

LEVEL = 0.95
# What stands first, and what leaderboard.csv holds of each model: for one label per recording, and for several.
HEADLINE = {False: ("accuracy", "macro_f1"), True: ("macro_average_precision", "lwlrap")}
LEADERBOARD = {
    False: ("accuracy", "macro_f1", "weighted_f1", "minority_recall", "majority_recall"),
    True: ("macro_average_precision", "lwlrap", "macro_f1", "micro_f1", "exact_match"),
}
SPELLED = {"map_at_k": "MAP@k", "cmap": "padded cmAP", "roc_auc": "ROC AUC", "row_f1": "row-wise F1"}
AGGREGATED = {
    "mean": "a recording's clips averaged",
    "max": "the highest probability of a recording's clips taken",
    "top": "the highest third of a recording's clips averaged",
    "noisy_or": "a recording's clips joined as independent witnesses (noisy or)",
}
BLOCK = 20_000_000  # weights at a time: 80 MB


def headline(config):
    """The metrics that stand first: the competition's where evaluate.metric names one, then the usual two."""
    chosen = () if config.evaluate.metric == "auto" else (config.evaluate.metric,)
    return tuple(dict.fromkeys((*chosen, *HEADLINE[config.data.multilabel])))


def leaderboard_metrics(config):
    """The metrics that leaderboard.csv holds of each model: the first of the headline, then the usual ones."""
    return tuple(dict.fromkeys((headline(config)[0], *LEADERBOARD[config.data.multilabel])))


def protocol(n_folds, config):
    """How the scores come about, in the words that metrics.json and the report carry."""
    tested = min(n_folds, config.split.test_folds or n_folds)
    pooled = (
        f"Pooled out-of-fold predictions of {n_folds} folds"
        if tested == n_folds
        else (f"Predictions of {tested} of {n_folds} folds, never learned from")
    )
    chosen = {
        "validation": "The epoch is chosen on another fold than the one that is scored.",
        "last": "The last epoch is used; nothing is chosen.",
    }
    words = [f"{pooled}, {AGGREGATED[config.model.aggregate]}.", chosen[config.train.select]]
    if config.data.multilabel:
        words.append("A class is said where its probability reaches a threshold chosen on the other folds.")
    return " ".join([*words, "Intervals: 95 % bootstrap over sources."])


def bootstrap_weights(n_groups, n_samples, seed):
    """How often each group is drawn in each bootstrap sample: [samples, groups], rows sum to n_groups."""
    return np.random.default_rng(seed).multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_samples)


def bounds(value, samples, n_groups):
    """95 % percentile interval of bootstrap samples [samples, ...]; Wilson's over groups where none of them varies.

    A bootstrap cannot imagine a mistake that it has not seen: a class without one would get the interval 100-100 %.
    """
    low, high = np.nanquantile(np.asarray(samples, dtype=float), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    wilson_low, wilson_high = scoring.wilson(np.clip(value, 0, 1), np.maximum(n_groups, 1))
    certain = low == high
    return np.where(certain, wilson_low, low), np.where(certain, np.minimum(wilson_high, 1), high)


def interval(value, samples, n_groups):
    """A value with its 95 % interval: {"value", "low", "high"}, fractions."""
    low, high = bounds(value, samples, n_groups)
    return {"value": round(float(value), 5), "low": round(float(low), 5), "high": round(float(high), 5)}


def summary(predictions, n_samples=2000, seed=0, multilabel=False, metric="auto", k=3):
    """Every headline metric of a table of predictions with its interval: {metric: {value, low, high}}.

    Args: predictions; n_samples of the bootstrap; seed; multilabel; metric and k as in the config's Evaluate section:
        the competition's metric is among those returned.
    """
    weights = bootstrap_weights(predictions["group"].nunique(), n_samples, seed)
    if multilabel:
        found = _intervals(scoring.tagging_scores, predictions, weights)
    else:
        found = _label_summary(predictions, weights)
    if metric not in ("auto", *found):
        found |= _intervals(partial(_competition_score, metric, k), predictions, weights)
    return found


def scores_of(predictions, config):
    """The summary of a table of predictions as a config asks for it."""
    asked = config.evaluate
    return summary(predictions, asked.bootstrap_samples, config.seed, config.data.multilabel, asked.metric, k=asked.k)


def over_seeds(table, clips, config):
    """What one network per fold scores without the others of other seeds: {metric, mean, sd, seeds}.

    Args: table of seeds.csv, of two seeds or more; clips rows of waveforms.csv without copies; config. The metric is
        the first of the headline, mean and standard deviation are over the seeds.
    """
    metric, several, how = headline(config)[0], config.data.multilabel, config.model.aggregate
    alone = [part.drop(columns="seed") for _, part in table.groupby("seed")]
    scores = [scores_of(decisions.per_recording(part, clips, several, how), config)[metric]["value"] for part in alone]
    mean, deviation = float(np.mean(scores)), float(np.std(scores, ddof=1))
    return {"metric": metric, "mean": round(mean, 5), "sd": round(deviation, 5), "seeds": len(scores)}


def _competition_score(metric, k, truth, said, probabilities, weights):
    """{metric: [samples]} for the metrics of competitions that not every summary holds."""
    if metric in ("accuracy", "row_f1"):
        score = {"accuracy": scoring.exact_match, "row_f1": scoring.row_f1}[metric]
        return {metric: score(truth, said, weights)}
    score = {"map_at_k": partial(scoring.map_at_k, k=k), "lwlrap": scoring.lwlrap, "cmap": scoring.cmap}[metric]
    return {metric: score(truth, probabilities, weights)}


def _label_summary(predictions, weights):
    labels = decisions.class_columns(predictions)
    counts = decisions.group_counts(predictions, labels)
    (hits, true, said), drawn = (table.sum(0) for table in counts), [weights @ table for table in counts]
    point = {**scoring.scores(hits, true, said), **scoring.extreme_recalls(hits, true, true)}
    samples = {**scoring.scores(*drawn), **scoring.extreme_recalls(*drawn[:2], true)}
    n_groups = dict.fromkeys(point, weights.shape[1])
    for name, size in (("minority_recall", true[true > 0].min()), ("majority_recall", true.max())):
        n_groups[name] = int(counts[1][:, true == size].any(axis=1).sum())
    result = {name: interval(value, samples[name], n_groups[name]) for name, value in point.items()}
    return {**result, "roc_auc": auc_interval(predictions, labels, weights)}


def _intervals(score, predictions, weights):
    """Each metric that score(truth, said, probabilities, weights of the rows) returns by name, with its interval."""
    arrays, group = _arrays(predictions), pd.factorize(predictions["group"])[0]
    point = score(*arrays, np.ones((1, len(group))))
    samples = _drawn(partial(score, *arrays), weights, group)
    return {name: interval(value[0], samples[name], weights.shape[1]) for name, value in point.items()}


def _arrays(predictions):
    """(truth bool [n, C], said bool [n, C], probabilities [n, C])."""
    labels = decisions.class_columns(predictions)
    truth, said = (targets.matrix(predictions[column], labels) > 0 for column in ("label", "predicted"))
    return truth, said, predictions[labels].to_numpy()


def _drawn(score, weights, group):
    """A score of all bootstrap samples, in blocks that fit in memory: what score(weights of rows [samples, n]) returns.

    Args: score, of a dict of arrays [samples, ...]; weights of the groups [samples, groups]; group of each row [n].
    """
    size = max(1, BLOCK // max(1, len(group)))
    counts = weights.astype(np.float32)  # exact
    blocks = (counts[start : start + size, group] for start in range(0, len(weights), size))
    parts = [score(block) for block in blocks]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def auc_interval(predictions, labels, weights):
    """Macro one-against-rest area under the ROC curve, classes without recordings left out, with its interval."""
    group = pd.factorize(predictions["group"])[0]
    samples = _drawn(lambda rows: {"roc_auc": macro_auc(predictions, labels, rows)}, weights, group)
    return interval(macro_auc(predictions, labels), samples["roc_auc"], weights.shape[1])


def macro_auc(predictions, labels, weights=None):
    """Mean over the classes of `scoring.auc`, each against the rest; a class without recordings, or with all, is left
    out. Args: weights of the rows [n], or [samples, n] for as many areas at once, or None. Returns float or array.
    """
    weights = np.ones(len(predictions)) if weights is None else np.asarray(weights)
    truth = targets.matrix(predictions["label"], labels) > 0
    mean = scoring.macro(scoring.auc, truth, predictions[list(labels)].to_numpy(), np.atleast_2d(weights))
    return mean if weights.ndim == 2 else float(mean[0])


def per_class(predictions, n_samples=2000, seed=0, multilabel=False):
    """Table of precision, recall and F1 per class with support; recall, or with several labels per recording average
    precision, with its interval. Worst first."""
    if multilabel:
        return _tags(predictions, n_samples, seed)
    labels = decisions.class_columns(predictions)
    counts = decisions.group_counts(predictions, labels)
    weights = bootstrap_weights(len(counts[0]), n_samples, seed)
    hits, true, said = (table.sum(0) for table in counts)
    with np.errstate(invalid="ignore"):
        recalls = (weights @ counts[0]) / (weights @ counts[1])
    groups_with_class = (counts[1] > 0).sum(0)
    table = pd.DataFrame({"label": labels, "recordings": true.astype(int), "precision": hits / np.maximum(said, 1)})
    table["recall"] = hits / np.maximum(true, 1)
    table["recall_low"], table["recall_high"] = bounds(table["recall"].to_numpy(), recalls, groups_with_class)
    table["f1"] = 2 * hits / np.maximum(true + said, 1)
    return table.sort_values("recall", ignore_index=True)


def _tags(predictions, n_samples, seed):
    truth, said, probabilities = _arrays(predictions)
    precisions = partial(scoring.each_class, scoring.average_precision, truth, probabilities)
    weights = bootstrap_weights(predictions["group"].nunique(), n_samples, seed)
    samples = _drawn(lambda rows: {"each": precisions(rows)}, weights, pd.factorize(predictions["group"])[0])["each"]
    table = pd.DataFrame({"label": decisions.class_columns(predictions), "recordings": truth.sum(axis=0)})
    table["average_precision"] = precisions(np.ones((1, len(truth))))[0]
    groups_with_class = [predictions.loc[with_class, "group"].nunique() for with_class in truth.T]
    low, high = bounds(table["average_precision"].to_numpy(), samples, np.array(groups_with_class))
    table["average_precision_low"], table["average_precision_high"] = low, high
    hits = (truth & said).sum(axis=0)
    table["precision"] = hits / np.maximum(said.sum(axis=0), 1)
    table["recall"] = hits / np.maximum(truth.sum(axis=0), 1)
    table["f1"] = 2 * hits / np.maximum(truth.sum(axis=0) + said.sum(axis=0), 1)
    return table.sort_values("average_precision", ignore_index=True)


def percent(entry):
    """A metric with its interval in words.

    >>> percent({"value": 0.931, "low": 0.9, "high": 0.954})
    '93.1 % (90.0–95.4)'
    """
    return f"{100 * entry['value']:.1f} % ({100 * entry['low']:.1f}–{100 * entry['high']:.1f})"


def in_words(metric):
    """A metric's name for reading.

    >>> in_words("macro_f1"), in_words("map_at_k")
    ('macro F1', 'MAP@k')
    """
    return SPELLED.get(metric) or metric.replace("_", " ").replace("f1", "F1")


def metrics(predictions, clip_predictions, protocol, config):
    """What metrics.json holds: protocol, counts, each headline metric per recording with its interval; clips second."""
    several, first, clips = config.data.multilabel, headline(config), scores_of(clip_predictions, config)
    return {
        "protocol": protocol,
        "n_recordings": len(predictions),
        "n_groups": int(predictions["group"].nunique()),
        "n_classes": len(decisions.class_columns(predictions)),
        "headline": list(first),
        **({"k": config.evaluate.k} if "map_at_k" in first else {}),
        **scores_of(predictions, config),
        "expected_calibration_error": round(decisions.calibration(predictions, multilabel=several)[1], 5),
        **chance(predictions, several),
        "per_clip": {"n_clips": len(clip_predictions), **{name: clips[name] for name in first}},
    }


def chance(predictions, multilabel=False):
    """What no model at all would score in the first of the usual headline metrics: {name: value}."""
    if multilabel:  # the average precision of random scores is the share of recordings with the class
        shares = targets.matrix(predictions["label"], decisions.class_columns(predictions)).mean(axis=0)
        return {"chance_average_precision": round(float(shares[shares > 0].mean()), 5)}
    return {"majority_class_accuracy": round(float(predictions["label"].value_counts(normalize=True).iloc[0]), 5)}


def leaderboard_row(name, predictions, config, **costs):
    """A row of leaderboard.csv: the metrics with their intervals, what decides first, then the model's costs."""
    found, row = scores_of(predictions, config), {"model": name}
    for metric in leaderboard_metrics(config):
        row |= {
            metric: found[metric]["value"],
            f"{metric}_low": found[metric]["low"],
            f"{metric}_high": found[metric]["high"],
        }
    return row | costs


def with_intervals(table):
    """A table with each metric and its interval in one column of text, for reading; other columns as they are.

    >>> with_intervals(pd.DataFrame({"model": ["svm"], "f1": [0.8], "f1_low": [0.75], "f1_high": [0.85]}))["f1"][0]
    '80.0 % (75.0–85.0)'
    """
    read = table[[column for column in table if not column.endswith(("_low", "_high"))]].copy()
    for name in [column for column in read if f"{column}_low" in table]:
        columns = table[[name, f"{name}_low", f"{name}_high"]].set_axis(["value", "low", "high"], axis=1)
        read[name] = [percent(entry) for entry in columns.to_dict("records")]
    return read


def ties(board):
    """Which models of a leaderboard, best first, have an interval that overlaps the best one's: bool [models]."""
    metric = board.columns[1]
    return board[f"{metric}_high"].ge(board[f"{metric}_low"].iloc[0])
