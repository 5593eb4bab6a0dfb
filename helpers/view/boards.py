"""Boards: cards side by side, to look at and to listen to.

A board is plain HTML with the pictures and sounds inside, so it travels with the notebook or the
report.
"""

import base64
import html
import io
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import HTML, Audio, display

from helpers.audio import clean, features, recording
from helpers.base import artifacts, targets
from helpers.metrics import suspects
from helpers.view import plots

NONE = "<em>None.</em>"
ABSENT = "<p class='absent'>Not in this run: "  # how a cell that has nothing to show begins
PAIR_WIDTH = 520  # pixels
CAUTION = "border-radius:12px;padding:12px 18px;margin:0 0 12px;color:#22303C;font-family:system-ui,sans-serif;"
LEVELS = {
    "red": "background:#fdeae4;border:1px solid #D55E00",
    "amber": "background:#fff6e0;border:1px solid #f0d9a0",
}


def say(text: str) -> None:
    """Show a sentence, where there is one, as text that breaks between words; what is printed
    breaks inside them.
    """
    if text:
        display(HTML(f"<p>{html.escape(text)}</p>"))


def absent(why: str) -> HTML:
    """Why a cell has nothing to show here: the runner leaves it out, with the text before."""
    return HTML(f"{ABSENT}{html.escape(why)}</p>")


def player(waveform, sample_rate):
    """An audio player (IPython.display.Audio) whose sound travels inside the page, as MP3 with a
    peak of at most 1.
    """
    sound = Audio(data=recording.encode_mp3(np.asarray(waveform, dtype=np.float32), sample_rate))
    sound.mimetype = "audio/mpeg"
    return sound


def card(title, picture=None, waveform=None, sample_rate=None, note="", bars=None):
    """One card of a board as HTML: a title, a picture (Figure or bytes of a PNG), a player, bars
    (shares by name), a note. Text is escaped.
    """
    parts = [f"<div style='font-weight:600'>{html.escape(title)}</div>"]
    if picture is not None:
        parts.append(
            f"<img alt='{html.escape(title)}' style='width:100%;display:block' src='{png_uri(picture)}'>"
        )
    if waveform is not None:
        sound = base64.b64encode(recording.encode_mp3(waveform, sample_rate)).decode()
        source = f"src='data:audio/mpeg;base64,{sound}'"
        parts.append(
            f"<audio controls preload='metadata' style='width:100%;height:34px' {source}></audio>"
        )
    if bars is not None:
        parts.append(bar_rows(bars))
    if note:
        parts.append(
            f"<div style='color:#55626E;font-size:0.85em;overflow-wrap:anywhere'>{html.escape(note)}</div>"
        )
    style = "border:1px solid #DDE2E7;border-radius:8px;padding:10px;background:#fff;color:#22303C"
    return f"<div style='{style}'>{''.join(parts)}</div>"


def png_uri(picture):
    """A data URI of a Figure or of PNG bytes."""
    if not isinstance(picture, bytes):
        buffer = io.BytesIO()
        picture.savefig(buffer, format="png", dpi=90)
        picture = buffer.getvalue()
    return "data:image/png;base64," + base64.b64encode(picture).decode()


def side_by_side(left: str, right: str) -> str:
    """Two cards as one that never breaks apart, however narrow the page: HTML."""
    halves = f"<div style='min-width:0'>{left}</div><div style='min-width:0'>{right}</div>"
    style = "display:grid;gap:6px;grid-template-columns:minmax(0,1fr) minmax(0,1fr)"
    return f"<div class='pair' style='{style}'>{halves}</div>"


def clip_pairs(pairs: list, config) -> HTML:
    """A board of pairs of (title, waveform) or (title, waveform, note) that stay side by side."""
    couples = []
    for pair in pairs:
        left, right = (clip_card(title, sound, config, *note) for title, sound, *note in pair)
        couples.append(side_by_side(left, right))
    return board(couples, PAIR_WIDTH)


