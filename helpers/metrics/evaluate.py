"""Metrics as flat dicts, with an interval on every number.

Conventions: a table of predictions has a row per recording with label, predicted and one
probability column per class, out of fold. Intervals hold 95 %, see ``intervals``; two models are
compared on the same recordings, paired.
"""

from functools import partial

import numpy as np
import pandas as pd

from helpers.base import artifacts, targets
from helpers.metrics import decisions, intervals, scoring

# What stands first, and what leaderboard.csv holds of each model: for one label per recording, and
# for several.
HEADLINE = {False: ("accuracy", "macro_f1"), True: ("macro_average_precision", "lwlrap")}
LEADERBOARD = {
    False: ("accuracy", "macro_f1", "weighted_f1", "minority_recall", "majority_recall"),
    True: ("macro_average_precision", "lwlrap", "macro_f1", "micro_f1", "exact_match"),
}
DIFFERENCE = "difference"  # to the best model of a leaderboard, paired: at most 0
SPELLED = {
    "map_at_k": "MAP@k",
    "cmap": "padded cmAP",
    "roc_auc": "ROC AUC",
    "row_f1": "row-wise F1",
}
AGGREGATED = {
    "mean": "a recording's clips averaged",
    "max": "the highest probability of a recording's clips taken",
    "top": "the highest third of a recording's clips averaged",
    "noisy_or": "a recording's clips joined as independent witnesses (noisy or)",
}
BLOCK = 20_000_000  # weights at a time: 80 MB


def headline(config):
    """The metrics that stand first: the competition's where evaluate.metric names one, then the
    usual two.
    """
    chosen = () if config.evaluate.metric == "auto" else (config.evaluate.metric,)
    return tuple(dict.fromkeys((*chosen, *HEADLINE[config.data.multilabel])))


def leaderboard_metrics(config):
    """The metrics that leaderboard.csv holds of each model: the first of the headline, then the
    usual ones.
    """
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
        words.append(
            "A class is said where its probability reaches a threshold chosen on the other folds."
        )
    return " ".join([*words, "Intervals: 95 %, by bootstrap over sources and Student's t."])


def summary(predictions, n_samples=2000, seed=0, multilabel=False, metric="auto", k=3):
    """Every headline metric of a table of predictions with its interval: {metric: {value, low,
    high}}.

    Args: predictions; n_samples of the bootstrap; seed; multilabel; metric and k as in the config's
        Evaluate section: the competition's metric is among those returned.
    """
    weights = intervals.bootstrap_weights(predictions["group"].nunique(), n_samples, seed)
    if multilabel:
        found = _intervals(scoring.tagging_scores, predictions, weights)
    else:
        found = _label_summary(predictions, weights)
    if metric not in ("auto", *found):
        found |= _intervals(partial(_one_score, metric, k), predictions, weights)
    return found


def scores_of(predictions, config):
    """The summary of a table of predictions as a config asks for it."""
    asked = config.evaluate
    return summary(
        predictions,
        asked.bootstrap_samples,
        config.seed,
        config.data.multilabel,
        asked.metric,
        k=asked.k,
    )


def over_seeds(table, clips, config):
    """What one network per fold scores without the others of other seeds: {metric, mean, sd,
    seeds}.

    Args: table of seeds.csv, of two seeds or more; clips rows of waveforms.csv without copies;
        config. The metric is the first of the headline, mean and standard deviation are over the
        seeds.
    """
    metric, several, how = headline(config)[0], config.data.multilabel, config.model.aggregate
    alone = [part.drop(columns="seed") for _, part in table.groupby("seed")]
    scores = [
        scores_of(decisions.per_recording(part, clips, several, how), config)[metric]["value"]
        for part in alone
    ]
    mean, deviation = float(np.mean(scores)), float(np.std(scores, ddof=1))
    return {
        "metric": metric,
        "mean": round(mean, 5),
        "sd": round(deviation, 5),
        "seeds": len(scores),
    }


def _one_score(metric, k, truth, said, probabilities, weights):
    """{metric: [samples]} of a metric by name, also one that only competitions ask for."""
    by_answer = {
        "accuracy": scoring.exact_match,
        "macro_f1": scoring.macro_f1,
        "row_f1": scoring.row_f1,
    }
    by_rank = {
        "macro_average_precision": partial(scoring.macro, scoring.average_precision),
        "roc_auc": partial(scoring.macro, scoring.auc),
        "map_at_k": partial(scoring.map_at_k, k=k),
        "lwlrap": scoring.lwlrap,
        "cmap": scoring.cmap,
    }
    if metric in by_answer:
        return {metric: by_answer[metric](truth, said, weights)}
    return {metric: by_rank[metric](truth, probabilities, weights)}


