"""Figures of training and of scores, from arrays and tables.

Every function returns a matplotlib Figure in the house style of `style`.
"""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score, roc_curve

from helpers.base import targets
from helpers.metrics import evaluate, intervals
from helpers.view import style
from helpers.view.style import (
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE,
    PURPLE,
    RED,
    ends,
    grid,
    percent_axis,
    styled,
    whiskers,
)

SCORES = {
    "accuracy": "Accuracy",
    "average_precision": "Macro average precision",
}
LISTED = 30  # classes at most that stand in a picture with their names
WORST = 3  # classes that are named in a picture of all
BY_CLASS = {
    "average_precision": ("Average precision", "average precision"),
    "recall": ("Recall", "share found"),
}

# --- training


@styled
def learning_curves(history: pd.DataFrame, stacked: bool = False) -> Figure:
    """Loss and score by epoch: of training, of validation, and of what is scored for show.

    Thin lines are networks, thick ones their mean where all still train. Args: history; stacked one
    picture above the other, for a narrow page.
    """
    networks = ["fold", "seed"] if "seed" in history else ["fold"]
    names = history[networks].astype(str).agg(" ".join, axis=1)
    history = history.assign(network=names)
    trained = history.groupby("epoch")["network"].transform("nunique")
    together = history[trained == names.nunique()]
    several = any(name.endswith("average_precision") for name in history)
    score = "average_precision" if several else "accuracy"
    marker = "o" if history["epoch"].nunique() == 1 else None  # there is no line to be seen
    rows, columns, size = (2, 1, (3.7, 5.6)) if stacked else (1, 2, (9.5, 3.4))
    figure, (left, right) = plt.subplots(rows, columns, figsize=size)
    for axis, column, colour, name in (
        (left, "train_loss", BLUE, "training (altered clips)"),
        (left, "unaltered_loss", GREEN, "training clips as they are"),
        (left, "held_out_loss", ORANGE, "tested fold, for show"),
        (left, "validation_loss", PURPLE, "validation"),
        (right, "train_accuracy", BLUE, "training (altered clips)"),
        (right, f"unaltered_{score}", GREEN, "training clips as they are"),
        (right, f"held_out_{score}", ORANGE, "tested fold, for show"),
        (right, f"validation_{score}", PURPLE, "validation, per clip"),
    ):
        if column in history:
            line = {"x": "epoch", "y": column, "color": colour, "ax": axis, "marker": marker}
            thin = {"units": "network", "estimator": None, "linewidth": 1, "alpha": 0.25}
            sns.lineplot(history, **line, **thin)
            sns.lineplot(
                together,
                **line,
                errorbar=None,
                linewidth=2.2,
                label=name,
            )
    left.set(title="Loss", xlabel="epoch", ylabel="cross-entropy (nats)")
    right.set(title=SCORES[score], xlabel="epoch", ylabel="", ylim=(0, 1.02))
    percent_axis(right.yaxis)
    for axis in (left, right):
        grid(axis, "y")
        axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True, min_n_ticks=1))
    return figure


@styled
def curves(table: pd.DataFrame, title: str, unit: str = "") -> Figure:
    """Lines over a share in [0, 1], the first column, one for each other column of a table."""
    share, *names = table
    figure, axis = plt.subplots(figsize=(4.4, 2.8))
    for name, colour in zip(names, COLOURS, strict=False):
        axis.plot(table[share], table[name], color=colour, linewidth=2, label=name)
    axis.set(title=title, xlabel=share, ylabel=unit)
    axis.legend()
    percent_axis(axis.xaxis)
    grid(axis, "y")
    return figure


