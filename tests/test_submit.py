"""The submission: every recording gets a row, spelled as it was asked for, and nothing wrong is ever written."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import submit

law = settings(deadline=None, max_examples=60, derandomize=True)
LABELS = ["cat", "dog"]


def recordings(*paths):
    return pd.DataFrame({"recording_id": [f"id{number}" for number in range(len(paths))], "path": paths})


def sample(*ids, header=("id", "class")):
    return pd.DataFrame([(name, "cat") for name in ids], columns=list(header))


def certain(*said):
    """Probabilities that say each label for sure."""
    return pd.DataFrame({name: [float(label == name) for label in said] for name in LABELS}).assign(heard=True)


# --- probabilities -----------------------------------------------------------------------------------------


def test_the_prior_is_the_share_of_each_class():
    shares = submit.prior(pd.Series(["cat", "dog", "cat", "cat"]), LABELS)
    assert shares.to_dict() == {"cat": 0.75, "dog": 0.25} and shares.index.tolist() == LABELS


def test_the_prior_of_several_labels_counts_each_where_it_is():
    labels = pd.Series(["cat|dog", "dog", "", "dog"])
    assert submit.prior(labels, LABELS).to_dict() == {"cat": 0.25, "dog": 0.75}


def test_a_recording_is_the_mean_of_its_clips_and_one_without_clips_gets_the_prior():
    clips = pd.DataFrame({"clip_id": ["a-0", "a-1", "c-0"], "recording_id": ["id0", "id0", "id2"]})
    said = pd.DataFrame({"clip_id": ["c-0", "a-0", "a-1"], "dog": [0.9, 0.2, 0.6], "cat": [0.1, 0.8, 0.4]})
    asked = recordings("a.wav", "b.wav", "c.wav").set_index(pd.Index([7, 3, 5]))
    found = submit.recording_probabilities(asked, said, clips, pd.Series({"dog": 0.3, "cat": 0.7}))
    assert list(found) == ["cat", "dog", "heard"] and found.index.tolist() == [7, 3, 5]
    np.testing.assert_allclose(found[["cat", "dog"]], [[0.6, 0.4], [0.7, 0.3], [0.1, 0.9]])
    assert found["heard"].tolist() == [True, False, True]


# --- ids ---------------------------------------------------------------------------------------------------


def test_without_a_sample_an_id_is_the_file_name_or_the_path_where_names_repeat():
    assert submit.ids_for(recordings("t/a.wav", "t/b.wav")).tolist() == ["a.wav", "b.wav"]
    assert submit.ids_for(recordings("s/a.wav", "t/a.wav")).tolist() == ["s/a.wav", "t/a.wav"]


@pytest.mark.parametrize(
    "asked", [("b.wav", "a.wav"), ("b", "a"), ("test/b.wav", "test/a.wav")], ids=["name", "stem", "path"]
)
def test_ids_are_spelled_as_the_sample_spells_them(asked):
    found = submit.ids_for(recordings("test/a.wav", "test/b.wav"), sample(*asked))
    assert found.tolist() == [asked[1], asked[0]]


def test_a_sample_that_does_not_match_the_files_is_refused_with_counts():
    with pytest.raises(submit.SubmissionError) as refused:
        submit.ids_for(recordings("a.wav", "b.wav", "c.wav"), sample("a.wav", "x.wav", "y.wav"))
    assert "2 ids without a file (x.wav, y.wav)" in str(refused.value)
    assert "2 files without an id (b.wav, c.wav)" in str(refused.value)


def test_two_files_for_one_id_are_refused():
    with pytest.raises(submit.SubmissionError, match="1 repeated names"):
        submit.ids_for(recordings("s/a.wav", "t/a.wav"), sample("a.wav"))


def test_the_sample_is_found_below_the_data_and_read_as_text(tmp_path):
    assert submit.find_sample(tmp_path) is None
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "Sample_Submission.csv").write_text("\ufeffid,class\n007,\nNA,cat\n", encoding="utf-8")
    found = submit.find_sample(tmp_path)
    assert list(found) == ["id", "class"] and found["id"].tolist() == ["007", "NA"]


def test_a_sample_of_one_column_is_refused(tmp_path):
    (tmp_path / "sample_submission.csv").write_text("id\n1\n")
    with pytest.raises(submit.SubmissionError, match="expected an id and a label"):
        submit.find_sample(tmp_path)


# --- the table ---------------------------------------------------------------------------------------------


def test_the_table_keeps_the_samples_header_and_order():
    table = submit.build(recordings("a.wav", "b.wav"), certain("cat", "dog"), sample("b.wav", "a.wav"))
    pd.testing.assert_frame_equal(table, pd.DataFrame({"id": ["b.wav", "a.wav"], "class": ["dog", "cat"]}))


def test_without_a_sample_the_header_is_filename_and_label():
    table = submit.build(recordings("t/a.wav", "t/b.wav"), certain("dog", "cat"))
    assert list(table) == ["filename", "label"] and table.to_numpy().tolist() == [["a.wav", "dog"], ["b.wav", "cat"]]


def test_a_sample_with_a_column_per_class_is_filled_with_probabilities_in_its_order():
    asked = sample("b.wav", "a.wav", header=("fname", "dog")).assign(cat="0")
    likely = pd.DataFrame({"cat": [0.25, 1 / 3], "dog": [0.75, 1e-9]}).assign(heard=True)
    for thresholds in (None, pd.Series({"cat": 0.5, "dog": 0.5})):
        table = submit.build(recordings("a.wav", "b.wav"), likely, asked, thresholds)
        expected = {"fname": ["b.wav", "a.wav"], "dog": ["0.000000", "0.750000"], "cat": ["0.333333", "0.250000"]}
        pd.testing.assert_frame_equal(table, pd.DataFrame(expected))
        assert submit.problems(table, ["a.wav", "b.wav"], LABELS) == []


@pytest.mark.parametrize(
    "columns, said",
    [
        (["dog", "cow"], r"1 classes without a column \(cat\), 1 columns that are no class \(cow\)"),
        (["cat", "dog", "cow"], r"0 classes without a column \(\), 1 columns that are no class \(cow\)"),
        (["Cat", "Dog"], r"2 classes without a column \(cat, dog\), 2 columns that are no class \(Cat, Dog\)"),
    ],
)
def test_a_sample_with_other_columns_is_refused_with_their_names(columns, said):
    asked = pd.DataFrame([["a.wav", *columns]], columns=["id", *columns])
    with pytest.raises(submit.SubmissionError, match=said):
        submit.build(recordings("a.wav"), certain("cat"), asked)


def test_with_thresholds_every_class_that_reaches_its_own_is_said_or_none():
    likely = pd.DataFrame({"cat": [0.5, 0.3, 0.1], "dog": [0.9, 0.2, 0.79]}).assign(heard=True)
    files, thresholds = recordings("a", "b", "c"), pd.Series({"dog": 0.8, "cat": 0.3})
    table = submit.build(files, likely, sample("a", "b", "c"), thresholds, separator="; ")
    assert table["class"].tolist() == ["cat; dog", "cat", ""]
    assert submit.problems(table, ["a", "b", "c"], LABELS, separator="; ") == []


def test_without_a_sample_several_labels_give_a_column_per_class():
    table = submit.build(recordings("a.wav"), certain("dog"), thresholds=pd.Series({"cat": 0.5, "dog": 0.5}))
    assert table.to_dict("records") == [{"filename": "a.wav", "cat": "0.000000", "dog": "1.000000"}]


def test_a_header_is_the_samples_or_names_what_the_submission_holds():
    assert submit.header_of(LABELS, None, wide=False) == ["filename", "label"]
    assert submit.header_of(LABELS, None, wide=True) == ["filename", "cat", "dog"]
    assert submit.header_of(LABELS, sample("a"), wide=True) == ["id", "class"]
    assert submit.header_of(LABELS, sample("a", header=("n", "dog")).assign(cat="0"), False) == ["n", "dog", "cat"]


@law
@given(st.permutations([f"{n}.wav" for n in range(8)]), st.lists(st.sampled_from(LABELS), min_size=8, max_size=8))
def test_a_label_stays_with_its_file_in_any_order(order, said):
    files = recordings(*(f"{n}.wav" for n in range(8)))
    table = submit.build(files, certain(*said), sample(*order))
    assert table["id"].tolist() == order
    assert dict(zip(table["id"], table["class"], strict=True)) == dict(zip(files["path"], said, strict=True))
    assert submit.problems(table, order, set(LABELS)) == []


# --- the check ---------------------------------------------------------------------------------------------

GOOD = pd.DataFrame({"id": ["a", "b"], "label": LABELS})


@pytest.mark.parametrize(
    "ids, labels, complaint",
    [
        (["a", "a", "b"], ["cat", "cat", "dog"], r"1 ids appear twice: \['a'\]"),
        (["a"], ["cat"], r"1 ids are missing: \['b'\]"),
        (["a", "b", "x"], ["cat", "dog", "cat"], r"1 ids were not asked for: \['x'\]"),
        (["a", "b"], ["cat", None], r"1 labels are missing"),
        (["a", "b"], ["cat", "bird"], r"1 labels are not classes of the training data: \['bird'\]"),
        (["a", "b"], ["cat", ""], r"1 labels are not classes of the training data: \[''\]"),
    ],
)
def test_each_problem_is_found_alone_and_what_was_there_stays(tmp_path, ids, labels, complaint):
    path, table = tmp_path / "submission.csv", pd.DataFrame({"id": ids, "label": labels})
    submit.write(GOOD, path, ["a", "b"], LABELS)
    before = path.read_bytes()
    assert len(submit.problems(table, ["a", "b"], LABELS)) == 1
    with pytest.raises(submit.SubmissionError, match=complaint):
        submit.write(table, path, ["a", "b"], LABELS)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["submission.csv"]


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
    table = pd.DataFrame({"id": ["a"], "label": [given]})
    found = submit.problems(table, ["a"], LABELS, separator=",")
    assert found == ([f"1 labels are not classes of the training data: {complaint}"] if complaint else [])


def test_a_separator_is_no_pattern():
    table = pd.DataFrame({"id": ["a"], "label": ["cat|dog"]})
    assert submit.problems(table, ["a"], LABELS, separator="|") == []
    assert len(submit.problems(table, ["a"], LABELS, separator=".")) == 1


@pytest.mark.parametrize(
    "values, complaints",
    [
        (("0.5", "1.000000"), []),
        (("0.5", "1.000001"), ["1 probabilities lie outside 0 to 1"]),
        (("-0.1", "inf"), ["2 probabilities lie outside 0 to 1"]),
        (("0.5", None), ["1 probabilities are missing or no numbers"]),
        (("nan", "cat"), ["2 probabilities are missing or no numbers"]),
        (("nan", "2"), ["1 probabilities are missing or no numbers", "1 probabilities lie outside 0 to 1"]),
    ],
)
def test_probabilities_must_be_numbers_from_0_to_1(values, complaints):
    table = pd.DataFrame({"id": ["a"], "cat": [values[0]], "dog": [values[1]]})
    assert submit.problems(table, ["a"], LABELS) == complaints


def test_every_problem_is_listed_at_once():
    table = pd.DataFrame({"id": ["a", "a", "x"], "label": ["cat", None, "bird"]})
    assert len(submit.problems(table, ["a", "b"], LABELS)) == 5


@law
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1), min_size=1, unique=True))
def test_whatever_the_ids_are_they_read_back_as_they_were_written(tmp_path_factory, ids):
    path = tmp_path_factory.mktemp("submission") / "submission.csv"
    table = pd.DataFrame({"id": ids, "label": "cat"})
    submit.write(table, path, ids, LABELS)
    pd.testing.assert_frame_equal(pd.read_csv(path, dtype=str, keep_default_na=False), table, check_dtype=False)
