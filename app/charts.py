"""Charts of the app: the classes as bars, the classes over time; times in words."""

import pandas as pd
import streamlit as st

BLUE, ORANGE = "#0173B2", "#DE8F05"  # as in helpers.view.style, which takes seconds to import
PALE = {False: "#B5CFE2", True: "#31485A"}  # by dark()
STRONG = {False: BLUE, True: "#5DB2EC"}
SCALES = {False: ["#EDF2F6", BLUE], True: ["#1B2630", "#5DB2EC"]}  # of probability, by dark()
INK = {False: "#22303C", True: "#E6EAEE"}
BACKGROUND = {False: "white", True: "#0E1117"}
LABELS = {  # of the axis that names the classes
    "labelLimit": 170,
    "ticks": False,
    "domain": False,
    "labelPadding": 6,
    "labelOverlap": False,
    "labelFlush": False,
}
MINUTES = "floor(datum.value / 60) + ':' + format(datum.value % 60, '02')"


def dark():
    """Whether the page is dark."""
    return st.context.theme.type == "dark"


def bars(overall, counted, limits=None):
    """Horizontal bars: the probability of each class, what counts as heard in full colour; limits
    are thresholds. Returns (table, Vega-Lite specification): altair takes seconds to import.
    """
    table = pd.DataFrame({"label": overall.index, "probability": overall.to_numpy()})
    table["heard"] = table["label"].isin(counted)
    scale = {"domain": [0, 1.15]}
    axis = {"format": "%", "values": [0, 0.25, 0.5, 0.75, 1]}
    colour = {"condition": {"test": "datum.heard", "value": STRONG[dark()]}, "value": PALE[dark()]}
    share = {"field": "probability", "type": "quantitative", "format": ".0%"}
    layers = [
        {"mark": {"type": "bar", "size": 16}, "encoding": {"color": colour}},
        {
            "mark": {"type": "text", "align": "left", "dx": 5, "color": INK[dark()]},
            "encoding": {"text": share},
        },
    ]
    if limits is not None:
        table["limit"] = limits[overall.index].to_numpy()
        limit = {"field": "limit", "type": "quantitative", "scale": scale}
        tick = {"type": "tick", "color": ORANGE, "thickness": 3, "size": 20}
        layers.append({"mark": tick, "encoding": {"x": limit}})
    place = {"field": "probability", "type": "quantitative", "title": None}
    return table, {
        "height": 26 * len(table) + 30,
        "encoding": {"x": {**place, "scale": scale, "axis": axis}, "y": classes(overall.index)},
        "layer": layers,
    }


def classes(names):
    """The axis that names the classes, in their order."""
    names = [str(name) for name in names]
    return {"field": "label", "type": "nominal", "sort": names, "title": None, "axis": LABELS}


def timeline(heard, labels):
    """A row per class along the time of the file, the stronger the more probable; where there is no
    sound it stays empty. Returns (table, Vega-Lite specification).

    Args: heard hearing.Hearing; labels the classes shown.
    """
    import numpy as np

    spans, found = heard.course()
    table = spans.loc[np.repeat(spans.index, len(labels))].reset_index(drop=True)
    table["label"] = np.tile(list(labels), len(spans))
    table["probability"] = found[list(labels)].to_numpy().ravel()
    table["heard"] = [
        f"{clock(a)} to {clock(b)}" for a, b in zip(table.onset, table.offset, strict=True)
    ]
    seconds = float(heard.heard.windows["end_seconds"].max())
    long = seconds >= 120
    axis = {"grid": False, "values": ticks(seconds), **({"labelExpr": MINUTES} if long else {})}
    share = {"field": "probability", "type": "quantitative"}
    colours = {"domain": [0, 1], "range": SCALES[dark()]}
    encoding = {
        "x": {
            "field": "onset",
            "type": "quantitative",
            "title": "minutes" if long else "seconds",
            "scale": {"nice": False, "domain": [0, seconds]},
            "axis": axis,
        },
        "x2": {"field": "offset"},
        "y": classes(labels),
        "color": {**share, "scale": colours, "legend": None},
        "tooltip": [
            {"field": "label", "type": "nominal"},
            {"field": "heard", "type": "nominal"},
            {**share, "format": ".1%"},
        ],
    }
    line = {"stroke": BACKGROUND[dark()], "strokeWidth": 1 if len(spans) <= 60 else 0}
    height = 24 * len(labels) + 60
    return table, {"mark": {"type": "rect", **line}, "encoding": encoding, "height": height}


def clock(seconds):
    """A time as it is spoken of: seconds below two minutes, minutes and seconds above.

    >>> clock(4.25), clock(60.0), clock(125), clock(900.0)
    ('4.2 s', '60 s', '2:05 min', '15 min')
    """
    minutes, rest = divmod(int(seconds), 60)
    if seconds < 120:
        return f"{round(seconds, 1):g} s"
    return f"{minutes}:{rest:02d} min" if rest else f"{minutes} min"


def moment(seconds):
    """A place in a recording, as players write it.

    >>> moment(20.4), moment(3725)
    ('0:20', '1:02:05')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def ticks(seconds, at_most=7):
    """Round times for an axis that is so many seconds long.

    >>> ticks(25), ticks(450)
    ([0, 5, 10, 15, 20, 25], [0, 120, 240, 360])
    """
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)
    step = next((step for step in steps if seconds / step < at_most), 7200)
    return list(range(0, int(seconds) + 1, step))
