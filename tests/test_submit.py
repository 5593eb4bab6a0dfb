"""The submission: every row that was asked for is there, spelled as it was asked for, and nothing
wrong is written.
"""

import re
import subprocess
import sys
import time
import unicodedata
import zipfile
from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
from competitions import ALL
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.base import artifacts, tables
from helpers.base.errors import SubmissionError
from helpers.base.settings import Config
from helpers.data import sources
from helpers.run import cli, presets
from helpers.submission import contract, priors, submit

law = settings(deadline=None, max_examples=60, derandomize=True)
LABELS = ["cat", "dog"]


def files(*paths, seconds=np.nan):
    """The recordings of a test folder."""
    identities = [f"r{number}" for number in range(len(paths))]
    return pd.DataFrame(
        {"recording_id": identities, "path": paths, "split": "test", "duration_seconds": seconds}
    )


def draw(paths, asked=None, classes=LABELS, multilabel=False, metric="auto", k=3, **options):
    """The contract of some test files."""
    sections = {
        "data": {"multilabel": multilabel},
        "evaluate": {"metric": metric, "k": k},
        "submit": options,
    }
    return contract.draw_up("", files(*paths), list(classes), Config(**sections), asked)


def sample(*ids, header=("id", "class")):
    return pd.DataFrame([(name, "cat") for name in ids], columns=list(header))


def likely(**columns):
    """Probabilities, a column per class."""
    return pd.DataFrame(columns, dtype=float)


def certain(*said):
    """Probabilities that say each label for sure."""
    return pd.DataFrame({name: [float(label == name) for label in said] for name in LABELS}).assign(
        heard=True
    )


def cells(asked, probabilities, thresholds=None):
    """The second column of a submission."""
    return submit.build(asked, probabilities, thresholds).iloc[:, 1].tolist()


# --- probabilities -----------------------------------------------------------------------------


def test_the_prior_is_the_share_of_each_class():
    shares = priors.shares(pd.Series(["cat", "dog", "cat", "cat"]), LABELS)
    assert shares.to_dict() == {"cat": 0.75, "dog": 0.25} and shares.index.tolist() == LABELS


def test_the_prior_of_several_labels_counts_each_where_it_is():
    labels = pd.Series(["cat|dog", "dog", "", "dog"])
    assert priors.shares(labels, LABELS).to_dict() == {"cat": 0.25, "dog": 0.75}


SHARES = pd.Series({"dog": 0.3, "cat": 0.7})
CLIPS = pd.DataFrame(
    {
        "clip_id": ["a-0", "a-1", "c-0", "x-0"],
        "recording_id": ["r0", "r0", "r2", "elsewhere"],
        "start_seconds": [0.0, 5.0, 0.0, 0.0],
        "valid_seconds": 5.0,
    }
)
SAID = pd.DataFrame(
    {
        "clip_id": ["c-0", "a-0", "a-1", "x-0"],
        "dog": [0.9, 0.2, 0.6, 0.0],
        "cat": [0.1, 0.8, 0.4, 1.0],
    }
)


def rows_of(*rows):
    """A contract of rows (recording_id, end_seconds); ids count."""
    table = pd.DataFrame(rows, columns=["recording_id", "end_seconds"]).astype(
        {"end_seconds": float}
    )
    table = table.assign(id=[str(number) for number in range(len(rows))], label="")
    return contract.Contract(
        ("id", "label"), table, tuple(LABELS), "label", " ", 3, Config().submit, True
    )


def found_for(*rows, how="mean", multilabel=False, said=SAID, clips=CLIPS, **options):
    config = Config(
        audio={"clip_seconds": 5.0},
        model={"aggregate": how},
        data={"multilabel": multilabel},
        submit=options,
    )
    return submit.row_probabilities(rows_of(*rows), said, clips, priors.Prior(SHARES), config)


def test_a_recording_is_the_mean_of_its_clips_and_one_without_clips_gets_the_prior():
    found = found_for(("r0", None), ("r1", None), ("r2", None))
    assert list(found) == ["cat", "dog", "heard"] and found.index.tolist() == [0, 1, 2]
    np.testing.assert_allclose(found[["cat", "dog"]], [[0.6, 0.4], [0.7, 0.3], [0.1, 0.9]])
    assert found["heard"].tolist() == [True, False, True]


@pytest.mark.parametrize(
    "multilabel, expected",
    [
        (False, [0.8 / 1.4, 0.6 / 1.4]),  # the highest of each class, scaled to sum to one
        (True, [0.8, 0.6]),
    ],
)
def test_a_recording_may_be_the_highest_of_its_clips(multilabel, expected):
    found = found_for(("r0", None), ("r1", None), how="max", multilabel=multilabel)
    np.testing.assert_allclose(found[["cat", "dog"]], [expected, [0.7, 0.3]])


def test_a_window_is_exactly_its_clip_and_one_without_a_clip_gets_the_prior():
    found = found_for(("r0", 10), ("r0", 5), ("r0", 15), ("r2", 5), ("r1", 5), ("", None))
    expected = [[0.4, 0.6], [0.8, 0.2], [0.7, 0.3], [0.1, 0.9], [0.7, 0.3], [0.7, 0.3]]
    np.testing.assert_allclose(found[["cat", "dog"]], expected)
    assert found["heard"].tolist() == [True, True, False, True, False, False]


def test_windows_and_whole_recordings_may_be_asked_for_side_by_side():
    found = found_for(("r0", 5), ("r0", None), ("r0", 10))
    np.testing.assert_allclose(found["cat"], [0.8, 0.6, 0.4])


def test_several_rows_of_a_recording_say_the_same_of_it():
    found = found_for(("r0", None), ("r2", None), ("r0", None))
    np.testing.assert_allclose(found["cat"], [0.6, 0.1, 0.6])


@law
@given(st.permutations(range(4)), st.permutations(range(4)))
def test_the_order_of_clips_and_of_their_probabilities_means_nothing(first, second):
    asked = [("r0", 10), ("r0", None), ("r2", None)]
    shuffled = found_for(*asked, said=SAID.iloc[list(first)], clips=CLIPS.iloc[list(second)])
    pd.testing.assert_frame_equal(shuffled, found_for(*asked))


def test_a_window_counts_by_the_sound_that_it_holds():
    sliver = CLIPS.assign(valid_seconds=[5.0, 0.1, 5.0, 5.0])
    np.testing.assert_allclose(
        found_for(("r0", None), clips=sliver)["cat"], (5 * 0.8 + 0.1 * 0.4) / 5.1
    )
    found = found_for(("r0", None), clips=sliver, how="max", multilabel=True)
    np.testing.assert_allclose(found[["cat", "dog"]], [[0.8, 0.2]])


