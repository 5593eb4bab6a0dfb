"""Boards: cards side by side, to look at and to listen to, and the code beside what it does.

A board is plain HTML with the pictures and sounds inside, so it travels with the notebook or the
report. Its parts are macros of parts.html.j2, which escape every text.
"""

import ast
import base64
import functools
import html
import inspect
import io
import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import jinja2
import matplotlib
import numpy as np
import pandas as pd
import pygments
from IPython.display import HTML, display
from matplotlib.figure import Figure
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from helpers.audio import clean, features, recording
from helpers.base import artifacts, targets
from helpers.metrics import evaluate, suspects
from helpers.view import curves, plots, style

NONE = "<em>None.</em>"
ABSENT = "<p class='absent'>Not in this run: "  # how a cell that has nothing to show begins
PAIR_WIDTH = 520  # pixels
LONG = 3  # lines of a docstring from which on the code is shown without it
WIDEST = 16  # columns of a table
SCORE = r"[-+]?[\d.,]+( %)?( \([-+\d. to–]+\))?"  # as evaluate.percent and points write them
BREAKING = "white-space: normal; overflow-wrap: anywhere; min-width: 9em; max-width: 36em"
# What a column is called in a table's head, with its unit, and how its numbers are written.
COLUMNS = {
    "duration_seconds": ("length (s)", "{:.2f}"),
    "overlap_seconds": ("in common (s)", "{:.1f}"),
    "offset_seconds": ("starts later by (s)", "{:.1f}"),
    "sample_rate": ("rate (Hz)", "{:.0f}"),
    "sample_rates": ("different rates", "{:.0f}"),
    "rms_db": ("level (dBFS)", "{:.1f}"),
    "peak": ("peak (of full scale)", "{:.2f}"),
    "silence_fraction": ("silence (% of length)", "{:.0%}"),
    "centroid_mean": ("centroid, mean (Hz)", "{:.0f}"),
    "rolloff_mean": ("roll-off, mean (Hz)", "{:.0f}"),
    "zero_crossing_rate_mean": ("zero crossings, mean (per sample)", "{:.3f}"),
    "rms_mean": ("RMS, mean (of full scale)", "{:.3f}"),
    "seconds": ("time (s)", "{:.1f}"),
    "peak_mb": ("peak memory (MB)", "{:.0f}"),
    "train_seconds": ("training (s)", "{:.2f}"),
    "ms_per_clip": ("time per clip (ms)", "{:.2f}"),
    "megabytes": ("size (MB)", "{:.2f}"),
    "path_of_other": ("same sound as", None),
    "label_of_other": ("its label", None),
}
FACTS = ["path", "label", "duration_seconds", "sample_rate", "channels", "codec", "peak", "rms_db"]


@functools.cache
def _parts():
    lines = Path(__file__).with_name("parts.html.j2").read_text(encoding="utf-8").splitlines()
    text = "".join(line.strip() for line in lines)
    return jinja2.Environment(autoescape=True).from_string(text).module


def part(name: str, *values) -> str:
    """A macro of parts.html.j2 by name, filled with values: HTML."""
    return str(getattr(_parts(), name)(*values))


# --- sentences and tables


def say(text: str) -> None:
    """Show sentences, a paragraph a line: unlike what is printed they break between words."""
    if text:
        display(HTML("".join(f"<p>{html.escape(line)}</p>" for line in text.splitlines())))


def say_curves(history: pd.DataFrame, config) -> None:
    """Say how to read learning curves, and where training ended too early. Args: their records."""
    say(curves.in_words(history, config.train))
    say(curves.still_falling(history, config))


def absent(why: str) -> HTML:
    """Why a cell has nothing to show here: the runner leaves it out, with the text before."""
    return HTML(f"{ABSENT}{html.escape(why)}</p>")


def table(frame: pd.DataFrame, precision: int = 2, **formats: str):
    """A table for reading: no index, units in its head, text left and numbers right, names escaped.

    Of no rows it says "None."; columns beyond WIDEST are counted. Args: frame; precision of
    numbers; formats by column, such as accuracy="{:.1%}".
    """
    if frame.empty:
        return HTML(NONE)
    shown = pd.DataFrame(frame).iloc[:, :WIDEST]
    heads = _heads(shown)
    known = _formats(shown, heads, formats)
    styler = shown.set_axis(heads, axis=1).style.hide().format_index(escape="html", axis=1)
    styler = styler.format(precision=precision, escape="html", na_rep="–")
    if known:
        styler = styler.format(known, subset=list(known), escape="html", na_rep="–")
    styler.set_table_styles([_look(shown, place) for place in range(len(heads))])
    more = pd.DataFrame(frame).shape[1] - len(heads)
    return styler.set_caption(f"… and {more} more columns") if more else styler


