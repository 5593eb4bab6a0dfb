"""Figures: each is drawn, closed and leaves matplotlib's settings as they were."""

import base64
import io

import matplotlib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tables import feature_rows, noise, prediction_rows, small_config, tone, tone_clips

from helpers import boards, evaluate, features, plots

matplotlib.use("Agg")
import matplotlib.pyplot as plt

law = settings(deadline=None, max_examples=60, derandomize=True)
RECORDINGS = pd.DataFrame(
    {
        "status": ["ok", "ok", "quarantined"],
        "duration_seconds": [1.0, 2.0, np.nan],
        "sample_rate": pd.array([8000, 44100, None], dtype="Int64"),
        "rms_db": [-20.0, -30.0, np.nan],
        "codec": ["WAV/PCM_16", "FLAC/PCM_16", ""],
    }
)
HISTORY = pd.DataFrame({"fold": [1, 1, 2], "epoch": [1, 2, 1], "train_loss": [2.0, 1.0, 2.0]})
CHOSEN = HISTORY.assign(validation_loss=[2.0, 1.5, 1.9], validation_accuracy=[0.2, 0.5, 0.3])
BOARD = pd.DataFrame(
    [evaluate.leaderboard_row(name, prediction_rows("abcabc", said), small_config().evaluate, 0) for name, said in
     [("cnn", "abcabb"), ("svm", "aacabb")]]
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_open_figures():
    plt.close("all")


@pytest.fixture
def images(tmp_path):
    mel = np.linspace(-90, 0, 256).reshape(16, 16)
    for number in range(3):
        features.spectrogram_image(mel, 16).save(tmp_path / f"{number}.png")
    return sorted(tmp_path.iterdir())


def drawn(name, images):
    """The figure of each function, from the smallest data that says something."""
    scored = prediction_rows("abcabc", "abcabb")
    counts = evaluate.group_confusions(scored, list("abc")).sum(axis=0)
    return {
        "class_counts": lambda: plots.class_counts(scored, "How many?"),
        "recording_facts": lambda: plots.recording_facts(RECORDINGS),
        "fold_counts": lambda: plots.fold_counts(tone_clips()[1]),
        "waveform_and_mel": lambda: plots.waveform_and_mel(tone(440), small_config(), seconds=1.0),
        "image_wall": lambda: plots.image_wall(images, list("abc"), columns=2),
        "feature_spread": lambda: plots.feature_spread(feature_rows(), ["mfcc_01_mean", "rms_std"]),
        "learning_curves": lambda: plots.learning_curves(CHOSEN),
        "confusion": lambda: plots.confusion(counts, list("abc")),
        "roc_curves": lambda: plots.roc_curves(scored, list("abc")),
        "recall_by_class": lambda: plots.recall_by_class(evaluate.per_class(scored, 50)),
        "leaderboard": lambda: plots.leaderboard(BOARD),
        "reliability": lambda: plots.reliability(*evaluate.calibration(scored)),
    }[name]()


FIGURES = [
    name
    for name, function in vars(plots).items()
    if getattr(function, "__module__", "") == plots.__name__ and hasattr(function, "__wrapped__")
]


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn_closed_and_leaves_the_settings_alone(name, images):
    before = dict(matplotlib.rcParams)
    figure = drawn(name, images)
    assert isinstance(figure, matplotlib.figure.Figure) and figure.axes
    assert plt.get_fignums() == []
    assert dict(matplotlib.rcParams) == before


def test_a_figure_says_what_it_shows_and_in_which_unit(images):
    for name in set(FIGURES) - {"image_wall", "waveform_and_mel"}:
        assert any(axis.get_title(loc="left") or axis.get_title() for axis in drawn(name, images).axes), name
    for axis in drawn("recording_facts", images).axes:
        assert axis.get_xlabel()


def test_curves_without_validation_show_the_training_loss_alone():
    left, right = plots.learning_curves(HISTORY).axes
    assert len(left.lines) == 3 and not right.lines  # two folds and their mean


def test_the_bars_of_class_counts_are_the_counts():
    axis = plots.class_counts(pd.DataFrame({"label": list("aaabcc")})).axes[0]
    widths = {text.get_text(): bar.get_width() for text, bar in zip(axis.get_yticklabels(), axis.patches, strict=True)}
    assert widths == {"a": 3, "b": 1, "c": 2}


def test_the_confusion_prints_every_count_in_its_cell():
    matrix = np.array([[3, 1], [0, 2]])
    printed = {text.get_position(): text.get_text() for text in plots.confusion(matrix, ["a", "b"]).axes[0].texts}
    assert printed == {(0, 0): "3", (1, 0): "1", (1, 1): "2"}  # (predicted, true)


@pytest.mark.parametrize(
    "waveform", [np.zeros(4000, np.float32), noise(300), noise(1)], ids=["silence", "short", "one"]
)
def test_hardly_a_sound_can_be_drawn(waveform):
    assert plots.waveform_and_mel(waveform, small_config()).axes


@pytest.mark.parametrize(
    "label",
    [
        "$_$",
        "5 $ or 10",
        "a_b^c",
        "50 %",
        "日本",
        "<b>",
    ],
)
@pytest.mark.filterwarnings("ignore:Glyph")
def test_a_label_is_drawn_as_it_is_spelled(label):
    table = prediction_rows([label, "other"], [label, "other"], classes=(label, "other"))
    figure = plots.confusion(np.eye(2), [label, "other"])
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == [label, "other"]
    assert plots.class_counts(table).axes and plots.roc_curves(table, [label, "other"]).axes


def test_a_class_whose_name_begins_with_an_underscore_is_in_the_legend():
    table = prediction_rows(["_hum", "other"], ["_hum", "other"], classes=("_hum", "other"))
    legend = plots.roc_curves(table, ["_hum", "other"]).axes[0].get_legend()
    assert "_hum" in [text.get_text().strip() for text in legend.get_texts()]


@law
@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=1500))
def test_the_envelope_keeps_the_extremes(values):
    waveform = np.array(values, np.float32)
    time, low, high = plots.envelope(waveform, 1000)
    assert len(time) == len(low) == len(high) <= 400
    assert min(low) == waveform.min() and max(high) == waveform.max()
    assert all(a <= b for a, b in zip(low, high, strict=True)) and time[0] == 0


def test_mel_ticks_lie_where_their_frequencies_do():
    settings = small_config(features={"f_min": 0.0, "f_max": 4000.0}).features
    positions, names = plots.mel_ticks(settings, 8000)
    assert names == ["0.25", "1"]  # 4 kHz is the edge itself
    khz = features.mel_to_hz(np.array(positions) * features.hz_to_mel(np.array(4000.0))) / 1000
    np.testing.assert_allclose(khz, [0.25, 1])


def test_a_figure_and_its_png_bytes_travel_as_a_picture(images):
    for picture in (plots.class_counts(pd.DataFrame({"label": list("ab")})), images[0].read_bytes()):
        head, _, content = boards.png_uri(picture).partition(",")
        assert head == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(content))) as image:
            assert image.format == "PNG" and min(image.size) > 0