ASKED = [("r0", 10), ("r0", None), ("r0", 5), ("r0", 15), ("r2", 5), ("", 5), ("r0", 10)]


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"smooth": 0.5}, [0.6, 0.6, 0.6, 0.7, 0.1, 0.7, 0.6]),
        ({"smooth": 1.0}, [0.8, 0.6, 0.4, 0.7, 0.1, 0.7, 0.8]),
        ({"file_mean": 0.5}, [0.5, 0.6, 0.7, 0.7, 0.1, 0.7, 0.5]),
        ({"file_mean": 1.0}, [0.6, 0.6, 0.6, 0.7, 0.1, 0.7, 0.6]),
    ],
)
def test_windows_are_drawn_to_their_neighbours_and_their_recording(options, expected, multilabel):
    found = found_for(*ASKED, multilabel=multilabel, **options)
    np.testing.assert_allclose(found["cat"], expected)
    np.testing.assert_allclose(found["cat"] + found["dog"], 1)
    assert found["heard"].tolist() == [True, True, True, False, True, False, True]


def test_drawn_to_the_highest_of_a_recording_one_answer_is_still_shared_out():
    options = {"file_mean": 1.0, "file_by": "max"}
    several = found_for(*ASKED, multilabel=True, **options)
    np.testing.assert_allclose(several.loc[[0, 2], ["cat", "dog"]], [[0.8, 0.6]] * 2)
    one = found_for(*ASKED, **options)
    np.testing.assert_allclose(one.loc[0, ["cat", "dog"]].astype(float), [8 / 14, 6 / 14])


def clips_of(labels):
    """Rows of waveforms.csv and their out-of-fold answers: four clips of each recording, of which
    one in four is mistaken.
    """
    rows, said = [], []
    for number, label in enumerate(labels):
        for take in range(4):
            name = f"r{number}-{take}"
            place = {"recording_id": f"r{number}", "group": f"r{number}", "label": label}
            rows.append({"clip_id": name, "parent_id": "", "start_seconds": 5.0 * take, **place})
            right = 0.4 if take == number % 4 else 0.9
            share = {label: right, LABELS[1 - LABELS.index(label)]: 1 - right}
            said.append({"clip_id": name, "fold": 1 + number % 2, **share})
    return pd.DataFrame(rows), pd.DataFrame(said)


def test_what_drawing_windows_together_is_worth_is_measured_on_clips_out_of_fold():
    rows, said = clips_of(LABELS * 10)
    config = Config(audio={"test_windows": True}, submit={"file_mean": 1.0})
    table = submit.windows_worth(said.sample(frac=1, random_state=0), rows, config)
    assert table["setting"].tolist() == ["submit.smooth=0.5", "submit.file_mean=1"]
    assert table["clips alone"].tolist() == [0.75, 0.75] and table["drawn together"].iloc[1] == 1
    assert table["change, points"].iloc[1].startswith("+25.0 (")


def test_without_windows_or_several_clips_there_is_nothing_to_measure():
    rows, said = clips_of(LABELS * 3)
    assert submit.windows_worth(said, rows, Config()).empty
    windows = Config(audio={"test_windows": True})
    alone = rows.drop_duplicates("recording_id")
    assert submit.windows_worth(said, alone, windows).empty


def test_windows_half_over_each_other_are_no_rows_of_windows_end_to_end():
    between = CLIPS.assign(start_seconds=[2.5, 5.0, 0.0, 0.0])
    found = found_for(("r0", 5), ("r0", 10), clips=between)
    assert found["cat"].tolist() == [0.7, 0.4] and found["heard"].tolist() == [False, True]


def test_the_recording_that_is_shown_is_one_that_no_network_has_learned_from():
    recordings = pd.DataFrame(
        {"recording_id": ["x", "y", "z"], "path": ["x.wav", "y.wav", "z.wav"]}
    )
    rows = pd.DataFrame({"recording_id": ["x", "y"], "split": ["train", "test"]})
    predictions = pd.DataFrame(
        {
            "recording_id": ["z", "x"],
            "fold": 1,
            "label": "cat",
            "cat": [0.2, 0.9],
            "dog": [0.8, 0.1],
        }
    )
    path, whose, answer = submit.unlearned(recordings, rows, predictions)
    assert path == "y.wav" and "test recording" in whose and answer is None
    path, whose, answer = submit.unlearned(recordings, rows[:1], predictions)
    assert (
        path == "x.wav" and "not learned" in whose and answer.to_dict() == {"cat": 0.9, "dog": 0.1}
    )


def test_where_nothing_was_heard_every_row_gets_the_prior():
    found = found_for(("r0", 5), ("r0", None), said=SAID[:0], clips=CLIPS[:0])
    assert found["cat"].tolist() == [0.7, 0.7] and not found["heard"].any()


def test_without_a_test_set_the_training_recordings_stand_in_one_order_with_their_predictions():
    recordings = pd.DataFrame(
        {"recording_id": ["x", "y", "z"], "path": ["x.wav", "y.wav", "z.wav"]}
    )
    predictions = pd.DataFrame(
        {"recording_id": ["z", "x"], "fold": 1, "label": "cat", "cat": [0.2, 0.9]}
    )
    predictions["dog"] = 1 - predictions["cat"]
    table, found = submit.out_of_fold(recordings, predictions)
    assert table["recording_id"].tolist() == ["x", "z"] and found["cat"].tolist() == [0.9, 0.2]
    assert list(found) == ["cat", "dog", "heard"] and found["heard"].all()


# --- the table ---------------------------------------------------------------------------------


def test_the_table_keeps_the_samples_header_and_order():
    asked = draw(["a.wav", "b.wav"], sample("b.wav", "a.wav"))
    table = submit.build(asked, certain("dog", "cat"))
    pd.testing.assert_frame_equal(
        table, pd.DataFrame({"id": ["b.wav", "a.wav"], "class": ["dog", "cat"]})
    )


def test_without_a_sample_the_header_is_filename_and_label():
    table = submit.build(draw(["t/a.wav", "t/b.wav"]), certain("dog", "cat"))
    assert list(table) == ["filename", "label"] and table.to_numpy().tolist() == [
        ["a.wav", "dog"],
        ["b.wav", "cat"],
    ]


def test_the_best_few_stand_best_first_and_between_equals_in_the_order_of_the_classes():
    asked = draw(["a", "b", "c"], classes="wxyz", shape="top_k", k=3, separator=" ")
    found = likely(w=[0.1, 0.25, 0.0], x=[0.2, 0.25, 0.4], y=[0.3, 0.25, 0.2], z=[0.4, 0.25, 0.4])
    assert cells(asked, found) == ["z y x", "w x y", "x z y"]


