"""Metrics as flat dicts, with an interval on every number.

Conventions: a table of predictions has a row per recording with label, predicted and one
probability column per class, out of fold. Intervals hold 95 %, see ``intervals``; two models are
compared on the same recordings, paired.
"""

from functools import partial

import numpy as np
import pandas as pd
from numpy import ndarray

from helpers.base import artifacts
from helpers.base.settings import Config
from helpers.metrics import decisions, intervals, scoring

# By data.multilabel, one label per recording or several: what stands first, what leaderboard.csv
# holds of each model, what metrics.json holds, what each class is measured by.
HEADLINE = {False: ("accuracy", "macro_f1"), True: ("macro_average_precision", "lwlrap")}
LEADERBOARD = {
    False: ("accuracy", "macro_f1", "weighted_f1", "minority_recall", "majority_recall"),
    True: ("macro_average_precision", "lwlrap", "macro_f1", "micro_f1", "exact_match"),
}
SUMMARY = {
    False: (
        *("accuracy", "macro_precision", "macro_recall", "macro_f1", "weighted_f1"),
        *("minority_recall", "majority_recall", "roc_auc"),
    ),
    True: (*LEADERBOARD[True], "roc_auc"),
}
OF_CLASS = {False: "recall", True: "average_precision"}
DIFFERENCE = "difference"  # to the best model of a leaderboard, paired: at most 0
AGGREGATED = {
    "mean": "a recording's clips averaged",
    "max": "the highest probability of a recording's clips taken",
    "top": "the highest third of a recording's clips averaged",
    "noisy_or": "a recording's clips joined as independent witnesses (noisy or)",
}
BLOCK = 20_000_000  # weights at a time: 80 MB


def headline(config: Config) -> tuple[str, ...]:
    """The metrics that stand first: the competition's (evaluate.metric), then the usual two."""
    return _asked_first(HEADLINE[config.data.multilabel], config.evaluate.metric)


def leaderboard_metrics(config: Config) -> tuple[str, ...]:
    """The metrics that leaderboard.csv holds of each model, the first of the headline first."""
    return _asked_first(LEADERBOARD[config.data.multilabel], headline(config)[0])


def _asked_first(usual, metric):
    """Metrics without repeats, the one that is asked for before the usual ones."""
    return tuple(dict.fromkeys(usual if metric == "auto" else (metric, *usual)))


def protocol(n_folds: int, config: Config, official_side: bool = False) -> str:
    """How the scores come about, in the words that metrics.json and the report carry.

    Args: official_side whether the official validation side is tested, and all else only learned.
    """
    tested = min(n_folds, config.split.test_folds or n_folds)
    pooled = f"Predictions of {tested} of {n_folds} folds, never learned from"
    if official_side:
        pooled = "Predictions of the official validation side, never learned from"
    elif tested == n_folds:
        pooled = f"Pooled out-of-fold predictions of {n_folds} folds"
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


def summary(
    predictions: pd.DataFrame,
    n_samples: int = 2000,
    seed: int = 0,
    multilabel: bool = False,
    metric: str = "auto",
    k: int = 3,
) -> dict:
    """Every headline metric of a table of predictions with its interval: {metric: {value, low,
    high}}.

    Args: predictions; n_samples of the bootstrap; seed; multilabel; metric and k as in the config's
        Evaluate section: the competition's metric is among those returned.
    """
    names = SUMMARY[multilabel]
    if metric not in ("auto", *names):
        names = (*names, metric)
    samples = _samples(predictions, draws(predictions, n_samples, seed), names, k)
    sizes = {**dict.fromkeys(names, group_sizes(predictions)), **_extreme_sizes(predictions)}
    return {name: intervals.interval(samples[name], sizes[name]) for name in names}


def _extreme_sizes(predictions):
    """Recordings of each group that count for the recall of the extreme classes, by metric."""
    truth, _, _ = decisions.answers(predictions)
    extremes = scoring.extremes(truth.sum(axis=0))
    by_group = _by_group(truth, predictions)
    return {name: by_group[:, which].sum(axis=1) for name, which in extremes.items()}


def scores_of(predictions: pd.DataFrame, config: Config) -> dict:
    """The summary of a table of predictions as a config asks for it."""
    asked = config.evaluate
    several = config.data.multilabel
    return summary(
        predictions, asked.bootstrap_samples, config.seed, several, asked.metric, asked.k
    )