def board(cards, width=260):
    """Cards side by side, as many as fit (CSS grid): an HTML object for a notebook or the report."""
    if not cards:
        return HTML(NONE)
    columns = f"grid-template-columns:repeat(auto-fill,minmax(min(100%,{width}px),1fr))"
    return HTML(
        f"<div style='display:grid;gap:12px;{columns};font-family:system-ui,sans-serif'>{''.join(cards)}</div>"
    )


def clips(items, config):
    """A board of (title, waveform) or (title, waveform, note), each seen and heard at the config's
    rate.
    """
    return board([clip_card(title, waveform, config, *note) for title, waveform, *note in items])


def table(frame, precision=2, **formats):
    """A table for reading: no index, no underscores, names escaped; of no rows it says "None.".

    Args: frame; precision of numbers; formats by column, such as accuracy="{:.1%}".
    """
    if not len(frame):
        return HTML(NONE)
    spaced = {name.replace("_", " "): how for name, how in formats.items() if name in frame}
    spoken = [str(name).replace("_", " ") for name in frame]
    styler = frame.set_axis(
        spoken if len(set(spoken)) == len(spoken) else list(frame), axis=1
    ).style.hide()
    styler = styler.format_index(escape="html", axis=1).format(precision=precision, escape="html")
    for column, how in spaced.items():
        styler = styler.format(how, subset=[column], escape="html")
    return styler


def cautions(found):
    """Boxes, red or amber, with what should worry a reader: an HTML object. Args: found list of
    cautions.Caution.
    """
    boxes = []
    for caution in found:
        style = CAUTION + LEVELS[caution.level]
        boxes.append(
            f"<div class='caution {caution.level}' style='{style}'>{html.escape(caution.says)}</div>"
        )
    return HTML(
        "".join(boxes)
        or "<em>No caution: nothing in this run's own numbers speaks against its scores.</em>"
    )


def clip_card(title, waveform, config, note=""):
    """A card that shows and plays a waveform at the config's rate."""
    return card(
        title, plots.waveform_and_mel(waveform, config), waveform, config.audio.sample_rate, note
    )


def examples(packed, rows, config):
    """A board with a clip of each class, as the models receive it."""
    train = rows[rows["split"].eq("train") & rows["parent_id"].eq("")]
    first = train.loc[targets.one_each(train, config.data.multilabel)]
    shown = [
        (targets.in_words(row.label), features.unpack(packed[row.Index]))
        for row in first.itertuples()
    ]
    return clips(shown, config)


def first_clips(rows):
    """Row number in waveforms.npy of each recording's first clip, by recording_id."""
    return rows[rows["parent_id"].eq("")].reset_index().groupby("recording_id")["index"].first()


def mistakes(worst, recordings, packed, rows, config):
    """A board of mistaken recordings: what each is, what it was taken for and how surely; its first
    clip to hear.
    """
    notes = [f"{row.confidence:.0%} sure · fold {row.fold}" for row in worst.itertuples()]
    return predictions(worst, recordings, packed, rows, config, notes)


def predictions(table, recordings, packed, rows, config, notes=None):
    """A board of predicted recordings: right or wrong, the likeliest classes as bars, its first
    clip to see and hear.

    Args: table of predictions; recordings.csv; packed int16 [clips, samples]; rows of
        waveforms.csv; config; notes one per row, or None for the fold.
    """
    first, paths = first_clips(rows), recordings.set_index("recording_id")["path"]
    classes = [name for name in table if name not in {*artifacts.IDENTITY, "confidence"}]
    notes = notes or [f"fold {fold}" for fold in table["fold"]]
    cards = []
    for (_, row), note in zip(table.iterrows(), notes, strict=True):
        right, is_, said = (
            row["label"] == row["predicted"],
            *map(targets.in_words, (row["label"], row["predicted"])),
        )
        waveform = features.unpack(packed[first[row["recording_id"]]])
        picture, path = plots.waveform_and_mel(waveform, config), paths[row["recording_id"]]
        title = f"✓ {is_}" if right else f"✗ {is_} → {said}"
        bars = row[classes].astype(float).nlargest(3)
        cards.append(
            card(title, picture, waveform, config.audio.sample_rate, f"{note} · {path}", bars)
        )
    return board(cards)