def test_the_best_few_are_all_where_there_are_no_more_classes():
    assert cells(draw(["a"], shape="top_k", k=5, separator=","), likely(cat=[0.2], dog=[0.8])) == [
        "dog,cat"
    ]


def test_with_thresholds_every_class_that_reaches_its_own_is_said_or_none():
    found = likely(cat=[0.5, 0.3, 0.1], dog=[0.9, 0.2, 0.79])
    asked = draw(["a", "b", "c"], shape="set", separator="; ")
    table = submit.build(asked, found, pd.Series({"dog": 0.8, "cat": 0.3}))
    assert (
        table["label"].tolist() == ["cat; dog", "cat", ""] and submit.problems(table, asked) == []
    )


@pytest.mark.parametrize(
    "options, thresholds, expected",
    [
        ({"empty": "nocall"}, None, ["cat dog", "dog", "nocall"]),
        ({"empty": "nocall", "threshold": 0.7}, None, ["cat", "dog", "nocall"]),
        ({"empty": "nocall", "threshold": 0.7}, {"cat": 0.1, "dog": 0.1}, ["cat", "dog", "nocall"]),
        ({"threshold": 0.0}, None, ["cat dog", "cat dog", "cat dog"]),
        ({"threshold": 1.0, "empty": "-"}, None, ["-", "dog", "-"]),
        ({}, {"cat": 0.6, "dog": 0.51}, ["cat", "dog", ""]),
    ],
)
def test_a_set_is_what_reaches_the_configs_threshold_else_its_own_else_a_half(
    options, thresholds, expected
):
    found = likely(cat=[0.8, 0.4, 0.1], dog=[0.5, 1.0, 0.2])
    thresholds = None if thresholds is None else pd.Series(thresholds)
    asked = draw(["a", "b", "c"], shape="set", separator=" ", **options)
    assert cells(asked, found, thresholds) == expected
    assert submit.problems(submit.build(asked, found, thresholds), asked) == []


def test_a_sample_with_a_column_per_class_is_filled_with_probabilities_in_its_order():
    asked = draw(
        ["a.wav", "b.wav"], pd.DataFrame({"fname": ["b.wav", "a.wav"], "dog": "0", "cat": "0"})
    )
    found = likely(cat=[1 / 3, 0.25], dog=[2 / 3, 0.75])
    for thresholds in (None, pd.Series({"cat": 0.5, "dog": 0.5})):
        table = submit.build(asked, found, thresholds)
        expected = {
            "fname": ["b.wav", "a.wav"],
            "dog": ["0.666667", "0.750000"],
            "cat": ["0.333333", "0.250000"],
        }
        pd.testing.assert_frame_equal(table, pd.DataFrame(expected))
        assert submit.problems(table, asked) == []


def test_a_column_may_be_called_after_its_class_in_other_words():
    asked = draw(
        ["a.flac"],
        classes=["0", "1"],
        shape="wide",
        column="s{label}",
        id="{stem}",
        header=("recording_id",),
    )
    table = submit.build(asked, pd.DataFrame({"0": [0.25], "1": [0.75]}))
    assert table.to_dict("records") == [{"recording_id": "a", "s0": "0.250000", "s1": "0.750000"}]


def test_without_a_sample_several_labels_give_a_column_per_class():
    table = submit.build(
        draw(["a.wav"], multilabel=True), certain("dog"), pd.Series({"cat": 0.5, "dog": 0.5})
    )
    assert table.to_dict("records") == [{"filename": "a.wav", "cat": "0.000000", "dog": "1.000000"}]


@pytest.mark.parametrize(
    "positive, expected", [("cat", "0.200000"), ("dog", "0.800000"), (None, "0.800000")]
)
def test_of_two_classes_the_probability_of_the_positive_one_is_given(positive, expected):
    asked = draw(["a"], shape="binary", positive=positive, header=("clip", "probability"))
    assert submit.build(asked, likely(cat=[0.2], dog=[0.8])).to_dict("records") == [
        {"clip": "a", "probability": expected}
    ]


def test_a_row_per_class_holds_the_probability_of_its_own():
    asked = draw(["a.wav", "b.wav"], shape="long", header=("Id", "Probability"))
    by_row = likely(cat=[0.1, 0.1, 0.7, 0.7], dog=[0.9, 0.9, 0.3, 0.3])
    assert asked.rows["id"].tolist() == ["a_cat", "a_dog", "b_cat", "b_dog"]
    assert cells(asked, by_row) == ["0.100000", "0.900000", "0.700000", "0.300000"]


def test_a_row_per_class_may_be_true_or_false_by_its_own_threshold():
    by_row = likely(cat=[0.5, 0.5, 0.49, 0.49], dog=[0.5, 0.5, 0.9, 0.9])
    asked = draw(["a", "b"], shape="long", boolean=True)
    assert [bool(cell) for cell in cells(asked, by_row)] == [True, True, False, True]
    own = pd.Series({"dog": 0.6, "cat": 0.2})
    assert [bool(cell) for cell in cells(asked, by_row, own)] == [True, False, True, True]
    fixed = draw(["a", "b"], shape="long", boolean=True, threshold=0.6)
    assert [bool(cell) for cell in cells(fixed, by_row, own)] == [False, False, False, True]


@law
@given(
    st.permutations([f"{n}.wav" for n in range(8)]),
    st.lists(st.sampled_from(LABELS), min_size=8, max_size=8),
)
def test_a_label_stays_with_its_file_in_any_order(order, said):
    paths = [f"{n}.wav" for n in range(8)]
    asked, clips = draw(paths, sample(*order)), [f"r{n}-0" for n in range(8)]
    spoken = certain(*said).drop(columns="heard").assign(clip_id=clips)
    cut = pd.DataFrame({"clip_id": clips, "recording_id": [f"r{n}" for n in range(8)]})
    cut = cut.assign(start_seconds=0.0, valid_seconds=4.0)
    known = priors.Prior(pd.Series(0.5, LABELS))
    found = submit.row_probabilities(asked, spoken, cut, known, Config())
    table = submit.build(asked, found)
    assert table["id"].tolist() == order and submit.problems(table, asked) == []
    assert dict(zip(table["id"], table["class"], strict=True)) == dict(
        zip(paths, said, strict=True)
    )


# --- the check: each defect alone --------------------------------------------------------------

