"""The house style of figures: colours, fonts, and the decorator that every figure function wears.

Colours are Okabe and Ito's (2008), which colour-blind readers can tell apart.
"""

import functools

import matplotlib
import matplotlib.pyplot as plt

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#8A8F98",
)  # fmt: skip
INK = "#22303C"
STYLE = {
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#B8C0C8",
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": "#55626E",
    "ytick.color": "#55626E",
    "axes.prop_cycle": matplotlib.cycler(color=[BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY]),
    "legend.frameon": False,
    "savefig.bbox": "tight",
    "text.parse_math": False,  # a label with dollar signs is a label
}


@functools.cache
def fonts():
    """DejaVu Sans, and behind it what this machine has for labels in other scripts."""
    there = set(matplotlib.font_manager.get_font_names())
    others = (
        "Noto Sans CJK JP",
        "Noto Sans CJK SC",
        "WenQuanYi Zen Hei",
        "Hiragino Sans",
        "Noto Sans",
        "Arial Unicode MS",
    )
    return ["DejaVu Sans", *(name for name in others if name in there)]


def styled(function):
    """Draw a figure in the house style, and close it so that a notebook shows it once."""

    @functools.wraps(function)
    def draw(*args, **kwargs):
        with plt.rc_context({**STYLE, "font.family": fonts()}):
            figure = function(*args, **kwargs)
            figure.canvas.draw()
        plt.close(figure)
        return figure

    return draw


def percent_axis(axis):
    """Shares as per cents along an axis (axes.xaxis or axes.yaxis), ticks where their texts say."""
    axis.set_major_locator(matplotlib.ticker.MaxNLocator("auto", steps=[1, 2, 5, 10]))
    axis.set_major_formatter(lambda share, _: f"{round(100 * share, 6) + 0.0:g} %")


def grid(axis, which="x"):
    axis.grid(axis=which, color="#E3E7EB", linewidth=0.8)
    axis.set_axisbelow(True)


def shown(label):
    """A label as a legend shows it: matplotlib would leave out one that begins with an underscore."""
    return " " + label if label.startswith("_") else label