def doubts(ranked, recordings, packed, rows, config, count):
    """A board of doubted labels: the given and another one, what the models say of both, a clip.

    Args: ranked table of `suspects.rank`; count of sources that are shown, one recording each; the
        others as of `predictions`.
    """
    first = first_clips(rows)
    paths = recordings.set_index("recording_id")["path"]
    doubted = ranked[ranked["doubt"].ge(suspects.DOUBTED)]
    cards = []
    for row in suspects.one_per_source(doubted).head(count).itertuples():
        given = targets.in_words(row.label)
        suggested = targets.in_words(row.suggested)
        waveform = features.unpack(packed[first[row.recording_id]])
        bars = {f"{given} (given)": row.confidence_given, suggested: row.confidence_suggested}
        more = f" · {row.more} more of this source" if row.more else ""
        note = f"doubt rank {row.rank} of {len(doubted)}{more} · {paths[row.recording_id]}"
        picture = plots.waveform_and_mel(waveform, config)
        title = f"{given}, or {suggested}?"
        cards.append(card(title, picture, waveform, config.audio.sample_rate, note, bars))
    return board(cards)


def pairs(table, root, config, seconds=6):
    """A board of recordings of the same sound, side by side, of the part that both hold.

    Args: table of `duplicates.find` with path, label and, of the other one, path_of_other,
        label_of_other; root data folder; config; seconds to be heard, at most.
    """
    couples = []
    for number, row in enumerate(table.itertuples(), 1):
        length = min(row.overlap_seconds, seconds)
        sides = [
            ("a", row.label, row.path, max(row.offset_seconds, 0) + 0.0),
            ("b", row.label_of_other, row.path_of_other, max(-row.offset_seconds, 0) + 0.0),
        ]
        couple = []
        for letter, label, path, start in sides:
            title = f"{number}{letter} · {targets.in_words(label) if label else 'no label'}"
            note = f"correlation {row.correlation:.2f} · from {start:.1f} s · {path}"
            couple.append((title, _excerpt(root, path, start, length, config), note))
        couples.append(couple)
    return clip_pairs(couples, config)


def _excerpt(root, path, start_seconds, seconds, config):
    """A part of a recording, at the config's rate."""
    rate = config.audio.sample_rate
    first = round(start_seconds * rate)
    return recording.load(Path(root) / path, rate)[first : first + round(seconds * rate)]


def cleaning(shown: list, config) -> HTML:
    """What cleaning makes of some recordings, step by step, with what each step changed in numbers.

    Args: shown of `clean.telling`; config.
    """
    parts = [heading(one.row.label) + _cleaned(one, config) for one in shown]
    return HTML("".join(parts) or NONE)


def heading(label: str) -> str:
    """A label above a board: HTML."""
    return f"<h4 style='margin:16px 0 6px'>{html.escape(targets.in_words(label))}</h4>"


def _cleaned(example, config):
    """A board of one recording's steps: HTML."""
    rate = config.audio.sample_rate
    seconds = len(example.raw) / rate
    picture = plots.cleaning_step(example.raw, config, seconds)
    cards = [card("as found", picture, example.raw, rate)]
    before = example.raw
    for name, after in example.done:
        shown, kept = after, None
        if name == "silence trimmed":
            start, stop = clean.edges(before, rate, config.clean.trim_db)
            shown, kept = before, (start / rate, stop / rate)
        picture = plots.cleaning_step(shown, config, seconds, kept)
        changed = _what_changed(name, before, after, kept, rate)
        cards.append(card(name, picture, after, rate, changed))
        before = after
    return board(cards, 320).data


