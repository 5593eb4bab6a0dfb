"""Figures of training and of scores, from arrays and tables.

Every function returns a matplotlib Figure, in the house style of `style`.
"""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from helpers.base import targets
from helpers.metrics import evaluate, intervals
from helpers.view.style import BLUE, GREY, INK, ORANGE, RED, grid, percent_axis, shown, styled


@styled
def learning_curves(history):
    """Loss and the score on validation by epoch: thin lines for the networks, their mean where all
    still train.
    """
    networks = ["fold", "seed"] if "seed" in history else ["fold"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 3.6))
    score = next(
        (
            name
            for name in ("validation_accuracy", "validation_average_precision")
            if name in history
        ),
        "",
    )
    curves = [
        (left, "train_loss", BLUE, "training (altered clips)"),
        (left, "validation_loss", ORANGE, "validation"),
        (right, "train_accuracy", BLUE, "training (altered clips)"),
        (right, score, ORANGE, "validation, per clip"),
    ]
    for axis, column, colour, name in curves:
        if column in history:
            for _, network in history.groupby(networks):
                axis.plot(network["epoch"], network[column], color=colour, alpha=0.25, linewidth=1)
            epochs = history.groupby("epoch")[column]
            mean = epochs.mean()[epochs.count() == history.groupby(networks).ngroups]
            axis.plot(mean.index, mean, color=colour, linewidth=2.2, label=name)
    left.set(title="Loss", xlabel="epoch", ylabel="cross-entropy (nats)")
    right.set(
        title="Macro average precision" if "precision" in score else "Accuracy",
        xlabel="epoch",
        ylim=(0, 1.02),
    )
    percent_axis(right.yaxis)
    for axis in (left, right):
        grid(axis, "y")
        if axis.get_legend_handles_labels()[0]:
            axis.legend(loc="best", fontsize=9)
    return figure


@styled
def confusion(matrix, labels, title="Which class is taken for which?"):
    """A confusion matrix as a heat map: rows true, columns predicted, shares of each row in colour,
    counts in print.
    """
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    size = 0.52 * len(labels) + 2
    figure, axis = plt.subplots(figsize=(size + 1.2, size))
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.argwhere(matrix > 0):
        axis.text(
            j,
            i,
            f"{matrix[i, j]:.0f}",
            ha="center",
            va="center",
            fontsize=9,
            color="white" if share[i, j] > 0.55 else INK,
        )
    axis.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
    axis.set_yticks(range(len(labels)), labels)
    axis.spines[:].set_visible(False)
    axis.set(title=title, xlabel="predicted", ylabel="true")
    return figure


@styled
def roc_curves(predictions, labels):
    """One ROC curve per class against the rest."""
    figure, axis = plt.subplots(figsize=(6.8, 4.4))
    colours = matplotlib.colormaps["tab20"](np.linspace(0, 1, len(labels)))
    for label, colour in zip(labels, colours, strict=True):
        truth = targets.matrix(predictions["label"], labels)[:, labels.index(label)] > 0
        if truth.any() and not truth.all():
            false, true, _ = roc_curve(truth, predictions[label])
            axis.plot(false, true, color=colour, linewidth=1.8, label=shown(label))
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="chance")
    axis.set(
        title="ROC, each class against the rest",
        xlabel="false positive rate",
        ylabel="true positive rate",
    )
    axis.set_aspect("equal")
    axis.legend(bbox_to_anchor=(1.02, 1), loc="upper left", fontsize=8.5)
    grid(axis, "both")
    return figure