@styled
def label_vectors(vectors: pd.DataFrame) -> Figure:
    """What a clip should be answered with, step by step: shares [steps, classes] as colours.

    Of many classes those with the largest shares.
    """
    largest = vectors.max().nlargest(12).index
    vectors = vectors[[name for name in vectors if name in largest]].rename(columns=style.wrapped)
    figure, axis = plt.subplots(figsize=(2.2 + 0.6 * vectors.shape[1], 1.2 + 0.5 * len(vectors)))
    cells = {"cmap": "Blues", "vmin": 0, "vmax": 1, "annot": True, "fmt": ".3f"}
    sns.heatmap(
        vectors,
        cbar=False,
        linewidths=1,
        annot_kws={"fontsize": 9},
        ax=axis,
        **cells,
    )
    axis.tick_params(length=0)
    axis.tick_params("x", rotation=45)
    axis.tick_params("y", rotation=0)
    axis.set(title="The answer that is asked for", xlabel="", ylabel="")
    return figure


# --- scores


@styled
def one_redraw(times: pd.Series, most: int = 50) -> Figure:
    """How often each source was drawn in one redraw. Args: times by source; most that are shown."""
    shown_times = times.head(most)
    figure, axis = plt.subplots(figsize=(4.4, 2.6))
    colours = np.where(shown_times > 0, BLUE, "white")
    axis.bar(range(len(shown_times)), shown_times, color=colours, width=0.8)
    axis.axhline(1, color=ORANGE, linewidth=1)
    missing = np.flatnonzero(shown_times == 0)
    axis.plot(missing, 0 * missing + 0.12, "x", color=RED, markersize=4, clip_on=False)
    which = f"the first {most} of {len(times)} sources" if most < len(times) else "the sources"
    axis.set(title="One redraw", xlabel=f"{which} (x: not drawn)", ylabel="times drawn", xticks=[])
    axis.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    grid(axis, "y")
    return figure


@styled
def redraws(samples: np.ndarray, score: dict, metric: str) -> Figure:
    """Scores of the bootstrap's redraws, with the score itself and its interval below.

    Args: samples [draws], NaN where one says nothing; score value, low and high; metric its name.
    """
    figure, axis = plt.subplots(figsize=(5.4, 3))
    sns.histplot(
        x=samples,
        bins=24,
        color=BLUE,
        alpha=0.5,
        ax=axis,
    )
    axis.axvline(score["value"], color=ORANGE, linewidth=1.5)
    below = axis.inset_axes([0, -0.42, 1, 0.12], sharex=axis)
    whiskers(below, [[score["value"], score["low"], score["high"]]], ORANGE)
    below.set(
        yticks=[], ylim=(-1, 1), xlabel=f"{evaluate.in_words(metric)}, with its 95 % interval"
    )
    axis.set(title=f"{len(samples)} redraws of the sources", ylabel="redraws", xlabel="")
    axis.tick_params("x", labelbottom=False)
    percent_axis(axis.xaxis)
    grid(axis)
    return figure


@styled
def confusion(matrix, labels: list[str], title: str = "Which class is taken for which?") -> Figure:
    """A confusion matrix [true, predicted] as a heat map: shares in colour, counts in print.

    Of more than LISTED classes those with most errors.
    """
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    if len(labels) > LISTED:
        wrong = matrix - np.diag(np.diag(matrix))
        busiest = np.sort(np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind="stable")[:LISTED])
        title = f"{title} The {LISTED} of {len(labels)} classes with most errors"
        matrix = matrix[np.ix_(busiest, busiest)]
        share = share[np.ix_(busiest, busiest)]
        labels = [labels[number] for number in busiest]
    size = min(0.52 * len(labels), 7) + 2
    width = 24 if len(labels) <= 12 else 48  # two lines have room in large cells only
    labels = [style.wrapped(label, width) for label in labels]
    figure, axis = plt.subplots(figsize=(size + 1.2, size))
    cells = {"cmap": "Blues", "vmin": 0, "vmax": 1, "cbar": False, "square": True}
    counts = {"annot": matrix, "fmt": ".0f", "annot_kws": {"fontsize": 9}, "mask": matrix == 0}
    sns.heatmap(
        share,
        xticklabels=labels,
        yticklabels=labels,
        ax=axis,
        **cells,
        **counts,
    )
    turned = {"rotation": 45, "ha": "right"} if len(labels) <= 12 else {"rotation": 90}
    axis.set_xticklabels(labels, **turned)
    axis.tick_params("y", rotation=0)
    axis.set(title=title, xlabel="predicted", ylabel="true")
    return figure