def _what_changed(name, before, after, kept, rate):
    """What a step did to a waveform, in numbers; kept (from, to) in seconds of what was trimmed."""
    if name == "DC removed":
        return f"mean {before.mean():+.3f} → {float(after.mean()):z.3f} of full scale"
    if name == "silence trimmed":
        if len(after) == len(before):
            return "nothing to cut"
        start_seconds, end_seconds = kept[0], len(before) / rate - kept[1]
        return f"{start_seconds:.2f} s cut at the start, {end_seconds:.2f} s at the end (shaded)"
    if name.startswith("peak"):
        was_db, is_db = (_peak_db(part) for part in (before, after))
        return f"{is_db - was_db + 0.0:+.1f} dB: the peak is at {is_db:.1f} dBFS"
    return f"level {recording.level_db(before):.1f} → {recording.level_db(after):.1f} dBFS"


def _peak_db(waveform):
    return 20 * np.log10(max(np.abs(waveform).max(initial=0), 1e-6))


def denoised(table: pd.DataFrame, root, config) -> HTML:
    """Recordings before and after noise reduction, side by side; table of recordings.csv rows."""
    rate, pairs = config.audio.sample_rate, []
    for row in table.itertuples():
        before = clean.normalise(recording.load(Path(root) / row.path, rate))
        after = clean.normalise(clean.denoise(before, rate))
        name = targets.in_words(row.label)
        pairs.append([(f"{name}, before", before), (f"{name}, after", after)])
    return clip_pairs(pairs, config)


def training(shown: list, config) -> HTML:
    """What training makes of clips, a row for each: tensors to see, and waveforms to hear too.

    Args: shown of `preview.clips`; config.
    """
    parts = []
    for clip in shown:
        cards = _tensor_cards(clip, config)
        is_all = sum(clip.wanted.values()) > 0.99
        rest = "" if is_all else "; the rest is spread over the other classes"
        asked = f"The answer that is asked for{rest}:{bar_rows(clip.wanted)}"
        parts.append(heading(clip.label) + board(cards, 165).data)
        parts.append(f"<div style='max-width:420px'>{asked}</div>")
    return HTML("".join(parts) or NONE)


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


def bar_rows(shares):
    """Shares in [0, 1] by name as small horizontal bars: HTML."""
    line = "display:grid;grid-template-columns:40% 1fr 3.2em;gap:6px;align-items:center;font-size:0.85em"
    rows = [
        f"<div style='{line}'><span style='overflow:hidden;text-overflow:ellipsis;white-space:nowrap'>"
        f"{html.escape(str(name))}</span><span style='background:#EEF1F4;border-radius:3px'><span style='display:block;"
        f"height:8px;border-radius:3px;background:#0072B2;width:{share:.1%}'></span></span>"
        f"<span style='text-align:right'>{share:.0%}</span></div>"
        for name, share in shares.items()
    ]
    return f"<div style='margin:4px 0'>{''.join(rows)}</div>"


def recordings(table, root, config, seconds=6):
    """A board of recordings as they lie in the data folder, at most `seconds` of each; table of
    recordings.csv rows.
    """
    cards = []
    for row in table.itertuples():
        notes = filter(None, [_facts(row), row.flags.replace("_", " ").lower(), row.path])
        title = "test" if row.split == "test" else targets.in_words(row.label)
        waveform = _beginning(row, root, config, seconds)
        cards.append(clip_card(title, waveform, config, " · ".join(notes)))
    return board(cards)


def flagged(table: pd.DataFrame, root, config, seconds: float = 6) -> HTML:
    """A board with a recording for each flag and its meaning; table of `audio.one_of_each_flag`."""
    cards = []
    for row in table.itertuples():
        title = f"{row.flag.replace('_', ' ').lower()} · {row.flagged} in all"
        note = f"{recording.FLAGS[row.flag]} {_facts(row)} · {row.path}"
        cards.append(clip_card(title, _beginning(row, root, config, seconds), config, note))
    return board(cards)


def _beginning(row, root, config, seconds):
    """The first seconds of a recording, at the config's rate."""
    rate = config.audio.sample_rate
    return recording.load(Path(root) / row.path, rate)[: round(seconds * rate)]


def _facts(row):
    """A recording's length, rate, format and level in a few words."""
    rate = f"{row.sample_rate / 1000:g} kHz"
    return f"{row.duration_seconds:.1f} s · {rate} · {row.codec} · {row.rms_db:.0f} dBFS"
