"""Figures of recordings, clips, folds and features, from arrays and tables.

Every function returns a matplotlib Figure in the house style of `style`. Where every class needs a
colour of its own, there are not enough for colour-blind readers, and tab20 it is.
"""

import librosa
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.preprocessing import StandardScaler

from helpers.audio import features
from helpers.base import targets
from helpers.view import style
from helpers.view.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE,
    PURPLE,
    RED,
    grid,
    styled,
)

FEW_GROUPS = 7  # of which each is shown in a colour of its own
LEAKAGE = [  # titles, and the source of each clip that is learned from, and tested on
    ("Clip by clip: a leak", "Source by source"),
    ("AABBCD", "AAABBB"),
    ("ABCD", "CCDD"),
]
CENTRED = {"ha": "center", "va": "center", "fontsize": 13}
LISTED = 30  # classes at most that stand in a picture with their names
COLOURED = 19  # classes at most that have a colour each
MAPPED = 800  # clips of a map at most
KILOHERTZ = np.array([0.25, 1, 4, 16])  # on the axis of a spectrogram


# --- recordings


@styled
def class_counts(
    table: pd.DataFrame, title: str = "Recordings per class", multilabel: bool = False
) -> Figure:
    """Horizontal bars: recordings per label, most at the top. table has a column label.

    With multilabel a recording counts for each of its labels. Of many classes the largest and the
    smallest are shown.
    """
    table = targets.by_class(table, multilabel)
    order = table["label"].value_counts().index
    if len(order) > LISTED:
        title = f"{title}: the {LISTED // 2} largest and smallest of {len(order)}"
        order = order[: LISTED // 2].append(order[-LISTED // 2 :])
    figure, axis = plt.subplots(figsize=(8, 0.32 * len(order) + 1))
    _counts(axis, table["label"], order, BLUE)
    axis.set_yticks(range(len(order)), [style.wrapped(label) for label in order])
    axis.bar_label(axis.containers[0], padding=4, color="#55626E")
    axis.set(title=title)
    return figure


@styled
def recording_facts(recordings: pd.DataFrame) -> Figure:
    """Four pictures of a recordings table: durations, sample rates, levels, codecs."""
    heard = recordings[recordings["status"].eq("ok")]
    figure, axes = plt.subplots(2, 2, figsize=(9.5, 5.6))
    axes = axes.flat
    sns.histplot(x=heard["duration_seconds"], bins=24, color=BLUE, ax=axes[0])
    axes[0].set(title="How long?", xlabel="seconds", ylabel="recordings")
    rates = heard["sample_rate"].sort_values(ascending=False).astype(int)
    kilohertz = (rates / 1000).map("{:g} kHz".format)
    _counts(axes[1], kilohertz, kilohertz.unique(), GREEN)
    axes[1].set(title="Which rate?")
    sns.histplot(x=heard["rms_db"], bins=24, color=ORANGE, ax=axes[2])
    axes[2].set(title="How loud?", xlabel="RMS level (dBFS)", ylabel="")
    _counts(axes[3], heard["codec"], heard["codec"].value_counts().index, PURPLE)
    axes[3].set(title="Which format?")
    grid(axes[0], "y")
    grid(axes[2], "y")
    return figure


def _counts(axis, values, order, colour):
    """Bars: how often each value occurs, in an order from the top down."""
    sns.countplot(
        y=values,
        order=order,
        color=colour,
        saturation=1,
        width=0.7,
        ax=axis,
    )
    axis.set(xlabel="recordings", ylabel="")
    grid(axis)


# --- folds


@styled
def fold_counts(clips: pd.DataFrame, multilabel: bool = False) -> Figure:
    """Stacked bars: recordings per fold, coloured by label, of many the largest."""
    by_class = targets.by_class(clips[clips["split"].eq("train")], multilabel)
    train = by_class.drop_duplicates(["recording_id", "label"])
    counts = train["label"].value_counts()
    largest = counts.index[:COLOURED]
    order = sorted(largest.map(style.shown))
    palette = sns.color_palette("tab20", len(order))
    if len(counts) > COLOURED:
        order = ["all others", *order]
        palette = [style.LINE, *palette]
    labels = train["label"].where(train["label"].isin(largest), "all others").map(style.shown)
    axis = _fold_bars(train, labels, order, palette)
    axis.set(title="Recordings per fold, coloured by class")
    place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1)}
    sns.move_legend(axis, **place, title=None, fontsize=8.5)
    return axis.figure


