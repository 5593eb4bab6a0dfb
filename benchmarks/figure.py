"""The figure of a benchmark: how many times as fast, beside what was aimed at, and growth with the
data.
"""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib import ticker

from helpers.view import style


@style.styled
def draw(results):
    """The figure of what `bench.run` measured."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
    compared = {name: record for name, record in results["details"].items() if "target" in record}
    draw_ratios(left, {name.replace("_", " "): record for name, record in compared.items()})
    if "growth" in results:
        draw_growth(right, pd.DataFrame(results["growth"]["measured"]))
    else:
        right.set_axis_off()
    return figure


def draw_ratios(axis, records):
    """A bar per comparison, from the slowest to the fastest single turn a line, a tick at the
    target.
    """
    for place, (name, record) in enumerate(records.items()):
        axis.barh(place, record["ratio"], color=style.BLUE, height=0.6)
        axis.plot(record["ratio_of_single_turns"], [place, place], color=style.INK, linewidth=2)
        axis.plot(
            [record["target"]] * 2, [place - 0.4, place + 0.4], color=style.ORANGE, linewidth=3
        )
        label = f"{name}\n{record['plain_ms_per_clip']:.1f} → {record['ours_ms_per_clip']:.1f} ms"
        axis.text(
            -0.02,
            place,
            label,
            ha="right",
            va="center",
            transform=axis.get_yaxis_transform(),
            fontsize=9,
        )
    axis.set_yticks([])
    axis.invert_yaxis()
    axis.set(title="Times as fast as the plain way", xlabel="ratio of medians (orange: target)")
    style.grid(axis)


def draw_growth(axis, table):
    """Seconds over size, a line per stage, both axes logarithmic."""
    for stage, part in table.groupby("stage", sort=False):
        axis.plot(part["size"], part["seconds"], marker="o", label=stage)
    axis.set(
        xscale="log",
        yscale="log",
        title="Time over data",
        xlabel="times the data",
        ylabel="seconds",
    )
    axis.set_xticks(sorted(table["size"].unique()), sorted(table["size"].unique()))
    axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    style.grid(axis, "both")
