"""The app in streamlit's AppTest: whatever is chosen, uploaded or recorded, the page answers and
stays up.
"""

import doctest
import importlib
import io
import json
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import soundfile
import torch
from streamlit.testing.v1 import AppTest
from tables import noise, small_config, tone

from helpers.base import artifacts
from helpers.compare import inference
from helpers.models import checkpoints, networks

APP = Path(__file__).parent.parent / "app" / "streamlit_app.py"
LABELS = ["bell", "dog", "rain"]
UPLOAD, RECORD, EXAMPLE = "Upload a file", "Record", "Try an example"


def save_run(name, labels=LABELS, **sections):
    """A run of two networks of random weights below the home of the test. Returns its folder."""
    config, folder = small_config(**sections), artifacts.home() / "outputs" / name
    for fold in (1, 2):
        torch.manual_seed(fold)
        turn = {"test": fold, "validation": None, "train": (3 - fold,)}
        checkpoints.save(
            networks.build(config, len(labels)),
            folder / "models" / "cnn" / f"fold{fold}",
            labels,
            config,
            turn,
        )
    artifacts.seal(folder / "models" / "cnn")
    artifacts.write_json(folder / "run.json", {"config": config.model_dump(mode="json")})
    return folder


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EARSHOT_HOME", str(tmp_path))
    monkeypatch.delenv("EARSHOT_RUN", raising=False)
    return tmp_path


@pytest.fixture
def tiny(home):
    return save_run("tiny")


def start():
    return AppTest.from_file(APP, default_timeout=60).run()


def upload(app, name, data):
    """The page after a file was uploaded."""
    return app.file_uploader[0].set_value((name, data, "application/octet-stream")).run()


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
    return [
        (json.loads(p.spec), pa.ipc.open_stream(p.datasets[0].data.data).read_pandas())
        for p in protos
    ]


def shown_probabilities(app):
    """The overall probabilities that the page shows: a Series by class."""
    return charts(app)[0][1].set_index("label")["probability"]


def said(app):
    """All words of the page."""
    kinds = (app.warning, app.error, app.info, app.subheader, app.markdown, app.caption)
    return "\n".join(element.value for kind in kinds for element in kind)


def assert_answered(app):
    assert not app.exception and not app.warning and not app.error
    assert len(app.get("image")) == 1 and len(app.get("audio")) == 1
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


def test_without_a_run_the_page_says_what_to_do_and_finds_one_that_comes_later(home):
    app = start()
    assert not app.exception and "make run-all" in app.info[0].value and not app.selectbox
    save_run("later")
    assert app.button[0].click().run().selectbox(key="run").value == "later"


def test_a_run_shows_its_classes_and_asks_for_a_recording(tiny):
    app = start()
    assert not app.exception and app.subheader[0].value == "Ready"
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
    assert "clearly below svm" in start().error[0].value
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
    assert not app.error and app.subheader[0].value == "Ready"


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
    app.radio(key="source").set_value(RECORD).run()
    assert (
        app.audio_input[0].sample_rate == recorded
        and f"{recorded / 1000:g} kHz" in app.audio_input[0].label
    )


def test_a_recording_of_the_microphone_is_answered(tiny):
    app = start()
    app.radio(key="source").set_value(RECORD).run()
    app.audio_input[0].set_value(
        ("recording.wav", encoded(sound(1.0, 8000), 8000), "audio/wav")
    ).run()
    assert_answered(app)
    assert "WAV · 1 s · 8 kHz · mono → heard as 8 kHz mono" in said(app)


def test_the_runs_own_clips_can_be_tried_and_those_trained_on_say_so(tiny):
    for place in ("train/bell/a", "train/dog/b", "test/unlabelled/c"):
        path = tiny / "clips" / f"{place}.flac"
        path.parent.mkdir(parents=True)
        path.write_bytes(encoded(sound(0.5, 8000), 8000, format="FLAC"))
    app = start()
    app.radio(key="source").set_value(EXAMPLE).run()
    assert_answered(app)
    clips = app.selectbox(key="example")
    assert clips.options == [
        "bell",
        "dog",
        "test clip 1, never seen in training",
    ] and "proves little" in said(app)
    clips.set_value(clips.options[-1]).run()
    assert_answered(app)
    assert "proves little" not in said(app)


def test_a_run_without_clips_says_so(tiny):
    app = start()
    app.radio(key="source").set_value(EXAMPLE).run()
    assert not app.exception and "kept no clips" in app.info[0].value


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
    table, (spec, cells) = app.dataframe[1].value, charts(app)[1]
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
    events, windows = (frame.value for frame in app.dataframe)
    assert events["onset"].min() == pytest.approx(20, abs=0.05) and events[
        "offset"
    ].max() == pytest.approx(37, abs=0.05)
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
    ]


def test_the_minutes_of_a_long_recording_are_seen_and_heard_one_at_a_time(tiny):
    app = upload(start(), "long.flac", encoded(sound(130, 8000), 8000, format="FLAC"))
    slider = app.select_slider(key="minute")
    assert slider.options == ["0:00", "1:00", "2:00"]
    first = app.get("image")[0].value
    slider.set_value(120).run()
    assert not app.exception and app.get("image")[0].value != first


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


@pytest.mark.parametrize("name", ["streamlit_app", "listening", "charts"])
def test_the_examples_in_the_app_hold(name):
    found = doctest.testmod(importlib.import_module(f"app.{name}"))
    assert found.attempted and not found.failed