THREE = ("a", "b", "c")
SHAPES = {
    "label": draw(THREE),
    "top_k": draw(THREE, shape="top_k", k=2, classes=["cat", "cow", "dog"], separator=" "),
    "set": draw(THREE, shape="set", empty="nocall", separator=" "),
    "wide": draw(THREE, shape="wide"),
    "wide, any sum": draw(THREE, shape="wide", metric="roc_auc"),
    "binary": draw(THREE, shape="binary"),
    "long": draw(("a",), shape="long", classes=["cat", "cow", "dog"]),
    "boolean": draw(("a",), shape="long", classes=["cat", "cow", "dog"], boolean=True),
}
RIGHT = {
    "label": ["cat", "dog", "cat"],
    "top_k": ["cat dog", "dog", "cow cat"],
    "set": ["cat dog", "nocall", "dog"],
    "binary": ["0.1", "1", "1e-7"],
    "long": ["0.1", "1", "0"],
    "boolean": ["True", "False", "True"],
}


def right(shape):
    """A submission with nothing wrong."""
    asked = SHAPES[shape]
    ids = {asked.header[0]: asked.rows["id"]}
    if asked.shape == "wide":
        return pd.DataFrame(
            {**ids, "cat": ["0.25", "1", "0.3"], "dog": ["0.75", "0", "0.7"]}, dtype=str
        )
    return pd.DataFrame({**ids, asked.header[1]: RIGHT[shape]}, dtype=str)


every_shape = pytest.mark.parametrize("shape", SHAPES)


def complaints(shape, change):
    table = right(shape)
    changed = change(table)
    return submit.problems(table if changed is None else changed, SHAPES[shape])


def put(row, value, column=1):
    """Another value in one cell."""

    def change(table):
        table = table.astype(object)
        table.iloc[row, column] = value
        return table

    return change


@every_shape
def test_what_is_right_is_right(shape):
    assert submit.problems(right(shape), SHAPES[shape]) == []


def renamed(table):
    return table.rename(columns={table.columns[-1]: table.columns[-1].upper()})


COLUMNS = {
    "another order": lambda table: table[table.columns[::-1]],
    "renamed": renamed,
    "renamed id": lambda table: table.rename(columns={table.columns[0]: "row"}),
    "one more": lambda table: table.assign(extra="0"),
    "one less": lambda table: table.iloc[:, :-1],
    "an index in front": lambda table: table.reset_index(names=""),
    "the id alone": lambda table: table.iloc[:, :1],
}


@every_shape
@pytest.mark.parametrize("change", COLUMNS)
def test_other_columns_are_named_with_those_asked_for(shape, change):
    found = complaints(shape, COLUMNS[change])
    assert len(found) == 1 and found[0].startswith("the columns are ")
    assert found[0].endswith(f"asked for are {', '.join(SHAPES[shape].header)}")


ROWS = {
    "missing": (lambda table: table.drop(index=1), r"1 id is missing: \['{b}'\]"),
    "extra": (
        lambda table: pd.concat([table, table[:1].replace(table.iat[0, 0], "x")]),
        r"1 id was not asked",
    ),
    "twice": (lambda table: pd.concat([table, table[:1]]), r"1 id appears twice: \['{a}'\]"),
    "another order": (
        lambda table: table[::-1].reset_index(drop=True),
        r"another order: row 2 is '{c}', asked.*'{a}'",
    ),
}


@every_shape
@pytest.mark.parametrize("change", ROWS)
def test_other_rows_are_counted_and_nothing_else_is_said(shape, change):
    alter, said = ROWS[change]
    a, b, c = SHAPES[shape].rows["id"]
    found = complaints(shape, alter)
    assert len(found) == 1 and re.search(said.format(a=a, b=b, c=c), found[0]), found


@pytest.mark.parametrize("shape", SHAPES)
def test_a_header_alone_lacks_every_id(shape):
    assert complaints(shape, lambda table: table[:0]) == [
        f"3 ids are missing: {SHAPES[shape].rows['id'].tolist()}"
    ]


def test_labels_that_are_all_missing_are_found():
    assert complaints("label", lambda table: table.assign(label=None)) == [
        "3 labels are missing (NaN)"
    ]


def test_the_first_ten_of_many_ids_are_shown():
    asked = draw([f"{number:02}" for number in range(30)])
    found = submit.problems(pd.DataFrame({"filename": ["00"], "label": ["cat"]}), asked)
    assert found == [f"29 ids are missing: {[f'{number:02}' for number in range(1, 11)]}"]


@pytest.mark.parametrize("index", [[2, 1, 0], [7, 8, 9]])
def test_the_row_that_stands_elsewhere_is_named_whatever_the_tables_index_is(index):
    table = right("label")[::-1].set_axis(index)
    assert "row 2 is 'c', asked for is 'a'" in submit.problems(table, SHAPES["label"])[0]


NAN, NO_CLASS = "1 label is missing", "1 label is not a class of the training data: "
NO_NUMBER, OUTSIDE = "1 probability is missing or no number", "1 probability lies outside 0 to 1"
VALUES = [
    ("label", None, NAN),
    ("label", np.nan, NAN),
    ("label", "", NO_CLASS + "['']"),
    ("label", "bird", NO_CLASS + "['bird']"),
    ("label", "Cat", NO_CLASS + "['Cat']"),
    ("label", "cat ", NO_CLASS + "['cat ']"),
    ("label", "cat dog", NO_CLASS + "['cat dog']"),
    ("label", "0.5", NO_CLASS + "['0.5']"),
    ("top_k", None, NAN),
    ("top_k", "", NO_CLASS + "['']"),
    ("top_k", "cat,dog", NO_CLASS + "['cat,dog']"),
    ("top_k", "cat ", NO_CLASS + "['']"),
    ("top_k", "cat bird", NO_CLASS + "['bird']"),
    ("top_k", "cat cat", "1 row names a label twice"),
    ("top_k", "cat dog cow", "1 row has more than 2 labels"),
    ("set", None, NAN),
    ("set", "", "1 row is empty; a row without any label says 'nocall'"),
    ("set", "cat bird", NO_CLASS + "['bird']"),
    ("set", "dog cat dog", "1 row names a label twice"),
    ("set", "nocall cat", NO_CLASS + "['nocall']"),
    ("set", "cat nocall", NO_CLASS + "['nocall']"),
    ("set", "NOCALL", NO_CLASS + "['NOCALL']"),
    *((shape, None, NO_NUMBER) for shape in ("wide", "wide, any sum", "binary", "long")),
    *((shape, "nan", NO_NUMBER) for shape in ("wide", "binary", "long")),
    *((shape, "", NO_NUMBER) for shape in ("wide", "binary", "long")),
    *((shape, "cat", NO_NUMBER) for shape in ("wide", "binary", "long")),
    *(
        (shape, text, NO_NUMBER)
        for shape in ("binary", "long")
        for text in ("0,5", "50%", "True", "0x1", "1/2", "٠")
    ),
    *(
        (shape, text, OUTSIDE)
        for shape in ("wide", "binary", "long")
        for text in ("inf", "-inf", "-0.1", "1.1")
    ),
    ("binary", "1.000001", OUTSIDE),
    ("wide", "0.5", "the probabilities of 1 row do not sum to 1, such as row 4"),
    *(
        ("boolean", text, "1 value is neither True nor False")
        for text in ("yes", "T", "0.7", "1.0", "", None)
    ),
]