def over_seeds(
    table: pd.DataFrame,
    clips: pd.DataFrame,
    config: Config,
) -> dict:
    """What one network per fold scores without those of other seeds: {metric, mean, sd, seeds}.

    Args: table of seeds.csv, of two seeds or more; clips rows of waveforms.csv without copies;
        config. The metric is the first of the headline, mean and standard deviation are over the
        seeds.
    """
    metric = headline(config)[0]
    scores = []
    for _, part in table.groupby("seed"):
        predictions = decisions.per_recording(
            part.drop(columns="seed"), clips, config.data.multilabel, config.model.aggregate
        )
        scores.append(scores_of(predictions, config)[metric]["value"])
    return {
        "metric": metric,
        "mean": round(float(np.mean(scores)), 5),
        "sd": round(float(np.std(scores, ddof=1)), 5),
        "seeds": len(scores),
    }


def per_class(
    predictions: pd.DataFrame,
    n_samples: int = 2000,
    seed: int = 0,
    multilabel: bool = False,
) -> pd.DataFrame:
    """A row per class: precision, recall, F1, its recordings and sources. Worst first.

    Recall, or with several labels per recording average precision, stands there with its interval.
    """
    truth, said, probabilities = decisions.answers(predictions)
    metric = OF_CLASS[multilabel]
    score = partial(scoring.recalls, truth, said)
    if multilabel:
        score = partial(scoring.each_class, scoring.average_precision, truth, probabilities)
    samples = _drawn(score, draws(predictions, n_samples, seed), _groups(predictions))
    by_group = _by_group(truth, predictions)
    hits, true, claimed = (table.sum(axis=0) for table in (truth & said, truth, said))
    shares = {
        "precision": hits / np.maximum(claimed, 1),
        "recall": hits / np.maximum(true, 1),
        "f1": 2 * hits / np.maximum(true + claimed, 1),
    }
    if metric not in shares:
        shares = {metric: samples[0], **shares}
    table = pd.DataFrame({"label": decisions.class_columns(predictions), **shares})
    table.insert(1, "recordings", true)
    table.insert(2, "sources", (by_group > 0).sum(axis=0))
    low, high = intervals.bounds(table[metric], samples[1:], by_group)
    place = table.columns.get_loc(metric)
    table.insert(place + 1, f"{metric}_low", low)
    table.insert(place + 2, f"{metric}_high", high)
    return table.sort_values(metric, ignore_index=True)


# --- two sides, paired -------------------------------------------------------------------------


def draws(
    predictions: pd.DataFrame,
    n_samples: int,
    seed: int,
) -> ndarray:
    """How often each group counts: [1 + samples, groups].

    First each once, then the draws of the bootstrap.
    """
    n_groups = predictions["group"].nunique()
    drawn = intervals.bootstrap_weights(n_groups, n_samples, seed)
    return np.concatenate([np.ones((1, n_groups), dtype=drawn.dtype), drawn])


def _samples(predictions, weights, names, k):
    """Metrics by name where group g counts weights[:, g] times: {name: float [samples]}."""
    tables = decisions.answers(predictions)

    def score(rows):
        values = scoring.measure(names, *tables, rows, k)
        return np.stack([values[name] for name in names], axis=1)

    columns = _drawn(score, weights, _groups(predictions)).T
    return dict(zip(names, columns, strict=True))


