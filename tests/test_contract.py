"""What a submission must look like: the sample decides, or the files; where they differ the message
says who errs.
"""

import shutil
from functools import lru_cache, partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from competitions import ALL
from pydantic import ValidationError

from helpers.audio import recording
from helpers.base import targets
from helpers.base.errors import SubmissionError
from helpers.base.settings import Config
from helpers.data import sources
from helpers.run import presets
from helpers.submission import contract, priors, submit

LABELS = ["cat", "dog"]


def files(*paths, seconds=np.nan, split="test"):
    """The recordings of a test folder."""
    identities = [f"r{number}" for number in range(len(paths))]
    return pd.DataFrame(
        {"recording_id": identities, "path": paths, "split": split, "duration_seconds": seconds}
    )


def sample(ids, cells="cat", header=("id", "label")):
    return pd.DataFrame({header[0]: list(ids), header[1]: cells}, dtype=str)


def draw(
    recordings,
    asked=None,
    classes=LABELS,
    root="",
    windows=None,
    data=None,
    metric="auto",
    **submit,
):
    """The contract of recordings; windows of so many seconds."""
    sections = {"data": data or {}, "submit": submit, "evaluate": {"metric": metric}}
    sections["audio"] = {"test_windows": True, "clip_seconds": windows} if windows else {}
    return contract.draw_up(root, recordings, list(classes), Config(**sections), asked)


def refusal(*args, **options):
    """What is said where no contract can be drawn up."""
    with pytest.raises((SubmissionError, ValidationError)) as refused:
        draw(*args, **options)
    return str(refused.value)


# --- the competitions --------------------------------------------------------------------------

HIDDEN = ("birdcall_2020", "birdclef_2021", "birdclef_2024", "birdclef_2025")
WRITERS = {**ALL, **{f"{name}_hidden": partial(ALL[name], hidden=True) for name in HIDDEN}}
WITH_SAMPLE = [name for name in WRITERS if name not in ("urbansound8k", "esc50")]
each = pytest.mark.parametrize("name", WITH_SAMPLE)


@pytest.fixture(scope="module")
def entered(tmp_path_factory):
    """The competitions by name, each read as a run reads it: competition, config, test recordings,
    classes, sample.
    """
    return lru_cache(lambda name: enter(WRITERS[name](tmp_path_factory.mktemp(name))))


def enter(competition):
    config = presets.load(data=competition.folder)
    recordings = sources.find(competition.folder, config.data)
    classes = targets.classes(recordings[recordings["status"].eq("ok")], config.data.multilabel)
    test = recordings[recordings["split"].eq("test") & recordings["status"].ne("ignored")]
    test = recording.survey(competition.folder, test, config.audio.max_seconds)
    asked = contract.find_sample(competition.folder)
    drawn = partial(contract.draw_up, competition.folder, test, classes, config)
    return SimpleNamespace(
        competition=competition, config=config, test=test, classes=classes, sample=asked, draw=drawn
    )


@each
def test_the_samples_header_ids_and_order_are_asked_for(entered, name):
    entry = entered(name)
    asked = entry.draw(entry.sample)
    assert asked.header == tuple(entry.sample) and asked.rows.index.equals(
        pd.RangeIndex(len(entry.sample))
    )
    assert asked.rows["id"].tolist() == entry.sample.iloc[:, 0].tolist()


@each
def test_whatever_the_probabilities_are_the_submission_is_right(entered, name):
    entry = entered(name)
    asked = entry.draw(entry.sample)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        likely = pd.DataFrame(
            rng.dirichlet(np.ones(len(entry.classes)), len(asked.rows)), columns=entry.classes
        )
        table = submit.build(asked, likely)
        assert submit.problems(table, asked) == [] and table.columns.tolist() == list(entry.sample)


