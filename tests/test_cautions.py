"""Cautions: a good run has none, and each thing that goes wrong is said, with the next command."""

import html
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tables import small_config

from helpers.base import artifacts
from helpers.run import cautions, journal, presets
from helpers.view import boards

CLASSES = ["bell", "dog", "rain"]
INNOCENT = {"asks": "the class", "verdict": "ok", "columns": [], "kinds": []}


def score(value, reach=0.04):
    return {"value": value, "low": value - reach, "high": value + reach}


def row(model, value, behind=(0.0, 0.0, 0.0), reach=0.04):
    ends = {"accuracy": value, "accuracy_low": value - reach, "accuracy_high": value + reach}
    return {
        "model": model,
        **ends,
        **dict(zip(("difference", "difference_low", "difference_high"), behind, strict=True)),
    }


def write(folder, table=None, **changed):
    """The files of a good run, of which some are changed. Returns its folder."""
    epochs, folds = np.tile(np.arange(1, 21), 2), np.repeat([1, 2], 20)
    history = pd.DataFrame({"fold": folds, "epoch": epochs, "learned": 0.9 - 0.7 / epochs})
    files = {
        "run": {
            "config": small_config(train={"epochs": 20}).model_dump(mode="json"),
            "stages": {},
        },
        "metrics": {"n_groups": 120, "never_predicted": [], "majority_class_accuracy": 0.4},
        "history": history.to_dict("records"),
        "shortcuts": {"class": INNOCENT, "test side": None},
        "submission_check": {
            "model": "cnn",
            "hidden_test": {"n_recordings": 40, "accuracy": score(0.88, 0.08)},
        },
    }
    for name, content in (files | changed).items():
        artifacts.write_json(folder / f"{name}.json", content)
    board = table or [row("cnn", 0.9), row("svm", 0.85, (-0.05, -0.09, -0.01))]
    artifacts.write_table(folder / "leaderboard.csv", pd.DataFrame(board))
    return folder


def said(folder, **options):
    """What is not in order."""
    found = cautions.of(folder, **options)
    return [(one.level, one.says) for one in found if one.level != "green"]


def in_order(folder):
    return [one.says for one in cautions.of(folder) if one.level == "green"]


def test_a_good_run_has_no_caution_and_says_what_was_checked(tmp_path):
    assert said(write(tmp_path)) == []
    [fine] = in_order(tmp_path)
    for words in (
        *("no model is clearly better than cnn", "better than chance", "test key and the folds"),
        *("no fact about the files", "the CNN predicts every class", "training was long enough"),
        *("120 sources", "accuracy is known to within 8 points"),
    ):
        assert words in fine
    assert "caution green" in boards.cautions(cautions.of(tmp_path)).data


LOW = {"n_recordings": 80, "accuracy": score(0.5, 0.1)}


@pytest.fixture
def demo(tmp_path):
    """A whole run of the demo preset, of which its files keep what the rules look at."""
    kept = json.loads((Path(__file__).parent / "good_run.json").read_text("utf-8"))
    history = [
        {"fold": fold, "epoch": epoch, "learned": learned}
        for fold, epochs in kept["learned"].items()
        for epoch, learned in enumerate(epochs, 1)
    ]
    run = {"config": presets.load("demo").model_dump(mode="json"), "stages": {}}
    files = {"run": run, "metrics": kept["metrics"], "history": history}
    files |= {"shortcuts": kept["shortcuts"], "submission_check": kept["check"]}
    return write(tmp_path, kept["board"], **files)


def test_nothing_is_said_against_the_demo_run(demo):
    assert [one.level for one in cautions.of(demo)] == ["green"]
    unasked = {cautions.listener_unknown}  # there is no listener
    assert len(cautions.of(demo)[0].says.split(";")) == len(set(cautions.RULES) - unasked)


@pytest.mark.parametrize(
    ("listener", "model", "is_said"),
    [
        ("onnx:models/perch_v2.onnx", "listener_linear", True),
        ("onnx:models/perch_v2.onnx", "soft_vote", True),  # of which it is a member
        ("onnx:models/perch_v2.onnx", "svm", False),
        ("run:esc10", "listener_linear", False),
    ],
)
def test_a_listener_that_may_have_heard_the_recordings_is_named(demo, listener, model, is_said):
    settings = f"features.listener={listener} submit.model={model} "
    settings += "compare.models=[svm,listener_linear,soft_vote]"
    config = presets.load("demo", settings=settings).model_dump(mode="json")
    artifacts.write_json(demo / "run.json", {"config": config, "stages": {}})
    told = [one.says for one in cautions.of(demo) if "only its makers can tell" in one.says]
    assert bool(told) == is_said
    if is_said:
        assert told[0].startswith("listener_linear learns from what onnx:perch_v2.onnx hears")
    if listener == "run:esc10":
        assert "esc10, has learned from none of these recordings" in in_order(demo)[0]


