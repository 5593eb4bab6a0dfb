"""The app in streamlit's AppTest: whatever is chosen, uploaded or recorded, the page answers and
stays up.
"""

import doctest
import importlib
import io
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import soundfile
from networks import save_folds
from streamlit.testing.v1 import AppTest
from tables import noise, small_config, tone

from app import runs, streamlit_app
from helpers.base import artifacts
from helpers.compare import inference
from helpers.data import relabel, sources
from helpers.metrics import evaluate
from helpers.run import cli

APP = Path(__file__).parent.parent / "app" / "streamlit_app.py"
LABELS = ["bell", "dog", "rain"]
WELCOME = "Hear one, or upload your own"


def save_run(name, labels=LABELS, **sections):
    """A run of two networks of random weights below the home of the test. Returns its folder."""
    config = small_config(**sections)
    folder = artifacts.home() / "outputs" / name
    save_folds(folder, labels, config)
    run = {"config": config.model_dump(mode="json"), "stages": {}}
    artifacts.write_json(folder / "run.json", run)
    return folder


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EARSHOT_HOME", str(tmp_path))
    monkeypatch.delenv("EARSHOT_RUN", raising=False)
    return tmp_path


@pytest.fixture(autouse=True)
def loaded_at_once(monkeypatch):
    """The networks are loaded before the page goes on: a test compiles the page at each run, which
    CPython 3.11 does not survive while a thread compiles what it imports.
    """
    submit = ThreadPoolExecutor.submit

    def at_once(pool, function, *arguments):
        future = submit(pool, function, *arguments)
        if function.__module__ == "app.listening":
            wait([future])
        return future

    monkeypatch.setattr(ThreadPoolExecutor, "submit", at_once)


@pytest.fixture
def tiny(home):
    return save_run("tiny")


def start():
    return AppTest.from_file(APP, default_timeout=60).run()


def upload(app, name, data):
    """The page after a file was uploaded."""
    return app.file_uploader[0].set_value((name, data, "application/octet-stream")).run()


def upload_all(app, files):
    """The page after several files were uploaded: {name: bytes}."""
    listed = [(name, data, "application/octet-stream") for name, data in files.items()]
    return app.file_uploader[0].set_value(listed).run()


def button(app, label):
    """The button whose label ends so."""
    return next(element for element in app.button if element.label.endswith(label))


def player(app):
    """What the page shows and plays of a sound: picture, sound, events and their times."""
    (component,) = app.get("bidi_component")
    return json.loads(component.proto.json)


def sound(seconds=1.2, rate=22050):
    return tone(440, rate, seconds) + noise(round(seconds * rate))


def encoded(waveform, rate=22050, **form):
    """A waveform as the bytes of a file: format and subtype as soundfile names them."""
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, rate, **(form or {"format": "WAV"}))
    return buffer.getvalue()