def _label_summary(predictions, weights):
    labels = decisions.class_columns(predictions)
    counts = decisions.group_counts(predictions, labels)
    (hits, true, said), drawn = (
        (table.sum(0) for table in counts),
        [weights @ table for table in counts],
    )
    point = {**scoring.scores(hits, true, said), **scoring.extreme_recalls(hits, true, true)}
    samples = {**scoring.scores(*drawn), **scoring.extreme_recalls(*drawn[:2], true)}
    sizes = dict.fromkeys(point, counts[1].sum(axis=1))
    for name, size in (("minority_recall", true[true > 0].min()), ("majority_recall", true.max())):
        sizes[name] = counts[1][:, true == size].sum(axis=1)
    result = {
        name: intervals.interval(value, samples[name], sizes[name]) for name, value in point.items()
    }
    return {**result, "roc_auc": auc_interval(predictions, labels, weights)}


def _intervals(score, predictions, weights):
    """Each metric that score(truth, said, probabilities, weights of the rows) returns by name, with
    its interval.
    """
    arrays, group = _arrays(predictions), pd.factorize(predictions["group"])[0]
    point = score(*arrays, np.ones((1, len(group))))
    samples, sizes = _drawn(partial(score, *arrays), weights, group), np.bincount(group)
    return {
        name: intervals.interval(value[0], samples[name], sizes) for name, value in point.items()
    }


def _arrays(predictions):
    """(truth bool [n, C], said bool [n, C], probabilities [n, C])."""
    labels = decisions.class_columns(predictions)
    truth, said = (
        targets.matrix(predictions[column], labels) > 0 for column in ("label", "predicted")
    )
    return truth, said, predictions[labels].to_numpy()


