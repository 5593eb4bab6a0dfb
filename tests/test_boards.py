"""Boards: what is shown is escaped, what is heard is the sound that was given."""

import ast
import inspect
import io
import re
import textwrap
from base64 import b64decode
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import soundfile
from tables import prediction_rows, small_config, tone, tone_clips

from helpers.audio import augment, clean, features, recording
from helpers.compare import classic
from helpers.metrics import decisions, evaluate, intervals
from helpers.models import explain, networks
from helpers.splits import partition, rules
from helpers.training import fit, losses, perturb
from helpers.view import boards, plots

EVIL = """<script>alert("1")</script> & 'a' <img src=x onerror=alert(1)>"""
KNOWN_TAGS = {"div", "img", "audio", "span"}
SHOWN = [  # in the notebooks
    *(recording.level_db, recording.clipped_fraction),
    *(rules.broken_rules, partition.groups, partition.folds),
    *(augment.pipeline, augment.augment_clip),
    *(features.LogMel.forward, features.describe),
    *(networks.AudioClassifier.forward, perturb.between_class, perturb.mask),
    *(losses.loss, intervals.bounds, fit.Trainer.step, explain.heard_where),
    *(classic.cross_validate, evaluate.paired_change),
]


class Page(HTMLParser):
    """Tags, attributes and text of a piece of HTML."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        source = re.sub(r"<style.*?</style>", "", source, flags=re.DOTALL)
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data):
        self.text += data


def sounds(source):
    """The players' sounds of a piece of HTML: a list of (waveform, rate)."""
    return [
        soundfile.read(io.BytesIO(b64decode(mp3)))
        for mp3 in re.findall(r"audio/mpeg;base64,([^'\"]+)", source)
    ]


@pytest.mark.parametrize("rate", [8000, 11000, 16000, 44100])
def test_a_card_plays_an_mp3_of_the_same_length_and_pitch(rate):
    [(decoded, mp3_rate)] = sounds(
        boards.card("a", waveform=tone(440, rate, 1.0), sample_rate=rate)
    )
    assert len(decoded) / mp3_rate == pytest.approx(1.0, abs=0.15)
    peak = np.abs(np.fft.rfft(decoded)).argmax()
    frequencies = np.fft.rfftfreq(len(decoded), 1 / mp3_rate)
    assert frequencies[peak] == pytest.approx(440, rel=0.01)


def test_a_player_clips_what_is_too_loud_and_takes_silence():
    loud = 4 * tone(440)
    played = [boards.card("a", None, sound, 8000) for sound in (loud, loud.clip(-1, 1))]
    assert played[0] == played[1]
    [(decoded, _)] = sounds(boards.card("a", None, np.zeros(8000), 8000))
    assert np.abs(decoded).max() < 1e-3


def test_the_text_of_a_card_is_escaped_everywhere():
    figure = plots.class_counts(pd.DataFrame({"label": list("ab")}))
    page = Page(
        boards.card(
            EVIL, picture=figure, waveform=tone(440), sample_rate=8000, note=EVIL, bars={EVIL: 0.25}
        )
    )
    assert set(page.tags) == KNOWN_TAGS
    assert page.text == EVIL + EVIL + "25%" + EVIL and ("alt", EVIL) in page.attributes
    allowed = {"class", "style", "alt", "src", "controls", "preload"}
    assert {name for name, _ in page.attributes} <= allowed


def test_a_card_shows_only_what_it_is_given():
    assert Page(boards.card("title")).tags == ["div", "div"]
    assert Page(boards.card("title", note="note")).tags == ["div", "div", "div"]


def test_a_board_shows_and_plays_every_clip_in_order():
    items = [("one", tone(440)), ("two", tone(1000), "a note")]
    page = boards.clips(items, small_config()).data
    assert Page(page).tags.count("audio") == Page(page).tags.count("img") == 2
    assert re.sub(r"\s+", " ", Page(page).text) == "onetwoa note"
    peaks = [
        np.abs(np.fft.rfft(sound)).argmax() / len(sound) * rate for sound, rate in sounds(page)
    ]
    assert peaks == pytest.approx([440, 1000], rel=0.01)


def pairs_of(page):
    """How many players each pair of a board holds."""
    return [part.count("<audio") for part in page.split("<div class='pair'")[1:]]


