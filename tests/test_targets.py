"""Labels: a recording's classes in one text and back, as target vectors, as names of folders."""

from pathlib import PurePosixPath

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import MultiLabelBinarizer

from helpers.base import targets

law = settings(deadline=None, max_examples=40, derandomize=True)
readable = st.characters(exclude_categories=("C", "Z"), exclude_characters="|,")
words = st.text(readable, min_size=1, max_size=6)
names = st.builds(" ".join, st.lists(words, min_size=1, max_size=2))  # spaces only within a name
several = st.lists(st.sampled_from(["bird", "rain", "wind noise", "Vögel", "a+b", "0"]), max_size=4)


# --- a label and its classes -------------------------------------------------------------------


@law
@given(st.lists(names))
def test_split_is_the_inverse_of_join(classes):
    assert targets.split(targets.join(classes)) == sorted(set(classes))


@law
@given(several, st.randoms(use_true_random=False))
def test_the_order_and_the_repeats_of_classes_do_not_matter(classes, random):
    shuffled = [*classes, *classes]
    random.shuffle(shuffled)
    assert targets.join(shuffled) == targets.join(classes)


@law
@given(st.lists(several, min_size=1, max_size=20))
def test_the_matrix_agrees_with_scikit_learn(rows):
    classes = ["0", "Vögel", "a+b", "bird", "rain", "wind noise"]
    found = targets.matrix([targets.join(row) for row in rows], classes)
    assert found.dtype == np.float32 and found.shape == (len(rows), len(classes))
    np.testing.assert_array_equal(found, MultiLabelBinarizer(classes=classes).fit_transform(rows))


@law
@given(st.lists(names, min_size=1, unique=True))
def test_single_labels_give_rows_that_sum_to_one(labels):
    np.testing.assert_array_equal(targets.matrix(labels, labels), np.eye(len(labels)))


def test_a_single_label_that_holds_the_separator_is_one_class_where_it_is_one():
    assert targets.matrix(["rock|pop", "rock"], ["rock", "rock|pop"]).tolist() == [[0, 1], [1, 0]]


def test_a_class_that_nobody_knows_is_no_target():
    assert targets.matrix(["bird|unheard", "unheard"], ["bird", "rain"]).tolist() == [
        [1, 0],
        [0, 0],
    ]


def test_empty_tables_have_empty_targets():
    assert targets.matrix([], ["a", "b"]).shape == (0, 2) and targets.matrix(["a"], []).shape == (
        1,
        0,
    )
    assert targets.rarest(pd.Series([], dtype=str)).empty
    assert targets.by_class(
        pd.DataFrame({"label": pd.Series([], dtype=str)}), multilabel=True
    ).empty


def side(labels, split="train"):
    return pd.DataFrame(
        {"label": labels, "split": split, "clip_id": [f"{split}{i}" for i in range(len(labels))]}
    )


def test_classes_are_those_of_the_training_side_sorted():
    rows = pd.concat([side(["rain|bird", "", "bird"]), side(["bell|rain"], "test")])
    assert targets.classes(rows, multilabel=True) == ["bird", "rain"]
    assert targets.classes(side(["b", "a", "b"])) == ["a", "b"]
    assert targets.classes(side(["", ""]), multilabel=True) == []


@law
@given(st.lists(several, max_size=12))
def test_by_class_has_a_row_for_every_one_of_the_matrix(rows):
    table = side([targets.join(row) for row in rows])
    found = targets.by_class(table, multilabel=True)
    classes = targets.classes(table, multilabel=True)
    pairs = [
        (table["clip_id"][row], classes[c])
        for row, c in np.argwhere(targets.matrix(table["label"], classes))
    ]
    assert list(zip(found["clip_id"], found["label"], strict=True)) == pairs
    assert found.index.tolist() == list(range(len(found))) and list(found) == list(table)
    assert targets.by_class(table).equals(table)


@law
@given(st.lists(several, max_size=12))
def test_the_rarest_class_is_one_of_the_labels_own_and_no_other_of_them_is_rarer(rows):
    labels = pd.Series([targets.join(row) for row in rows], dtype=str)
    counts = labels.map(targets.split).explode().value_counts()
    for label, found in zip(labels, targets.rarest(labels), strict=True):
        assert found in targets.split(label) or (found, label) == ("", "")
        assert not label or counts[found] == min(counts[name] for name in targets.split(label))


def test_the_rarest_class_of_a_tie_does_not_depend_on_the_order_of_the_rows():
    labels = pd.Series(["a|b", "b|c", "a|c"])
    assert targets.rarest(labels).tolist() == ["a", "b", "a"]
    assert targets.rarest(labels[::-1]).sort_index().tolist() == ["a", "b", "a"]


@law
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
def test_a_folder_name_is_one_name(label):
    assume(label not in (".", ".."))
    found = targets.folder_name(label)
    assert found and "/" not in found and "|" not in found
    assert PurePosixPath("top", found).parent == PurePosixPath("top")
    assert targets.in_words(label) and "|" not in targets.in_words(label)


@pytest.mark.parametrize("label", [".", ".."])
def test_a_folder_name_leads_nowhere_else(label):
    assert targets.folder_name(label) not in (".", "..")
