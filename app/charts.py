"""Pictures of the app: waveform and spectrogram, the classes as bars, the classes over time."""

import io
import threading

import pandas as pd
import streamlit as st

PALE, PALER = "#B5CFE2", "#EDF2F6"  # tints of the style's blue
LABELS = {
    "labelLimit": 170,
    "ticks": False,
    "domain": False,
    "labelPadding": 6,
    "labelOverlap": False,
    "labelFlush": False,
}


@st.cache_resource(show_spinner=False)
def drawing():
    """A lock: matplotlib's settings belong to the whole process, and every visitor has a thread."""
    return threading.Lock()


def picture(waveform, config, start_seconds=0):
    """Waveform and mel spectrogram as PNG bytes; the time axis begins at start_seconds."""
    import matplotlib

    matplotlib.use("agg")
    from helpers.view import plots

    with drawing():
        figure = plots.waveform_and_mel(waveform, config)
        figure.set_size_inches(6, 3)
        figure.axes[1].xaxis.set_major_formatter(lambda x, _: f"{x + start_seconds:g}")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=200)
    return buffer.getvalue()


def bars(overall, counted, limits=None):
    """Horizontal bars: the probability of each class, what counts as heard in full colour; limits
    are thresholds.
    """
    import altair as alt

    from helpers.view.style import BLUE, INK, ORANGE

    table = pd.DataFrame({"label": overall.index, "probability": overall.to_numpy()})
    table["heard"] = table["label"].isin(counted)
    scale, axis = alt.Scale(domain=[0, 1.15]), alt.Axis(format="%", values=[0, 0.25, 0.5, 0.75, 1])
    base = alt.Chart(table).encode(
        x=alt.X("probability:Q", title=None, scale=scale, axis=axis),
        y=alt.Y("label:N", sort=list(overall.index), title=None, axis=alt.Axis(**LABELS)),
    )
    layers = [
        base.mark_bar(size=16).encode(
            color=alt.condition("datum.heard", alt.value(BLUE), alt.value(PALE))
        ),
        base.mark_text(align="left", dx=5, color=INK).encode(
            text=alt.Text("probability:Q", format=".0%")
        ),
    ]
    if limits is not None:
        table["limit"] = limits[overall.index].to_numpy()
        layers.append(
            base.mark_tick(color=ORANGE, thickness=3, size=20).encode(
                x=alt.X("limit:Q", scale=scale)
            )
        )
    return alt.layer(*layers).properties(height=26 * len(table) + 30)


def timeline(heard, labels):
    """A row per class along the time of the file, the darker the more probable; where there is no
    sound it stays white.

    Args: heard hearing.Hearing; labels the classes shown.
    """
    import altair as alt
    import numpy as np

    from helpers.view.style import BLUE

    spans, found = heard.course()
    table = spans.loc[np.repeat(spans.index, len(labels))].reset_index(drop=True)
    table["label"] = np.tile(list(labels), len(spans))
    table["probability"] = found[list(labels)].to_numpy().ravel()
    table["heard"] = [
        f"{clock(a)} to {clock(b)}" for a, b in zip(table.onset, table.offset, strict=True)
    ]
    seconds = heard.heard.windows["end_seconds"].max()
    long = seconds >= 120
    minutes = (
        {"labelExpr": "floor(datum.value / 60) + ':' + format(datum.value % 60, '02')"}
        if long
        else {}
    )
    scale, colours = (
        alt.Scale(nice=False, domain=[0, seconds]),
        alt.Scale(domain=[0, 1], range=[PALER, BLUE]),
    )
    chart = alt.Chart(table).mark_rect(stroke="white", strokeWidth=1 if len(spans) <= 60 else 0)
    return chart.encode(
        x=alt.X(
            "onset:Q",
            title="minutes" if long else "seconds",
            axis=alt.Axis(grid=False, values=ticks(seconds), **minutes),
            scale=scale,
        ),
        x2="offset:Q",
        y=alt.Y("label:N", sort=list(labels), title=None, axis=alt.Axis(**LABELS)),
        color=alt.Color("probability:Q", scale=colours, legend=None),
        tooltip=["label:N", "heard:N", alt.Tooltip("probability:Q", format=".1%")],
    ).properties(height=24 * len(labels) + 60)


def clock(seconds):
    """A time as it is spoken of: seconds below two minutes, minutes and seconds above.

    >>> clock(4.25), clock(60.0), clock(125), clock(900.0)
    ('4.2 s', '60 s', '2:05 min', '15 min')
    """
    minutes, rest = divmod(int(seconds), 60)
    if seconds < 120:
        return f"{round(seconds, 1):g} s"
    return f"{minutes}:{rest:02d} min" if rest else f"{minutes} min"


def ticks(seconds, at_most=7):
    """Round times for an axis that is so many seconds long.

    >>> ticks(25), ticks(450)
    ([0, 5, 10, 15, 20, 25], [0, 120, 240, 360])
    """
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)
    step = next((step for step in steps if seconds / step < at_most), 7200)
    return list(range(0, int(seconds) + 1, step))