@pytest.mark.parametrize("shape, value, complaint", VALUES)
def test_each_wrong_value_is_found_and_nothing_else(shape, value, complaint):
    found = complaints(shape, put(2, value))
    assert len(found) == 1 and found[0].startswith(complaint), found


@pytest.mark.parametrize(
    "shape, value",
    [
        *(("top_k", text) for text in ("cat", "cow dog", "dog cow")),
        *(("set", text) for text in ("cat", "dog cat", "nocall")),
        *(("binary", text) for text in ("0", "1.000000", "5E-1", "+.5", "1e-300", 0.5, 1)),
        *(("wide, any sum", text) for text in ("0", "1", "0.123")),
        ("wide", "0.295"),
        *(("boolean", value) for value in ("TRUE", "false", "0", "1", True, False, np.bool_(True))),
    ],
)
def test_other_legal_values_are_let_through(shape, value):
    assert complaints(shape, put(2, value)) == []


def test_an_empty_row_is_a_set_where_nothing_else_is_agreed():
    asked = draw(["a", "b"], shape="set", separator=",")
    assert (
        submit.problems(pd.DataFrame({"filename": ["a", "b"], "label": ["", "cat,dog"]}), asked)
        == []
    )


def test_nothing_heard_beside_a_label_is_found_even_where_nothing_heard_is_a_class():
    asked = draw(["a"], shape="set", empty="nocall", classes=["cat", "nocall"], separator=" ")
    assert submit.problems(pd.DataFrame({"filename": ["a"], "label": ["cat nocall"]}), asked)
    assert cells(asked, likely(cat=[0.9], nocall=[0.6])) in (["cat"], ["nocall"])


@pytest.mark.parametrize(
    "given, complaint",
    [
        ("cat,dog", None),
        ("", None),
        ("dog", None),
        ("cat,bird", "['bird']"),
        ("cat, dog", "[' dog']"),
        ("cat,", "['']"),
    ],
)
def test_of_several_labels_each_must_be_a_class(given, complaint):
    asked = draw(["a"], shape="set", separator=",", multilabel=True)
    found = submit.problems(pd.DataFrame({"filename": ["a"], "label": [given]}), asked)
    assert found == ([NO_CLASS + complaint] if complaint else [])


def test_a_separator_is_no_pattern():
    table = pd.DataFrame({"filename": ["a"], "label": ["cat|dog"]})
    assert submit.problems(table, draw(["a"], shape="set", separator="|")) == []
    assert len(submit.problems(table, draw(["a"], shape="set", separator="."))) == 1
    twice = table.assign(label="cat||dog")
    assert submit.problems(twice, draw(["a"], shape="set", separator="||")) == []


@pytest.mark.parametrize(
    "values, found",
    [
        (("0.5", "1.000000"), []),
        (("0.5", "1.000001"), [OUTSIDE]),
        (("-0.1", "inf"), ["2 probabilities lie outside 0 to 1"]),
        (("0.5", None), [NO_NUMBER]),
        (("nan", "cat"), ["2 probabilities are missing or no numbers"]),
        (("nan", "2"), [NO_NUMBER, OUTSIDE]),
    ],
)
def test_probabilities_must_be_numbers_from_0_to_1(values, found):
    table = pd.DataFrame({"filename": ["a"], "cat": [values[0]], "dog": [values[1]]})
    assert submit.problems(table, draw(["a"], shape="wide", multilabel=True)) == found


def test_every_problem_is_listed_at_once():
    table = pd.DataFrame({"filename": ["a", "a", "x"], "label": ["cat", None, "bird"]})
    assert len(submit.problems(table, draw(["a", "b"]))) == 5


# --- the check: any change of a right submission -----------------------------------------------


def is_legal(shape, text):
    """Whether a cell may say this; written down a second time, and of a wide submission without its
    sum.
    """
    asked = SHAPES[shape]
    words, classes = text.split(" "), set(asked.classes)
    if shape == "label":
        return text in classes
    if shape == "boolean":
        return text.casefold() in ("true", "false", "0", "1")
    if shape in ("top_k", "set"):
        several = set(words) <= classes and len(set(words)) == len(words)
        return text == "nocall" or several if shape == "set" else several and len(words) <= 2
    number = re.fullmatch(
        r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", text, re.ASCII | re.IGNORECASE
    )
    return bool(number) and 0 <= float(text) <= 1


PARTS = [
    "cat",
    "dog",
    "cow",
    "nocall",
    " ",
    ",",
    "0",
    "1",
    ".",
    "5",
    "e",
    "-",
    "True",
    "False",
    "nan",
    "inf",
    "%",
    "é",
]
texts = st.one_of(
    st.sampled_from(["", *PARTS]), st.lists(st.sampled_from(PARTS), max_size=4).map("".join)
)


@settings(deadline=None, max_examples=400, derandomize=True)
@given(st.sampled_from([shape for shape in SHAPES if shape != "wide"]), st.integers(0, 2), texts)
def test_any_other_cell_is_reported_unless_it_is_legal(shape, row, text):
    assert (complaints(shape, put(row, text)) == []) is is_legal(shape, text)


@law
@given(st.integers(0, 2), st.floats(0, 1))
def test_a_row_of_probabilities_that_no_longer_sums_to_one_is_reported(row, value):
    table = right("wide")
    off = abs(float(table.iloc[row, 2]) + value - 1)
    if abs(off - 0.01) > 1e-6:
        assert (complaints("wide", put(row, repr(value))) == []) is (off < 0.01)


@law
@given(st.sampled_from(list(SHAPES)), st.integers(0, 2), st.text(max_size=3))
def test_any_other_id_is_reported(shape, row, text):
    same = text == SHAPES[shape].rows["id"][row]
    assert (complaints(shape, put(row, text, column=0)) == []) is same