def _drawn(score, weights, group):
    """A score of all bootstrap samples, in blocks that fit in memory: what score(weights of rows
    [samples, n]) returns.

    Args: score, of a dict of arrays [samples, ...]; weights of the groups [samples, groups]; group
        of each row [n].
    """
    size = max(1, BLOCK // max(1, len(group)))
    counts = weights.astype(np.float32)  # exact
    blocks = (counts[start : start + size, group] for start in range(0, len(weights), size))
    parts = [score(block) for block in blocks]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def auc_interval(predictions, labels, weights):
    """Macro one-against-rest area under the ROC curve, classes without recordings left out, with
    its interval.
    """
    group = pd.factorize(predictions["group"])[0]
    samples = _drawn(lambda rows: {"roc_auc": macro_auc(predictions, labels, rows)}, weights, group)
    return intervals.interval(
        macro_auc(predictions, labels), samples["roc_auc"], np.bincount(group)
    )


def macro_auc(predictions, labels, weights=None):
    """Mean over the classes of `scoring.auc`, each against the rest; a class without recordings, or
    with all, is left out. Args: weights of the rows [n], or [samples, n] for as many areas at once,
    or None. Returns float or array.
    """
    weights = np.ones(len(predictions)) if weights is None else np.asarray(weights)
    truth = targets.matrix(predictions["label"], labels) > 0
    mean = scoring.macro(
        scoring.auc, truth, predictions[list(labels)].to_numpy(), np.atleast_2d(weights)
    )
    return mean if weights.ndim == 2 else float(mean[0])


def per_class(predictions, n_samples=2000, seed=0, multilabel=False):
    """Table of precision, recall and F1 per class with support; recall, or with several labels per
    recording average precision, with its interval, and the sources that the class comes from. Worst
    first.
    """
    if multilabel:
        return _tags(predictions, n_samples, seed)
    labels = decisions.class_columns(predictions)
    counts = decisions.group_counts(predictions, labels)
    weights = intervals.bootstrap_weights(len(counts[0]), n_samples, seed)
    hits, true, said = (table.sum(0) for table in counts)
    with np.errstate(invalid="ignore"):
        recalls = (weights @ counts[0]) / (weights @ counts[1])
    table = pd.DataFrame(
        {"label": labels, "recordings": true.astype(int), "sources": (counts[1] > 0).sum(axis=0)}
    )
    table["precision"] = hits / np.maximum(said, 1)
    table["recall"] = hits / np.maximum(true, 1)
    table["recall_low"], table["recall_high"] = intervals.bounds(
        table["recall"], recalls, counts[1]
    )
    table["f1"] = 2 * hits / np.maximum(true + said, 1)
    return table.sort_values("recall", ignore_index=True)


def _tags(predictions, n_samples, seed):
    truth, said, probabilities = _arrays(predictions)
    precisions = partial(scoring.each_class, scoring.average_precision, truth, probabilities)
    group = pd.factorize(predictions["group"])[0]
    weights = intervals.bootstrap_weights(group.max() + 1, n_samples, seed)
    samples = _drawn(lambda rows: {"each": precisions(rows)}, weights, group)["each"]
    sizes = pd.DataFrame(truth).groupby(group).sum().to_numpy()
    table = pd.DataFrame(
        {"label": decisions.class_columns(predictions), "recordings": truth.sum(axis=0)}
    )
    table["sources"] = (sizes > 0).sum(axis=0)
    table["average_precision"] = precisions(np.ones((1, len(truth))))[0]
    low, high = intervals.bounds(table["average_precision"], samples, sizes)
    table["average_precision_low"], table["average_precision_high"] = low, high
    hits = (truth & said).sum(axis=0)
    table["precision"] = hits / np.maximum(said.sum(axis=0), 1)
    table["recall"] = hits / np.maximum(truth.sum(axis=0), 1)
    table["f1"] = 2 * hits / np.maximum(truth.sum(axis=0) + said.sum(axis=0), 1)
    return table.sort_values("average_precision", ignore_index=True)


# --- two sides, paired
# -------------------------------------------------------------------------------------


def draws(predictions, config):
    """How often each group counts: [1 + samples, groups]. First each once, then the draws of the
    bootstrap.
    """
    n_groups = predictions["group"].nunique()
    drawn = intervals.bootstrap_weights(n_groups, config.evaluate.bootstrap_samples, config.seed)
    return np.concatenate([np.ones((1, n_groups), dtype=drawn.dtype), drawn])


def score_samples(predictions, weights, metric, k=3):
    """A metric by name where group g counts weights[:, g] times: float [samples].

    Args: predictions table, groups numbered in the order of their first rows; weights [samples,
        groups]; metric such as the first of the headline; k of map_at_k.
    """
    score = partial(_one_score, metric, k, *_arrays(predictions))
    return _drawn(score, weights, pd.factorize(predictions["group"])[0])[metric]


def paired_change(reference, toggled, config):
    """The change of the score with its 95 % interval, from the same draws of whole groups for both
    sides.

    Args: reference, toggled lists of tables of predictions, one per seed; config. The metric is the
    first of the usual headline. Returns a dict: reference, toggled, change, change_low,
    change_high, seeds_sd. Raises StageError where the recordings of the two sides differ.
    """
    _require_same_recordings(
        [*reference, *toggled], "the two sides were not tested on the same recordings"
    )
    metric, weights = HEADLINE[config.data.multilabel][0], draws(reference[0], config)
    before = np.stack([score_samples(table, weights, metric) for table in reference])
    after = np.stack([score_samples(table, weights, metric) for table in toggled])
    change = after - before
    found = intervals.difference(change.mean(axis=0), group_sizes(reference[0]))
    spread = change[:, 0].std(ddof=1) if len(change) > 1 else 0.0
    means = {"reference": before[:, 0].mean(), "toggled": after[:, 0].mean(), "seeds_sd": spread}
    means = {name: round(float(value), 5) for name, value in means.items()}
    return {
        **means,
        "change": found["value"],
        "change_low": found["low"],
        "change_high": found["high"],
    }


def group_sizes(predictions):
    """Recordings of each group, numbered in the order of their first rows: int [groups]."""
    return np.bincount(pd.factorize(predictions["group"])[0])


def _require_same_recordings(tables, message):
    names = [table["recording_id"].tolist() for table in tables]
    artifacts.require(all(name == names[0] for name in names), message)


# --- in words
# ----------------------------------------------------------------------------------------------


def percent(entry):
    """A metric with its interval in words.

    >>> percent({"value": 0.931, "low": 0.9, "high": 0.954})
    '93.1 % (90.0–95.4)'
    """
    return f"{100 * entry['value']:.1f} % ({100 * entry['low']:.1f}–{100 * entry['high']:.1f})"


def points(value, low, high):
    """A difference of two scores with its interval, in points.

    >>> points(-0.0499, -0.0921, -0.0001)
    '-5.0 (-9.2 to +0.0)'
    """
    signed = [
        f"{round(100 * number, 1) + 0.0:+.1f}" for number in (value, low, high)
    ]  # + 0.0: no negative zero
    return "{} ({} to {})".format(*signed)


def in_words(metric):
    """A metric's name for reading.

    >>> in_words("macro_f1"), in_words("map_at_k")
    ('macro F1', 'MAP@k')
    """
    return SPELLED.get(metric) or metric.replace("_", " ").replace("f1", "F1")


def metrics(predictions, clip_predictions, protocol, config):
    """What metrics.json holds: protocol, counts, each headline metric per recording with its
    interval; clips second.
    """
    several, first, clips = (
        config.data.multilabel,
        headline(config),
        scores_of(clip_predictions, config),
    )
    classes, n_groups = decisions.class_columns(predictions), int(predictions["group"].nunique())
    answers = targets.matrix(predictions["predicted"], classes).sum(axis=0)
    return {
        "protocol": f"{protocol} {intervals.few_sources(n_groups)}".strip(),
        "n_recordings": len(predictions),
        "n_groups": n_groups,
        "n_classes": len(classes),
        "never_predicted": [
            name for name, count in zip(classes, answers, strict=True) if not count
        ],
        "headline": list(first),
        **({"k": config.evaluate.k} if "map_at_k" in first else {}),
        **scores_of(predictions, config),
        "expected_calibration_error": round(
            decisions.calibration(predictions, multilabel=several)[1], 5
        ),
        **chance(predictions, several),
        "per_clip": {"n_clips": len(clip_predictions), **{name: clips[name] for name in first}},
    }


def chance(predictions, multilabel=False):
    """What no model at all would score in the first of the usual headline metrics: {name: value}."""
    if (
        multilabel
    ):  # the average precision of random scores is the share of recordings with the class
        shares = targets.matrix(predictions["label"], decisions.class_columns(predictions)).mean(
            axis=0
        )
        return {"chance_average_precision": round(float(shares[shares > 0].mean()), 5)}
    return {
        "majority_class_accuracy": round(
            float(predictions["label"].value_counts(normalize=True).iloc[0]), 5
        )
    }


def leaderboard(scored, costs, config):
    """leaderboard.csv: a row per model, the best first, with what it scores less than the best.

    The models answered the same recordings, so the difference is paired: its interval comes from
    the same draws of whole groups for both. Args: scored tables of predictions by the model's name;
    costs dicts by its name; config.
    """
    _require_same_recordings(scored.values(), "the models were not tested on the same recordings")
    metric, any_table = headline(config)[0], next(iter(scored.values()))
    weights, sizes = draws(any_table, config), group_sizes(any_table)
    samples = {
        name: score_samples(table, weights, metric, config.evaluate.k)
        for name, table in scored.items()
    }
    best, rows = max(samples.values(), key=lambda drawn: drawn[0]), []
    for name, table in scored.items():
        paired = _flat(DIFFERENCE, intervals.difference(samples[name] - best, sizes))
        rows.append(leaderboard_row(name, table, config, **paired, **costs[name]))
    return pd.DataFrame(rows).sort_values(metric, ascending=False, kind="stable", ignore_index=True)


def leaderboard_row(name, predictions, config, **costs):
    """A row of leaderboard.csv: the metrics with their intervals, what decides first, then the
    model's costs.
    """
    found, row = scores_of(predictions, config), {"model": name}
    for metric in leaderboard_metrics(config):
        row |= _flat(metric, found[metric])
    return row | costs


def _flat(name, entry):
    """A value with its interval as three columns."""
    return {name: entry["value"], f"{name}_low": entry["low"], f"{name}_high": entry["high"]}


def with_intervals(table):
    """A table with each metric and its interval in one column of text, for reading; other columns
    as they are.

    >>> with_intervals(pd.DataFrame({"model": ["svm"], "f1": [0.8], "f1_low": [0.75], "f1_high": [0.85]}))["f1"][0]
    '80.0 % (75.0–85.0)'
    """
    read = table[[column for column in table if not column.endswith(("_low", "_high"))]].copy()
    for name in [column for column in read if f"{column}_low" in table]:
        columns = table[[name, f"{name}_low", f"{name}_high"]].set_axis(
            ["value", "low", "high"], axis=1
        )
        write = percent if name != DIFFERENCE else lambda entry: points(**entry)
        read[name] = [write(entry) for entry in columns.to_dict("records")]
    return read.rename(columns={DIFFERENCE: f"{DIFFERENCE} to the best, points"})


def best_in_words(board, n_groups):
    """Which models the data cannot tell from the best, and, where there are few, how many sources
    say so.
    """
    tied = ", ".join(board.loc[ties(board), "model"])
    return f"Not clearly worse than the best: {tied}. {intervals.few_sources(n_groups)}".strip()


def ties(board):
    """Which models of a leaderboard the data cannot tell from the best: the paired interval holds
    0. Bool [models].
    """
    return board[f"{DIFFERENCE}_high"].ge(0)
