"""Figures from arrays and tables.

Every function returns a matplotlib Figure. Colours are Okabe and Ito's, which colour-blind readers can tell apart;
where every class needs its own, there are not enough of them, and tab20 it is.
"""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.metrics import roc_curve

from helpers import features
from helpers.style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, RED, grid, shown, styled

# --- the recordings ----------------------------------------------------------------------------------------


@styled
def class_counts(table, title="Recordings per class"):
    """Horizontal bars: recordings per label, most at the top. table has a column label."""
    counts = table["label"].value_counts().sort_values()
    figure, axis = plt.subplots(figsize=(8, 0.32 * len(counts) + 1))
    bars = axis.barh(counts.index, counts, color=BLUE, height=0.7)
    axis.bar_label(bars, padding=4, color="#55626E")
    axis.set(title=title, xlabel="recordings")
    grid(axis)
    return figure


@styled
def recording_facts(recordings):
    """Four pictures of a recordings table: durations, sample rates, levels, codecs."""
    heard = recordings[recordings["status"].eq("ok")]
    figure, axes = plt.subplots(1, 4, figsize=(12.5, 3))
    axes[0].hist(heard["duration_seconds"], bins=24, color=BLUE)
    axes[0].set(title="How long?", xlabel="seconds", ylabel="recordings")
    rates = heard["sample_rate"].value_counts().sort_index()
    axes[1].barh([f"{rate / 1000:g} kHz" for rate in rates.index.astype(int)], rates, color=GREEN)
    axes[1].set(title="Which rate?", xlabel="recordings")
    axes[2].hist(heard["rms_db"], bins=24, color=ORANGE)
    axes[2].set(title="How loud?", xlabel="RMS level (dBFS)")
    codecs = heard["codec"].value_counts().sort_values()
    axes[3].barh(codecs.index, codecs, color=PURPLE)
    axes[3].set(title="Which format?", xlabel="recordings")
    for axis, which in zip(axes, ("y", "x", "y", "x"), strict=True):
        grid(axis, which)
    return figure


@styled
def fold_counts(clips):
    """Stacked bars: recordings per fold, coloured by label."""
    train = clips[clips["split"].eq("train")].drop_duplicates("recording_id")
    table = train.pivot_table(index="fold", columns="label", values="recording_id", aggfunc="count", fill_value=0)
    figure, axis = plt.subplots(figsize=(8, 0.45 * len(table) + 1.6))
    left, colours = np.zeros(len(table)), matplotlib.colormaps["tab20"](np.linspace(0, 1, len(table.columns)))
    for label, colour in zip(table.columns, colours, strict=True):
        axis.barh(
            [f"fold {fold}" for fold in table.index],
            table[label],
            left=left,
            color=colour,
            label=shown(label),
            height=0.7,
        )
        left += table[label].to_numpy()
    axis.invert_yaxis()
    axis.set(title="Recordings per fold, coloured by class", xlabel="recordings")
    axis.legend(bbox_to_anchor=(1.01, 1), loc="upper left", fontsize=8.5)
    return figure


# --- a clip, seen and heard --------------------------------------------------------------------------------


@styled
def waveform_and_mel(waveform, config, seconds=None):
    """A small picture: waveform above, log-mel below. waveform float32 [samples] at the config's rate."""
    rate, settings = config.audio.sample_rate, config.features
    length = len(waveform) / rate
    mel = features.shared_log_mel(config)(torch.from_numpy(np.ascontiguousarray(waveform))[None])[0].numpy()
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(4.2, 2.7), sharex=True, height_ratios=[1, 2.2])
    top.fill_between(*envelope(waveform, rate), color=BLUE, linewidth=0)
    top.axhline(0, color="#B8C0C8", linewidth=0.6)
    top.set(ylim=(-1, 1), yticks=[])
    top.spines[:].set_visible(False)
    top.tick_params(bottom=False)
    bottom.imshow(
        mel, origin="lower", aspect="auto", cmap="magma", extent=(0, length, 0, 1), vmin=mel.max() - features.RANGE_DB
    )
    bottom.set(xlim=(0, seconds or length), xlabel="seconds", ylabel="kHz")
    bottom.set_yticks(*mel_ticks(settings, rate))
    return figure


def envelope(waveform, sample_rate, points=400):
    """Time (s), lowest and highest value in each of `points` stretches: what a waveform looks like from afar."""
    parts = np.array_split(waveform, min(points, len(waveform)))
    time = np.linspace(0, len(waveform) / sample_rate, len(parts))
    return time, [part.min() for part in parts], [part.max() for part in parts]


