"""Labels: however the table spells them, every recording gets exactly its classes, or the run stops and says why."""

import csv
import io
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.preprocessing import MultiLabelBinarizer

from helpers import label_table, targets
from helpers.downloads import SourceError
from helpers.settings import Data

law = settings(deadline=None, max_examples=40, derandomize=True)
readable = st.characters(exclude_categories=("C", "Z"), exclude_characters="|,")
words = st.text(readable, min_size=1, max_size=6)
names = st.builds(" ".join, st.lists(words, min_size=1, max_size=2))  # spaces only within a name
several = st.lists(st.sampled_from(["bird", "rain", "wind noise", "Vögel", "a+b", "0"]), max_size=4)


# --- a label and its classes -------------------------------------------------------------------------------


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
    assert targets.matrix(["bird|unheard", "unheard"], ["bird", "rain"]).tolist() == [[1, 0], [0, 0]]


def test_empty_tables_have_empty_targets():
    assert targets.matrix([], ["a", "b"]).shape == (0, 2) and targets.matrix(["a"], []).shape == (1, 0)
    assert targets.rarest(pd.Series([], dtype=str)).empty
    assert targets.by_class(pd.DataFrame({"label": pd.Series([], dtype=str)}), multilabel=True).empty


def side(labels, split="train"):
    return pd.DataFrame({"label": labels, "split": split, "clip_id": [f"{split}{i}" for i in range(len(labels))]})


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
    pairs = [(table["clip_id"][row], classes[c]) for row, c in np.argwhere(targets.matrix(table["label"], classes))]
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


# --- labels from a table -----------------------------------------------------------------------------------


