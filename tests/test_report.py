"""The report's own reckoning: who makes the mistakes, what is taken for what, where points lie."""

import re

import numpy as np
import pandas as pd
import pytest
from tables import prediction_rows, tagging_rows

from helpers.metrics import decisions
from helpers.run import report


def named(predictions):
    """The recordings of a table of predictions, each with a path."""
    ids = predictions["recording_id"]
    return pd.DataFrame({"recording_id": ids, "path": "a/" + ids.astype(str) + ".wav"})


@pytest.mark.parametrize("several", [False, True])
def test_what_is_taken_for_what_is_the_confusion_matrix(several):
    predictions = tagging_rows() if several else prediction_rows("abcabc", "abcabb")
    cells = report.confusions(predictions, named(predictions), several)
    classes = decisions.class_columns(predictions)
    counted = np.zeros((len(classes), len(classes)), int)
    for row in cells.itertuples():
        counted[classes.index(row.true), classes.index(row.said)] = row.count
        assert len(row.paths) == row.count
    assert counted.tolist() == decisions.confusion(predictions).tolist()


def test_a_source_that_makes_many_mistakes_is_named_and_no_other():
    """Six clips of one source are wrong, and one each of three others."""
    true, said = "a" * 30, "b" * 6 + "a" * 21 + "b" * 3
    predictions = prediction_rows(true, said, classes=("a", "b"))
    predictions["group"] = ["one"] * 6 + [str(number) for number in range(24)]
    [source] = report.errors_by_source(predictions, named(predictions))
    assert (source["wrong"], source["recordings"], source["all"]) == (6, 6, 9)
    right = predictions.assign(predicted="a")
    assert report.errors_by_source(right, named(right)) == []


@pytest.mark.parametrize("count", [1, 3, 200])
def test_points_and_their_intervals_lie_within_the_axis(count):
    value = np.linspace(0, 1, count)
    scores = pd.DataFrame({"v": value, "l": (value - 0.1).clip(0), "h": (value + 0.1).clip(0, 1)})
    names = [f"{number} " + "x" * 40 for number in range(count)]
    drawn = report.forest(names, scores, note=names)
    assert [row["name"] for row in drawn["rows"]] == names
    first, last = drawn["ticks"][0], drawn["ticks"][-1]
    assert all(first <= row["low"] <= row["value"] <= row["high"] <= last for row in drawn["rows"])


def test_of_many_classes_the_most_frequent_confusions_are_listed():
    """A matrix of 200 classes could not be read."""
    by_class = pd.DataFrame({"label": [f"c{number}" for number in range(200)]})
    by_class = by_class.assign(
        recordings=10, sources=5, recall=0.5, recall_low=0.4, recall_high=0.6
    )
    cells = pd.DataFrame({"true": by_class["label"], "said": "c0", "count": range(200)})
    config = report.Config()
    shown = report._classes(by_class, cells.assign(paths=[[]] * 200), config)
    assert shown["cells"] == {} and len(shown["exchanged"]) == 15
    assert shown["exchanged"][0]["true"] == "c199"


def test_the_script_is_short_and_the_page_asks_for_nothing_else():
    texts = [
        (report.TEMPLATES / f"report.{name}").read_text("utf-8")
        for name in ("js", "css", "html.j2")
    ]
    assert len(texts[0].splitlines()) <= 60
    assert not any(re.search("https?://|@import|fetch\\(", text) for text in texts)
    assert "@media print" in texts[1] and "prefers-color-scheme: dark" in texts[1]