@styled
def group_folds(clips: pd.DataFrame) -> Figure:
    """The same bars, coloured by group: the largest ones have a colour each, the others are pale.

    Args: clips table with recording_id, group, fold, split.
    """
    train = clips[clips["split"].eq("train")].drop_duplicates("recording_id")
    largest = train["group"].value_counts().index[:FEW_GROUPS]
    groups = train["group"].where(train["group"].isin(largest), "all others")
    colours = ["#E3E7EB", *style.COLOURS[:FEW_GROUPS]]
    order = ["all others", *largest]
    axis = _fold_bars(train, groups, order, colours[: len(order)])
    axis.set(title="Where the largest groups lie: a colour is a group")
    axis.get_legend().remove()
    return axis.figure


@styled
def leakage() -> Figure:
    """A drawing: ten clips of four sources, dealt out clip by clip and source by source."""
    figure, axes = plt.subplots(1, 2, figsize=(6, 2.4))
    for axis, title, learned, tested in zip(axes, *LEAKAGE, strict=True):
        for height, letters in ((1, learned), (0, tested)):
            for place, letter in enumerate(letters):
                box = {"boxstyle": "square", "color": style.COLOURS["ABCD".index(letter)]}
                axis.text(place, height, letter, color="white", bbox=box, **CENTRED)
        axis.set(xlim=(-0.6, 5.6), ylim=(-0.6, 1.6), xticks=[])
        axis.set_yticks([1, 0], ["learned from", "tested on"])
        axis.tick_params(length=0, labelsize=12)
        axis.set_title(title, fontsize=13)
        sns.despine(ax=axis, left=True, bottom=True)
    axes[1].set(yticks=[])
    return figure


def fold_name(number: int) -> str:
    """What a fold is called in figures.

    >>> fold_name(2), fold_name(-1)
    ('fold 2', 'only learned')
    """
    return f"fold {number}" if number >= 0 else "only learned"


def _fold_bars(train, hue, order, palette):
    """Stacked bars: recordings per fold, coloured by a Series hue; returns the axes."""
    folds = train["fold"].sort_values().map(fold_name)
    height = max(0.45 * folds.nunique() + 1.6, 0.21 * len(order))
    _, axis = plt.subplots(figsize=(8, height))
    stack = {"multiple": "stack", "shrink": 0.7, "alpha": 1, "palette": palette}
    sns.histplot(
        y=folds,
        hue=hue[folds.index],
        hue_order=order,
        ax=axis,
        **stack,
    )
    axis.set(xlabel="recordings", ylabel="")
    return axis


@styled
def shortcut_scores(audit: dict) -> Figure:
    """What each column, and each kind of them, tells by itself: AUC with its 95 % interval.

    Flagged ones are red and on top. Args: audit of audit.shortcuts or audit.adversarial.
    """
    table = pd.DataFrame([*audit["columns"], *audit["kinds"]]).iloc[::-1].reset_index(drop=True)
    by_class = "class" in table
    figure, axis = plt.subplots(figsize=(8.4, 0.34 * len(table) + 1.4))
    axis.axvline(
        audit["chance"],
        color=GREY,
        linewidth=1,
        linestyle=":",
        label="chance",
    )
    for flagged, colour in ((False, BLUE), (True, RED)):
        rows = table.where(table["flagged"].eq(flagged))
        style.whiskers(axis, rows[["auc", "low", "high"]], colour)
        if by_class:
            axis.scatter(
                rows["class_auc"],
                rows.index,
                marker="d",
                c="white",
                edgecolors=colour,
            )
    mean = "mean over the classes" if by_class else audit["asks"]
    axis.plot(
        [],
        [],
        "o",
        color=INK,
        label=mean,
    )
    if by_class:
        best = {"markerfacecolor": "white", "label": "the class told best"}
        axis.plot(
            [],
            [],
            "d",
            color=INK,
            **best,
        )
    if table["flagged"].any():
        axis.plot(
            [],
            [],
            "s",
            color=RED,
            label="flagged",
        )
    axis.set_yticks(range(len(table)), table["column"].str.replace("_", " "))
    for row in np.flatnonzero(table["flagged"]):
        axis.get_yticklabels()[row].set(color=RED, fontweight="bold")
    area = "area under the ROC curve, with its 95 % interval"
    axis.set(title=f"What tells {audit['asks']} without listening?", xlabel=area)
    axis.set(xlim=(min(0.38, table["low"].min() - 0.02), 1.02), ylim=(-0.6, len(table) - 0.4))
    style.legend_beside(axis)
    grid(axis)
    return figure