def _heads(shown):
    """What the columns are called; as they are where two would be called the same."""
    spoken = [COLUMNS.get(name, (evaluate.in_words(str(name)),))[0] for name in shown]
    return spoken if len(set(spoken)) == len(spoken) else [str(name) for name in shown]


def _formats(shown, heads, formats):
    """How the columns' values are written, by their heads, where it is told."""
    own = {name: COLUMNS[name][1] for name in shown if name in COLUMNS}
    told = {**own, **formats}
    return {head: told[name] for name, head in zip(shown, heads, strict=True) if name in told}


def _look(shown, place):
    """The style of a column: numbers to the right, text to the left, broken where it is long."""
    is_number = _is_number(shown.iloc[:, place])
    look = "text-align: right" if is_number else f"text-align: left; {BREAKING}"
    return {"selector": f".col{place}", "props": look}


def _is_number(column):
    """Whether a column holds numbers, or scores with their intervals as text."""
    if pd.api.types.is_numeric_dtype(column):
        return not pd.api.types.is_bool_dtype(column)
    return bool(column.astype(str).str.fullmatch(SCORE).all())


def counts(frame: pd.DataFrame, columns: list[str], name: str):
    """How many rows of each kind a table has. Args: frame; columns that tell the kinds; name."""
    return table(frame.groupby(columns).size().reset_index(name=name))


def tensors(**named):
    """Shapes and values of tensors as a table, a row for each. Args: named the tensors, by name."""
    rows = []
    for name, x in named.items():
        x = x.detach()
        shape = " x ".join(str(size) for size in x.shape) or "one number"
        values = {"smallest": float(x.min()), "mean": float(x.mean()), "largest": float(x.max())}
        rows.append({"tensor": name, "shape": shape, **values})
    return table(pd.DataFrame(rows), precision=4)


def by_label(values: pd.Series, name: str, **formats: str):
    """A number for each label as a table. Args: values by label; their name; formats as `table`."""
    return table(values.rename_axis("label").reset_index(name=name), **formats)


def lengths(found: dict, **first: int):
    """How many of each kind were found, a row. Args: found lists or numbers by name; first."""
    sizes = {name: hits if isinstance(hits, int) else len(hits) for name, hits in found.items()}
    return table(pd.DataFrame([{**first, **sizes}]))