def mel_ticks(settings, sample_rate):
    """Positions in [0, 1] on the mel axis of round frequencies, and their names in kHz."""
    low, high = features.hz_to_mel(np.array([settings.f_min, settings.f_max or sample_rate / 2]))
    khz = [k for k in (0.25, 1, 4, 16) if low < features.hz_to_mel(np.array(k * 1000.0)) < high]
    return [float((features.hz_to_mel(np.array(k * 1000.0)) - low) / (high - low)) for k in khz], [
        f"{k:g}" for k in khz
    ]


@styled
def image_wall(paths, titles, columns=8):
    """The spectrogram images as the models see them, in rows; paths of PNG files."""
    rows = -(-len(paths) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.5 * columns, 1.75 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, path, title in zip(axes.flat, paths, titles, strict=False):
        axis.imshow(plt.imread(path))
        axis.set_title(title, fontsize=9, loc="center", pad=3, fontweight="normal")
    return figure


@styled
def feature_spread(table, columns):
    """A box per class for each of some feature columns: which features tell the classes apart?"""
    train = table[table["split"].eq("train") & table["parent_id"].eq("")]
    labels = sorted(train["label"].unique())
    figure, axes = plt.subplots(1, len(columns), figsize=(3.1 * len(columns), 0.3 * len(labels) + 1.2), sharey=True)
    for axis, column in zip(np.atleast_1d(axes), columns, strict=True):
        values = [train.loc[train["label"].eq(label), column] for label in labels]
        axis.boxplot(values, orientation="horizontal", showfliers=False, widths=0.6, medianprops={"color": RED})
        axis.set_yticks(range(1, len(labels) + 1), labels)
        axis.set_title(column.replace("_", " "), fontsize=10)
        grid(axis)
    return figure


# --- training and scores -----------------------------------------------------------------------------------


@styled
def learning_curves(history):
    """Loss and validation accuracy by epoch: thin lines for the folds, their mean where all still train."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 3.6))
    curves = [
        (left, "train_loss", BLUE, "training (mixed, smoothed)"),
        (left, "validation_loss", ORANGE, "validation (plain)"),
    ]
    for axis, column, colour, name in [*curves, (right, "validation_accuracy", GREEN, "validation, per clip")]:
        if column in history:
            for _, fold in history.groupby("fold"):
                axis.plot(fold["epoch"], fold[column], color=colour, alpha=0.25, linewidth=1)
            epochs = history.groupby("epoch")[column]
            mean = epochs.mean()[epochs.count() == history["fold"].nunique()]
            axis.plot(mean.index, mean, color=colour, linewidth=2.2, label=name)
    left.set(title="Loss", xlabel="epoch", ylabel="cross-entropy (nats)")
    right.set(title="Accuracy", xlabel="epoch", ylim=(0, 1.02))
    right.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1, decimals=0))
    for axis in (left, right):
        grid(axis, "y")
        if axis.lines:
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
        truth = predictions["label"].eq(label)
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
def recall_by_class(table):
    """Recall of each class with its 95 % interval, the hardest class at the top."""
    table = table.iloc[::-1]
    figure, axis = plt.subplots(figsize=(8, 0.36 * len(table) + 1.1))
    whiskers(axis, table["recall"], table["recall_low"], table["recall_high"], BLUE)
    axis.set_yticks(range(len(table)), [f"{row.label} ({row.recordings})" for row in table.itertuples()])
    axis.set(title="Recall by class (recordings)", xlabel="share found, with its 95 % interval")
    axis.set(xlim=(0, 1.02), ylim=(-0.6, len(table) - 0.4))
    axis.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1, decimals=0))
    grid(axis)
    return figure


@styled
def leaderboard(table):
    """Accuracy and macro F1 of each model with 95 % intervals, the best at the top."""
    table = table.sort_values("accuracy")
    figure, axis = plt.subplots(figsize=(8, 0.55 * len(table) + 1.3))
    for offset, metric, colour in ((0.12, "accuracy", BLUE), (-0.12, "macro_f1", ORANGE)):
        name = metric.replace("_", " ").replace("f1", "F1")
        whiskers(axis, table[metric], table[f"{metric}_low"], table[f"{metric}_high"], colour, offset, name)
    axis.set_yticks(range(len(table)), table["model"])
    axis.set(title="The models, on the same folds", xlabel="score, with its 95 % interval")
    axis.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1, decimals=0))
    axis.legend(bbox_to_anchor=(1.01, 1), loc="upper left", fontsize=9)
    grid(axis)
    return figure


def whiskers(axis, value, low, high, colour, offset=0.0, label=None):
    """Points with their intervals, one per row from the bottom up."""
    error = np.maximum([value - low, high - value], 0)
    axis.errorbar(
        value, np.arange(len(value)) + offset, xerr=error, fmt="o", color=colour, capsize=3, linewidth=1.6, label=label
    )


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