# --- a clip, seen and heard


@styled
def waveform_and_mel(waveform: np.ndarray, config, seconds: float | None = None) -> Figure:
    """A small picture: waveform above, log-mel below.

    Args: waveform float32 [samples] at the config's rate; config; seconds that the axis shows.
    """
    rate = config.audio.sample_rate
    heights = {"figsize": (3.4, 2.4), "height_ratios": [1, 2.2]}
    figure, (top, bottom) = plt.subplots(2, 1, sharex=True, **heights)
    _wave(top, waveform, rate)
    top.set(yticks=[])
    top.tick_params(bottom=False)
    sns.despine(ax=top, left=True, bottom=True)
    _mel(bottom, waveform, config)
    bottom.set(xlim=(0, seconds or len(waveform) / rate))
    return figure


@styled
def cleaning_step(
    waveform: np.ndarray,
    config,
    seconds: float,
    kept: tuple[float, float] | None = None,
) -> Figure:
    """A waveform large enough to see what was done to it, and its log-mel; shaded what will be cut.

    Args: waveform float32 [samples]; config; seconds that the axis shows; kept (from, to), seconds.
    """
    rate = config.audio.sample_rate
    length = len(waveform) / rate
    heights = {"figsize": (3.4, 3.4), "height_ratios": [1.4, 1]}
    figure, (top, bottom) = plt.subplots(2, 1, sharex=True, **heights)
    _wave(top, waveform, rate)
    top.set(ylabel="of full scale", yticks=[-1, -0.5, 0, 0.5, 1])
    grid(top, "y")
    _mel(bottom, waveform, config)
    start, stop = kept or (0, length)
    for axis in (top, bottom) if kept else ():
        axis.axvspan(
            0,
            start,
            color=RED,
            alpha=0.3,
            linewidth=0,
        )
        axis.axvspan(
            stop,
            length,
            color=RED,
            alpha=0.3,
            linewidth=0,
        )
    bottom.set(xlim=(0, seconds))
    return figure


@styled
def events(waveform: np.ndarray, config, heard: pd.DataFrame, there: pd.DataFrame) -> Figure:
    """The log-mel of a long recording, and below it what was heard over what is there, by class.

    Args: waveform float32 [samples]; config; heard and there: onset, offset (seconds), label.
    """
    names = list(dict.fromkeys([*there["label"], *heard["label"]]))
    heights = {
        "figsize": (4.6, 2.9 + 0.3 * len(names)),
        "height_ratios": [2, 0.6 + 0.3 * len(names)],
    }
    figure, (top, bottom) = plt.subplots(2, 1, sharex=True, **heights)
    _mel(top, waveform, config)
    top.set(xlabel="")
    for table, height, colour, name in ((there, 0.8, PALE, "there"), (heard, 0.4, BLUE, "heard")):
        lanes = table["label"].map(names.index)
        lengths = table["offset"] - table["onset"]
        bars = {"left": table["onset"], "height": height, "color": colour, "label": name}
        bottom.barh(lanes, lengths, **bars)
    bottom.set_yticks(range(len(names)), map(style.shown, names))
    bottom.set(xlabel="seconds", ylim=(len(names) - 0.4, -0.6))
    bottom.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=11)
    for axis in (top, bottom):
        axis.tick_params(labelsize=11)
        axis.xaxis.label.set_size(11)
        axis.yaxis.label.set_size(11)
    return figure


@styled
def network_input(x: np.ndarray, seconds: float, limit: float = 1.0) -> Figure:
    """A clip of a batch: a picture [bands, frames], or a waveform [samples] within limit."""
    figure, axis = plt.subplots(figsize=(1.9, 1.3))
    if x.ndim == 1:
        _wave(axis, x, len(x) / seconds)
        axis.set(ylim=(-limit, limit))
    else:
        _picture(axis, x, seconds)
    axis.set(yticks=[], xlabel="seconds", xlim=(0, seconds))
    return figure