@pytest.mark.parametrize(
    ("name", "spoil", "says"),
    [
        ("leaderboard.csv", lambda board: board.assign(model=board["model"][::-1].values), "below"),
        ("metrics.json", lambda kept: {**kept, "majority_class_accuracy": 0.99}, "no better than"),
        ("metrics.json", lambda kept: {**kept, "never_predicted": ["rain"]}, "never predicts rain"),
        ("metrics.json", lambda kept: {**kept, "n_groups": 3}, "Three sources only"),
        ("submission_check.json", lambda kept: {**kept, "hidden_test": LOW}, "clearly less"),
        (
            "history.json",
            lambda kept: [{**row, "learned": row["epoch"] / 999} for row in kept],
            "still falling",
        ),
    ],
)
def test_each_way_of_spoiling_the_demo_run_is_said(demo, name, spoil, says):
    kept = artifacts.read(demo / name)
    write_back = artifacts.write_table if name.endswith("csv") else artifacts.write_json
    write_back(demo / name, spoil(kept))
    found = cautions.of(demo)
    assert says in found[0].says and found[0].level != "green" and found[0].do.startswith("make ")


def test_a_run_under_way_says_what_can_be_said(tmp_path):
    assert cautions.of(tmp_path) == []
    assert "Nothing has been measured" in boards.cautions([]).data
    artifacts.write_json(tmp_path / "metrics.json", {"n_groups": 4})
    assert [level for level, _ in said(tmp_path)] == ["amber"] and in_order(tmp_path) == []


def test_only_what_was_checked_is_called_in_order(tmp_path):
    """One model, no test set, no history that can be judged: nothing is said of them."""
    folder = write(tmp_path, [row("cnn", 0.9)], submission_check={}, history=[])
    [fine] = in_order(folder)
    assert not re.search("clearly better|test key|long enough", fine) and said(folder) == []


METRICS = {"n_groups": 120, "never_predicted": [], "majority_class_accuracy": 0.4}
BAD = {
    **INNOCENT,
    "verdict": "suspicious",
    "columns": [{"column": "codec", "flagged": True}, {"column": "x", "flagged": 0}],
}
SILENT = {**BAD, "columns": [{"column": "silence_fraction", "flagged": True}]}
SLOW = [{"fold": 1, "epoch": epoch, "learned": 0.02 * epoch} for epoch in range(1, 21)]
FLAT = [{"fold": 1, "epoch": epoch, "learned": 0.5} for epoch in range(1, 21)]
SPOILT = {
    "another model is better": (
        {"table": [row("svm", 0.9), row("cnn", 0.6, (-0.3, -0.36, -0.24))], "submission_check": {}},
        (
            "red",
            r"The submitted model, cnn, is clearly below svm: -30\.0 \(-36\.0 to -24\.0\)"
            r" points of accuracy, .*Submit svm:",
            'SET="submit.model=svm"',
        ),
    ),
    "it knows nothing": (
        {"table": [row("cnn", 0.42)], "submission_check": {}},
        (
            "red",
            r"cnn, may be no better than chance: accuracy 42\.0 % .*largest class gives 40\.0 %",
            "make lab",
        ),
    ),
    "the test key gives less": (
        {"submission_check": {"model": "cnn", "hidden_test": {"accuracy": score(0.6)}}},
        ("red", r"gives clearly less than the folds \(accuracy 60\.0 %", "make verify RUN="),
    ),
    "the test key gives more": (
        {"submission_check": {"model": "cnn", "hidden_test": {"accuracy": score(0.99, 0.01)}}},
        ("red", "gives clearly more than the folds", "make verify RUN="),
    ),
    "a shortcut": (
        {"shortcuts": {"class": BAD, "test side": None}},
        ("amber", "hears nothing tells the class by codec:", "make lab"),
    ),
    "a shortcut that a setting undoes": (
        {"shortcuts": {"class": SILENT, "test side": None}},
        ("amber", "tells the class by silence_fraction:", 'SET="audio.short_clips=loop"'),
    ),
    "a class never said": (
        {"metrics": {**METRICS, "never_predicted": ["dog", "rain"]}},
        ("amber", r"The CNN never predicts dog, rain\.", 'SET="train.epochs=40"'),
    ),
    "a rare class never said": (
        {
            "metrics": {
                **METRICS,
                "never_predicted": ["dog"],
                "n_classes": 3,
                "majority_class_accuracy": 0.8,
            },
        },
        ("amber", "Rare classes can be drawn more often:", 'SET="train.balance=sampling"'),
    ),
    "trained too briefly": (
        {"history": SLOW},
        ("amber", r"still falling in the last epoch \(20\)", 'SET="train.epochs=40"'),
    ),
    "few sources": (
        {"metrics": {**METRICS, "n_groups": 4}},
        ("amber", "Four sources only:", "make run-all"),
    ),
    "a wide interval": (
        {"table": [row("cnn", 0.8, reach=0.15)]},
        ("amber", r"accuracy is wide, 80\.0 % \(65\.0–95\.0\)", "make run-all"),
    ),
}


