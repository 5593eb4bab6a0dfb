"""The house style of figures: seaborn's colours and axes, and what every figure function wears.

Colours are seaborn's "colorblind", after Okabe and Ito (2008): colour-blind readers can tell them
apart.
"""

import functools
import textwrap
from collections.abc import Callable

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes

COLOURS = list(sns.color_palette("colorblind").as_hex())
BLUE, ORANGE, GREEN, RED, PURPLE = COLOURS[:5]
GREY = "#8A8F98"
PALE = "#B8C0C8"
INK = "#22303C"
SOFT = "#55626E"  # of numbers along an axis
LINE = "#E3E7EB"  # of grids
# What these colours are called on a page that has a dark side too.
OF_PAGE = {
    BLUE: "--blue",
    INK: "--ink",
    SOFT: "--soft",
    LINE: "--line",
    PALE: "--line",
    GREY: "--soft",
}
STYLE = {
    **sns.axes_style("ticks"),
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": PALE,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "axes.prop_cycle": matplotlib.cycler(color=COLOURS),
    "grid.color": LINE,
    "legend.frameon": False,
    "savefig.bbox": "tight",
    "text.parse_math": False,  # a label with dollar signs is a label
}
SCRIPTS = [  # fonts for labels that DejaVu Sans cannot write
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "WenQuanYi Zen Hei",
    "Hiragino Sans",
    "Noto Sans",
    "Arial Unicode MS",
]


@functools.cache
def fonts() -> list[str]:
    """DejaVu Sans, and behind it what this machine has for labels in other scripts."""
    installed = matplotlib.font_manager.get_font_names()
    return ["DejaVu Sans", *(name for name in SCRIPTS if name in installed)]


def styled(function: Callable) -> Callable:
    """Draw a figure in the house style, and close it so that a notebook shows it once."""

    @functools.wraps(function)
    def draw(*args, **kwargs):
        with plt.rc_context({**STYLE, "font.family": fonts()}):
            figure = function(*args, **kwargs)
            figure.canvas.draw()
        plt.close(figure)
        return figure

    return draw


def whiskers(
    axis: Axes,
    scores,
    colour: str = BLUE,
    offset: float = 0.0,
    full=True,
) -> None:
    """Points with their intervals, a row each from the bottom up.

    Args: axis; scores value, low, high [rows, 3]; colour; offset of the points from their rows;
        full, bool or one per row: the others are drawn hollow.
    """
    value, low, high = np.asarray(scores, dtype=float).T
    rows = np.arange(len(value)) + offset
    reach = np.maximum([value - low, high - value], 0)
    bars = {"color": colour, "capsize": 3, "linewidth": 1.6}
    axis.errorbar(value, rows, xerr=reach, fmt="none", **bars)
    inside = np.where(np.broadcast_to(full, len(value)), colour, "white")
    axis.scatter(value, rows, s=36, c=inside, edgecolors=colour, zorder=3)


def diagonal(axis: Axes) -> None:
    """The dotted line from (0, 0) to (1, 1): chance, or a promise kept."""
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")


def wrapped(label: str, width: int = 24) -> str:
    """A label in two lines at most, as it stands beside a picture.

    >>> wrapped("a name of a class that is quite long indeed")
    'a name of a class that\\nis quite long indeed'
    """
    lines = textwrap.wrap(label, width, max_lines=2, placeholder="…")
    return shown("\n".join(lines))


def ends(name: str) -> list[str]:
    """The columns of a score and its interval.

    >>> ends("accuracy")
    ['accuracy', 'accuracy_low', 'accuracy_high']
    """
    return [name, f"{name}_low", f"{name}_high"]


def percent_axis(axis: matplotlib.axis.Axis) -> None:
    """Shares as per cents along an axis (axes.xaxis or axes.yaxis), ticks where their texts say."""
    axis.set_major_locator(matplotlib.ticker.MaxNLocator("auto", steps=[1, 2, 5, 10]))
    axis.set_major_formatter(lambda share, _: f"{round(100 * share, 6) + 0.0:g} %")


def grid(axis: Axes, which: str = "x") -> None:
    """Pale lines behind a picture, at the ticks of "x", "y" or "both"."""
    axis.grid(axis=which, linewidth=0.8)


def legend_beside(axis: Axes, **options) -> None:
    """The legend of a picture to the right of it."""
    axis.legend(bbox_to_anchor=(1.01, 1), loc="upper left", fontsize=8.5, **options)


def shown(label: str) -> str:
    """A label as a legend shows it: matplotlib leaves out one that begins with an underscore."""
    return " " + label if label.startswith("_") else label