@styled
def heard_where(waveform: np.ndarray, maps: dict[str, np.ndarray], config) -> Figure:
    """The log-mel of a clip, and over it where a network heard something, once for each map.

    Args: waveform float32 [samples]; maps [bands, frames] in [0, 1] by title; config.
    """
    size = {"figsize": (3.6, 1.8 * (1 + len(maps))), "sharex": True, "squeeze": False}
    figure, axes = plt.subplots(1 + len(maps), 1, **size)
    for axis in axes.flat:
        _mel(axis, waveform, config)
        axis.set(xlabel="")
    for axis, (title, seen) in zip(axes.flat[1:], maps.items(), strict=True):
        axis.images[0].set_cmap("gray")
        place = {"origin": "lower", "aspect": "auto", "extent": axis.images[0].get_extent()}
        axis.imshow(seen, cmap="autumn", alpha=0.75 * seen, **place)
        axis.set_title(title, fontsize=10)
    axes.flat[0].set_title("the clip", fontsize=10)
    axes.flat[-1].set(xlabel="seconds")
    return figure


@styled
def mel_filter(waveform: np.ndarray, config, band: int | None = None) -> Figure:
    """The mel bank with one filter filled, and the row of the log-mel that this filter makes.

    Args: waveform float32 [samples]; config; band from 0, the lowest; None: the loudest one.
    """
    settings = config.features
    rate = config.audio.sample_rate
    mel = _log_mel(waveform, config)
    band = int(mel.mean(axis=1).argmax()) if band is None else band
    shape = {"n_mels": settings.n_mels, "fmin": settings.f_min, "fmax": settings.f_max}
    filters = librosa.filters.mel(sr=rate, n_fft=settings.n_fft, **shape)
    khz = np.linspace(0, rate / 2000, filters.shape[1])
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(5.4, 5), height_ratios=[1, 1.6])
    top.plot(
        khz,
        filters.T,
        color=GREY,
        linewidth=0.4,
        alpha=0.6,
    )
    top.fill_between(khz, filters[band], color=ORANGE, linewidth=0)
    top.set(title=f"Filter {band + 1} of {len(filters)}", xlabel="kHz", ylabel="weight")
    _mel(bottom, waveform, config)
    edges = np.array([band, band + 1]) / len(mel)
    bottom.axhspan(*edges, fill=False, edgecolor="white", linewidth=1.2)
    bottom.set(title="What it makes of the clip: one row")
    return figure


def _wave(axis, waveform, rate):
    """The outline of a waveform, full scale from bottom to top."""
    axis.fill_between(*envelope(waveform, rate), color=BLUE, linewidth=0)
    axis.axhline(0, color=style.PALE, linewidth=0.6)
    axis.set(ylim=(-1, 1))


def _picture(axis, levels, seconds, floor=None):
    """A spectrogram [bands, frames], low bands at the bottom, brighter is louder."""
    place = {"origin": "lower", "aspect": "auto", "extent": (0, seconds, 0, 1)}
    axis.imshow(levels, cmap="magma", vmin=floor, **place)


def _mel(axis, waveform, config):
    """The log-mel of a waveform, its axis in kHz."""
    rate = config.audio.sample_rate
    mel = _log_mel(waveform, config)
    _picture(axis, mel, len(waveform) / rate, floor=mel.max() - features.RANGE_DB)
    axis.set(xlabel="seconds", ylabel="kHz")
    axis.set_yticks(*mel_ticks(config.features, rate))


def _log_mel(waveform, config):
    """The log-mel spectrogram of a waveform [samples]: float32 [bands, frames]."""
    samples = torch.from_numpy(np.ascontiguousarray(waveform))
    return features.shared_log_mel(config)(samples[None])[0].numpy()


def envelope(waveform: np.ndarray, sample_rate: int, points: int = 400):
    """What a waveform looks like from afar: (time in s, lowest, highest) of `points` stretches."""
    parts = np.array_split(waveform, min(points, len(waveform)))
    time = np.linspace(0, len(waveform) / sample_rate, len(parts))
    return time, [part.min() for part in parts], [part.max() for part in parts]


def mel_ticks(settings, sample_rate: int) -> tuple[list[float], list[str]]:
    """Positions in [0, 1] on the mel axis of round frequencies, and their names in kHz."""
    low, high = librosa.hz_to_mel([settings.f_min, settings.f_max or sample_rate / 2])
    places = (librosa.hz_to_mel(1000 * KILOHERTZ) - low) / (high - low)
    inside = (places > 0) & (places < 1)
    return places[inside].tolist(), [f"{khz:g}" for khz in KILOHERTZ[inside]]


# --- features