def _drawn(score, weights, group):
    """A score of all samples, in blocks that fit in memory: [samples, …].

    Args: score(weights of the rows [samples, n]); weights of the groups [samples, groups]; group of
        each row [n].
    """
    size = max(1, BLOCK // max(1, len(group)))
    counts = weights.astype(np.float32)  # exact
    starts = range(0, len(counts), size)
    return np.concatenate([score(counts[start : start + size, group]) for start in starts])


def _groups(predictions):
    """The group of each row, numbered in the order of their first rows: int [n]."""
    return pd.factorize(predictions["group"])[0]


def group_sizes(predictions: pd.DataFrame) -> ndarray:
    """Recordings of each group, numbered in the order of their first rows: int [groups]."""
    return np.bincount(_groups(predictions))


def _by_group(truth, predictions):
    """Recordings of each class in each group: int [groups, C]."""
    return pd.DataFrame(truth).groupby(_groups(predictions)).sum().to_numpy()


def score_samples(
    predictions: pd.DataFrame,
    weights: ndarray,
    metric: str,
    k: int = 3,
) -> ndarray:
    """A metric by name where group g counts weights[:, g] times: float [samples].

    Args: predictions table, groups numbered in the order of their first rows; weights [samples,
        groups]; metric such as the first of the headline; k of map_at_k.
    """
    return _samples(predictions, weights, (metric,), k)[metric]


def paired_change(
    reference: list,
    toggled: list,
    config: Config,
) -> dict:
    """The change of the score with its 95 % interval, from the same draws of groups for both sides.

    Args: reference, toggled tables of predictions, one per seed; config. The metric is the first of
        the usual headline.
    Returns a dict: reference, toggled, change, change_low, change_high, seeds_sd. Raises StageError
        where the recordings of the two sides differ.
    """
    _require_same_recordings(
        [*reference, *toggled], "the two sides were not tested on the same recordings"
    )
    first = reference[0]
    metric = HEADLINE[config.data.multilabel][0]
    weights = draws(first, config.evaluate.bootstrap_samples, config.seed)
    before = np.stack([score_samples(table, weights, metric) for table in reference])
    after = np.stack([score_samples(table, weights, metric) for table in toggled])
    change = after - before
    spread = change[:, 0].std(ddof=1) if len(change) > 1 else 0.0
    return {
        "reference": round(float(before[:, 0].mean()), 5),
        "toggled": round(float(after[:, 0].mean()), 5),
        "seeds_sd": round(float(spread), 5),
        **_flat("change", intervals.difference(change.mean(axis=0), group_sizes(first))),
    }


def _require_same_recordings(tables, message):
    names = [table["recording_id"].tolist() for table in tables]
    artifacts.require(all(name == names[0] for name in names), message)


# --- in words ----------------------------------------------------------------------------------


def percent(entry: dict) -> str:
    """A metric with its interval in words.

    >>> percent({"value": 0.931, "low": 0.9, "high": 0.954})
    '93.1 % (90.0–95.4)'
    """
    return f"{100 * entry['value']:.1f} % ({100 * entry['low']:.1f}–{100 * entry['high']:.1f})"


def points(
    value: float,
    low: float,
    high: float,
) -> str:
    """A difference of two scores with its interval, in points.

    >>> points(-0.0499, -0.0921, -0.0001)
    '-5.0 (-9.2 to +0.0)'
    """
    value, low, high = (round(100 * number, 1) + 0.0 for number in (value, low, high))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"  # + 0.0: no negative zero


def direction(low: float, high: float) -> int:
    """Where a change lies by its interval: 1 above 0, -1 below; 0 where nobody can tell.

    >>> direction(0.01, 0.02), direction(-0.02, -0.01), direction(0.0, 0.02)
    (1, -1, 0)
    """
    return int(low > 0) - int(high < 0)


def in_words(metric: str) -> str:
    """A metric's name for reading.

    >>> in_words("macro_f1"), in_words("map_at_k")
    ('macro F1', 'MAP@k')
    """
    if metric in scoring.METRICS:
        return scoring.METRICS[metric].spelled
    return metric.replace("_", " ").replace("f1", "F1").replace("roc auc", "ROC AUC")


def metrics(
    predictions: pd.DataFrame,
    clip_predictions: pd.DataFrame,
    protocol: str,
    config: Config,
) -> dict:
    """What metrics.json holds: protocol, counts, each metric with its interval; clips second.

    Args: predictions per recording; clip_predictions the same per clip; protocol its words.
    """
    several = config.data.multilabel
    first = headline(config)
    clips = scores_of(clip_predictions, config)
    _, said, _ = decisions.answers(predictions)
    classes = np.array(decisions.class_columns(predictions), dtype=object)
    n_groups = int(predictions["group"].nunique())
    _, ece = decisions.calibration(predictions, multilabel=several)
    return {
        "protocol": f"{protocol} {intervals.few_sources(n_groups)}".strip(),
        "n_recordings": len(predictions),
        "n_groups": n_groups,
        "n_classes": len(classes),
        "never_predicted": classes[~said.any(axis=0)].tolist(),
        "headline": list(first),
        **({"k": config.evaluate.k} if "map_at_k" in first else {}),
        **scores_of(predictions, config),
        "expected_calibration_error": round(ece, 5),
        **chance(predictions, several),
        "per_clip": {"n_clips": len(clip_predictions), **{name: clips[name] for name in first}},
    }


def chance(predictions: pd.DataFrame, multilabel: bool = False) -> dict:
    """What no model at all would score in the first of the usual headline metrics: {name: value}.

    The accuracy of always saying the largest class; or the average precision of random scores,
    which is the share of recordings with the class.
    """
    truth, _, _ = decisions.answers(predictions)
    shares = truth.mean(axis=0)
    if multilabel:
        return {"chance_average_precision": round(float(shares[shares > 0].mean()), 5)}
    return {"majority_class_accuracy": round(float(shares.max()), 5)}


def leaderboard(
    scored: dict,
    costs: dict,
    config: Config,
    against: str | None = None,
) -> pd.DataFrame:
    """leaderboard.csv: a row per model, the best first, with what it scores less than the best.

    The models answered the same recordings, so the difference is paired: its interval comes from
    the same draws of whole groups for both.

    Args: scored tables of predictions by the model's name; costs dicts by its name; config;
        against a model that the others are compared with instead of the best.
    """
    _require_same_recordings(scored.values(), "the models were not tested on the same recordings")
    metric = headline(config)[0]
    any_table = next(iter(scored.values()))
    weights = draws(any_table, config.evaluate.bootstrap_samples, config.seed)
    samples = {
        name: score_samples(table, weights, metric, config.evaluate.k)
        for name, table in scored.items()
    }
    best = samples[against] if against else max(samples.values(), key=lambda drawn: drawn[0])
    rows = []
    for name, table in scored.items():
        behind = intervals.difference(samples[name] - best, group_sizes(any_table))
        paired = _flat(DIFFERENCE, behind)
        cost = costs.get(name, {})
        rows.append(leaderboard_row(name, table, config, **paired, **cost))
    return pd.DataFrame(rows).sort_values(metric, ascending=False, kind="stable", ignore_index=True)


def leaderboard_row(name: str, predictions: pd.DataFrame, config: Config, **costs) -> dict:
    """A row of leaderboard.csv: the metrics with their intervals, then the model's costs."""
    scores = scores_of(predictions, config)
    row = {"model": name}
    for metric in leaderboard_metrics(config):
        row |= _flat(metric, scores[metric])
    return row | costs


def _flat(name, entry):
    """A value with its interval as three columns."""
    return {name: entry["value"], f"{name}_low": entry["low"], f"{name}_high": entry["high"]}


def with_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """A table for reading: each metric and its interval in one column of text, the rest as it is.

    >>> scores = {"f1": [0.8], "f1_low": [0.75], "f1_high": [0.85]}
    >>> with_intervals(pd.DataFrame({"model": ["svm"], **scores}))["f1"][0]
    '80.0 % (75.0–85.0)'
    """
    read = table[[column for column in table if not column.endswith(("_low", "_high"))]].copy()
    for name in [column for column in read if f"{column}_low" in table]:
        bounds = zip(table[name], table[f"{name}_low"], table[f"{name}_high"], strict=True)
        if name == DIFFERENCE:
            read[name] = [points(*entry) if any(entry) else "0" for entry in bounds]  # the best's
        else:
            keys = ("value", "low", "high")
            read[name] = [percent(dict(zip(keys, entry, strict=True))) for entry in bounds]
    return read.rename(columns={DIFFERENCE: f"{DIFFERENCE} to the best, points"})


def best_in_words(board: pd.DataFrame, n_groups: int) -> str:
    """Which models the data cannot tell from the best, and, if few, how many sources say so."""
    tied = ", ".join(board.loc[ties(board), "model"])
    return f"Not clearly worse than the best: {tied}. {intervals.few_sources(n_groups)}".strip()


def ties(board: pd.DataFrame) -> pd.Series:
    """Which models of a leaderboard the data cannot tell from the best: bool [models].

    Of those the interval of the paired difference holds 0.
    """
    return board[f"{DIFFERENCE}_high"].ge(0)