@law
@given(st.sampled_from(list(SHAPES)), st.permutations(range(3)))
def test_any_other_order_is_reported(shape, order):
    found = complaints(shape, lambda table: table.iloc[list(order)].reset_index(drop=True))
    assert (found == []) is (list(order) == [0, 1, 2])


@law
@given(st.sampled_from(list(SHAPES)), st.lists(st.integers(0, 2), min_size=1, max_size=5))
def test_any_other_choice_of_rows_is_reported(shape, rows):
    found = complaints(shape, lambda table: table.iloc[rows].reset_index(drop=True))
    assert (found == []) is (rows == [0, 1, 2])


@law
@given(st.sampled_from(list(SHAPES)), st.data())
def test_any_other_header_is_reported(shape, data):
    header = list(SHAPES[shape].header)
    number = data.draw(st.integers(0, len(header) - 1))
    name = data.draw(
        st.text(max_size=3) | st.sampled_from(["Label", " label", "label ", "filename"])
    )
    changed = [*header[:number], name, *header[number + 1 :]]
    assert (complaints(shape, lambda table: table.set_axis(changed, axis=1)) == []) is (
        changed == header
    )


@law
@given(st.sampled_from(list(SHAPES)), st.integers(0, 1000))
def test_whatever_is_built_is_right(shape, seed):
    asked, rng = SHAPES[shape], np.random.default_rng(seed)
    found = pd.DataFrame(
        rng.dirichlet(np.ones(len(asked.classes)), len(asked.rows)), columns=list(asked.classes)
    )
    thresholds = pd.Series(rng.uniform(size=len(asked.classes)), list(asked.classes))
    assert submit.problems(submit.build(asked, found, thresholds), asked) == []


# --- what is worth a look ----------------------------------------------------------------------


def test_a_submission_that_says_one_thing_is_worth_a_look():
    asked = SHAPES["label"]
    assert submit.oddities(right("label").assign(label="cat"), asked) == ["All rows say the same."]
    assert submit.oddities(right("label"), asked) == []
    assert submit.oddities(right("label")[:1], asked) == []


def test_the_sample_itself_is_worth_a_look():
    asked = draw(["a", "b"], sample("a", "b"))
    given = sample("a", "b")
    assert submit.oddities(given, asked, given)[-1] == "This is the sample submission itself."
    assert submit.oddities(given.assign(**{"class": ["cat", "dog"]}), asked, given) == []


def test_what_the_contract_notes_is_worth_a_look():
    asked = draw(["a", "b"], sample("a", "c"), rows_from="files")
    assert (
        submit.oddities(pd.DataFrame({"id": ["a", "b"], "class": LABELS}), asked)
        == list(asked.notes)
        != []
    )


# --- writing -----------------------------------------------------------------------------------


@every_shape
def test_nothing_is_written_if_anything_is_wrong(tmp_path, shape):
    path, asked = tmp_path / "submission.csv", SHAPES[shape]
    with pytest.raises(SubmissionError, match="was not written"):
        submit.write(put(0, None)(right(shape)), path, asked)
    assert list(tmp_path.iterdir()) == []
    submit.write(right(shape), path, asked)
    before = path.read_bytes()
    with pytest.raises(SubmissionError, match="1 id is missing"):
        submit.write(right(shape)[1:], path, asked)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == [
        "submission.csv"
    ]


@every_shape
def test_what_was_written_reads_back(tmp_path, shape):
    submit.write(right(shape), tmp_path / "submission.csv", SHAPES[shape])
    found = pd.read_csv(tmp_path / "submission.csv", dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(found, right(shape))
    pd.testing.assert_frame_equal(tables.read(tmp_path / "submission.csv"), right(shape))


@pytest.mark.parametrize("shape", ["wide", "boolean"])
def test_numbers_and_booleans_are_written_as_they_are(tmp_path, shape):
    table = right(shape)
    values = [0.1, 1e-7, 1 / 3] if shape == "wide" else [True, False, True]
    table = (
        table.assign(cat=values, dog=1 - np.array(values))
        if shape == "wide"
        else table.assign(label=values)
    )
    submit.write(table, tmp_path / "submission.csv", SHAPES[shape])
    found = pd.read_csv(tmp_path / "submission.csv", float_precision="round_trip")
    assert found.iloc[:, 1].tolist() == values


STRANGE = [
    "007",
    "1e5",
    "=cmd()",
    "@SUM(1)",
    "a,b",
    'say "a"',
    "a\nb",
    "a\r\nb",
    "a\rb",
    "NA",
    "nan",
    "None",
    "true",
]
STRANGE += [
    unicodedata.normalize("NFD", "né.wav"),
    "né.wav",
    "犬.wav",
    "<script>",
    "'a'",
    "a\tb",
    "#a",
    "-1",
    "a|b",
]


def test_ids_are_written_byte_by_byte(tmp_path):
    asked, path = draw(STRANGE, id="{path}"), tmp_path / "submission.csv"
    table = submit.build(asked, likely(cat=[1.0] * len(STRANGE), dog=[0.0] * len(STRANGE)))
    submit.write(table, path, asked)
    assert (
        asked.rows["id"].tolist() == STRANGE and tables.read(path)["filename"].tolist() == STRANGE
    )
    assert pd.read_csv(path, dtype=str, keep_default_na=False)["filename"].tolist() == STRANGE
    assert b"=cmd()" in path.read_bytes() and "né.wav".encode() in path.read_bytes()


@law
@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1),
        min_size=1,
        unique=True,
    )
)
def test_whatever_the_ids_are_they_read_back_as_they_were_written(tmp_path_factory, ids):
    path = tmp_path_factory.mktemp("submission") / "submission.csv"
    asked = contract.Contract(
        *(
            ("id", "label"),
            pd.DataFrame({"id": ids}),
            tuple(LABELS),
            "label",
            " ",
            3,
            Config().submit,
            True,
        )
    )
    table = pd.DataFrame({"id": ids, "label": "cat"})
    submit.write(table, path, asked)
    pd.testing.assert_frame_equal(
        pd.read_csv(path, dtype=str, keep_default_na=False), table, check_dtype=False
    )


# --- from the command line ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The data folders of the competitions, by name, written once."""
    return lru_cache(lambda name: ALL[name](tmp_path_factory.mktemp(name)).folder)


@pytest.fixture
def quest(folder):
    return folder("frequency_quest")


def submission(root, number=0):
    """A right submission for the Frequency Quest: the bytes of a file. Other labels than the
    sample's.
    """
    ids = pd.read_csv(root / "sample_submission.csv")["ID"]
    return (
        pd.DataFrame({"ID": ids, "Class": ["siren", "drilling"] * 3}).to_csv(index=False).encode()
    )