@styled
def image_wall(paths: list, titles: list[str], columns: int = 8) -> Figure:
    """The spectrogram images as the models see them, in rows; paths of PNG files."""
    rows = -(-len(paths) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.2 * columns, 1.5 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, path, title in zip(axes.flat, paths, titles, strict=False):
        axis.imshow(plt.imread(path))
        axis.set_title(
            title,
            fontsize=9,
            loc="center",
            pad=3,
            fontweight="normal",
        )
    return figure


@styled
def feature_spread(table: pd.DataFrame, columns: list[str], multilabel: bool = False) -> Figure:
    """A box per class for each of some feature columns: which features tell the classes apart?

    Of many classes the first LISTED, by name.
    """
    train = targets.by_class(_originals(table), multilabel)
    labels = sorted(train["label"].unique())
    labels = labels[:LISTED]
    size = (1.2 + 2 * len(columns), 0.3 * len(labels) + 1.2)
    figure, axes = plt.subplots(
        1,
        len(columns),
        figsize=size,
        sharey=True,
        squeeze=False,
    )
    boxes = {"fill": False, "color": INK, "width": 0.6, "linewidth": 1, "showfliers": False}
    for axis, column in zip(axes[0], columns, strict=True):
        values = train[column]
        median = {"color": RED}
        sns.boxplot(
            x=values,
            y=train["label"],
            order=labels,
            ax=axis,
            medianprops=median,
            **boxes,
        )
        axis.set(xlabel="", ylabel="")
        axis.set_yticks(range(len(labels)), [style.wrapped(label) for label in labels])
        axis.set_title(column.replace("_", " "), fontsize=10)
        grid(axis)
    return figure


@styled
def correlations(table: pd.DataFrame, columns: list[str]) -> Figure:
    """How far features say the same: rank correlations (Spearman), alike ones side by side."""
    ranks = _originals(table)[columns].rank().fillna(0)
    ranks = ranks.loc[:, ranks.nunique() > 1]
    alike = ranks.corr()
    distances = squareform(1 - alike.abs().to_numpy(), checks=False)
    order = leaves_list(linkage(distances, "average"))
    alike = alike.iloc[order, order].rename(columns=_spaced, index=_spaced)
    size = min(0.24 * len(alike), 7) + 2
    figure, axis = plt.subplots(figsize=(size + 1, size))
    colours = {"cmap": "vlag", "vmin": -1, "vmax": 1, "cbar_kws": {"shrink": 0.6}}
    sns.heatmap(
        alike,
        square=True,
        xticklabels=True,
        yticklabels=True,
        ax=axis,
        **colours,
    )
    axis.tick_params(labelsize=8, length=0)
    axis.set_title("Which features say the same? (rank correlation)")
    return figure


@styled
def listener_map(vectors: np.ndarray, rows: pd.DataFrame, multilabel: bool = False) -> Figure:
    """Training clips in the plane, those that a listener hears as alike near each other.

    Of many clips MAPPED; of many classes the largest have a colour each. Args: vectors float32
    [clips, size]; rows of waveforms.csv.
    """
    clips = _originals(rows)
    chosen = np.linspace(0, len(clips) - 1, min(MAPPED, len(clips))).astype(int)
    clips = clips.iloc[chosen]
    place = _plane(vectors[clips.index])
    first = clips["label"].map(lambda label: (targets.split(label, multilabel) or ["none"])[0])
    largest = first.value_counts().index[: len(style.COLOURS)]
    shown = first.where(first.isin(largest), "other classes")
    colours = dict(zip(largest, style.COLOURS, strict=False))
    figure, axis = plt.subplots(figsize=(8, 5.5))
    for label in dict.fromkeys([*largest, *shown]):
        dots = place[shown.eq(label)]
        colour = colours.get(label, PALE)
        axis.scatter(dots[:, 0], dots[:, 1], s=18, color=colour, label=style.wrapped(label))
    axis.set(xticks=[], yticks=[], title="What the listener hears as alike")
    style.legend_beside(axis)
    return figure


def _plane(vectors):
    """Places [clips, 2] in which alike vectors lie near each other: t-SNE (van der Maaten and
    Hinton 2008, https://jmlr.org/papers/v9/vandermaaten08a.html).
    """
    standard = StandardScaler().fit_transform(vectors)
    directions = PCA(min(50, *standard.shape), random_state=0).fit_transform(standard)
    perplexity = min(30, (len(standard) - 1) / 3)
    return TSNE(perplexity=perplexity, random_state=0).fit_transform(directions)


def _spaced(name):
    return name.replace("_", " ")


def _originals(table):
    """The training clips of a table, without their copies."""
    return table[table["split"].eq("train") & table["parent_id"].eq("")]