def encoded_m4a(waveform, rate=44100):
    """The same as AAC in an M4A file."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="ipod") as file:
        stream = file.add_stream("aac", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
        frame.rate = rate
        for packet in (*stream.encode(frame), *stream.encode(None)):
            file.mux(packet)
    return buffer.getvalue()


def charts(app):
    """The charts of the page: a list of (specification, data)."""
    protos = [element.proto for element in app.get("vega_lite_chart")]
    return [(json.loads(p.spec), pa.ipc.open_stream(p.data.data).read_pandas()) for p in protos]


def shown_probabilities(app):
    """The overall probabilities that the page shows: a Series by class."""
    return charts(app)[0][1].set_index("label")["probability"]


def said(app):
    """All words of the page."""
    kinds = (app.warning, app.error, app.info, app.subheader, app.markdown, app.caption)
    return "\n".join(element.value for kind in kinds for element in kind)


def assert_answered(app):
    assert not app.exception and not app.warning and not app.error
    assert {"picture", "sound", "events"} <= set(player(app))
    assert set(shown_probabilities(app).index) == set(LABELS)


def assert_refused(app, code):
    """A sentence, the code, no answer, and a page that still takes recordings."""
    assert not app.exception and not charts(app) and app.file_uploader
    assert (
        len(app.warning) == 1
        and len(app.warning[0].value) > 30
        and f"{code}:" in said(app).replace("\\", "")
    )


# --- runs --------------------------------------------------------------------------------------


def test_before_any_training_the_starter_answers_and_a_run_that_comes_later_is_found(home):
    app = start()
    assert app.selectbox(key="run").options == ["starter (comes with Earshot)"]
    assert not app.exception and "make run-all" in app.info[0].value
    button(app, "rain").click().run()
    assert not app.exception and len(shown_probabilities(app)) == 10
    save_run("later")
    assert start().selectbox(key="run").value == "later"


def test_a_run_shows_its_classes_and_asks_for_a_recording(tiny):
    app = start()
    assert not app.exception and app.subheader[0].value == WELCOME
    assert "bell, dog, rain" in said(app).replace("\\", "") and "not measured" in said(app)


def test_a_run_shows_its_held_out_score_with_the_interval(tiny):
    artifacts.write_json(
        tiny / "metrics.json", {"accuracy": {"value": 0.855, "low": 0.804, "high": 0.899}}
    )
    assert "**85.5%** of held-out recordings right (95% interval 80.4% to 89.9%)" in said(start())


def test_a_run_that_should_not_be_used_as_it_is_says_why(tiny):
    board = {
        "model": ["svm", "cnn"],
        "accuracy": [0.9, 0.3],
        "accuracy_low": [0.8, 0.2],
        "accuracy_high": [1.0, 0.4],
    }
    behind = {"difference": [0, -0.6], "difference_low": [0, -0.7], "difference_high": [0, -0.5]}
    artifacts.write_table(tiny / "leaderboard.csv", pd.DataFrame({**board, **behind}))
    app = start()
    assert "clearly below svm" in app.error[0].value
    assert 'SET="submit.model=svm"' in app.error[0].value  # what to do about it
    artifacts.write_table(
        tiny / "leaderboard.csv", pd.DataFrame({**board, **behind}).assign(difference_high=0.0)
    )
    assert not start().error


@pytest.mark.parametrize(
    ("setting", "mark"), [("synthetic", "synthetic data"), ("fast", "smoke run")]
)
def test_runs_whose_scores_mean_little_are_marked(home, setting, mark):
    save_run("plain")
    assert mark not in said(start())
    save_run("marked", **{setting: True})
    assert mark in said(start())


def test_the_run_of_the_command_line_is_chosen_first(tiny, monkeypatch):
    save_run("newer")
    assert start().selectbox(key="run").value == "newer"
    monkeypatch.setenv("EARSHOT_RUN", "tiny")
    assert start().selectbox(key="run").value == "tiny"
    monkeypatch.setenv("EARSHOT_RUN", "absent")
    app = start()
    assert "absent" in app.warning[0].value and app.selectbox(key="run").value == "newer"


def test_another_run_answers_with_its_own_classes(tiny):
    save_run("other", ["piano", "violin"])
    app = upload(start(), "sound.wav", encoded(sound()))
    assert set(shown_probabilities(app).index) == {"piano", "violin"}
    app.selectbox(key="run").set_value("tiny").run()
    assert_answered(app)


def test_a_run_that_is_trained_again_answers_anew(tiny):
    app = upload(start(), "sound.wav", encoded(sound()))
    before = shown_probabilities(app)
    save_run("tiny", ["bell", "cat", "rain"])
    assert set(shown_probabilities(app.run()).index) == {"bell", "cat", "rain"} != set(before.index)


def damage_weights(folder):
    path = folder / "models/cnn/fold1/weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")


def damage_card(folder):
    (folder / "models/cnn/fold1/card.json").write_text('{"labels": [')


def damage_metrics(folder):
    (folder / "metrics.json").write_text('{"accuracy": 0.9}')


def lose_weights(folder):
    (folder / "models/cnn/fold1/weights.safetensors").unlink()


@pytest.mark.parametrize("harm", [damage_weights, damage_card, damage_metrics, lose_weights])
def test_a_damaged_run_is_explained_and_another_one_can_be_chosen(tiny, harm):
    save_run("whole")
    harm(tiny)
    app = start()
    app.selectbox(key="run").set_value("tiny").run()
    assert not app.exception and "cannot be used" in app.error[0].value
    app.selectbox(key="run").set_value("whole").run()
    assert not app.error and app.subheader[0].value == WELCOME


def test_predict_takes_the_starter_until_the_demo_is_trained_and_says_so(home, capsys):
    example = str(artifacts.STARTER / "examples" / "rain.ogg")
    assert cli.main(["predict", example]) == 0
    out, err = capsys.readouterr()
    assert ": rain" in out and "starter" in err
    assert cli.main(["predict", example, "--run", "starter"]) == 0
    assert capsys.readouterr() == (out, "")
    save_run("demo", ["piano", "violin"])
    assert cli.main(["predict", example]) == 0
    out, err = capsys.readouterr()
    assert "piano" in out and not err


def test_the_starter_is_small_and_its_card_says_its_scores():
    files = [path for path in artifacts.STARTER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 1_000_000
    card = (artifacts.STARTER / "README.md").read_text(encoding="utf-8")
    metrics = artifacts.read_json(artifacts.STARTER / "metrics.json")
    for scores in (metrics, metrics["hidden_test"]):
        row = f"| {scores['n_recordings']} | {evaluate.percent(scores['accuracy'])} |"
        assert row in card


# --- what comes in -----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_every_format_is_answered_whatever_the_file_is_called(tiny, form):
    app = upload(start(), f"../../{form} $x$ <b>.{form.lower()}", encoded(sound(), format=form))
    assert_answered(app)
    assert f"{form} · 1.2 s · 22.05 kHz · mono" in said(app)


def test_m4a_is_answered(tiny):
    app = upload(start(), "phone.m4a", encoded_m4a(sound(rate=44100)))
    assert_answered(app)


def test_the_probabilities_shown_are_those_of_predict_file(tiny, tmp_path):
    (tmp_path / "sound.wav").write_bytes(encoded(sound()))
    app = upload(start(), "sound.wav", (tmp_path / "sound.wav").read_bytes())
    expected = inference.Bundle(tiny).predict_file(tmp_path / "sound.wav")
    shown = shown_probabilities(app)
    assert shown.index.tolist() == expected.index.tolist()
    np.testing.assert_allclose(shown, expected, rtol=1e-5)
    assert (
        expected.index[0] in app.subheader[0].value
        and f"{expected.iloc[0]:.0%}" in app.subheader[0].value
    )


@pytest.mark.parametrize(
    ("rate", "recorded"), [(8000, 8000), (22050, 22050), (20000, 22050), (96000, 48000)]
)
def test_the_recorder_takes_the_models_rate_or_the_next_one_that_it_can(home, rate, recorded):
    save_run("tiny", audio={"sample_rate": rate, "clip_seconds": 0.5})
    app = start()
    assert (
        app.audio_input[0].sample_rate == recorded
        and f"{recorded / 1000:g} kHz" in app.audio_input[0].label
    )


def test_a_recording_of_the_microphone_is_answered(tiny):
    app = start()
    app.audio_input[0].set_value(
        ("recording.wav", encoded(sound(1.0, 8000), 8000), "audio/wav")
    ).run()
    assert_answered(app)
    assert "WAV · 1 s · 8 kHz · mono → heard as 8 kHz mono" in said(app)


def save_clips(folder, *places):
    """Clips of a run, as 02 writes them."""
    for place in places:
        path = folder / "clips" / f"{place}.flac"
        path.parent.mkdir(parents=True)
        path.write_bytes(encoded(sound(0.5, 8000), 8000, format="FLAC"))


def test_the_runs_own_test_clips_are_heard_with_one_click(tiny):
    save_clips(tiny, "train/bell/a", "train/dog/b", "test/unlabelled/c", "test/rain/d")
    app = start()
    names = [element.label.rsplit(maxsplit=1)[-1] for element in app.button]
    assert names == ["rain", "2"] and "no network has learned" in said(app)
    assert all("data:image/png;base64," in element.label for element in app.button)
    assert_answered(button(app, "rain").click().run())
    assert "Was this right?" not in said(app)


def test_a_run_without_a_test_set_offers_held_out_clips_and_says_what_they_prove(tiny):
    save_clips(tiny, "train/bell/a", "train/dog/b")
    rows = {"clip_id": ["a", "b"], "recording_id": ["a", "b"], "label": ["bell", "dog"]}
    table = pd.DataFrame(rows).assign(fold=[1, 2], split="train", group="", start_seconds=0.0)
    table = table.assign(path=["clips/train/bell/a.flac", "clips/train/dog/b.flac"])
    artifacts.write_table(tiny / "clips.csv", table.assign(valid_seconds=0.5))
    app = start()
    assert [element.label.rsplit(maxsplit=1)[-1] for element in app.button] == ["bell"]
    assert "proves little" in said(app)
    assert_answered(button(app, "bell").click().run())


def test_an_example_belongs_to_its_run(tiny):
    save_clips(tiny, "test/rain/d")
    save_run("other")
    app = start()
    app.selectbox(key="run").set_value("tiny").run()
    button(app, "rain").click().run()
    app.selectbox(key="run").set_value("other").run()
    assert not app.exception and app.subheader[0].value == WELCOME


def test_a_run_without_clips_says_so(tiny):
    assert "kept no clips" in said(start())


def test_the_networks_are_loaded_while_the_page_waits(tiny):
    start()
    loaded = streamlit_app.loading(tiny, runs.fingerprint(tiny))
    assert loaded.result(timeout=60).labels == LABELS


def test_the_report_can_be_taken_along(tiny):
    assert not start().get("download_button")
    (tiny / "report.html").write_text("<h1>tiny</h1>")
    assert start().get("download_button")[0].proto.label == "Report of this run"


# --- several at once, and corrections ----------------------------------------------------------


def test_several_files_have_a_table_a_zip_and_one_of_them_is_shown(tiny):
    loud = encoded(sound(2.0))
    app = upload_all(start(), {"a.wav": encoded(sound()), "notes.wav": b"notes", "b.wav": loud})
    assert_answered(app)
    table = app.dataframe[0].value
    assert table["file"].tolist() == ["a.wav", "notes.wav", "b.wav"]
    assert table["problem"][1].startswith("NOT_AUDIO") and table["answer"][0] in LABELS
    assert "1.2 s" in said(app)
    (tiny / "b.wav").write_bytes(loud)
    expected = inference.Bundle(tiny).predict_file(tiny / "b.wav")
    assert table["probability"][2] == pytest.approx(expected.max(), rel=1e-5)
    app.selectbox(key="chosen").set_value(2).run()
    assert_answered(app)
    assert "2 s" in said(app)
    assert app.selectbox(key="chosen").set_value(1).run().warning


def test_the_zip_holds_every_answer_once():
    table = pd.DataFrame({"file": ["a.wav", "bad.wav", "a.wav"], "answer": ["dog", "", "rain"]})
    answers = [({}, {"events.csv": "1"}), ({}, {}), ({}, {"events.csv": "2"})]
    with zipfile.ZipFile(io.BytesIO(streamlit_app.zipped(table, answers))) as file:
        assert len(file.namelist()) == len(set(file.namelist())) == 3
        assert "answers.csv" in file.namelist()


def kept_rows(folder):
    """The corrections of a run, read as 01 reads relabel.csv, by the path of their sound."""
    place = folder / "corrections"
    ids = {sources.recording_id(path.relative_to(place).as_posix()): path.relative_to(place)
           for path in place.glob("*/*")}  # fmt: skip
    edits = relabel.read_relabel(place / "relabel.csv", known=list(ids))
    return {ids[identity].as_posix(): label for identity, label in edits.items()}


def test_a_correction_is_kept_with_its_sound_and_can_be_changed(tiny):
    data = encoded(sound())
    app = upload(start(), "walk.wav", data)
    button(app, "Yes").click().run()
    answer = shown_probabilities(app).index[0]
    ((path, label),) = kept_rows(tiny).items()
    assert label == answer and path.startswith(f"{answer}/")
    assert (tiny / "corrections" / path).read_bytes() == data and "Kept as" in app.success[0].value
    other = next(name for name in LABELS if name != answer)
    app.selectbox[1].set_value(other).run()
    button(app, "Save").click().run()
    ((path, label),) = kept_rows(tiny).items()
    assert label == other and (tiny / "corrections" / path).read_bytes() == data
    assert len(list((tiny / "corrections").rglob("*.wav"))) == 1
    app.selectbox[1].set_value("none of these").run()
    button(app, "Save").click().run()
    assert list(kept_rows(tiny).values()) == ["drop"]


def test_with_several_labels_a_correction_names_all_of_them(home):
    folder = tagging_run([0.0, 1.0, 0.0])
    app = upload(start(), "sound.wav", encoded(sound()))
    app.multiselect[0].set_value(["dog", "bell"]).run()
    button(app, "Save").click().run()
    assert kept_rows(folder).popitem()[1] == "bell|dog"
    app.multiselect[0].set_value(["none of these"]).run()
    button(app, "Save").click().run()
    assert list(kept_rows(folder).values()) == ["none"]


# --- what cannot be used -----------------------------------------------------------------------


def with_nan(waveform):
    return np.where(np.arange(len(waveform)) == 100, np.nan, waveform).astype(np.float32)


BAD = {
    "empty": (b"", "EMPTY_FILE"),
    "text": (b"these are notes, not sound", "NOT_AUDIO"),
    "one byte": (b"\xff", "NOT_AUDIO"),
    "header alone": (encoded(sound())[:44], "TRUNCATED"),
    "cut wav": (encoded(sound())[:9000], "TRUNCATED"),
    "cut ogg": (encoded(sound(), format="OGG")[:5000], "TRUNCATED"),
    "cut m4a": (encoded_m4a(sound(rate=44100))[:3000], "TRUNCATED"),
    "no samples": (encoded(sound(0.0)), "EMPTY_AUDIO"),
    "silence": (encoded(np.zeros(22050)), "SILENT"),
    "an offset alone": (encoded(np.full(22050, 0.25)), "SILENT"),
    "short": (encoded(sound(0.05)), "TOO_SHORT"),
    "not a number": (encoded(with_nan(sound()), format="WAV", subtype="FLOAT"), "NONFINITE"),
    "adpcm": (encoded(sound(), format="WAV", subtype="IMA_ADPCM"), "CODEC_NOT_ALLOWED"),
    "strange rate": (encoded(sound(), 900), "BAD_RATE"),
    "many channels": (encoded(np.tile(sound()[:, None], 17)), "TOO_MANY_CHANNELS"),
}


def test_what_cannot_be_used_gets_a_friendly_word_and_the_page_stays_up(tiny):
    app = start()
    for what, (data, code) in BAD.items():
        assert_refused(upload(app, f"{what}.wav", data), code)
    assert_answered(upload(app, "good.wav", encoded(sound())))


def test_a_recording_longer_than_the_run_allows_is_refused(home):
    save_run("tiny", audio={"sample_rate": 8000, "clip_seconds": 0.5, "max_seconds": 2.0})
    app = upload(start(), "long.flac", encoded(sound(2.5), format="FLAC"))
    assert "2 s" in app.file_uploader[0].label
    assert_refused(app, "TOO_LONG")


def test_a_recording_that_does_not_fit_into_memory_is_refused(tiny, monkeypatch):
    def decode(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("helpers.audio.decoder.decode", decode)
        app = upload(start(), "huge.wav", encoded(sound()))
    assert_refused(app, "TOO_LARGE")


def test_no_place_of_this_machine_is_named(tiny):
    flac = encoded(sound(), format="FLAC")
    app = upload(start(), "bad.flac", flac[:4] + b"\0" * 200)
    assert app.warning and "/recording" not in said(app)


# --- over time ---------------------------------------------------------------------------------


def test_a_long_recording_has_a_row_per_window_and_a_timeline(tiny):
    app = upload(start(), "long.flac", encoded(sound(130.25, 8000), 8000, format="FLAC"))
    assert not app.exception
    table, (spec, cells) = app.dataframe[0].value, charts(app)[1]
    (tiny / "long.flac").write_bytes(encoded(sound(130.25, 8000), 8000, format="FLAC"))
    expected = inference.Bundle(tiny).hear(tiny / "long.flac").windows()
    assert len(table) == len(expected) == 520 and len(cells) % len(LABELS) == 0
    np.testing.assert_allclose(table[LABELS], expected[LABELS], atol=1e-4)
    assert (cells["onset"].min(), cells["offset"].max()) == (0, 130.25)
    assert spec["encoding"]["x"]["title"] == "minutes" and "520 windows" in said(app)


def test_times_are_those_of_the_file_and_where_there_is_no_sound_it_stays_white(tiny):
    waveform = np.concatenate(
        [
            np.zeros(20 * 8000),
            sound(1.0, 8000),
            np.zeros(14 * 8000),
            sound(2.0, 8000),
            np.zeros(800),
        ]
    )
    app = upload(start(), "day.one.wav", encoded(waveform, 8000))
    assert_answered(app)
    _, cells = charts(app)[1]
    starts = cells["onset"].drop_duplicates()
    assert starts.between(19.95, 21).sum() >= 1 and starts.between(34.95, 37).sum() >= 2
    assert (starts.between(19.95, 21.05) | starts.between(34.95, 37.05)).all()
    windows, events = app.dataframe[0].value, player(app)["events"]
    assert min(event["onset"] for event in events) == pytest.approx(20, abs=0.05)
    assert max(event["offset"] for event in events) == pytest.approx(37, abs=0.05)
    assert events[0]["when"] in ("0:19", "0:20") and events[-1]["share"].endswith("%")
    silent = windows["label"].eq("")
    assert windows["end"].iloc[-1] == pytest.approx(37.1) and windows.loc[
        silent, LABELS
    ].isna().all(axis=None)
    assert f"{silent.sum()} without sound" in said(app)
    buttons = [element.proto for element in app.get("download_button")]
    assert [button.label for button in buttons] == [
        "Windows (CSV)",
        "Events (CSV)",
        "Audacity labels",
        "Raven table",
    ]


def test_three_minutes_are_seen_and_heard_at_once_and_what_is_longer_in_parts(tiny):
    data = encoded(np.tile(sound(10, 8000), 31), 8000, format="FLAC")
    app = upload(start(), "long.flac", data)
    parts = app.select_slider(key="part")
    assert parts.options == ["0:00", "5:00"]
    first = player(app)
    assert first["seconds"] == 300 and all(event["onset"] < 300 for event in first["events"])
    parts.set_value(300).run()
    second = player(app)
    assert not app.exception and second["seconds"] == pytest.approx(10, abs=0.01)
    assert all(event["offset"] > 300 for event in second["events"])
    assert not upload(app, "three.flac", encoded(sound(180, 8000), 8000)).select_slider


@pytest.mark.parametrize("seconds", [59.9, 60.4, 61.2])
def test_a_recording_of_about_a_minute_is_shown(tiny, seconds):
    assert_answered(upload(start(), "minute.wav", encoded(sound(seconds, 8000), 8000)))


def test_a_recording_of_one_window_has_no_timeline(tiny):
    app = upload(start(), "short.wav", encoded(sound(0.5)))
    assert_answered(app)
    assert (
        len(charts(app)) == 1
        and not app.dataframe
        and "One window" in said(app)
        and app.get("download_button")
    )


# --- several labels at once --------------------------------------------------------------------


def tagging_run(thresholds):
    folder = save_run("tags", data={"multilabel": True})
    artifacts.write_json(
        folder / "models" / "cnn" / "thresholds.json", dict(zip(LABELS, thresholds, strict=True))
    )
    artifacts.seal(folder / "models" / "cnn")
    return folder


def test_with_several_labels_every_class_above_its_threshold_is_heard(home):
    tagging_run([0.0, 1.0, 0.0])
    app = upload(start(), "sound.wav", encoded(sound()))
    assert_answered(app)
    answer = app.subheader[0].value
    assert "bell" in answer and "rain" in answer and "dog" not in answer
    _, data = charts(app)[0]
    assert data.set_index("label")["limit"].to_dict() == dict(
        zip(LABELS, [0.0, 1.0, 0.0], strict=True)
    )


def test_with_several_labels_none_may_be_heard_and_probabilities_stand_alone(home):
    folder = tagging_run([1.0, 1.0, 1.0])
    data = encoded(sound())
    app = upload(start(), "sound.wav", data)
    assert app.subheader[0].value == "None of the classes that it knows"
    (home / "sound.wav").write_bytes(data)
    expected = inference.Bundle(folder).predict_file(home / "sound.wav")
    np.testing.assert_allclose(shown_probabilities(app)[LABELS], expected[LABELS], rtol=1e-5)
    assert shown_probabilities(app).sum() != pytest.approx(1, abs=0.05)


# --- names that mean something to Markdown -----------------------------------------------------


def test_labels_are_shown_as_they_are_written(home):
    labels = ["a_b_c", "*star*", ":red[x] $y$"]
    save_run("odd", labels)
    app = upload(start(), "sound.wav", encoded(sound()))
    assert not app.exception and set(shown_probabilities(app).index) == set(labels)
    for label in labels:
        assert label in said(app).replace("\\", "") and f" {label}" not in said(app)


@pytest.mark.parametrize("name", ["streamlit_app", "listening", "charts", "runs"])
def test_the_examples_in_the_app_hold(name):
    found = doctest.testmod(importlib.import_module(f"app.{name}"))
    assert found.attempted and not found.failed
