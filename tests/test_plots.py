"""Figures: each is drawn, closed and leaves matplotlib's settings as they were."""

import base64
import io

import librosa
import matplotlib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import LineCollection
from PIL import Image
from tables import (
    feature_rows,
    noise,
    prediction_rows,
    small_config,
    tagging_rows,
    tone,
    tone_clips,
)

from helpers.audio import images
from helpers.metrics import decisions, evaluate
from helpers.view import boards, plots, score_plots, style

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
HISTORY = pd.DataFrame(
    {"fold": [1, 1, 2], "epoch": [1, 2, 1], "train_loss": [2.0, 1.0, 2.0], "learning_rate": 0.01}
)
CHOSEN = HISTORY.assign(validation_loss=[2.0, 1.5, 1.9], validation_accuracy=[0.2, 0.5, 0.3])
SAID = {"cnn": "abcabb", "svm": "aacabb"}
ANSWERS = {name: prediction_rows("abcabc", said) for name, said in SAID.items()}
BOARD = evaluate.leaderboard(ANSWERS, {name: {} for name in SAID}, small_config())
SEVERAL = small_config(data={"multilabel": True})
EVENTS = pd.DataFrame({"onset": [0.1], "offset": [0.4], "label": ["dog"]})
LEDGER = pd.DataFrame(
    {
        "step": ["trim", "denoise"],
        "setting": ["50 dB", "off"],
        "tried": ["off", "on"],
        "metric": "accuracy",
    }
).assign(change=[0.01, -0.03], change_low=[-0.01, -0.05], change_high=[0.03, -0.01])
WEIGHTS = pd.DataFrame({"all": [0.7, 0.3], "fold 1": [0.6, 0.4]}, ["one", "other"])
SIZES = {"recordings": [5, 10], "value": [0.5, 0.6], "low": [0.4, 0.5], "high": [0.6, 0.7]}
CURVES = [{"model": name, "sizes": SIZES} for name in ("dnn", "listener_linear")]
TRIALS = pd.DataFrame({"train.mix": ["none", "mixup"], "score": [0.5, 0.6], "metric": "accuracy"})
SHORTCUT = {"column": "sample_rate", "auc": 0.9, "low": 0.8, "high": 0.95, "flagged": True}
AUDIT = {"asks": "the class", "chance": 0.5, "columns": [SHORTCUT], "kinds": []}


@pytest.fixture(autouse=True)
def no_open_figures():
    plt.close("all")