@styled
def score_by_class(table):
    """The score of each class with its 95 % interval, the hardest class at the top: recall, or
    average precision.
    """
    table, metric = (
        table.iloc[::-1],
        "average_precision" if "average_precision" in table else "recall",
    )
    figure, axis = plt.subplots(figsize=(8, 0.36 * len(table) + 1.1))
    whiskers(axis, table[metric], table[f"{metric}_low"], table[f"{metric}_high"], BLUE)
    few = [f"; {count} sources" if count < intervals.FEW else "" for count in table["sources"]]
    counts = [
        f"{label} ({count}"
        for label, count in zip(table["label"], table["recordings"], strict=True)
    ]
    axis.set_yticks(
        range(len(table)), [f"{text}{note})" for text, note in zip(counts, few, strict=True)]
    )
    named = {
        "recall": ("Recall", "share found"),
        "average_precision": ("Average precision", "average precision"),
    }
    title, axis_name = named[metric]
    axis.set(title=f"{title} by class (recordings)", xlabel=f"{axis_name}, with its 95 % interval")
    axis.set(xlim=(0, 1.02), ylim=(-0.6, len(table) - 0.4))
    percent_axis(axis.xaxis)
    grid(axis)
    return figure


@styled
def leaderboard(table, metrics, title="The models, on the same folds"):
    """Two metrics of each model with their 95 % intervals, the best at the top; beside it what each
    is behind the best.

    Models that the data cannot tell from the best, whose paired difference may be 0, are drawn full
    and marked with =, the others hollow. Args: table of leaderboard.csv; metrics the names of two
    of its columns; title.
    """
    table = table.sort_values(metrics[0], kind="stable")
    tied, rows = evaluate.ties(table).to_numpy(), range(len(table))
    size = (10.4, 0.55 * len(table) + 1.6)
    figure, (left, right) = plt.subplots(1, 2, figsize=size, width_ratios=(5, 3), sharey=True)
    for offset, metric, colour in zip((0.12, -0.12), metrics, (BLUE, ORANGE), strict=True):
        whiskers(
            left,
            table[metric],
            table[f"{metric}_low"],
            table[f"{metric}_high"],
            colour,
            offset,
            tied,
        )
        left.plot([], [], "o", color=colour, label=evaluate.in_words(metric))
    left.plot([], [], "o", color=INK, markerfacecolor="white", label="clearly below the best")
    whiskers(
        right, *(100 * table[f"difference{end}"] for end in ("", "_low", "_high")), BLUE, full=tied
    )
    right.axvline(0, color=GREY, linewidth=1, linestyle=":")
    several = tied.sum() > 1
    names = [
        f"{name}  =" if tie and several else name
        for name, tie in zip(table["model"], tied, strict=True)
    ]
    left.set_yticks(rows, names)
    right.tick_params(left=False)
    left.set(title=title, xlabel="score, with its 95 % interval")
    right.set(title="Behind the best, paired", xlabel=f"points of {evaluate.in_words(metrics[0])}")
    percent_axis(left.xaxis)
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9
    )
    for axis in (left, right):
        grid(axis)
    return figure


def whiskers(axis, value, low, high, colour, offset=0.0, full=True):
    """Points with their intervals, one per row from the bottom up; hollow where not `full` (bool,
    or one per row).
    """
    value, error = np.asarray(value, dtype=float), np.maximum([value - low, high - value], 0)
    for row, filled in enumerate(np.broadcast_to(full, len(value))):
        axis.errorbar(
            value[row], row + offset, xerr=error[:, row : row + 1], fmt="o", color=colour, capsize=3, linewidth=1.6,
            markerfacecolor=colour if filled else "white",
        )  # fmt: skip


@styled
def leak_gap(gap, metric):
    """What a quick model seems to score under a leaking split, and what it scores honestly; gap of
    compare.leak_gap.
    """
    figure, axis = plt.subplots(figsize=(8, 1.7))
    names = {"leaking": "copies and clips at random", "honest": "certified folds"}
    for row, (name, colour) in enumerate((("honest", BLUE), ("leaking", RED))):
        entry = gap[name][metric]
        error = [[entry["value"] - entry["low"]], [entry["high"] - entry["value"]]]
        axis.errorbar(
            entry["value"], row, xerr=error, fmt="o", color=colour, capsize=4, linewidth=2
        )
    axis.set_yticks([0, 1], [names["honest"], names["leaking"]])
    axis.set(
        title="The same model, two splits",
        xlabel=f"{metric.replace('_', ' ')}, with its 95 % interval",
    )
    axis.set(ylim=(-0.6, 1.6))
    percent_axis(axis.xaxis)
    grid(axis)
    return figure