def answers(asked, table):
    """What a submission says of each recording or window, as a set of classes; only the first of
    the best few.
    """
    first, cells = table.iloc[:, 0], table.iloc[:, 1]
    if asked.shape in ("label", "top_k", "set"):
        said = cells.map(lambda cell: set(cell.split(asked.separator)) - {"", asked.settings.empty})
        said = (
            said
            if asked.shape == "set"
            else cells.str.split(asked.separator).str[0].map(lambda name: {name})
        )
        return dict(zip(first, said, strict=True))
    if asked.shape == "binary":
        return {
            name: {asked.classes[float(cell) > 0.5]}
            for name, cell in zip(first, cells, strict=True)
        }
    if asked.shape == "wide":
        called = [asked.settings.column.format(label=label) for label in asked.classes]
        sure = table[called].astype(float).to_numpy() > 0.5
        return {
            name: set(np.array(asked.classes)[row]) for name, row in zip(first, sure, strict=True)
        }
    yes = cells.eq("True") if asked.settings.boolean else cells.astype(float) > 0.5
    said = {}
    for name, label, there in zip(first, asked.rows["label"], yes, strict=True):
        unit = name.replace(f"_{label}_", "_") if asked.settings.boolean else str(int(name) // 100)
        said[unit] = said.get(unit, set()) | ({label} if there else set())
    return said


@pytest.mark.parametrize("name", [name for name in WITH_SAMPLE if not name.endswith("_hidden")])
def test_who_knows_the_truth_submits_the_truth(entered, name):
    """Probabilities are given per recording and window; what is said under each id is what is heard
    there.
    """
    entry = entered(name)
    asked, truth = entry.draw(entry.sample), entry.competition.truth
    likely = pd.DataFrame(0.0, index=asked.rows.index, columns=entry.classes)
    paths = entry.test.set_index("recording_id")["path"]
    for number, row in asked.rows.iterrows():
        for label in truth.get(key_of(row, paths[row["recording_id"]], name), ()):
            likely.loc[number, label] = 1.0
    table = submit.build(asked, likely).astype(str)
    said = answers(asked, table)
    assert {unit: said[unit] for unit in truth} == {
        unit: set(labels) for unit, labels in truth.items()
    }
    assert submit.problems(table, asked) == []


def key_of(row, path, name):
    """The key of the truth for a row of the contract, told from its recording and window and not
    from its id.
    """
    file = path.rpartition("/")[2]
    stem, end = file.rpartition(".")[0], f"{row['end_seconds']:g}"
    if name == "birdcall_2020":
        site = next(
            s for s in ("site_1", "site_2", "site_3") if row["id"].startswith(f"{s}_{stem}")
        )
        return f"{site}_{stem}" if end == "nan" else f"{site}_{stem}_{end}"
    if name == "birdclef_2021":
        return "_".join([*stem.split("_")[:2], end])
    if name == "mlsp_2013":
        return str(int(stem[-7:-5]))  # 0500NN in the name is the recording's number
    return f"{stem}_{end}" if end != "nan" else stem if name == "rainforest_2021" else file


# Drawn from the disk alone. Not known there: which birds of 2022 are scored (scored_birds.json, and
# no preset names it)
# and which windows the files of a hidden test set will have; those of 2020 are listed in test.csv.
UNKNOWABLE = (
    "birdclef_2022",
    "birdclef_2021_hidden",
    "birdclef_2024_hidden",
    "birdclef_2025_hidden",
)
KNOWABLE = [name for name in WITH_SAMPLE if name not in UNKNOWABLE]


@pytest.mark.parametrize("name", KNOWABLE)
def test_without_the_sample_the_same_ids_are_asked_for(entered, name):
    entry = entered(name)
    found = entry.draw(None).rows["id"]
    assert set(found) == set(entry.sample.iloc[:, 0]) and found.is_unique


def test_without_the_sample_all_birds_count_and_the_scored_ones_are_among_them(entered):
    entry = entered("birdclef_2022")
    found, scored = entry.draw(None).rows, entry.draw(entry.sample)
    assert set(found["label"]) == set(entry.classes) and set(scored.rows["label"]) == {
        "aldfly",
        "batpig1",
    }
    assert set(found.loc[found["label"].isin(["aldfly", "batpig1"]), "id"]) == set(
        entry.sample["row_id"]
    )
    assert scored.notes == ("2 classes are not asked for: amered, wewpew.",)


@each
def test_without_the_sample_the_header_is_the_one_that_the_preset_declares(entered, name):
    entry = entered(name)
    if (
        not entry.config.submit.header
    ):  # frequency_quest: each of its copies calls its columns in another way
        assert name == "frequency_quest" and entry.draw(None).header == ("filename", "label")
        return
    assert entry.draw(None).header == tuple(entry.sample)


@pytest.mark.parametrize("name", HIDDEN)
def test_a_hidden_test_set_is_asked_for_what_the_sample_holds(entered, name):
    entry = entered(f"{name}_hidden")
    asked = entry.draw(entry.sample)
    assert len(asked.rows) == 3 and set(asked.rows["recording_id"]) == {""} and len(entry.test) == 0
    shares = pd.Series(np.linspace(0.1, 0.4, len(entry.classes)), entry.classes)
    known = priors.Prior(shares)
    no_times = {"start_seconds": np.zeros(0), "valid_seconds": np.zeros(0)}
    no_clips = pd.DataFrame({"clip_id": [], "recording_id": [], **no_times})
    nothing_said = pd.DataFrame({"clip_id": [], **dict.fromkeys(entry.classes, np.zeros(0))})
    likely = submit.row_probabilities(asked, nothing_said, no_clips, known, entry.config)
    assert not likely["heard"].any() and likely[entry.classes].eq(shares).all(axis=None)
    assert submit.problems(submit.build(asked, likely), asked) == []


@pytest.mark.parametrize("name", ["birdclef_2021", "birdclef_2024", "birdclef_2025"])
def test_without_files_and_sample_a_hidden_test_set_has_a_header_and_no_row(entered, name):
    entry = entered(f"{name}_hidden")
    asked = entry.draw(None)
    table = submit.build(asked, pd.DataFrame(columns=entry.classes, dtype=float))
    assert len(asked.rows) == 0 and tuple(table) == asked.header == tuple(entry.sample)
    assert submit.problems(table, asked) == []


REVEALED = (
    "a sample of three rows is out of date once the hidden files are there; it is refused, and the "
    "run stops"
)


@pytest.mark.parametrize("name", HIDDEN)
def test_when_the_hidden_files_appear_the_rows_are_theirs(entered, tmp_path, name):
    """The second, unseen run on Kaggle: the files are there, the sample has its three rows."""
    entry = entered(name)
    folder = tmp_path / "revealed"
    shutil.copytree(entry.competition.folder, folder)
    shutil.copy(entered(f"{name}_hidden").competition.sample, folder / "sample_submission.csv")
    asked = contract.draw_up(
        folder, entry.test, entry.classes, entry.config, contract.find_sample(folder)
    )
    assert set(asked.rows["id"]) == set(entry.sample["row_id"])


# --- the sample is found -----------------------------------------------------------------------


def test_the_sample_is_found_below_the_data_and_read_as_text(tmp_path):
    assert contract.find_sample(tmp_path) is None
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "Sample_Submission.csv").write_text(
        "\ufeffid,class\n007,\nNA,cat\n", encoding="utf-8"
    )
    found = contract.find_sample(tmp_path)
    assert list(found) == ["id", "class"] and found["id"].tolist() == ["007", "NA"]


