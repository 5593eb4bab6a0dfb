"""Figures of training and of scores, from arrays and tables.

Every function returns a matplotlib Figure, in the house style of `style`.
"""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_curve

from helpers import targets
from helpers.style import BLUE, GREY, INK, ORANGE, RED, grid, shown, styled


@styled
def learning_curves(history):
    """Loss and the score on validation by epoch: thin lines for the networks, their mean where all still train."""
    networks = ["fold", "seed"] if "seed" in history else ["fold"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 3.6))
    score = next((name for name in ("validation_accuracy", "validation_average_precision") if name in history), "")
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
    right.set(title="Macro average precision" if "precision" in score else "Accuracy", xlabel="epoch", ylim=(0, 1.02))
    right.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1, decimals=0))
    for axis in (left, right):
        grid(axis, "y")
        if axis.get_legend_handles_labels()[0]:
            axis.legend(loc="best", fontsize=9)
    return figure


@styled
def confusion(matrix, labels, title="Which class is taken for which?"):
    """A confusion matrix as a heat map: rows true, columns predicted, shares of each row in colour, counts in print."""
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
    axis.set(title="ROC, each class against the rest", xlabel="false positive rate", ylabel="true positive rate")
    axis.set_aspect("equal")
    axis.legend(bbox_to_anchor=(1.02, 1), loc="upper left", fontsize=8.5)
    grid(axis, "both")
    return figure


@styled
def score_by_class(table):
    """The score of each class with its 95 % interval, the hardest class at the top: recall, or average precision."""
    table, metric = table.iloc[::-1], "average_precision" if "average_precision" in table else "recall"
    figure, axis = plt.subplots(figsize=(8, 0.36 * len(table) + 1.1))
    whiskers(axis, table[metric], table[f"{metric}_low"], table[f"{metric}_high"], BLUE)
    axis.set_yticks(range(len(table)), [f"{row.label} ({row.recordings})" for row in table.itertuples()])
    named = {"recall": ("Recall", "share found"), "average_precision": ("Average precision", "average precision")}
    title, axis_name = named[metric]
    axis.set(title=f"{title} by class (recordings)", xlabel=f"{axis_name}, with its 95 % interval")
    axis.set(xlim=(0, 1.02), ylim=(-0.6, len(table) - 0.4))
    axis.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1, decimals=0))
    grid(axis)
    return figure


@styled
def leaderboard(table, title="The models, on the same folds"):
    """The two first metrics of each model with their 95 % intervals, the best at the top.

    Models whose interval in the first metric overlaps the best one's are drawn full, the others hollow: within the
    shaded band the data does not say who is better.
    """
    first, second = [column.removesuffix("_low") for column in table if column.endswith("_low")][:2]
    table = table.sort_values(first, kind="stable")
    best, name_column = table.iloc[-1], table.columns[0]
    figure, axis = plt.subplots(figsize=(8.6, 0.55 * len(table) + 1.3))
    axis.axvspan(best[f"{first}_low"], best[f"{first}_high"], color=BLUE, alpha=0.08, linewidth=0)
    tied = table[f"{first}_high"].ge(best[f"{first}_low"]).to_numpy()
    for offset, metric, colour in ((0.12, first, BLUE), (-0.12, second, ORANGE)):
        whiskers(axis, table[metric], table[f"{metric}_low"], table[f"{metric}_high"], colour, offset, tied)
        axis.plot([], [], "o", color=colour, label=metric.replace("_", " ").replace("f1", "F1"))
    axis.plot([], [], "o", color=INK, markerfacecolor="white", label="clearly below the best")
    axis.set_yticks(
        range(len(table)),
        [f"{name}  =" if tie and tied.sum() > 1 else name for name, tie in zip(table[name_column], tied, strict=True)],
    )
    axis.set(title=title, xlabel="score, with its 95 % interval")
    axis.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1, decimals=0))
    axis.legend(bbox_to_anchor=(1.01, 1), loc="upper left", fontsize=9)
    grid(axis)
    return figure


def whiskers(axis, value, low, high, colour, offset=0.0, full=True):
    """Points with their intervals, one per row from the bottom up; hollow where not `full` (bool, or one per row)."""
    value, error = np.asarray(value, dtype=float), np.maximum([value - low, high - value], 0)
    for row, filled in enumerate(np.broadcast_to(full, len(value))):
        axis.errorbar(
            value[row], row + offset, xerr=error[:, row : row + 1], fmt="o", color=colour, capsize=3, linewidth=1.6,
            markerfacecolor=colour if filled else "white",
        )  # fmt: skip


@styled
def leak_gap(gap, metric):
    """What a quick model seems to score under a leaking split, and what it scores honestly; gap of compare.leak_gap."""
    figure, axis = plt.subplots(figsize=(8, 1.7))
    names = {"leaking": "copies and clips at random", "honest": "certified folds"}
    for row, (name, colour) in enumerate((("honest", BLUE), ("leaking", RED))):
        entry = gap[name][metric]
        error = [[entry["value"] - entry["low"]], [entry["high"] - entry["value"]]]
        axis.errorbar(entry["value"], row, xerr=error, fmt="o", color=colour, capsize=4, linewidth=2)
    axis.set_yticks([0, 1], [names["honest"], names["leaking"]])
    axis.set(title="The same model, two splits", xlabel=f"{metric.replace('_', ' ')}, with its 95 % interval")
    axis.set(ylim=(-0.6, 1.6))
    axis.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1, decimals=0))
    grid(axis)
    return figure


@styled
def reliability(table, ece):
    """How often the model is right at each confidence; on the diagonal its probabilities mean what they say."""
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
        title=f"Can its confidence be believed? (ECE {ece:.1%})", xlabel="confidence", ylabel="share that was right"
    )
    axis.set(xlim=(0, 1.03), ylim=(0, 1.03))
    grid(axis, "both")
    return figure


@styled
def changes(table, title):
    """What each change alone does to the score, of `ledger` or `ablation`: with its 95 % interval; full where clear."""
    table = table.iloc[::-1]
    figure, axis = plt.subplots(figsize=(8.6, 0.5 * len(table) + 1.2))
    clear = ~table["change_low"].le(0).to_numpy() | ~table["change_high"].ge(0).to_numpy()
    whiskers(axis, table["change"], table["change_low"], table["change_high"], BLUE, full=clear)
    axis.axvline(0, color=GREY, linewidth=1, linestyle=":")
    axis.set_yticks(range(len(table)), [f"{row.step}: {row.setting} → {row.tried}" for row in table.itertuples()])
    metric = table["metric"].iloc[0].replace("_", " ")
    axis.set(title=title, xlabel=f"change in {metric} where this alone is changed, points")
    axis.set(ylim=(-0.6, len(table) - 0.4))
    axis.xaxis.set_major_formatter(lambda value, _: f"{100 * value:+.1f}")
    grid(axis)
    return figure