@pytest.fixture
def files(tmp_path):
    for number in range(3):
        images.to_png(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(
            tmp_path / f"{number}.png"
        )
    return sorted(tmp_path.iterdir())


def drawn(name, files):
    """The figure of each function, from the smallest data that says something."""
    scored = prediction_rows("abcabc", "abcabb")
    counts = decisions.confusion(scored)
    confidence = pd.DataFrame({"probability": [0.1, 0.5, 1.0], "cross-entropy": [2.3, 0.7, 0.0]})
    vectors = pd.DataFrame(np.eye(2), ["as it lies there", "mixed"], ["a", "b"])
    return {
        "leakage": plots.leakage,
        "group_folds": lambda: plots.group_folds(tone_clips()[1]),
        "shortcut_scores": lambda: plots.shortcut_scores(AUDIT),
        "mel_filter": lambda: plots.mel_filter(tone(440), small_config()),
        "events": lambda: plots.events(tone(440), small_config(), EVENTS, EVENTS.assign(onset=0)),
        "curves": lambda: score_plots.curves(confidence, "What an answer costs", "nats"),
        "label_vectors": lambda: score_plots.label_vectors(vectors),
        "one_redraw": lambda: score_plots.one_redraw(pd.Series([0, 1, 2], list("abc")), most=2),
        "heard_where": lambda: plots.heard_where(
            tone(440), {"what speaks for a": np.eye(4)}, small_config()
        ),
        "redraws": lambda: score_plots.redraws(
            np.linspace(0.4, 0.9, 50), {"value": 0.7, "low": 0.5, "high": 0.8}, "accuracy"
        ),
        "class_counts": lambda: plots.class_counts(scored, "How many?"),
        "recording_facts": lambda: plots.recording_facts(RECORDINGS),
        "fold_counts": lambda: plots.fold_counts(tone_clips()[1]),
        "waveform_and_mel": lambda: plots.waveform_and_mel(tone(440), small_config(), seconds=1.0),
        "image_wall": lambda: plots.image_wall(files, list("abc"), columns=2),
        "feature_spread": lambda: plots.feature_spread(feature_rows(), ["mfcc_01_mean", "rms_std"]),
        "cleaning_step": lambda: plots.cleaning_step(
            tone(440), small_config(), 1.0, kept=(0.1, 0.4)
        ),
        "network_input": lambda: plots.network_input(np.linspace(0, 1, 64).reshape(8, 8), 0.5),
        "correlations": lambda: plots.correlations(
            feature_rows(), ["mfcc_01_mean", "mfcc_02_mean", "rms_std"]
        ),
        "learning_curves": lambda: score_plots.learning_curves(CHOSEN),
        "confusion": lambda: score_plots.confusion(counts, list("abc")),
        "roc_curves": lambda: score_plots.roc_curves(scored, list("abc")),
        "score_by_class": lambda: score_plots.score_by_class(evaluate.per_class(scored, 50)),
        "leaderboard": lambda: score_plots.leaderboard(BOARD, ("accuracy", "macro_f1")),
        "leak_gap": lambda: score_plots.leak_gap(
            {"honest": evaluate.summary(scored, 50), "leaking": evaluate.summary(scored, 50)},
            "accuracy",
        ),
        "listener_map": lambda: plots.listener_map(
            np.random.default_rng(0).normal(size=(len(tone_clips()[1]), 4)), tone_clips()[1]
        ),
        "weights": lambda: score_plots.weights(WEIGHTS),
        "more_recordings": lambda: score_plots.more_recordings(CURVES, "accuracy"),
        "tried_settings": lambda: score_plots.tried_settings(TRIALS, {"train.mix": 1.0}),
        "changes": lambda: score_plots.changes(LEDGER, "What each cleaning step does"),
        "reliability": lambda: score_plots.reliability(*decisions.calibration(scored)),
    }[name]()


FIGURES = [
    name
    for module in (plots, score_plots)
    for name, function in vars(module).items()
    if getattr(function, "__module__", "") == module.__name__ and hasattr(function, "__wrapped__")
]


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn_closed_and_leaves_the_settings_alone(name, files):
    before = dict(matplotlib.rcParams)
    figure = drawn(name, files)
    assert isinstance(figure, matplotlib.figure.Figure) and figure.axes
    assert plt.get_fignums() == []
    assert dict(matplotlib.rcParams) == before


def test_a_figure_says_what_it_shows_and_in_which_unit(files):
    on_cards = {"waveform_and_mel", "cleaning_step", "network_input", "events"}
    for name in set(FIGURES) - on_cards - {"image_wall"}:
        assert any(
            axis.get_title(loc="left") or axis.get_title() for axis in drawn(name, files).axes
        ), name
    for axis in drawn("recording_facts", files).axes:
        assert axis.get_xlabel()


def test_what_is_cut_is_shaded_and_nothing_else():
    shaded = plots.cleaning_step(tone(440), small_config(), 1.0, kept=(0.1, 0.4)).axes[0].patches
    assert [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in shaded] == [
        (0, pytest.approx(0.1)),
        (pytest.approx(0.4), pytest.approx(0.5)),
    ]
    assert not plots.cleaning_step(tone(440), small_config(), 1.0).axes[0].patches


def test_curves_without_validation_show_the_training_alone():
    left, right = score_plots.learning_curves(HISTORY.assign(train_accuracy=0.5)).axes
    assert len(left.lines) == len(right.lines) == 3  # two folds and their mean
    assert right.get_title(loc="left") == "Accuracy"


def test_curves_of_several_labels_show_average_precision():
    history = CHOSEN.rename(columns={"validation_accuracy": "validation_average_precision"})
    _, right = score_plots.learning_curves(history).axes
    assert right.get_title(loc="left") == "Macro average precision" and len(right.lines) == 3


def test_figures_of_several_labels_are_drawn_and_say_what_they_score():
    predictions, labels = tagging_rows(), list("abc")
    by_class = score_plots.score_by_class(
        evaluate.per_class(predictions, 50, multilabel=True)
    ).axes[0]
    assert by_class.get_title(loc="left").startswith("Average precision by class")
    table = evaluate.leaderboard({"cnn": predictions}, {"cnn": {}}, SEVERAL)
    board = score_plots.leaderboard(table, ("macro_average_precision", "lwlrap"))
    legend = [text.get_text() for text in board.legends[0].get_texts()]
    assert legend == ["macro average precision", "lwlrap", "clearly below the best"]
    assert (
        len(score_plots.roc_curves(predictions, labels).axes[0].lines) == 4
    )  # a class each, and chance
    assert score_plots.confusion(decisions.confusion(predictions), labels).axes
    assert score_plots.reliability(*decisions.calibration(predictions, multilabel=True)).axes


def test_a_leaderboard_marks_what_cannot_be_told_apart_and_has_the_best_at_the_top():
    """By the paired difference, not by whether two intervals overlap: those of svm and cnn do."""
    scores = {
        "accuracy": [0.8, 0.9, 0.85],
        "accuracy_low": 0.7,
        "accuracy_high": 0.95,
        "f1": 0.5,
        "f1_low": 0.4,
    }
    behind = {
        "difference": [-0.1, 0, -0.05],
        "difference_low": [-0.15, 0, -0.12],
        "difference_high": [-0.05, 0, 0.02],
    }
    board = pd.DataFrame({"model": ["svm", "cnn", "gru"], **scores, **behind}).assign(f1_high=0.6)
    axis, paired = score_plots.leaderboard(board, ("accuracy", "f1")).axes
    assert [text.get_text() for text in axis.get_yticklabels()] == ["svm", "gru  =", "cnn  ="]
    points = paired.collections[-1].get_offsets()[:, 0].tolist()
    assert points == pytest.approx([-10, -5, 0])
    hollow = (paired.collections[-1].get_facecolors() == 1).all(axis=1)
    assert hollow.tolist() == [True, False, False]
    alone = score_plots.leaderboard(board[board["model"].ne("gru")], ("accuracy", "f1")).axes[0]
    assert [text.get_text() for text in alone.get_yticklabels()] == ["svm", "cnn"]


@pytest.mark.parametrize("score", [0.78, 0.9, 0.999])
@pytest.mark.parametrize("reach", [0.002, 0.03, 0.07, 0.3])
def test_the_text_of_a_tick_is_its_position(score, reach):
    low, high = max(score - reach, 0), min(score + reach, 1)
    gap = {
        name: {"accuracy": {"value": score, "low": low, "high": high}}
        for name in ("honest", "leaking")
    }
    axis = score_plots.leak_gap(gap, "accuracy").axes[0]
    texts = [text.get_text().removesuffix(" %") for text in axis.get_xticklabels()]
    assert len(texts) > 1
    np.testing.assert_allclose([float(text) for text in texts], 100 * axis.get_xticks(), atol=1e-6)


def test_the_leak_gap_shows_both_scores_with_their_intervals():
    gap = {
        "honest": {"lwlrap": {"value": 0.5, "low": 0.4, "high": 0.7}},
        "leaking": {"lwlrap": {"value": 0.9, "low": 0.8, "high": 0.95}},
    }
    axis = score_plots.leak_gap(gap, "lwlrap").axes[0]
    bars = [part for part in axis.collections if isinstance(part, LineCollection)]
    ends = [part.get_segments()[0].round(3).tolist() for part in bars]
    assert ends == [[[0.4, 0], [0.7, 0]], [[0.8, 1], [0.95, 1]]]
    points = [part.get_offsets().tolist() for part in axis.collections if part not in bars]
    assert points == [[[0.5, 0]], [[0.9, 1]]] and "lwlrap" in axis.get_xlabel()


def test_features_that_say_the_same_lie_side_by_side():
    table, rng = feature_rows(), np.random.default_rng(0)
    table["one"], table["other"] = rng.standard_normal((2, len(table)))
    table["alike"], table["reversed"], table["constant"] = 2 * table["one"] + 1, -table["one"], 1.0
    axis = plots.correlations(table, ["one", "other", "alike", "reversed", "constant"]).axes[0]
    names = [text.get_text() for text in axis.get_yticklabels()]
    assert sorted(names) == ["alike", "one", "other", "reversed"]  # what never changes is left out
    assert names.index("other") in (0, 3)
    matrix = axis.collections[0].get_array()
    assert matrix[names.index("one"), names.index("reversed")] == pytest.approx(-1)


def test_correlations_are_drawn_where_features_are_missing():
    table = feature_rows()
    table.loc[::3, "rms_std"] = np.nan
    assert plots.correlations(table, ["mfcc_01_mean", "mfcc_02_mean", "rms_std"]).axes


def test_the_folds_count_a_recording_once_whatever_its_labels():
    rows = tone_clips(folds=2)[1].replace({"label": {"high": "high|low", "low": ""}})
    axis = plots.fold_counts(rows).axes[0]
    assert sum(bar.get_width() for bar in axis.patches) == rows["recording_id"].nunique()


def test_a_group_is_one_colour_in_one_bar():
    rows = tone_clips(folds=2, groups_per_fold=1)[1]
    axis = plots.group_folds(rows).axes[0]
    drawn_bars = [bar for bar in axis.patches if bar.get_width()]
    assert sum(bar.get_width() for bar in drawn_bars) == rows["recording_id"].nunique()
    colours = [bar.get_facecolor() for bar in drawn_bars]
    assert len(set(colours)) == len(colours) == rows["group"].nunique()


def test_the_filter_that_is_drawn_is_the_one_that_hears_the_tone():
    figure = plots.mel_filter(tone(1000), small_config())
    [filled] = figure.axes[0].collections
    weights = filled.get_paths()[0].vertices
    khz = weights[weights[:, 1].argmax(), 0]
    assert khz == pytest.approx(1.0, abs=0.15)


def test_every_column_has_its_line_over_the_first_one():
    table = pd.DataFrame({"share": [0.0, 0.5, 1.0], "plain": [2, 1, 0], "focal": [1, 0.5, 0]})
    axis = score_plots.curves(table, "What an answer costs").axes[0]
    lines = {line.get_label(): line.get_ydata().tolist() for line in axis.lines}
    assert lines == {"plain": [2, 1, 0], "focal": [1, 0.5, 0]}
    assert axis.get_xlabel() == "share"


def test_an_interval_that_a_table_lacks_is_not_drawn():
    figure, axis = plt.subplots()
    style.whiskers(axis, [[0.5, 0.4, 0.6], [np.nan] * 3])
    points = np.ma.filled(axis.collections[-1].get_offsets(), np.nan)
    assert np.isfinite(points).all(axis=1).tolist() == [True, False]
    plt.close(figure)


def test_the_bars_of_class_counts_are_the_counts():
    axis = plots.class_counts(pd.DataFrame({"label": list("aaabcc")})).axes[0]
    widths = {
        text.get_text(): bar.get_width()
        for text, bar in zip(axis.get_yticklabels(), axis.patches, strict=True)
    }
    assert widths == {"a": 3, "b": 1, "c": 2}


def test_the_confusion_prints_every_count_in_its_cell():
    matrix = np.array([[3, 1], [0, 2]])
    axis = score_plots.confusion(matrix, ["a", "b"]).axes[0]
    printed = {text.get_position(): text.get_text() for text in axis.texts}
    assert printed == {(0.5, 0.5): "3", (1.5, 0.5): "1", (1.5, 1.5): "2"}  # (predicted, true)


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
    figure = score_plots.confusion(np.eye(2), [label, "other"])
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == [label, "other"]
    assert plots.class_counts(table).axes and score_plots.roc_curves(table, [label, "other"]).axes


def test_a_class_whose_name_begins_with_an_underscore_is_in_the_legend():
    table = prediction_rows(["_hum", "other"], ["_hum", "other"], classes=("_hum", "other"))
    legend = score_plots.roc_curves(table, ["_hum", "other"]).axes[0].get_legend()
    assert "_hum 1.00" in [text.get_text().strip() for text in legend.get_texts()]


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
    khz = librosa.mel_to_hz(np.array(positions) * librosa.hz_to_mel(4000.0)) / 1000
    np.testing.assert_allclose(khz, [0.25, 1])


def test_a_figure_and_its_png_bytes_travel_as_a_picture(files):
    for picture in (plots.class_counts(pd.DataFrame({"label": list("ab")})), files[0].read_bytes()):
        head, _, content = boards.png_uri(picture).partition(",")
        assert head == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(content))) as image:
            assert image.format == "PNG" and min(image.size) > 0