@styled
def roc_curves(predictions: pd.DataFrame, labels: list[str]) -> Figure:
    """ROC curves of the classes against the rest: the WORST few by name, the others grey."""
    figure, axis = plt.subplots(figsize=(3.8, 4.2))
    truth = targets.matrix(predictions["label"], labels) > 0
    both = truth.any(axis=0) & ~truth.all(axis=0)
    told = [
        (there, predictions[label], label) for there, label in zip(truth.T, labels, strict=True)
    ]
    told = [entry for entry, is_told in zip(told, both, strict=True) if is_told]
    areas = {label: roc_auc_score(there, scores) for there, scores, label in told}
    worst = sorted(areas, key=areas.get)[:WORST]
    colours = dict(zip(worst, (RED, ORANGE, BLUE), strict=False))
    for there, scores, label in sorted(told, key=lambda entry: entry[2] in colours):
        false, true, _ = roc_curve(there, scores)
        name = f"{style.wrapped(label)} {areas[label]:.2f}" if label in colours else None
        look = {"color": colours.get(label, PALE), "linewidth": 1.8 if name else 1.0}
        axis.plot(false, true, label=name, **look)
    style.diagonal(axis)
    axis.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
    axis.set(title="ROC of each class")
    axis.legend(loc="lower right", title="lowest areas")
    grid(axis, "both")
    return figure


@styled
def score_by_class(table: pd.DataFrame) -> Figure:
    """The score of each class with its 95 % interval, the hardest class at the top, LISTED at most.

    Args: table of evaluate.per_class: it holds recall, or average precision.
    """
    metric = next(name for name in BY_CLASS if f"{name}_low" in table)
    title, words = BY_CLASS[metric]
    of = f"the {LISTED} hardest of {len(table)}; " if len(table) > LISTED else ""
    table = table.head(LISTED).iloc[::-1]
    figure, axis = plt.subplots(figsize=(8, 0.36 * len(table) + 1.1))
    whiskers(axis, table[ends(metric)])
    names = []
    for row in table.itertuples():
        few = f"; {row.sources} sources" if row.sources < intervals.FEW else ""
        names.append(f"{style.wrapped(row.label)} ({row.recordings}{few})")
    axis.set_yticks(range(len(table)), names)
    axis.set(title=f"{title} by class ({of}recordings)", xlabel=f"{words}, with its 95 % interval")
    axis.set(xlim=(0, 1.02), ylim=(-0.6, len(table) - 0.4))
    percent_axis(axis.xaxis)
    grid(axis)
    return figure


@styled
def leaderboard(table: pd.DataFrame, metrics, title="The models, on the same folds") -> Figure:
    """Two metrics of each model with their 95 % intervals, the best at the top; beside it what each
    is behind the best.

    Models that the data cannot tell from the best, whose paired difference may be 0, are drawn full
    and marked with =, the others hollow. Args: table of leaderboard.csv; metrics the names of two
    of its columns; title.
    """
    table = table.sort_values(metrics[0], kind="stable")
    tied = evaluate.ties(table).to_numpy()
    names = table["model"].where(~tied | (tied.sum() == 1), table["model"] + "  =")
    size = (9.5, 0.55 * len(table) + 1.6)
    figure, (left, right) = plt.subplots(
        1,
        2,
        figsize=size,
        width_ratios=(5, 3),
        sharey=True,
    )
    for offset, metric, colour in zip((0.12, -0.12), metrics, (BLUE, ORANGE), strict=True):
        whiskers(left, table[ends(metric)], colour, offset, tied)
        left.plot(
            [],
            [],
            "o",
            color=colour,
            label=evaluate.in_words(metric),
        )
    left.plot(
        [],
        [],
        "o",
        color=INK,
        markerfacecolor="white",
        label="clearly below the best",
    )
    whiskers(right, 100 * table[ends(evaluate.DIFFERENCE)], full=tied)
    right.axvline(0, color=GREY, linewidth=1, linestyle=":")
    left.set_yticks(range(len(table)), names)
    right.tick_params(left=False)
    left.set(title=title, xlabel="score, with its 95 % interval")
    right.set(title="Behind the best, paired", xlabel=f"points of {evaluate.in_words(metrics[0])}")
    percent_axis(left.xaxis)
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    grid(left)
    grid(right)
    return figure