@pytest.mark.parametrize("what", SPOILT)
def test_what_is_spoilt_is_said_with_the_next_command_and_nothing_else(what, tmp_path):
    changed, (level, words, do) = SPOILT[what]
    write(tmp_path, **changed)
    [(found, text)] = said(tmp_path)
    assert found == level and re.search(words, text)
    first = cautions.of(tmp_path)[0]
    assert do in first.do
    page = boards.cautions(cautions.of(tmp_path)).data
    assert f"caution {level}" in page and html.escape(first.do).replace("&quot;", "&#34;") in page


def test_a_smoke_run_is_told_to_become_a_whole_one(tmp_path):
    run = {"config": small_config(fast=True).model_dump(mode="json"), "stages": {}}
    write(tmp_path, [row("cnn", 0.42)], run=run, submission_check={})
    [(level, text)] = said(tmp_path)
    assert level == "red" and "smoke run" in text
    assert "FAST" not in cautions.of(tmp_path)[0].do
    behind = [row("svm", 0.9), row("cnn", 0.42, (-0.48, -0.6, -0.3))]
    write(tmp_path, behind, run=run, submission_check={})
    first = cautions.of(tmp_path)[0]
    assert "below svm" in first.says and "submit.model" not in first.do


def test_a_command_names_the_run_as_it_was_asked_for(tmp_path):
    write(tmp_path, [row("svm", 0.9), row("cnn", 0.6, (-0.3, -0.36, -0.24))], submission_check={})
    given = {"preset": "my.yaml", "data": "my data", "seed": 3, "fast": True}
    journal.note_given(tmp_path, **given, settings="submit.model=cnn train.epochs=20")
    assert cautions.of(tmp_path)[0].do == (
        f'make run-all PRESET=my.yaml DATA="my data" RUN={tmp_path.name} SEED=3 FAST=1'
        ' SET="submit.model=svm train.epochs=20"'
    )


@pytest.mark.parametrize("n_test", [12, 400])
def test_several_labels_are_judged_by_a_test_set_that_has_enough_of_each(tmp_path, n_test):
    """The average precision of few recordings is higher, whatever they are ranked by."""
    name = "macro_average_precision"
    own = {name: 0.5, f"{name}_low": 0.45, f"{name}_high": 0.55}
    config = small_config(data={"multilabel": True}).model_dump(mode="json")
    metrics = {"n_groups": 120, "never_predicted": [], "chance_average_precision": 0.2}
    check = {"model": "cnn", "hidden_test": {"n_recordings": n_test, name: score(0.8)}}
    board = [{**row("cnn", 0.9), **own}]
    files = {"run": {"config": config, "stages": {}}, "metrics": metrics, "submission_check": check}
    write(tmp_path, board, **files)
    assert [text[:33] for _, text in said(tmp_path)] == (
        ["The test key gives clearly more t"] if n_test > 50 else []
    )


def test_red_ones_come_first_and_names_are_escaped(tmp_path):
    table = [row("svm", 0.9), row("cnn", 0.42, (-0.5, -0.6, -0.4))]
    metrics = {**METRICS, "never_predicted": ["<b>", *"cdefgh"]}
    found = said(write(tmp_path, table, metrics=metrics, submission_check={}))
    assert [level for level, _ in found] == ["red", "red", "amber"] and "and 2 more" in found[-1][1]
    assert "&lt;b&gt;" in boards.cautions(cautions.of(tmp_path)).data


def test_a_model_that_ties_with_the_best_and_a_flat_loss_are_no_cautions(tmp_path):
    table = [row("svm", 0.9), row("cnn", 0.89, (-0.01, -0.03, 0.01))]
    assert said(write(tmp_path, table, history=FLAT)) == []


def test_before_the_submission_an_earlier_check_does_not_count(tmp_path):
    folder = write(
        tmp_path, submission_check={"model": "cnn", "hidden_test": {"accuracy": score(0.6)}}
    )
    assert said(folder) and not said(folder, submitted=False)