def some(recordings: pd.DataFrame, count: int = 6):
    """What was measured of some of the recordings that can be heard; recordings.csv."""
    heard = recordings.loc[recordings["status"].eq("ok"), [*FACTS, "flags"]]
    return table(heard.iloc[:: max(1, len(recordings) // count)])


def class_facts(train: pd.DataFrame, multilabel: bool = False):
    """Medians of what was measured, by class; training rows of recordings.csv."""
    by_class = targets.by_class(train, multilabel).groupby("label")
    facts = by_class[["duration_seconds", "rms_db", "silence_fraction"]].median()
    facts.insert(0, "recordings", by_class.size())
    facts.insert(1, "sources", by_class["source"].nunique())
    facts["sample_rates"] = by_class["sample_rate"].nunique()
    return table(facts.reset_index())


def class_medians(features: pd.DataFrame, columns: list[str], multilabel: bool = False):
    """Medians of some columns of a feature table, by class."""
    train = features[features["split"].eq("train")]
    by_class = targets.by_class(train, multilabel).groupby("label")
    return table(by_class[columns].median().reset_index(), precision=3)


def cautions(found: list) -> HTML:
    """What to know before scores are trusted, and what to do. Args: found of cautions.of."""
    return HTML(part("cautions", found))


# --- files of a run

LARGEST = 8 << 20  # bytes of a file that goes into a link


def page(path, height: int = 720) -> HTML:
    """A page of its own, such as a report, inside the notebook. Args: path; height in pixels."""
    text = Path(path).read_text(encoding="utf-8")
    return HTML(part("page", text, Path(path).name, height))


def download(path) -> HTML:
    """A link that saves a file of this machine on the reader's; of a large one, where it lies."""
    path = Path(path)
    size = path.stat().st_size
    content = base64.b64encode(path.read_bytes()).decode() if size <= LARGEST else ""
    return HTML(part("download", str(path), path.name, f"{size / 1000:,.0f} kB", content))


# --- cards


def card(
    title: str,
    picture: Figure | bytes | None = None,
    waveform: np.ndarray | None = None,
    sample_rate: int | None = None,
    note: str = "",
    bars: dict | None = None,
    facts: dict | None = None,
) -> str:
    """One card of a board as HTML.

    Args: title; picture, a Figure or bytes of a PNG; waveform float32 [samples] at sample_rate (Hz)
        for a player; note; bars shares in [0, 1] by name; facts for a page's script to choose by.
    """
    image = None if picture is None else png_uri(picture)
    sound = None
    if waveform is not None:
        mp3 = recording.encode_mp3(waveform, sample_rate)
        sound = "data:audio/mpeg;base64," + base64.b64encode(mp3).decode()
    return part("card", title, image, sound, note, dict({} if bars is None else bars), facts or {})


def png_uri(picture: Figure | bytes) -> str:
    """A data URI of a Figure or of PNG bytes."""
    if not isinstance(picture, bytes):
        buffer = io.BytesIO()
        picture.savefig(buffer, format="png", dpi=90)
        picture = buffer.getvalue()
    return "data:image/png;base64," + base64.b64encode(picture).decode()


def svg(figure: Figure, name: str) -> str:
    """A Figure as inline SVG with real text, in the colours of the page where it has some.

    Args: figure; name to be read aloud.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    picture = buffer.getvalue()
    picture = re.sub(r"<metadata>.*?</metadata>", "", picture, flags=re.DOTALL)
    picture = re.sub(r' xmlns(:\w+)?="[^"]*"', "", picture[picture.index("<svg") :])
    picture = re.sub(r"font: [^\"]*?([\d.]+px) [^;\"]*", r"font-size: \1", picture)
    for colour, of_page in style.OF_PAGE.items():
        picture = picture.replace(colour.lower(), f"var({of_page}, {colour})")
    picture = picture.replace("rotate(-0 ", "rotate(0 ")
    return picture.replace("<svg", f'<svg role="img" aria-label="{html.escape(name)}"', 1)


def board(cards: list, width: int = 260) -> HTML:
    """Cards side by side, as many as fit. Args: cards as HTML; width of one at least, in pixels."""
    return HTML(part("board", cards, width))


def clip_card(title, waveform, config, note="", bars=None, facts=None) -> str:
    """A card that shows and plays a waveform at the config's rate."""
    picture = plots.waveform_and_mel(waveform, config)
    return card(title, picture, waveform, config.audio.sample_rate, note, bars, facts)


def events(
    medley, heard: pd.DataFrame, config, title: str = "recordings one after the other"
) -> HTML:
    """A long recording to see and hear, with what was heard in it and what is there.

    Args: medley of `medley.make`; heard of `Hearing.events`; config; title.
    """
    waveform = medley.decoded.waveform[:, 0]
    there = targets.by_class(medley.parts, medley.multilabel)
    picture = plots.events(waveform, config, heard, there)
    note = " · ".join(medley.parts["path"].unique())
    rate = config.audio.sample_rate
    return board([card(title, picture, waveform, rate, note)], 400)


def clips(items: list, config) -> HTML:
    """A board of (title, waveform) or (title, waveform, note), each seen and heard."""
    return board([clip_card(title, waveform, config, *note) for title, waveform, *note in items])


def clip_pairs(pairs: list, config) -> HTML:
    """A board of pairs of (title, waveform) or (title, waveform, note) that stay side by side."""
    couples = []
    for pair in pairs:
        sides = [clip_card(title, sound, config, *note) for title, sound, *note in pair]
        couples.append(part("side_by_side", *sides))
    return board(couples, PAIR_WIDTH)


# --- code


def source(function: Callable, beside=None) -> HTML:
    """The code of a function as it runs, and beside it what it does.

    It is read from the package, without a long docstring. Args: function; beside a Figure, or what
    a notebook would show as HTML; where that is `absent`, so is the code.
    """
    if isinstance(beside, HTML) and beside.data.startswith(ABSENT):
        return beside
    if isinstance(beside, Figure):
        beside = HTML(f"<img style='max-width:100%' src='{png_uri(beside)}'>")
    page = beside and beside._repr_html_()
    look = {"noclasses": True, "style": "friendly", "nobackground": True}
    style = HtmlFormatter(prestyles="font-family:monospace", **look)
    code = pygments.highlight(code_of(function), PythonLexer(), style)
    where = f"helpers.{inspect.unwrap(function).__module__.removeprefix('helpers.')}"
    return HTML(part("explained", f"{where}: {function.__qualname__}", code, page))


def code_of(function: Callable) -> str:
    """The source of a function, without its docstring where that has LONG lines or more.

    >>> print(code_of(absent))
    def absent(why: str) -> HTML:
        \"""Why a cell has nothing to show here: the runner leaves it out, with the text before.\"""
        return HTML(f"{ABSENT}{html.escape(why)}</p>")
    """
    text = textwrap.dedent(inspect.getsource(function)).rstrip()
    lines = text.splitlines()
    first = ast.parse(text).body[0].body[0]
    if ast.get_docstring(ast.parse(text).body[0]) and first.end_lineno - first.lineno >= LONG - 1:
        del lines[first.lineno - 1 : first.end_lineno]
    return "\n".join(lines)


# --- recordings of the data folder


def recordings(table: pd.DataFrame, root, config, seconds: float = 6) -> HTML:
    """A board of recordings of the data folder, all of one peak; rows of recordings.csv.

    Args: table; root data folder; config; seconds to be heard of each, at most.
    """
    cards = []
    for row in table.itertuples():
        notes = [_facts(row), row.flags.replace("_", " ").lower(), row.path]
        title = "test" if row.split == "test" else targets.in_words(row.label)
        waveform = clean.normalise(_excerpt(root, row.path, 0, seconds, config))
        cards.append(clip_card(title, waveform, config, " · ".join(filter(None, notes))))
    return board(cards)


def one_of_each(train: pd.DataFrame, root, config) -> HTML:
    """A board with a recording of each class, twelve at most; training rows of recordings.csv."""
    rows = targets.one_each(train.sort_values("recording_id"), config.data.multilabel)
    return recordings(train.loc[rows].head(12), root, config)


def flagged(table: pd.DataFrame, root, config, seconds: float = 6) -> HTML:
    """A board with a recording for each flag and its meaning, all of one peak.

    Args: table of `recording.one_of_each_flag`; root; config; seconds to be heard at most.
    """
    cards = []
    for row in table.itertuples():
        title = f"{row.flag.replace('_', ' ').lower()} · {row.flagged} in all"
        note = f"{recording.FLAGS[row.flag]} {_facts(row)} · {row.path}"
        waveform = clean.normalise(_excerpt(root, row.path, 0, seconds, config))
        cards.append(clip_card(title, waveform, config, note))
    return board(cards)


def pairs(table: pd.DataFrame, root, config, seconds: float = 6) -> HTML:
    """A board of recordings of the same sound, side by side, of the part that both hold.

    Args: table of `partition.named`, a row per pair; root data folder; config; seconds to be heard,
        at most.
    """
    couples = []
    for number, row in enumerate(table.itertuples(), 1):
        length = min(row.overlap_seconds, seconds)
        couple = []
        for side, label, path, start in (
            ("a", row.label, row.path, max(row.offset_seconds, 0) + 0.0),
            ("b", row.label_of_other, row.path_of_other, max(-row.offset_seconds, 0) + 0.0),
        ):
            title = f"{number}{side} · {targets.in_words(label) if label else 'no label'}"
            note = f"correlation {row.correlation:.2f} · from {start:.1f} s · {path}"
            couple.append((title, _excerpt(root, path, start, length, config), note))
        couples.append(couple)
    return clip_pairs(couples, config)


def _excerpt(root, path, start_seconds, seconds, config):
    """A part of a recording, at the config's rate."""
    rate = config.audio.sample_rate
    first = round(start_seconds * rate)
    return recording.load(Path(root) / path, rate)[first : first + round(seconds * rate)]


def _facts(row):
    """A recording's length, rate, format and level in a few words."""
    rate = f"{row.sample_rate / 1000:g} kHz"
    return f"{row.duration_seconds:.1f} s · {rate} · {row.codec} · {row.rms_db:.0f} dBFS"


# --- cleaning


def telling(used: pd.DataFrame, root, config) -> HTML:
    """Recordings on which one sees and hears what cleaning does; rows of recordings.csv."""
    shown = clean.telling(used, root, config)
    say(clean.acting_in_words(shown))
    return cleaning(shown, config)


def cleaning(shown: list, config) -> HTML:
    """What cleaning makes of some recordings, step by step, with what each step changed in numbers.

    Args: shown of `clean.telling`; config.
    """
    rows = [(targets.in_words(one.row.label), _cleaned(one, config), None) for one in shown]
    return HTML(part("rows", rows, 320))


def _cleaned(example, config):
    """Cards of one recording's steps."""
    rate = config.audio.sample_rate
    seconds = len(example.raw) / rate
    picture = plots.cleaning_step(example.raw, config, seconds)
    cards = [card("as found", picture, example.raw, rate)]
    before = example.raw
    for name, after in example.done:
        shown = after
        kept = None
        if name == "silence trimmed":
            start, stop = clean.edges(before, rate, config.clean.trim_db)
            shown = before
            kept = (start / rate, stop / rate)
        picture = plots.cleaning_step(shown, config, seconds, kept)
        changed = _what_changed(name, before, after, kept, rate)
        cards.append(card(name, picture, after, rate, changed))
        before = after
    return cards


def _what_changed(name, before, after, kept, rate):
    """What a step did to a waveform, in numbers; kept (from, to) in seconds of what was trimmed."""
    if name == "DC removed":
        return f"mean {before.mean():+.3f} → {float(after.mean()):z.3f} of full scale"
    if name == "silence trimmed":
        if len(after) == len(before):
            return "nothing to cut"
        end_seconds = len(before) / rate - kept[1]
        return f"{kept[0]:.2f} s cut at the start, {end_seconds:.2f} s at the end (shaded)"
    if name.startswith("peak"):
        peak_db = _peak_db(after)
        change_db = peak_db - _peak_db(before) + 0.0
        return f"{change_db:+.1f} dB: the peak is at {peak_db:.1f} dBFS"
    return f"level {recording.level_db(before):.1f} → {recording.level_db(after):.1f} dBFS"


def _peak_db(waveform):
    return 20 * np.log10(max(np.abs(waveform).max(initial=0), 1e-6))


def denoised(used: pd.DataFrame, root, config, count: int = 2) -> HTML:
    """Recordings before and after noise reduction, side by side: one of each label.

    Those with the least silence. Args: used rows of recordings.csv; root; config; count of labels.
    """
    rate = config.audio.sample_rate
    train = used[used["split"].eq("train")].sort_values("silence_fraction")
    pairs = []
    for row in train.drop_duplicates("label").head(count).itertuples():
        before = clean.normalise(recording.load(Path(root) / row.path, rate))
        after = clean.normalise(clean.denoise(before, rate))
        name = targets.in_words(row.label)
        pairs.append([(f"{name}, before", before), (f"{name}, after", after)])
    return clip_pairs(pairs, config)


# --- training


def training(shown: list, config) -> HTML:
    """What training makes of clips, a row for each: tensors to see, and waveforms to hear too.

    Args: shown of `preview.clips`; config.
    """
    rows = []
    for clip in shown:
        is_all = sum(clip.wanted.values()) > 0.99
        rest = "" if is_all else "; the rest is spread over the other classes"
        asked = {"text": f"The answer that is asked for{rest}:", "bars": clip.wanted}
        rows.append((targets.in_words(clip.label), _tensor_cards(clip, config), asked))
    return HTML(part("rows", rows, 165))


def masked(shown: list, config) -> HTML:
    """A clip's picture before and after bands and stretches of it are blanked.

    Args: shown of `preview.clips`; config.
    """
    for clip in shown:
        steps = {name: x for name, _, x in clip.steps}
        if "masked" in steps:
            seconds = config.audio.clip_seconds * config.train.crop
            before = plots.network_input(steps["standardised"].numpy(), seconds)
            after = plots.network_input(steps["masked"].numpy(), seconds)
            return board([card("standardised", before), card("masked", after)], 165)
    return absent("nothing is masked in this run.")


def _tensor_cards(clip, config):
    """A card for each step of a clip: a waveform to see and hear, or a picture."""
    rate = config.audio.sample_rate
    waveforms = [x.numpy() for _, _, x in clip.steps if x.ndim == 1]
    loudest = max((np.abs(wave).max() for wave in waveforms), default=1.0)  # one scale shows a gain
    seconds = len(waveforms[-1]) / rate if waveforms else config.audio.clip_seconds
    cards = []
    for number, (name, what, x) in enumerate(clip.steps, 1):
        title = f"{number} · {name}"
        if x.ndim == 2:
            cards.append(card(title, plots.network_input(x.numpy(), seconds), note=what))
            continue
        picture = plots.network_input(x.numpy(), len(x) / rate, max(loudest, 1e-6))
        heard = x.numpy() / max(1.0, float(x.abs().max()))
        cards.append(card(title, picture, heard, rate, what))
    return cards


# --- clips as the models receive them


def first_clips(rows: pd.DataFrame) -> pd.Series:
    """Row number in waveforms.npy of each recording's first clip, by recording_id."""
    originals = rows[rows["parent_id"].eq("")].drop_duplicates("recording_id")
    return pd.Series(originals.index, originals["recording_id"])


def examples(packed: np.ndarray, rows: pd.DataFrame, config) -> HTML:
    """A board with a clip of each class, as the models receive it."""
    train = rows[rows["split"].eq("train") & rows["parent_id"].eq("")]
    first = targets.one_each(train, config.data.multilabel)
    labels = train["label"][first].map(targets.in_words)
    return clips([(label, features.unpack(packed[row])) for row, label in labels.items()], config)


def predictions(table: pd.DataFrame, recordings, packed, rows, config) -> HTML:
    """A board of predicted recordings: right or wrong, the likeliest classes, the first clip.

    Args: table of predictions, with `confidence` where it is told how sure the answer was;
        recordings.csv; packed int16 [clips, samples]; rows of waveforms.csv; config.
    """
    classes = [name for name in table if name not in artifacts.IDENTITY]
    told = []
    for _, row in table.iterrows():
        truth = targets.in_words(row["label"])
        right = row["label"] == row["predicted"]
        title = f"✓ {truth}" if right else f"✗ {truth} → {targets.in_words(row['predicted'])}"
        sure = f"{row['confidence']:.0%} sure · " if "confidence" in row else ""
        bars = row[classes].astype(float).nlargest(3)
        facts = _for_a_script(row, config.data.multilabel)
        told.append((row["recording_id"], title, f"{sure}fold {row['fold']}", bars, facts))
    return _heard(told, recordings, packed, rows, config)


def _for_a_script(row, several):
    """What a page's script chooses a card by; classes stand in lines of their own."""
    return {
        "recording": row["recording_id"],
        "verdict": "right" if row["label"] == row["predicted"] else "wrong",
        "true": "\n".join(targets.split(row["label"], several)),
        "said": "\n".join(targets.split(row["predicted"], several)),
    }


def doubts(ranked: pd.DataFrame, recordings, packed, rows, config, count: int) -> HTML:
    """A board of doubted labels: the given and another one, what the models say of both, a clip.

    Args: ranked table of `suspects.rank`; count of sources that are shown, one recording each; the
        others as of `predictions`.
    """
    doubted = ranked[ranked["doubt"].ge(suspects.DOUBTED)]
    told = []
    for row in suspects.one_per_source(doubted).head(count).itertuples():
        given = targets.in_words(row.label)
        suggested = targets.in_words(row.suggested)
        bars = {f"{given} (given)": row.confidence_given, suggested: row.confidence_suggested}
        more = f" · {row.more} more of this source" if row.more else ""
        note = f"doubt rank {row.rank} of {len(doubted)}{more}"
        told.append((row.recording_id, f"{given}, or {suggested}?", note, bars, {}))
    return _heard(told, recordings, packed, rows, config)


def answers(told: pd.DataFrame, packed, rows, config) -> HTML:
    """A board of what is said of recordings: table recording_id, title, note, a row each."""
    first = first_clips(rows)
    items = [
        (row.title, features.unpack(packed[first[row.recording_id]]), row.note)
        for row in told.itertuples()
    ]
    return clips(items, config)


def _heard(told, recordings, packed, rows, config):
    """A board of recordings' first clips. Args: told (recording_id, title, note, bars, facts)."""
    first = first_clips(rows)
    paths = recordings.set_index("recording_id")["path"]
    cards = []
    for identity, title, note, bars, facts in told:
        waveform = features.unpack(packed[first[identity]])
        cards.append(clip_card(title, waveform, config, f"{note} · {paths[identity]}", bars, facts))
    return board(cards)