def test_a_pair_is_two_columns_that_never_break_however_narrow_the_page():
    items = [(("before", tone(440)), ("after", tone(1000), "a note"))] * 2
    page = boards.clip_pairs(items, small_config()).data
    assert pairs_of(page) == [2, 2]
    assert page.count("grid-template-columns:minmax(0,1fr) minmax(0,1fr)") == 2
    assert re.sub(r"\s+", " ", Page(page).text) == "beforeaftera note" * 2


def test_recordings_of_the_same_sound_are_a_pair(tmp_path):
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", tone(440, 22050, 3.0), 22050)
    sides = {"path": "a.wav", "label": "dog", "path_of_other": "b.wav", "label_of_other": ""}
    table = pd.DataFrame(
        [{**sides, "offset_seconds": 0.5, "overlap_seconds": 2.0, "correlation": 0.9}]
    )
    page = boards.pairs(table, tmp_path, small_config()).data
    assert (
        pairs_of(page) == [2]
        and "1a · dog" in Page(page).text
        and "1b · no label" in Page(page).text
    )


def test_nothing_is_said_to_be_nothing():
    assert boards.table(pd.DataFrame({"path": [], "label": []})).data == "<em>None.</em>"
    assert boards.board([]).data == "<em>None.</em>"


def test_the_cells_of_a_table_are_escaped_with_and_without_formats():
    frame = pd.DataFrame({"label": [EVIL], "accuracy": [0.5]})
    for shown in (boards.table(frame), boards.table(frame, accuracy="{:.1%}")):
        page = Page(shown.to_html())
        assert "script" not in page.tags and "img" not in page.tags and EVIL in page.text
    assert "50.0%" in boards.table(frame, accuracy="{:.1%}").to_html()


def test_a_table_has_units_in_its_head_and_numbers_to_the_right():
    frame = pd.DataFrame({"path": ["a.wav"], "rms_db": [-20.04], "duration_seconds": [1.0]})
    frame = frame.assign(accuracy="93.1 % (90.0–95.4)", sample_rate=pd.array([None], "Int64"))
    page = boards.table(frame).to_html()
    words = Page(page).text.split()
    assert "level (dBFS) length (s) accuracy rate (Hz)" in " ".join(words)
    assert words[-7:] == ["a.wav", "-20.0", "1.00", "93.1", "%", "(90.0–95.4)", "–"]
    aligned = [re.search(rf"\.col{place} {{\s*text-align: (\w+)", page)[1] for place in range(5)]
    assert aligned == ["left", "right", "right", "right", "right"]


def test_a_table_of_200_columns_shows_the_first_and_counts_the_others():
    page = boards.table(pd.DataFrame(np.eye(200)).add_prefix("class ")).to_html()
    assert "… and 184 more columns" in page and "class 199" not in page


def test_a_picture_in_a_page_has_text_and_the_colours_of_the_page():
    figure = plots.class_counts(pd.DataFrame({"label": ["<b>", "rain"]}))
    page = boards.svg(figure, "classes")
    assert page.startswith('<svg role="img" aria-label="classes"') and page.endswith("</svg>\n")
    assert "&lt;b&gt;" in page and ">rain<" in page and "http" not in page
    assert "var(--ink" in page and "var(--soft" in page and "(-0" not in page


def test_the_header_of_a_table_is_escaped():
    """Labels become columns in tables of predictions."""
    page = Page(boards.table(pd.DataFrame({EVIL: [0.5]})).to_html())
    assert "script" not in page.tags and EVIL in page.text


def test_a_table_has_no_underscores_and_no_index_and_stays_as_it_was():
    frame = pd.DataFrame({"macro_f1": [0.123456]}, index=[777])
    page = Page(boards.table(frame, precision=3).to_html())
    assert "macro F1" in page.text and "0.123" in page.text and "777" not in page.text
    assert list(frame) == ["macro_f1"]


def test_examples_are_the_first_clips_of_each_class():
    packed, rows = tone_clips(folds=1)
    page = boards.examples(packed, rows, small_config()).data
    assert Page(page).text == "highlow"
    peaks = [
        np.abs(np.fft.rfft(sound)).argmax() / len(sound) * rate for sound, rate in sounds(page)
    ]
    assert peaks == pytest.approx([2000, 400], rel=0.01)  # the second group's tones are 2 % higher