@pytest.mark.parametrize(
    "name", ["sampleSubmission.csv", "sample_submission.csv", "a/sample_submission_v2.csv"]
)
def test_a_sample_is_known_by_its_name(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("id,label\n1,cat\n")
    assert contract.find_sample(tmp_path)["id"].tolist() == ["1"]


@pytest.mark.parametrize(
    "name", ["__MACOSX/sample_submission.csv", "._sample_submission.csv", "submission.csv"]
)
def test_hidden_files_and_submissions_are_no_sample(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("id,label\n1,cat\n")
    assert contract.find_sample(tmp_path) is None


@pytest.mark.parametrize(
    "text, said",
    [
        ("id\n1\n", "expected an id and a label"),
        ("id;label\n1;cat\n", "semicolons"),
        ("", "is empty"),
        ("id,label\na,cat\nb,cat\na,dog\nb,cat\n", r"asks for 2 ids twice: a, b\."),
        ("id,label,label\na,cat,dog\n", "two columns called 'label'"),
    ],
)
def test_a_sample_that_cannot_be_a_contract_is_refused(tmp_path, text, said):
    (tmp_path / "sample_submission.csv").write_text(text)
    with pytest.raises(SubmissionError, match=said):
        contract.find_sample(tmp_path)


# --- shape -------------------------------------------------------------------------------------

TWO = files("t/a.wav", "t/b.wav")
AB = ("a.wav", "b.wav")


@pytest.mark.parametrize(
    "asked, classes, multilabel, shape",
    [
        (None, LABELS, False, "label"),
        (None, LABELS, True, "wide"),
        (sample(AB), LABELS, False, "label"),
        (sample(AB, ""), LABELS, False, "label"),
        (sample(AB, "put your answer here"), LABELS, False, "label"),
        (sample(AB, ["cat dog", "dog cat"]), LABELS, False, "top_k"),
        (sample(AB, ["cat dog", "dog"]), LABELS, False, "top_k"),
        (sample(AB, ["cat,dog", "dog"]), LABELS, True, "set"),
        (sample(AB, ["", "cat"]), LABELS, True, "set"),
        (sample(AB, "nocall"), LABELS, True, "set"),
        (sample(AB, "wet cat"), ["dog", "wet cat"], False, "label"),
        (sample(AB, "wet cat,dog"), ["dog", "wet cat"], False, "top_k"),
        (sample(AB, "0").assign(dog="0"), ["dog", "label"], False, "wide"),
        (sample(AB, "0"), LABELS, False, "binary"),
        (sample(AB, ["0.5", "1e-3"]), LABELS, False, "binary"),
        (sample(["a_cat", "a_dog", "b_cat", "b_dog"], "0"), LABELS, False, "long"),
        (sample(["a_x", "a_y", "a_z", "b_x", "b_y", "b_z"], "0.0"), ["x", "y", "z"], True, "long"),
        (sample(AB, ["3", "7"]), list("0123456789"), False, "label"),
        (sample(AB, "0"), ["0", "1"], False, "label"),
        (sample(AB, "0.5"), ["0", "1"], False, "binary"),
    ],
)
def test_the_sample_shows_the_shape(asked, classes, multilabel, shape):
    assert draw(TWO, asked, classes, data={"multilabel": multilabel}).shape == shape


def test_numbers_that_could_mean_anything_are_refused_with_the_way_out():
    said = refusal(TWO, sample(AB, "0"), ["x", "y", "z"])
    assert (
        "2 rows, 2 test files and 3 classes" in said
        and "submit.shape=binary" in said
        and "long" in said
    )


def test_the_config_may_name_the_shape_whatever_the_sample_shows():
    assert draw(TWO, sample(AB, "cat"), shape="top_k").shape == "top_k"
    assert draw(TWO, sample(AB, "0"), ["x", "y", "z"], shape="binary").shape == "binary"


def test_a_shape_of_two_columns_is_no_fit_for_a_sample_of_three():
    assert "two columns; the sample has id, cat, dog" in refusal(
        TWO, pd.DataFrame({"id": AB, "cat": "0", "dog": "0"}), shape="label"
    )


def test_a_positive_class_that_there_is_not_is_refused():
    assert "submit.positive" in refusal(TWO, shape="binary", positive="cow")


def test_a_class_in_the_header_is_the_positive_one():
    asked = draw(TWO, sample(AB, "0", ("id", "cat")))
    table = submit.build(asked, pd.DataFrame({"cat": [0.1, 0.2], "dog": [0.9, 0.8]}))
    assert table["cat"].tolist() == ["0.100000", "0.200000"]


def test_rows_of_a_table_that_names_no_class_are_not_long(tmp_path):
    (tmp_path / "rows.csv").write_text("row_id,audio_id\n1,a\n2,b\n")
    refusal(
        TWO, root=tmp_path, shape="long", rows_csv="rows.csv", rows_columns=("row_id", "audio_id")
    )


@pytest.mark.parametrize("column", ["s", "s{number}"])
def test_a_column_without_its_label_is_refused(column):
    assert "submit.column" in refusal(TWO, shape="wide", column=column)


@pytest.mark.parametrize(
    "cells, classes, options, separator",
    [
        (["cat dog", "cat"], LABELS, {"shape": "top_k"}, " "),
        (["cat;dog", "cat"], LABELS, {"shape": "set"}, ";"),
        (["cat|dog", "cat"], LABELS, {"shape": "set"}, "|"),
        (
            ["cat,dog", "cat"],
            LABELS,
            {"shape": "set", "data": {"multilabel": True, "label_separator": "|"}},
            ",",
        ),
        (["wet cat,dog", "dog"], ["dog", "wet cat"], {"shape": "set"}, ","),
        ("nocall", LABELS, {"shape": "set"}, " "),
        ("", LABELS, {"shape": "set", "data": {"multilabel": True, "label_separator": "|"}}, "|"),
        (["cat dog", "cat"], LABELS, {"shape": "set", "separator": "+"}, "+"),
    ],
)
def test_labels_are_separated_as_the_sample_or_the_config_does(cells, classes, options, separator):
    assert draw(TWO, sample(AB, cells), classes, **options).separator == separator


@pytest.mark.parametrize(
    "metric, several, sums",
    [("auto", False, True), ("accuracy", False, True), ("roc_auc", False, False)],
)
def test_probabilities_sum_to_one_where_each_recording_has_one_label(metric, several, sums):
    assert draw(TWO, data={"multilabel": several}, metric=metric).sums_to_one is sums
    assert draw(TWO, data={"multilabel": True}, metric=metric).sums_to_one is False


# --- header ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, header",
    [
        ({}, ("filename", "label")),
        ({"shape": "set"}, ("filename", "label")),
        ({"data": {"multilabel": True}}, ("filename", "cat", "dog")),
        ({"shape": "wide", "column": "p_{label}"}, ("filename", "p_cat", "p_dog")),
        ({"shape": "wide", "header": ("row_id",)}, ("row_id", "cat", "dog")),
        ({"shape": "binary", "header": ("clip", "probability")}, ("clip", "probability")),
        ({"header": ("clip",)}, ("clip", "label")),
    ],
)
def test_without_a_sample_the_header_is_the_configs_or_names_what_the_submission_holds(
    options, header
):
    assert draw(TWO, **options).header == header


def test_a_header_is_the_samples_whatever_the_config_says():
    assert draw(TWO, sample(AB, header=("ID", "Class")), header=("row_id", "birds")).header == (
        "ID",
        "Class",
    )
    wide = pd.DataFrame({"fname": AB, "dog": "0", "cat": "0"})
    assert draw(TWO, wide, header=("filename",)).header == ("fname", "dog", "cat")


@pytest.mark.parametrize(
    "columns, said",
    [
        (["dog", "cow"], "1 class without a column (cat), 1 column that is no class (cow)"),
        (["cat", "dog", "cow"], "0 classes without a column (), 1 column that is no class (cow)"),
        (
            ["Cat", "Dog"],
            "2 classes without a column (cat, dog), 2 columns that are no class (Cat, Dog)",
        ),
    ],
)
def test_a_sample_with_other_columns_is_refused_with_their_names(columns, said):
    assert said in refusal(
        files("a.wav"), pd.DataFrame([["a.wav", *columns]], columns=["id", *columns])
    )


# --- rows: the sample against the files --------------------------------------------------------


def test_the_rows_stand_as_the_sample_asks():
    asked = draw(files("t/a.wav", "t/b.wav", "t/c.wav"), sample(["c", "a", "b"]))
    assert asked.rows["id"].tolist() == ["c", "a", "b"] and asked.rows["recording_id"].tolist() == [
        "r2",
        "r0",
        "r1",
    ]
    assert asked.notes == ()


def test_ids_without_a_file_mean_that_files_are_missing():
    said = refusal(TWO, sample([*AB, *(f"{number:02}.wav" for number in range(12))]))
    assert (
        "12 ids of the sample have no file (00.wav, 01.wav" in said
        and "09.wav …)" in said
        and "10.wav" not in said
    )
    assert "files are missing from the data folder" in said and "rows_from" not in said


def test_files_without_an_id_mean_that_the_sample_is_out_of_date():
    said = refusal(files(*AB, *(f"x{number:02}.wav" for number in range(12))), sample(AB))
    assert (
        "12 files have no row in the sample (x00.wav" in said
        and "x09.wav …)" in said
        and "x10" not in said
    )
    assert (
        "the sample is out of date: submit.rows_from=files" in said and "missing from" not in said
    )


def test_both_are_named_with_counts_and_neither_is_called_wrong():
    said = refusal(files("a.wav", "b.wav", "c.wav"), sample(["a.wav", "x.wav", "y.wav"]))
    assert "2 ids of the sample have no file (x.wav, y.wav)" in said
    assert "2 files have no row in the sample (b.wav, c.wav)" in said
    assert "Both differ" in said and "submit.id" in said and "out of date" not in said


def test_two_files_for_one_id_are_refused():
    assert "1 id names several files: a.wav" in refusal(
        files("s/a.wav", "t/a.wav"), sample(["a.wav"])
    )
    assert "1 id names several files: 5" in refusal(TWO, id="5")


def test_the_files_decide_where_they_are_said_to():
    asked = draw(
        files("a.wav", "b.wav", "c.wav"), sample(["c.wav", "x.wav", "a.wav"]), rows_from="files"
    )
    assert asked.rows["id"].tolist() == ["c.wav", "a.wav", "b.wav"]
    assert asked.rows["recording_id"].tolist() == ["r2", "r0", "r1"]
    assert asked.notes == ("The rows are those of the files: 1 more than the sample's, 1 less.",)
    same = draw(TWO, sample(["b.wav", "a.wav"]), rows_from="files")
    assert same.rows["id"].tolist() == ["b.wav", "a.wav"] and same.notes == ()


def test_a_test_folder_that_is_empty_is_refused_unless_it_may_be():
    assert "2 ids of the sample have no file (a.wav, b.wav)" in refusal(files(), sample(AB))
    asked = draw(files(), sample(AB), data={"allow_empty_test": True})
    assert asked.rows["id"].tolist() == list(AB) and asked.rows["recording_id"].tolist() == ["", ""]
    assert "no test file yet" in asked.notes[0] and "2 rows" in asked.notes[0]


def test_a_hidden_test_set_may_be_asked_for_no_row():
    asked = draw(files(), sample([]), data={"allow_empty_test": True})
    assert asked.rows.empty and asked.header == ("id", "label")


def test_where_a_test_set_may_be_hidden_a_part_of_it_is_still_refused():
    said = refusal(files("a.wav"), sample(AB), data={"allow_empty_test": True})
    assert "1 id of the sample has no file (b.wav)" in said


ROWS = "row_id,audio_id,seconds\na_5,a,5\na_10,a,10\nb,b,\n"


def test_rows_of_a_table_whose_files_are_not_there_are_refused(tmp_path):
    (tmp_path / "test.csv").write_text(ROWS)
    said = refusal(
        files("t/a.wav"), sample(["a_5", "a_10", "b"]), root=tmp_path, rows_csv="test.csv"
    )
    assert "1 row of test.csv: the file is not there (b)" in said


def test_rows_of_a_table_whose_files_are_not_there_are_refused_without_a_sample_too(tmp_path):
    (tmp_path / "test.csv").write_text(ROWS)
    assert "(b)" in refusal(files("t/a.wav"), root=tmp_path, rows_csv="test.csv")


def test_a_part_of_the_tables_files_is_refused_even_where_none_would_be_allowed(tmp_path):
    (tmp_path / "test.csv").write_text(ROWS)
    options = {"root": tmp_path, "rows_csv": "test.csv", "data": {"allow_empty_test": True}}
    assert draw(files(), sample(["a_5", "a_10", "b"]), **options).rows["recording_id"].eq("").all()
    assert "(b)" in refusal(files("t/a.wav"), sample(["a_5", "a_10", "b"]), **options)


def test_the_table_that_lists_the_rows_is_compared_with_the_sample(tmp_path):
    (tmp_path / "test.csv").write_text(ROWS)
    both = files("t/a.wav", "t/b.wav")
    asked = draw(both, sample(["b", "a_10", "a_5"]), root=tmp_path, rows_csv="test.csv")
    assert asked.rows["recording_id"].tolist() == ["r1", "r0", "r0"] and asked.rows[
        "end_seconds"
    ].tolist()[1:] == [
        10,
        5,
    ]
    assert "1 id of the sample has no file (c)" in refusal(
        both, sample(["b", "a_10", "a_5", "c"]), root=tmp_path, rows_csv="test.csv"
    )


# --- rows: windows and classes -----------------------------------------------------------------

windows = partial(draw, windows=5.0, id="{stem}_{end}")
no_windows = partial(refusal, windows=5.0, id="{stem}_{end}")


def test_windows_that_do_not_match_are_explained_by_a_files_length():
    said = no_windows(files("t/a.ogg", "t/b.ogg", seconds=[7.3, 5.0]), sample(["a_5", "b_5"]))
    assert "1 window has no row in the sample (a_10)" in said
    assert "a.ogg lasts 7.3 s: 2 rows for windows of 5 s" in said


def test_the_file_that_explains_is_one_whose_windows_differ():
    said = no_windows(files("t/a.ogg", "t/b.ogg", seconds=[5.0, 7.3]), sample(["a_5", "b_5"]))
    assert "b.ogg lasts 7.3 s" in said


def test_a_file_that_is_too_short_is_not_called_missing():
    said = no_windows(files("t/a.ogg", seconds=7.0), sample(["a_5", "a_10", "a_15"]))
    assert "1 id of the sample has no file (a_15)" in said and "shorter" in said


@pytest.mark.parametrize(
    "unknown",
    [pytest.param(None), np.nan],
)
def test_a_file_of_unknown_length_may_stand_first_where_windows_do_not_match(unknown):
    table = files("t/a.ogg", "t/b.ogg").assign(
        duration_seconds=pd.Series([unknown, 10.0], dtype=object)
    )
    assert "1 window has no row in the sample (b_10)" in no_windows(table, sample(["a_5", "b_5"]))


def test_a_test_file_that_cannot_be_decoded_keeps_its_rows():
    heard_and_not = files("t/a.ogg", "t/b.ogg", seconds=[np.nan, 5.0])
    asked = windows(heard_and_not, sample(["b_5", "a_10", "a_5"]))
    assert asked.rows["recording_id"].tolist() == ["r1", "r0", "r0"]
    assert asked.rows["end_seconds"].tolist() == [5, 10, 5]
    whole = draw(heard_and_not, sample(["b.ogg", "a.ogg"]))
    assert (
        whole.rows["recording_id"].tolist() == ["r1", "r0"]
        and whole.rows["end_seconds"].isna().all()
    )


def test_a_file_without_a_row_in_the_sample_is_refused_even_if_it_cannot_be_decoded():
    assert "1 window has no row in the sample" in no_windows(
        files("t/a.ogg", "t/b.ogg", seconds=[np.nan, 5.0]), sample(["b_5"])
    )


def test_classes_that_a_long_sample_leaves_out_are_named_and_no_row_of_another_is_lost():
    asked = draw(TWO, sample(["b_dog", "a_dog"], "0"), ["cat", "dog", "owl"], shape="long")
    assert asked.rows["label"].tolist() == ["dog", "dog"] and asked.notes == (
        "2 classes are not asked for: cat, owl.",
    )
    assert "1 file has no row in the sample (b_dog)" in refusal(
        TWO, sample(["a_dog"], "0"), shape="long"
    )


# --- without a test set ------------------------------------------------------------------------


def test_out_of_fold_predictions_have_a_row_per_recording_whatever_the_test_side_has():
    train = files(
        "train/cat/1.ogg", "train/dog/1.ogg", "train/dog/2.ogg", seconds=12.0, split="train"
    )
    asked = draw(
        train,
        windows=5.0,
        shape="long",
        id="{stem}_{label}_{end}",
        rows_csv="test.csv",
        header=("row_id", "p"),
    )
    assert (
        asked.shape == "label"
        and asked.header == ("row_id", "p")
        and asked.rows["end_seconds"].isna().all()
    )
    assert asked.rows["id"].tolist() == train["path"].tolist()
    assert asked.rows["recording_id"].tolist() == train["recording_id"].tolist()
