"""Figures from arrays and tables.

Every function returns a matplotlib Figure. Colours are Okabe and Ito's, which colour-blind readers
can tell apart; where every class needs its own, there are not enough of them, and tab20 it is.
"""

import librosa
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from helpers.audio import features
from helpers.view.style import BLUE, GREEN, ORANGE, PURPLE, RED, grid, shown, styled

# --- the recordings
# ----------------------------------------------------------------------------------------


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
    train = clips[clips["split"].eq("train")].drop_duplicates(["recording_id", "label"])
    table = train.pivot_table(
        index="fold", columns="label", values="recording_id", aggfunc="count", fill_value=0
    )
    figure, axis = plt.subplots(figsize=(8, 0.45 * len(table) + 1.6))
    left, colours = (
        np.zeros(len(table)),
        matplotlib.colormaps["tab20"](np.linspace(0, 1, len(table.columns))),
    )
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


# --- a clip, seen and heard
# --------------------------------------------------------------------------------


@styled
def waveform_and_mel(waveform, config, seconds=None):
    """A small picture: waveform above, log-mel below. waveform float32 [samples] at the config's
    rate.
    """
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(4.2, 2.7), sharex=True, height_ratios=[1, 2.2]
    )
    _wave(top, waveform, config.audio.sample_rate)
    top.set(yticks=[])
    top.spines[:].set_visible(False)
    top.tick_params(bottom=False)
    _mel(bottom, waveform, config)
    bottom.set(xlim=(0, seconds or len(waveform) / config.audio.sample_rate))
    return figure


@styled
def cleaning_step(
    waveform: np.ndarray,
    config,
    seconds: float,
    kept: tuple[float, float] | None = None,
) -> plt.Figure:
    """A waveform large enough to see what was done to it, and its log-mel; shaded what will be cut.

    Args: waveform float32 [samples]; config; seconds that the axis shows; kept (from, to), seconds.
    """
    rate, length = config.audio.sample_rate, len(waveform) / config.audio.sample_rate
    heights = {"figsize": (4.2, 4), "height_ratios": [1.4, 1]}
    figure, (top, bottom) = plt.subplots(2, 1, sharex=True, **heights)
    _wave(top, waveform, rate)
    top.set(ylabel="of full scale", yticks=[-1, -0.5, 0, 0.5, 1])
    grid(top, "y")
    _mel(bottom, waveform, config)
    for start, stop in [] if kept is None else [(0, kept[0]), (kept[1], length)]:
        top.axvspan(start, stop, color=RED, alpha=0.3, linewidth=0)
        bottom.axvspan(start, stop, color=RED, alpha=0.3, linewidth=0)
    bottom.set(xlim=(0, seconds))
    return figure


@styled
def network_input(x: np.ndarray, seconds: float, limit: float = 1.0) -> plt.Figure:
    """A clip of a batch: a picture [bands, frames], or a waveform [samples] within limit."""
    figure, axis = plt.subplots(figsize=(3, 1.7))
    if x.ndim == 1:
        _wave(axis, x, len(x) / seconds)
        axis.set(ylim=(-limit, limit))
    else:
        axis.imshow(x, origin="lower", aspect="auto", cmap="magma", extent=(0, seconds, 0, 1))
    axis.set(yticks=[], xlabel="seconds", xlim=(0, seconds))
    return figure


def _wave(axis, waveform, rate):
    """The outline of a waveform, full scale from bottom to top."""
    axis.fill_between(*envelope(waveform, rate), color=BLUE, linewidth=0)
    axis.axhline(0, color="#B8C0C8", linewidth=0.6)
    axis.set(ylim=(-1, 1))


def _mel(axis, waveform, config):
    """The log-mel of a waveform, its axis in kHz."""
    rate, length = config.audio.sample_rate, len(waveform) / config.audio.sample_rate
    samples = torch.from_numpy(np.ascontiguousarray(waveform))
    mel = features.shared_log_mel(config)(samples[None])[0].numpy()
    floor = mel.max() - features.RANGE_DB
    place = {"origin": "lower", "aspect": "auto", "extent": (0, length, 0, 1)}
    axis.imshow(mel, cmap="magma", vmin=floor, **place)
    axis.set(xlabel="seconds", ylabel="kHz")
    axis.set_yticks(*mel_ticks(config.features, rate))


def envelope(waveform, sample_rate, points=400):
    """Time (s), lowest and highest value in each of `points` stretches: what a waveform looks like
    from afar.
    """
    parts = np.array_split(waveform, min(points, len(waveform)))
    time = np.linspace(0, len(waveform) / sample_rate, len(parts))
    return time, [part.min() for part in parts], [part.max() for part in parts]


def mel_ticks(settings, sample_rate):
    """Positions in [0, 1] on the mel axis of round frequencies, and their names in kHz."""
    low, high = librosa.hz_to_mel([settings.f_min, settings.f_max or sample_rate / 2])
    khz = np.array([0.25, 1, 4, 16])
    places = (librosa.hz_to_mel(1000 * khz) - low) / (high - low)
    inside = (places > 0) & (places < 1)
    return places[inside].tolist(), [f"{k:g}" for k in khz[inside]]


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
    figure, axes = plt.subplots(
        1, len(columns), figsize=(3.1 * len(columns), 0.3 * len(labels) + 1.2), sharey=True
    )
    for axis, column in zip(np.atleast_1d(axes), columns, strict=True):
        values = [train.loc[train["label"].eq(label), column] for label in labels]
        axis.boxplot(
            values,
            orientation="horizontal",
            showfliers=False,
            widths=0.6,
            medianprops={"color": RED},
        )
        axis.set_yticks(range(1, len(labels) + 1), labels)
        axis.set_title(column.replace("_", " "), fontsize=10)
        grid(axis)
    return figure


@styled
def correlations(table, columns):
    """How far features say the same: their correlations (Spearman) over the training clips, alike
    ones side by side.
    """
    train = table[table["split"].eq("train") & table["parent_id"].eq("")]
    ranks = train[columns].rank().fillna(0)
    ranks = ranks.loc[:, ranks.nunique() > 1]
    found = ranks.corr()
    order = leaves_list(linkage(squareform(1 - found.abs().to_numpy(), checks=False), "average"))
    found = found.iloc[order, order]
    size = 0.24 * len(found) + 2
    figure, axis = plt.subplots(figsize=(size + 1, size))
    image = axis.imshow(found, cmap="RdBu_r", vmin=-1, vmax=1)
    names = [name.replace("_", " ") for name in found]
    axis.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.spines[:].set_visible(False)
    axis.set_title("Which features say the same? (rank correlation)")
    figure.colorbar(image, ax=axis, shrink=0.6)
    return figure