def test_a_mistake_shows_what_it_is_what_it_was_taken_for_and_its_own_sound():
    packed, rows = tone_clips(folds=1)
    predictions = prediction_rows(
        rows["label"], ["low", *rows["label"].tolist()[1:]], classes=("high", "low")
    )
    predictions["recording_id"] = rows["recording_id"]
    recordings = pd.DataFrame(
        {"recording_id": rows["recording_id"], "path": "a/" + rows["recording_id"] + EVIL}
    )
    worst = decisions.worst(predictions, 3)
    page = boards.predictions(worst, recordings, packed, rows, small_config()).data
    assert set(Page(page).tags) == KNOWN_TAGS and page.count("<audio") == 1
    assert (
        "✗ high → low" in Page(page).text
        and f"80% sure · fold 1 · a/high100{EVIL}" in Page(page).text
    )
    assert "low80%" in Page(page).text  # the bars say what was taken for likely
    [(sound, rate)] = sounds(page)
    assert np.abs(np.fft.rfft(sound)).argmax() / len(sound) * rate == pytest.approx(2000, rel=0.02)


def test_predictions_say_right_or_wrong_and_name_several_labels_or_none():
    packed, rows = tone_clips(folds=1, groups_per_fold=1, clips_per_group=1)
    table = prediction_rows(["high|low", "high"], ["high|low", ""], classes=("high", "low"))
    table["recording_id"], table["fold"] = rows["recording_id"], 3
    recordings = pd.DataFrame({"recording_id": rows["recording_id"], "path": ["a.wav", "b.wav"]})
    page = Page(boards.predictions(table, recordings, packed, rows, small_config()).data)
    right, wrong = page.text.split("fold 3 · a.wav")
    assert (
        right.startswith("✓ high + low")
        and wrong.startswith("✗ high → none")
        and wrong.endswith("fold 3 · b.wav")
    )
    assert page.tags.count("audio") == page.tags.count("img") == 2


def test_bars_are_as_long_as_their_shares():
    page = boards.part("bar_rows", {"dog": 1.0, "cat": 0.125})
    assert (
        re.findall(r"width:([\d.]+)%'", page) == ["100.0", "12.5"]
        and Page(page).text == "dog100%cat12%"
    )


def test_recordings_are_shown_at_one_peak_with_their_own_level_in_words(tmp_path):
    soundfile.write(tmp_path / "long.wav", tone(440, 22050, 3.0), 22050)
    facts = {
        "path": "long.wav",
        "split": "train",
        "label": EVIL,
        "duration_seconds": 3.0,
        "sample_rate": 22050,
        "codec": "WAV/PCM_16",
    }
    table = pd.DataFrame([{**facts, "rms_db": -9.0, "flags": "DC_OFFSET"}])
    page = boards.recordings(table, tmp_path, small_config(), seconds=1).data
    assert (
        EVIL in Page(page).text
        and "3.0 s · 22.05 kHz · WAV/PCM_16 · -9 dBFS · dc offset" in Page(page).text
    )
    [(sound, rate)] = sounds(page)
    assert len(sound) / rate == pytest.approx(1.0, abs=0.2)
    assert np.abs(sound).max() == pytest.approx(0.99, abs=0.05)  # the file's own is 0.5


def test_each_flag_is_shown_once_with_what_it_means_and_none_that_does_not_occur(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(440, 22050, 1.0), 22050)
    flags = [
        "LOW_BANDWIDTH",
        "LOW_BANDWIDTH",
        "CLIPPED DC_OFFSET",
        "LOW_BANDWIDTH",
        "",
        "DC_OFFSET",
    ]
    facts = {
        "path": "a.wav",
        "split": "train",
        "label": "dog",
        "status": "ok",
        "codec": "WAV/PCM_16",
    }
    numbers = {"duration_seconds": 1.0, "sample_rate": 22050, "rms_db": -9.0}
    table = pd.DataFrame(
        [{**facts, **numbers, "recording_id": str(n), "flags": f} for n, f in enumerate(flags)]
    )
    examples = recording.one_of_each_flag(table)
    assert dict(zip(examples["flag"], examples["recording_id"], strict=True)) == {
        "CLIPPED": "2",
        "DC_OFFSET": "5",  # the one with no other flag
        "LOW_BANDWIDTH": "0",
    }
    text = Page(boards.flagged(examples, tmp_path, small_config()).data).text
    assert "low bandwidth · 3 in all" in text and "dc offset · 2 in all" in text
    shown = {flag for flag, meaning in recording.FLAGS.items() if meaning in text}
    assert shown == {"CLIPPED", "DC_OFFSET", "LOW_BANDWIDTH"}