def check(root, content, folder, *more):
    """The exit status for a file of this content."""
    path = folder / "mine.csv"
    path.write_bytes(content)
    return cli.main(["check", str(path), "--data", str(root), *more])


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("urbansound8k", "esc50")])
def test_the_sample_itself_passes_in_every_competition_and_is_said_to_be_it(folder, capsys, name):
    root = folder(name)
    path = next(path for path in root.iterdir() if "ubmission" in path.name)
    assert cli.main(["check", str(path), "--data", str(root)]) == 0
    assert "note: This is the sample submission itself.\n" in capsys.readouterr().out


def test_a_right_submission_passes_without_a_note(quest, tmp_path, capsys):
    assert check(quest, submission(quest), tmp_path) == 0
    said = capsys.readouterr()
    assert said.out == "mine.csv: 6 rows of shape label, as asked for.\n" and said.err == ""


def test_the_problems_are_listed_on_the_error_stream(quest, tmp_path, capsys):
    text = (
        submission(quest).decode().replace("siren", "Siren").replace("audio_000.wav", "audio_0.wav")
    )
    assert check(quest, text.encode(), tmp_path) == 1
    said = capsys.readouterr()
    assert (
        "mine.csv would be refused:\n- " in said.err
        and said.err.count("\n- ") == 3
        and "as asked" not in said.out
    )
    assert "1 id is missing: ['audio_000.wav']" in said.err
    assert "1 label is not a class of the training data: ['Siren']" in said.err


UNUSABLE = {
    "UTF-16": (lambda text: text.decode().encode("utf-16"), "UTF-16"),
    "semicolons": (lambda text: text.replace(b",", b";"), "semicolons"),
    "tabs": (lambda text: text.replace(b",", b"\t"), "tabs"),
    "empty": (lambda text: b"", "is empty"),
    "blank": (lambda text: b"\n\n\r\n", "is empty"),
    "latin-1": (
        lambda text: text.replace(b"siren", "sirène".encode("latin-1")),
        "not written in UTF-8",
    ),
    "zero bytes": (lambda text: text.replace(b"siren", b"si\0ren"), "zero bytes"),
    "a value too many": (lambda text: text.replace(b"siren", b"siren,drilling", 1), "row 2"),
    "a value too few": (lambda text: text.replace(b",siren", b"", 1), "row 2"),
    "an open quote": (lambda text: text.replace(b"siren", b'"siren', 1), "quotes"),
}


@pytest.mark.parametrize("content", UNUSABLE)
def test_a_file_that_cannot_be_used_is_told_from_one_with_problems(
    quest, tmp_path, capsys, content
):
    change, said = UNUSABLE[content]
    status, err = check(quest, change(submission(quest)), tmp_path), capsys.readouterr().err
    assert (status, said in err) == (2, True), err