@styled
def reliability(table, ece):
    """How often the model is right at each confidence; on the diagonal its probabilities mean what
    they say.
    """
    figure, axis = plt.subplots(figsize=(4.8, 4.2))
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    axis.scatter(
        table["confidence"],
        table["accuracy"],
        s=14 + 260 * table["recordings"] / table["recordings"].max(),
        color=BLUE,
        alpha=0.8,
    )
    axis.set(
        title=f"Can its confidence be believed? (ECE {ece:.1%})",
        xlabel="confidence",
        ylabel="share that was right",
    )
    axis.set(xlim=(0, 1.03), ylim=(0, 1.03))
    grid(axis, "both")
    return figure


@styled
def changes(table, title):
    """What each change alone does to the score, as of `worth`: with its 95 % interval;
    full where clear.
    """
    table = table.iloc[::-1]
    figure, axis = plt.subplots(figsize=(8.6, 0.5 * len(table) + 1.2))
    clear = ~table["change_low"].le(0).to_numpy() | ~table["change_high"].ge(0).to_numpy()
    whiskers(axis, table["change"], table["change_low"], table["change_high"], BLUE, full=clear)
    axis.axvline(0, color=GREY, linewidth=1, linestyle=":")
    axis.set_yticks(
        range(len(table)),
        [f"{row.step}: {row.setting} → {row.tried}" for row in table.itertuples()],
    )
    metric = evaluate.in_words(table["metric"].iloc[0])
    axis.set(title=title, xlabel=f"change in {metric} where this alone is changed, points")
    axis.set(ylim=(-0.6, len(table) - 0.4))
    axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(steps=[1, 2, 5, 10]))
    axis.xaxis.set_major_formatter(lambda value, _: f"{100 * value + 0.0:+.4g}")
    grid(axis)
    return figure


@styled
def shortcut_scores(audit):
    """What each column, and each kind of them together, tells by itself: AUC with its 95 %
    interval, flagged ones in red and on top; audit of audit.shortcuts or audit.adversarial.
    """
    table = pd.DataFrame([*audit["columns"], *audit["kinds"]]).iloc[::-1].reset_index(drop=True)
    figure, axis = plt.subplots(figsize=(8.4, 0.34 * len(table) + 1.4))
    axis.axvline(audit["chance"], color=GREY, linewidth=1, linestyle=":")
    for flagged, colour in ((False, BLUE), (True, RED)):
        rows = table.where(table["flagged"].eq(flagged))
        whiskers(axis, rows["auc"], rows["low"], rows["high"], colour)
        if "class" in table:
            axis.plot(
                rows["class_auc"],
                rows.index,
                "d",
                color=colour,
                markerfacecolor="white",
                markersize=5,
            )
    axis.plot(
        [], [], "o", color=INK, label="mean over the classes" if "class" in table else audit["asks"]
    )
    if "class" in table:
        axis.plot([], [], "d", color=INK, markerfacecolor="white", label="the class told best")
    if table["flagged"].any():
        axis.plot([], [], "s", color=RED, label="flagged")
    axis.plot([], [], color=GREY, linestyle=":", label="chance")
    axis.set_yticks(range(len(table)), table["column"].str.replace("_", " "))
    for text in [
        tick
        for tick, flagged in zip(axis.get_yticklabels(), table["flagged"], strict=True)
        if flagged
    ]:
        text.set(color=RED, fontweight="bold")
    axis.set(
        title=f"What tells {audit['asks']} without listening?",
        xlabel="area under the ROC curve, with its 95 % interval",
    )
    axis.set(xlim=(min(0.38, table["low"].min() - 0.02), 1.02), ylim=(-0.6, len(table) - 0.4))
    axis.legend(bbox_to_anchor=(1.01, 1), loc="upper left", fontsize=9)
    grid(axis)
    return figure