def test_every_flag_that_can_be_raised_has_its_meaning():
    source = inspect.getsource(recording)
    raised = set(re.findall(r'^        "([A-Z_]+)": ', source, re.MULTILINE)) | {"EXT_MISMATCH"}
    assert raised == set(recording.FLAGS)


def test_a_doubted_label_has_a_rank_and_no_chance_and_its_source_stands_there_once():
    packed, rows = tone_clips(folds=1, groups_per_fold=1, clips_per_group=2)
    identities = rows["recording_id"].tolist()
    facts = {"recording_id": identities, "group": list("xxyz"), "label": "high", "suggested": "low"}
    scores = {"doubt": [0.98, 0.9, 0.8, 0.4], "confidence_given": 0.1, "confidence_suggested": 0.9}
    ranked = pd.DataFrame({**facts, **scores, "rank": [1, 2, 3, 4]})
    recordings = pd.DataFrame({"recording_id": identities, "path": identities})
    page = Page(boards.doubts(ranked, recordings, packed, rows, small_config(), 9).data)
    assert page.tags.count("audio") == 2  # of x and y; z is not doubted
    assert (
        "doubt rank 1 of 3 · 1 more of this source" in page.text
        and "doubt rank 3 of 3 ·" in page.text
    )
    assert "98" not in page.text and "high, or low?" in page.text


def test_cleaning_is_told_in_numbers_and_what_is_cut_is_shaded(monkeypatch):
    shaded, draw = [], plots.cleaning_step
    monkeypatch.setattr(
        plots, "cleaning_step", lambda *args: (shaded.append(args[3:]), draw(*args))[1]
    )
    config = small_config()
    raw = np.concatenate([np.zeros(2000), tone(440), np.zeros(4000)]).astype(
        np.float32
    ) + np.float32(0.1)
    row = pd.DataFrame([{"path": "a.wav", "label": "dog"}]).itertuples()
    done = clean.steps(raw, 8000, config.clean)
    shown = clean.Shown(next(row), raw, done, clean.effects(raw, done, 8000))
    text = Page(boards.cleaning([shown], config).data).text
    assert shown.acting == ["DC removed", "silence trimmed", "peak normalised"]
    assert "mean +0.100 → 0.000 of full scale" in text and "+5.9 dB" in text
    assert "0.19 s cut at the start, 0.43 s at the end (shaded)" in text
    [(start, stop)] = [part[0] for part in shaded if any(part)]
    assert (start, stop) == (pytest.approx(0.2, abs=0.02), pytest.approx(0.8, abs=0.02))


# --- code


def shown_code(page):
    return Page(page.data).text


@pytest.mark.parametrize("function", SHOWN, ids=lambda function: function.__qualname__)
def test_the_code_that_is_shown_is_the_code_that_runs(function):
    """Line by line; a long docstring alone is left out."""
    shown = textwrap.dedent(boards.code_of(function))
    real = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
    trees = [ast.parse(text).body[0] for text in (shown, real)]
    bodies = []
    for tree in trees:
        body = tree.body[1:] if ast.get_docstring(tree) else tree.body
        bodies.append([ast.unparse(line) for line in body])
    assert bodies[0] == bodies[1]
    assert set(shown.splitlines()) <= set(real.splitlines())
    page = shown_code(boards.source(function))
    assert "".join(shown.split()) in "".join(page.split())


def test_code_stands_beside_a_picture_or_a_table_and_is_escaped():
    figure = plots.class_counts(pd.DataFrame({"label": list("ab")}))
    assert Page(boards.source(boards.say, beside=figure).data).tags.count("img") == 1
    told = boards.table(pd.DataFrame({EVIL: [0.5]}))
    page = Page(boards.source(boards.say, beside=told).data)
    assert "table" in page.tags and "script" not in page.tags
    assert 'f"<p>{html.escape(line)}</p>"' in page.text and "p" not in page.tags


def test_what_is_absent_is_absent_with_its_code():
    missing = boards.absent("no such thing.")
    assert boards.source(boards.say, beside=missing).data == missing.data


# --- tables


def test_kinds_are_counted_and_what_was_found_too():
    frame = pd.DataFrame({"split": list("aab"), "status": list("xxy")})
    counted = Page(boards.counts(frame, ["split", "status"], "files").to_html()).text.split()
    assert counted == ["split", "status", "files", "a", "x", "2", "b", "y", "1"]
    found = Page(boards.lengths({"bad": [1, 2], "images": 7}, clips=3).to_html()).text.split()
    assert found == ["clips", "bad", "images", "3", "2", "7"]