@styled
def weights(table: pd.DataFrame) -> Figure:
    """The weights of a blend's members: learned on all folds, with the least and the most of those
    learned without one.

    Args: table of `blend.weights`.
    """
    table = table.iloc[::-1]
    folds = table.drop(columns="all")
    figure, axis = plt.subplots(figsize=(8, 0.4 * len(table) + 1.3))
    whiskers(axis, np.stack([table["all"], folds.min(axis=1), folds.max(axis=1)], axis=1))
    axis.set_yticks(range(len(table)), map(style.wrapped, table.index))
    axis.set(title="What each member counts", ylim=(-0.6, len(table) - 0.4), xlim=(-0.02, 1.02))
    axis.set(xlabel="weight, with its range where each fold in turn is left out")
    percent_axis(axis.xaxis)
    grid(axis)
    return figure


@styled
def tried_settings(trials: pd.DataFrame, shares: dict[str, float]) -> Figure:
    """The score of each trial of a search by the value of each setting, with their means.

    For a narrow page. Args: trials of `search.read_trials`, the preset's own first; shares of the
        settings that are shown, as of `search.importance`.
    """
    heights = [trials[setting].nunique() + 1.2 for setting in shares]
    size = (4, 0.27 * sum(heights) + 1.1)
    figure, axes = plt.subplots(
        len(shares), 1, figsize=size, height_ratios=heights, sharex=True, squeeze=False
    )
    for axis, (setting, share) in zip(axes.flat, shares.items(), strict=True):
        _one_setting(axis, trials, setting)
        axis.set_title(f"{setting} · {100 * share:.0f} % of the spread", fontsize=10)
        grid(axis)
    metric = evaluate.in_words(trials["metric"].iloc[0])
    axes[-1, 0].set_xlabel(
        f"{metric} of a trial; line: their mean;\nsquare: the preset's; orange: the best"
    )
    percent_axis(axes[-1, 0].xaxis)
    return figure


def _one_setting(axis, trials, setting):
    """The trials by their value of a setting, a row each."""
    values = sorted(trials[setting].unique())
    placed = trials.assign(row=trials[setting].map(values.index))
    best = placed.loc[placed["score"].idxmax()]
    own = placed.iloc[0]
    means = placed.groupby("row")["score"].mean()
    axis.scatter(means, means.index, s=200, marker="|", color=INK, linewidths=2)
    points = {"color": BLUE, "alpha": 0.45, "linewidths": 0}
    axis.scatter(placed["score"], placed["row"], s=22, **points)
    square = {"s": 46, "marker": "s", "facecolors": "none", "edgecolors": INK}
    axis.scatter(own["score"], own["row"], **square)
    axis.scatter(best["score"], best["row"], s=46, color=ORANGE, zorder=3)
    axis.set_yticks(range(len(values)), [style.wrapped(str(value)) for value in values])
    axis.set_ylim(-0.6, len(values) - 0.4)


