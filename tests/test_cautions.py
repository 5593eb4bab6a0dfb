"""Cautions: a good run has none, and each thing that goes wrong is said, with what to do."""

import re

import numpy as np
import pandas as pd
import pytest
from tables import small_config

from helpers.base import artifacts
from helpers.run import cautions
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
        "run": {"config": small_config(train={"epochs": 20}).model_dump(mode="json")},
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
    return [(caution.level, caution.says) for caution in cautions.of(folder, **options)]


def test_a_good_run_has_no_caution(tmp_path):
    assert said(write(tmp_path)) == []
    assert "No caution" in boards.cautions([]).data


def test_a_run_under_way_says_what_can_be_said(tmp_path):
    assert said(tmp_path) == []
    artifacts.write_json(tmp_path / "metrics.json", {"n_groups": 4})
    assert [level for level, _ in said(tmp_path)] == ["amber"]


METRICS = {"n_groups": 120, "never_predicted": [], "majority_class_accuracy": 0.4}
BAD = {
    **INNOCENT,
    "verdict": "suspicious",
    "columns": [{"column": "codec", "flagged": True}, {"column": "x", "flagged": 0}],
}
SLOW = [{"fold": 1, "epoch": epoch, "learned": 0.02 * epoch} for epoch in range(1, 21)]
FLAT = [{"fold": 1, "epoch": epoch, "learned": 0.5} for epoch in range(1, 21)]
SPOILT = {
    "another model is better": (
        {"table": [row("svm", 0.9), row("cnn", 0.6, (-0.3, -0.36, -0.24))], "submission_check": {}},
        (
            "red",
            r"The submitted model, cnn, is clearly below svm: -30\.0 \(-36\.0 to -24\.0\)"
            r".*SET=submit\.model=svm",
        ),
    ),
    "it knows nothing": (
        {"table": [row("cnn", 0.42)], "submission_check": {}},
        ("red", r"cnn, may be no better than chance: accuracy 42\.0 % .*largest class has 40\.0 %"),
    ),
    "the test key gives less": (
        {"submission_check": {"model": "cnn", "hidden_test": {"accuracy": score(0.6)}}},
        ("red", r"gives clearly less than the folds \(accuracy 60\.0 %"),
    ),
    "the test key gives more": (
        {"submission_check": {"model": "cnn", "hidden_test": {"accuracy": score(0.99, 0.01)}}},
        ("red", "gives clearly more than the folds"),
    ),
    "a shortcut": (
        {"shortcuts": {"class": BAD, "test side": None}},
        ("amber", "hears nothing tells the class by codec:"),
    ),
    "a class never said": (
        {"metrics": {**METRICS, "never_predicted": ["dog", "rain"]}},
        ("amber", "The CNN never says dog, rain:"),
    ),
    "trained too briefly": (
        {"history": SLOW},
        ("amber", r'still falling in the last epoch \(20\).*SET="train\.epochs=40"'),
    ),
    "few sources": ({"metrics": {**METRICS, "n_groups": 4}}, ("amber", "Four sources only:")),
    "a wide interval": (
        {"table": [row("cnn", 0.8, reach=0.15)]},
        ("amber", r"accuracy is wide, 80\.0 % \(65\.0–95\.0\)"),
    ),
}


@pytest.mark.parametrize("what", SPOILT)
def test_what_is_spoilt_is_said_and_nothing_else(what, tmp_path):
    changed, (level, words) = SPOILT[what]
    ((found, text),) = said(write(tmp_path, **changed))
    assert found == level and re.search(words, text)
    assert f"caution {level}" in boards.cautions(cautions.of(tmp_path)).data


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