def test_an_excel_file_by_another_name_cannot_be_used(quest, tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "book.xlsx", "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("xl/worksheets/sheet1.xml", submission(quest).decode())
    assert check(quest, (tmp_path / "book.xlsx").read_bytes(), tmp_path) == 2
    assert "mine.csv is not written in UTF-8" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_named(quest, tmp_path, capsys):
    assert cli.main(["check", str(tmp_path / "none.csv"), "--data", str(quest)]) == 2
    assert "There is no none.csv" in capsys.readouterr().err
    assert cli.main(["check", str(tmp_path), "--data", str(quest)]) == 2


def test_a_folder_that_cannot_be_used_is_named(quest, tmp_path, capsys):
    file, empty = tmp_path / "mine.csv", tmp_path / "empty"
    file.write_bytes(submission(quest))
    empty.mkdir()
    for root, said in (
        (tmp_path / "nowhere", "does not exist"),
        (empty, "No labelled audio"),
        (file, "does not exist"),
    ):
        assert cli.main(["check", str(file), "--data", str(root)]) == 2
        assert said in capsys.readouterr().err


def test_a_folder_without_test_files_and_sample_asks_for_nothing(tmp_path, capsys):
    root = ALL["frequency_quest"](tmp_path / "quest").folder
    file = tmp_path / "mine.csv"
    file.write_bytes(submission(root))
    (root / "sample_submission.csv").unlink()
    for path in (root / "test" / "test").iterdir():
        path.unlink()
    assert cli.main(["check", str(file), "--data", str(root)]) == 2
    assert "neither a test folder nor a sample submission" in capsys.readouterr().err


def test_a_sample_that_does_not_fit_the_files_is_no_problem_of_the_file(tmp_path, capsys):
    root = ALL["frequency_quest"](tmp_path / "quest").folder
    (root / "test" / "test" / "audio_000.wav").unlink()
    assert check(root, submission(root), tmp_path) == 2
    assert "1 id of the sample has no file (audio_000.wav)" in capsys.readouterr().err


def test_single_settings_and_presets_may_be_given(quest, tmp_path, capsys):
    best = (
        pd.read_csv(quest / "sample_submission.csv")
        .assign(Class="siren drilling")
        .to_csv(index=False)
        .encode()
    )
    assert check(quest, best, tmp_path) == 1
    assert check(quest, best, tmp_path, "--set", "submit.shape=top_k") == 0
    assert (
        check(
            quest, best, tmp_path, "--preset", "folder", "--set", "submit.shape=top_k evaluate.k=1"
        )
        == 1
    )
    assert "6 rows have more than 1 labels" in capsys.readouterr().err
    assert check(quest, best, tmp_path, "--set", "submit.shape=triangle") == 2
    assert check(quest, best, tmp_path, "--preset", "nothing") == 2


@pytest.mark.parametrize(
    "key, value", [("separator", "|"), ("separator", ","), ("id", "{stem}_{end}")]
)
def test_marks_and_templates_may_be_given_in_the_command_line(key, value):
    assert getattr(presets.load("folder", settings=f"submit.{key}={value}").submit, key) == value


COMMANDS = ["run-all", "train", "predict", "verify", "report", "check", "worth"]


@pytest.mark.parametrize("command", [*COMMANDS, "worth cleaning", "worth recipe"])
def test_help_explains_every_command_with_an_example(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        cli.main([*command.split(), "--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0 and shown.startswith(f"usage: python -m helpers {command}")
    assert f"Example: python -m helpers {command}" in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 80


def test_help_lists_all_commands():
    done = subprocess.run(
        [sys.executable, "-m", "helpers", "--help"],
        cwd=artifacts.REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "" and all(f"  {command} " in done.stdout for command in COMMANDS)


# --- files made elsewhere ----------------------------------------------------------------------

SAME_CONTENT = {  # other bytes, and nothing that Kaggle's reader would see
    "a byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "line ends of Windows": lambda text: text.replace(b"\n", b"\r\n"),
    "line ends of old Macs": lambda text: text.replace(b"\n", b"\r"),
    "everything in quotes": lambda text: b"\n".join(
        b",".join(b'"%s"' % cell for cell in line.split(b",")) for line in text.splitlines()
    ),
    "no line end at the end": lambda text: text.rstrip(b"\n"),
    "blank lines at the end": lambda text: text + b"\n\n\r\n",
    "blank lines between": lambda text: text.replace(b"\n", b"\n\n"),
}


@pytest.mark.parametrize("change", SAME_CONTENT)
def test_the_same_content_in_other_bytes_passes(quest, tmp_path, change):
    content = SAME_CONTENT[change](submission(quest))
    (tmp_path / "theirs.csv").write_bytes(content)
    theirs = pd.read_csv(tmp_path / "theirs.csv", dtype=str)
    assert theirs.to_csv(index=False).encode() == submission(
        quest
    )  # pandas, which Kaggle's metrics read with, agrees
    assert check(quest, content, tmp_path) == 0


OTHER_CONTENT = {
    "an index in front": lambda table: table.reset_index(names=""),
    "a column too many": lambda table: table.assign(confidence="0.5"),
    "another header": lambda table: table.set_axis(["id", "label"], axis=1),
    "other columns first": lambda table: table[["Class", "ID"]],
    "sorted in another way": lambda table: table[::-1],
    "without extensions": lambda table: table.assign(ID=table["ID"].str.removesuffix(".wav")),
    "with folders": lambda table: table.assign(ID="test/test/" + table["ID"]),
    "labels by number": lambda table: table.assign(Class=["1", "4"] * 3),
    "labels in capitals": lambda table: table.assign(Class=table["Class"].str.title()),
    "a row too few": lambda table: table[1:],
    "the header twice": lambda table: pd.concat(
        [pd.DataFrame([table.columns], columns=table.columns), table]
    ),
    "an empty label": lambda table: table.replace("siren", ""),
}


@pytest.mark.parametrize("change", OTHER_CONTENT)
def test_other_content_is_a_problem(quest, tmp_path, change):
    table = pd.read_csv(quest / "sample_submission.csv").assign(Class=["siren", "drilling"] * 3)
    assert check(quest, OTHER_CONTENT[change](table).to_csv(index=False).encode(), tmp_path) == 1


@pytest.mark.parametrize("spaced", ["header", "id", "label"])
def test_spaces_around_a_cell_are_a_problem(quest, tmp_path, spaced):
    header, *lines = submission(quest).decode().splitlines()
    change = {
        "header": ("ID, Class", "{},{}"),
        "id": (header, "{} ,{}"),
        "label": (header, "{}, {}"),
    }[spaced]
    text = "\n".join([change[0], *(change[1].format(*line.split(",")) for line in lines)])
    assert check(quest, text.encode(), tmp_path) == 1


@pytest.mark.parametrize(
    "value, status",
    [
        ("1e-7", 0),
        ("1E-07", 0),
        (".5", 0),
        ("5e-1", 0),
        ("50%", 1),
        ('"0,5"', 1),
        ("", 1),
        ("1.5", 1),
    ],
)
def test_probabilities_may_be_written_in_any_way_that_is_a_number(folder, tmp_path, value, status):
    root = folder("birdclef_2023")
    lines = (root / "sample_submission.csv").read_text().splitlines()
    lines[1] = ",".join([*lines[1].split(",")[:-1], value])
    assert check(root, "\n".join(lines).encode(), tmp_path) == status


@pytest.mark.parametrize(
    "value, status", [("TRUE", 0), ("true", 0), ("1", 0), ("yes", 1), ("1.0", 1), ("", 1)]
)
def test_booleans_may_be_written_in_these_ways(folder, tmp_path, value, status):
    root = folder("birdclef_2022")
    text = (root / "sample_submission.csv").read_text().replace("False", value, 1)
    assert check(root, text.encode(), tmp_path) == status


def test_leading_zeros_that_excel_took_away_are_missed(folder, tmp_path, capsys):
    root = tmp_path / "data"
    for label in LABELS:
        (root / "train" / label).mkdir(parents=True)
        (root / "train" / label / "1.wav").touch()
    (root / "test").mkdir()
    for name in ("007", "010"):
        (root / "test" / f"{name}.wav").touch()
    (root / "sample_submission.csv").write_text("id,label\n007,cat\n010,cat\n")
    assert check(root, b"id,label\n007,cat\n010,dog\n", tmp_path) == 0
    assert check(root, b"id,label\n7,cat\n10,dog\n", tmp_path) == 1
    assert "2 ids are missing: ['007', '010']" in capsys.readouterr().err


# --- speed -------------------------------------------------------------------------------------


def test_a_file_of_twenty_thousand_rows_is_checked_within_seconds(tmp_path):
    classes, names = (
        [f"class {number}" for number in range(10)],
        [f"{number:05}.wav" for number in range(20_000)],
    )
    found = pd.DataFrame(
        np.random.default_rng(0).dirichlet(np.ones(10), len(names)), columns=classes
    )
    asked = (
        pd.DataFrame(0.1, index=names, columns=classes).rename_axis("id").reset_index().astype(str)
    )
    asked.to_csv(tmp_path / "sample_submission.csv", index=False)
    table = submit.build(draw(names, asked, classes), found)
    table.to_csv(tmp_path / "mine.csv", index=False)
    tests = files(*(f"test/{name}" for name in names)).assign(status="ok", label="")
    train = pd.DataFrame(
        {
            "recording_id": classes,
            "path": classes,
            "label": classes,
            "split": "train",
            "status": "ok",
        }
    )
    before = time.process_time()
    wrong, odd, _ = submit.check_file(
        tmp_path / "mine.csv", Config(), tmp_path, pd.concat([train, tests])
    )
    assert (wrong, odd) == ([], []) and time.process_time() - before < 10


def test_a_test_file_that_is_set_aside_keeps_its_row(quest):
    config = presets.load(data=quest)
    recordings = sources.find(quest, config.data)
    recordings.loc[recordings["path"].eq("test/test/audio_003.wav"), ["status", "reason"]] = (
        "quarantined",
        "CORRUPT",
    )
    wrong, _, asked = submit.check_file(quest / "sample_submission.csv", config, quest, recordings)
    assert wrong == [] and "audio_003.wav" in set(asked.rows["id"])