@styled
def more_recordings(curves: list[dict], metric: str) -> Figure:
    """The score by the number of recordings that are learned from, each twice the one before.

    Args: curves of `learning_curve.drawn`; metric that they are of.
    """
    figure, axis = plt.subplots(figsize=(6.4, 3.2))
    line = {"marker": "o", "capsize": 3, "linewidth": 1.6}
    for curve, colour, aside in zip(curves, (BLUE, ORANGE), (1, 1.03), strict=False):
        points = pd.DataFrame(curve["sizes"])
        reach = np.abs(points[["low", "high"]].sub(points["value"], axis=0)).T
        places = points["recordings"] * aside  # whiskers do not hide each other
        axis.errorbar(
            places, points["value"], yerr=reach, color=colour, label=curve["model"], **line
        )
    if len(curves) > 1:
        axis.legend(frameon=False)
    axis.set_xscale("log", base=2)
    axis.set_xticks(points["recordings"], points["recordings"].map("{:.0f}".format))
    axis.minorticks_off()
    axis.set(title="Would more recordings help?", xlabel="recordings to learn from, in each round")
    axis.set(ylabel=f"{evaluate.in_words(metric)}, with its 95 % interval")
    percent_axis(axis.yaxis)
    grid(axis, "y")
    return figure


@styled
def leak_gap(gap: dict, metric: str) -> Figure:
    """What a quick model seems to score under a leaking split, and what it scores honestly.

    Args: gap of rivals.leak_gap; metric one of its metrics.
    """
    figure, axis = plt.subplots(figsize=(8, 1.7))
    for row, (name, colour) in enumerate((("honest", BLUE), ("leaking", RED))):
        score = gap[name][metric]
        whiskers(axis, [[score["value"], score["low"], score["high"]]], colour, offset=row)
    axis.set_yticks([0, 1], ["certified folds", "copies and clips at random"])
    words = f"{metric.replace('_', ' ')}, with its 95 % interval"
    axis.set(title="The same model, two splits", xlabel=words, ylim=(-0.6, 1.6))
    percent_axis(axis.xaxis)
    grid(axis)
    return figure


@styled
def reliability(table: pd.DataFrame, ece: float) -> Figure:
    """How often the model is right at each confidence.

    On the diagonal its probabilities mean what they say. Args as `decisions.calibration` returns.
    """
    figure, axis = plt.subplots(figsize=(3.8, 4.2))
    style.diagonal(axis)
    sizes = 14 + 260 * table["recordings"] / table["recordings"].max()
    axis.scatter(
        table["confidence"],
        table["accuracy"],
        s=sizes,
        color=BLUE,
        alpha=0.8,
    )
    axis.set(title=f"Confidence, ECE {100 * ece:.1f} %", aspect="equal")
    axis.set(xlabel="confidence", ylabel="share that was right", xlim=(0, 1.03), ylim=(0, 1.03))
    grid(axis, "both")
    return figure


@styled
def changes(table: pd.DataFrame, title: str) -> Figure:
    """What each change alone does to the score, of `worth`, with its 95 % interval.

    Full where the change is clear.
    """
    table = table.iloc[::-1]
    figure, axis = plt.subplots(figsize=(8.6, 0.5 * len(table) + 1.2))
    unclear = table["change_low"].le(0) & table["change_high"].ge(0)
    whiskers(axis, table[ends("change")], full=~unclear)
    axis.axvline(0, color=GREY, linewidth=1, linestyle=":")
    names = table["step"] + ": " + table["setting"] + " → " + table["tried"]
    axis.set_yticks(range(len(table)), names)
    metric = evaluate.in_words(table["metric"].iloc[0])
    axis.set(
        title=title,
        xlabel=f"change in {metric} where this alone is changed, points",
        ylim=(-0.6, len(table) - 0.4),
    )
    axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(steps=[1, 2, 5, 10]))
    axis.xaxis.set_major_formatter(lambda value, _: f"{100 * value + 0.0:+.4g}")
    grid(axis)
    return figure