@pytest.fixture
def read(tmp_path):
    """Read the labels from a table of this text (or these bytes): a dict of label by id."""

    def read_text(text, **data):
        (tmp_path / "t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
        return label_table.read(tmp_path, Data(labels_csv="t.csv", **data)).to_dict()

    return read_text


def csv_text(rows):
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()


@law
@given(st.dictionaries(words, st.lists(words.filter(lambda name: name != "id"), max_size=3), min_size=1, max_size=6))
def test_a_column_of_labels_and_columns_of_zeros_and_ones_give_the_same(tmp_path_factory, truth):
    classes = sorted({name for labels in truth.values() for name in labels} | {"zz1", "zz2"})
    flags = [[key, *(int(name in labels) for name in classes)] for key, labels in truth.items()]
    tables = {
        "joined.csv": [["id", "labels"], *([key, ",".join(labels)] for key, labels in truth.items())],
        "flags.csv": [["id", *classes], *flags],
        "floats.csv": [["id", *classes], *([key, *map(float, row)] for key, *row in flags)],
    }
    root = tmp_path_factory.mktemp("labels")
    for name, rows in tables.items():
        (root / name).write_text(csv_text(rows), encoding="utf-8", newline="")
        found = label_table.read(root, Data(labels_csv=name, multilabel=True))
        assert found.to_dict() == {key: targets.join(labels) for key, labels in truth.items()}, name


def test_one_label_per_recording_is_taken_as_it_is_written(read):
    found = read('f,l\na.wav, dog bark \nb.wav,"rain, wind"\nc.wav,NA\nd.wav,null\ne.wav,007\n')
    assert found == {"a.wav": "dog bark", "b.wav": "rain, wind", "c.wav": "NA", "d.wav": "null", "e.wav": "007"}


def test_ids_stay_text(read):
    assert list(read("id,label\n007,a\n1e5,b\nNA,c\nnan,d\nTrue,e\n")) == ["007", "1e5", "NA", "True", "nan"]


def test_a_mark_at_the_beginning_windows_lines_and_empty_lines_do_not_matter(read):
    found = read("\ufeffid,label\r\na,x\r\n\r\nb,ý\r\n", id_column="id", label_column="label")
    assert found == {"a": "x", "b": "ý"}


@pytest.mark.parametrize(
    "separator, text",
    [(",", '"rain, dog"'), (";", "rain;dog"), (" ", "rain  dog"), ("|", "rain|dog"), (" - ", "dog - rain")],
)
def test_several_labels_are_parted_by_the_given_separator(read, separator, text):
    assert read(f"f,l\na,{text}\nb,rain\n", multilabel=True, label_separator=separator) == {
        "a": "dog|rain",
        "b": "rain",
    }


def test_empty_parts_of_a_label_are_no_classes(read):
    assert read('f,l\na," rain,, dog ,rain,"\nb, \nc,","\n', multilabel=True) == {"a": "dog|rain", "b": "", "c": ""}


def test_a_row_cut_short_has_no_label(read):
    assert read("f,l\na,x\nb\n", multilabel=True) == read("f,l\na,x\nb\n") == {"a": "x", "b": ""}


def test_a_column_of_zeros_and_ones_that_is_named_or_alone_holds_the_label(read):
    assert read("f,l\na,0\nb,1\n") == {"a": "0", "b": "1"}
    assert read("f,loud,far\na,0,1\nb,1,1\n", label_column="loud") == {"a": "0", "b": "1"}
    assert read("f,l,fold\na,0,1\nb,1,2\n") == {"a": "0", "b": "1"}


def test_a_table_of_no_rows_has_no_labels(read):
    assert read("f,l\n") == read("f,l\n", multilabel=True) == read("f,a,b\n", multilabel=True) == {}


def test_an_id_may_be_repeated_where_its_labels_agree(read):
    assert read("f,l\na,x\nb,y\na,x\n") == {"a": "x", "b": "y"}
    assert read('f,l\na,"x,y"\na,"y, x"\n', multilabel=True) == {"a": "x|y"}


@pytest.mark.parametrize("text, multilabel", [("f,l\na,x\nb,y\na,z\n", False), ('f,l\na,x\na,"x,y"\n', True)])
def test_an_id_with_differing_labels_is_refused(read, text, multilabel):
    with pytest.raises(SourceError, match=r"1 ids several labels: a\."):
        read(text, multilabel=multilabel)


def test_a_missing_table_or_column_is_named_with_what_there_is(read, tmp_path):
    with pytest.raises(SourceError, match=r"there is no labels/t\.csv"):
        label_table.read(tmp_path, Data(labels_csv="labels/t.csv"))
    with pytest.raises(SourceError, match=r"no column 'm'. Its columns: f, l\."):
        read("f,l\na,x\n", id_column="m")
    with pytest.raises(SourceError, match="no column 'm'"):
        read("f,a,b\na,0,1\n", label_column="m")
    with pytest.raises(SourceError, match=r"no column of labels. Its columns: f;l\."):
        read("f;l\na;x\n")


def test_the_columns_may_stand_in_any_order(read):
    table = "label,note,file\nx,n,a\ny,n,b\n"
    assert read(table, id_column="file", label_column="label") == {"a": "x", "b": "y"}
    assert read("x,y,file\n1,0,a\n0,1,b\n", id_column="file", multilabel=True) == {"a": "x", "b": "y"}


def test_the_label_is_never_the_id_itself(read):
    assert read("label,file\nx,a\ny,b\n", id_column="file") == {"a": "x", "b": "y"}


def test_unquoted_labels_never_make_the_labels_ids(read):
    try:
        found = read("f,l\na,rain,dog\nb,wind,dog\n", multilabel=True)
    except SourceError:
        return
    assert set(found) == {"a", "b"}


def test_spaces_around_zeros_and_ones_do_not_matter(read):
    assert read("f,a,b\nx, 1, 0\ny, 0, 1\n", multilabel=True) == {"x": "a", "y": "b"}


@pytest.mark.parametrize("text", ['f,l\na,"AC|DC,rain"\n', "f,AC|DC,rain\na,1,1\n"])
def test_a_class_whose_name_holds_the_separator_is_refused_or_stays_one(read, text):
    try:
        found = read(text, multilabel=True)
    except SourceError:
        return
    assert len(targets.split(found["a"])) == 2


@pytest.mark.parametrize("content", [b"", "f,l\na,café\n".encode("latin-1"), b"f,l\na,x\nb,x,y\n"])
def test_a_table_that_cannot_be_read_is_refused_in_words(read, content):
    try:
        read(content, multilabel=True)
    except SourceError:
        return


def test_an_empty_separator_is_refused(read):
    with pytest.raises(ValidationError, match="label_separator"):
        read("f,l\na,x\n", multilabel=True, label_separator="")


# --- the label of a file -----------------------------------------------------------------------------------


def label_of(path, labels):
    return labels.get(label_table.id_of(path, labels))


def test_a_files_label_is_looked_up_by_its_path_then_its_name_then_its_stem():
    labels = pd.Series({"train/a.wav": "by path", "a.wav": "by name", "a": "by stem", "b.2": "", "ü": "umlaut"})
    assert label_of("train/a.wav", labels) == "by path"
    assert label_of("other/a.wav", labels) == "by name"
    assert label_of("other/a.flac", labels) == "by stem"
    assert label_of("x/y/b.2.ogg", labels) == ""
    assert label_of("x/ü.ogg", labels) == "umlaut"


def test_a_file_that_the_table_does_not_list_has_no_label():
    labels = pd.Series({"a": "x"})
    assert label_of("train/b.wav", labels) is None
    assert label_of("a/b.wav", labels) is None
    assert label_of("b.wav", pd.Series([], dtype=str)) is None