@pytest.fixture(scope="module")
def many_classes():
    """Answers of 200 classes with names of 40 characters, every tenth of them wrong."""
    names = [
        f"{number:03d} " + "a name of nearly forty letters in all"[:36] for number in range(200)
    ]
    said = [names[0] if number % 10 == 0 else name for number, name in enumerate(names)]
    return prediction_rows(names, said, classes=tuple(names)), names


@pytest.mark.parametrize("name", ["score_by_class", "confusion", "roc", "counts", "folds"])
def test_pictures_of_200_classes_fit_a_page_with_their_texts_inside(name, many_classes):
    table, names = many_classes
    figure = {
        "score_by_class": lambda: score_plots.score_by_class(evaluate.per_class(table, 50)),
        "confusion": lambda: score_plots.confusion(decisions.confusion(table), names),
        "roc": lambda: score_plots.roc_curves(table, names),
        "counts": lambda: plots.class_counts(table),
        "folds": lambda: plots.fold_counts(table.assign(split="train")),
    }[name]()
    whole = figure.get_tightbbox()  # with every text: it is what is saved
    assert whole.width <= 11.5 and whole.height <= 14.5
    texts = [*figure.axes[0].get_xticklabels(), *figure.axes[0].get_yticklabels()]
    assert all(text.get_fontsize() >= 8 for text in texts)
