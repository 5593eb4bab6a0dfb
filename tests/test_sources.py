"""Every file found is accounted for, and labels come from folders."""

import ast
import json
import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signals import plant

from helpers.base import artifacts, targets
from helpers.base.errors import SourceError
from helpers.base.settings import Data
from helpers.data import sources
from helpers.layouts import filenames

LAW = settings(deadline=None, derandomize=True, max_examples=60)
TWO_CLASSES = ("dog/a.wav", "cat/b.wav")


def find(root, **data):
    """What is found below root, by path."""
    return sources.find(root, Data(**data)).set_index("path")


def row(root, path, **data):
    found = find(root, **data).loc[path]
    return found["label"], found["split"], found["status"]


# --- labels ------------------------------------------------------------------------------------

LAYOUTS = {
    "dog/1.wav": ("dog", "train", "ok"),
    "train/dog/1.wav": ("dog", "train", "ok"),
    "train/train/dog/1.wav": ("dog", "train", "ok"),
    "Training/DATA/dog/1.wav": ("dog", "train", "ok"),
    "data/dog/1.wav": ("dog", "train", "ok"),
    "deep/er/dog/1.wav": ("dog", "train", "ok"),
    "dog/1.WAV": ("dog", "train", "ok"),
    "dog/1.Flac": ("dog", "train", "ok"),
    "dog/1.Mp3": ("dog", "train", "ok"),
    "dog/two.dots.ogg": ("dog", "train", "ok"),
    "dog house/my dog, “Rex”.wav": ("dog house", "train", "ok"),
    "größe/naïve\nname.wav": ("größe", "train", "ok"),
    "test/1.wav": ("", "test", "ok"),
    "TEST/sub/1.wav": ("", "test", "ok"),
    "test/test/dog/1.wav": ("dog", "test", "ok"),
    "test/unknown/1.wav": ("", "test", "ok"),
    "1.wav": ("", "train", "quarantined"),
    "train/1.wav": ("", "train", "quarantined"),
    "dog/notes.txt": ("", "train", "ignored"),
    "dog/noextension": ("", "train", "ignored"),
    "dog/.DS_Store": ("", "train", "ignored"),
    "dog/._1.wav": ("", "train", "ignored"),
    "dog/Thumbs.db": ("", "train", "ignored"),
    "__MACOSX/dog/1.wav": ("", "train", "ignored"),
}


@pytest.mark.parametrize("path", LAYOUTS)
def test_a_file_is_what_its_folders_and_name_say(tmp_path, path):
    plant(tmp_path, *TWO_CLASSES, path)
    assert row(tmp_path, path) == LAYOUTS[path]


@pytest.mark.parametrize("path", [".ipynb_checkpoints/1.wav", "dog/.trash/1.wav"])
def test_files_in_hidden_folders_are_ignored(tmp_path, path):
    plant(tmp_path, *TWO_CLASSES, path)
    assert row(tmp_path, path) == ("", "train", "ignored")


@pytest.mark.parametrize("path", [b"dog/\xff.wav", b"\xfe\xff/1.wav"])
def test_a_name_that_is_not_utf8_is_set_aside_and_can_be_written(tmp_path, path):
    plant(tmp_path, *TWO_CLASSES, os.fsdecode(path))
    table = sources.find(tmp_path, Data())
    [found] = table[table["status"].eq("quarantined")].itertuples()
    assert found.reason.startswith("NAME_UNSAFE")
    artifacts.write_table(tmp_path / "t.csv", table)
    assert artifacts.read_table(tmp_path / "t.csv")["path"].tolist() == table["path"].tolist()


PARTS = st.sampled_from(["train", "test", "dog", "cat", "data", ".hid", "__MACOSX", "a b", "é"])
FILES = st.sampled_from(["1.wav", "2.MP3", "notes.txt", ".DS_Store", "x", "é ü.ogg"])


@LAW
@given(
    st.sets(
        st.tuples(st.lists(PARTS, max_size=3), FILES).map(lambda it: "/".join([*it[0], it[1]])),
        max_size=8,
    )
)
def test_every_file_has_one_row_and_only_known_classes_are_labels(tmp_path_factory, paths):
    root = tmp_path_factory.mktemp("tree")
    files = {*TWO_CLASSES, *paths}
    plant(root, *files)
    table = sources.find(root, Data())
    assert sorted(table["path"]) == sorted(files)
    assert table["recording_id"].is_unique
    assert artifacts.account(table)["found"] == len(files)
    assert table["reason"].ne("").eq(table["status"].ne("ok")).all()
    train = table["split"].eq("train") & table["status"].eq("ok")
    assert train.eq(table["split"].eq("train") & table["label"].ne("")).all()
    assert set(table["label"]) <= {"", *table.loc[train, "label"]}


def test_equal_stems_have_different_ids_that_depend_on_the_path_alone(tmp_path):
    first = find(plant(tmp_path / "x", "dog/1.wav", "cat/1.wav", "cat/1.mp3"))
    second = find(
        plant(tmp_path / "y", "dog/1.wav", "cat/1.wav", "cat/1.mp3", "a/new.wav", content=b"other")
    )
    assert first["recording_id"].is_unique
    assert first["recording_id"].to_dict().items() <= second["recording_id"].to_dict().items()


def test_a_label_pattern_reads_the_class_from_the_folders_name(tmp_path):
    plant(tmp_path, "001 - Dog bark/1.ogg", "002 - Rain/1.ogg", "plain/1.ogg")
    labels = find(tmp_path, label_pattern=r"\d+ - (.+)")["label"]
    assert labels.tolist() == ["Dog bark", "Rain", "plain"]


# --- labels from a table -----------------------------------------------------------------------


def tabled(root, table, *files, name="train.csv", **data):
    """What is found below root, by path, where a table gives the labels."""
    plant(root, *files)
    (root / name).write_text(table, encoding="utf-8")
    return find(root, labels_csv=name, **data)


@pytest.mark.parametrize("spelled", ["audio/{}.wav", "{}.wav", "{}"], ids=["path", "name", "stem"])
def test_a_table_labels_files_by_their_path_their_name_or_their_stem(tmp_path, spelled):
    table = f"id,label\n{spelled.format('a')},dog\n{spelled.format('b')}, cat \n"
    found = tabled(
        tmp_path, table, "audio/a.wav", "audio/b.wav", "audio/unlisted.wav", "audio/notes.txt"
    )
    assert found["label"].to_dict() == {
        "audio/a.wav": "dog",
        "audio/b.wav": "cat",
        "audio/notes.txt": "",
        "audio/unlisted.wav": "",
        "train.csv": "",
    }
    assert found.loc["audio/unlisted.wav", ["status", "reason"]].tolist() == [
        "ignored",
        "not listed in train.csv",
    ]
    assert found["status"].eq("ok").sum() == 2 and artifacts.account(found)["found"] == 5


def test_a_table_comes_before_the_folders_and_its_columns_can_be_named(tmp_path):
    table = "note,kind,file\nx,rain,a.wav\ny,wind,b.wav\n"
    found = tabled(tmp_path, table, "dog/a.wav", "cat/b.wav", id_column="file", label_column="kind")
    assert found.loc[["dog/a.wav", "cat/b.wav"], "label"].tolist() == ["rain", "wind"]


SEVERAL = {"a.wav": "cat|dog", "b.wav": "dog", "c.wav": ""}
SEVERAL_TABLES = {
    "commas": ('id,labels\na.wav,"dog,cat"\nb.wav,dog\nc.wav,\n', {}),
    "spaces and repetitions": ('id,labels\na.wav," cat, dog,cat,"\nb.wav,dog\nc.wav," "\n', {}),
    "semicolons": ("id,labels\na.wav,cat;dog\nb.wav,dog\nc.wav,\n", {"label_separator": ";"}),
    "stems": ('id,labels\na,"dog,cat"\nb,dog\nc,\n', {}),
    "a column per class": ("id,dog,cat\na.wav,1,1\nb.wav,1,0\nc.wav,0,0\n", {}),
    "shares": ("id,cat,dog\na.wav,1.0,1.0\nb.wav,0.0,1.0\nc.wav,0.0,0.0\n", {}),
    "the id elsewhere": ("dog,id,cat\n1,a.wav,1\n1,b.wav,0\n0,c.wav,0\n", {"id_column": "id"}),
    "named": (
        'n,tags,id\n1,"cat,dog",a.wav\n2,dog,b.wav\n3,,c.wav\n',
        {"id_column": "id", "label_column": "tags"},
    ),
}


@pytest.mark.parametrize("written", SEVERAL_TABLES)
def test_several_labels_one_or_none_are_read_however_they_are_written(tmp_path, written):
    table, data = SEVERAL_TABLES[written]
    found = tabled(tmp_path, table, *SEVERAL, "unlisted.wav", multilabel=True, **data)
    assert found.loc[list(SEVERAL), "label"].to_dict() == SEVERAL
    assert (
        found.loc[list(SEVERAL), "status"].eq("ok").all()
    )  # to hear none of the classes is an answer too
    assert found.loc["unlisted.wav", "status"] == "ignored"


def test_a_column_per_class_works_for_one_label_per_recording_too(tmp_path):
    found = tabled(
        tmp_path, "id,dog,cat\na.wav,1,0\nb.wav,0,1\nc.wav,0,0\n", "a.wav", "b.wav", "c.wav"
    )
    assert found.loc[["a.wav", "b.wav", "c.wav"], "label"].tolist() == ["dog", "cat", ""]
    assert found.loc["c.wav", "status"] == "quarantined" and found.loc[
        "c.wav", "reason"
    ].startswith("NO_LABEL")


def test_test_files_need_no_row_and_the_others_none_of_a_label_that_has_no_class(tmp_path):
    table = "id,label\na.wav,dog\nb.wav,cat\nabsent.wav,cow\n"
    found = tabled(tmp_path, table, "audio/a.wav", "audio/b.wav", "test/x.wav")
    assert found.loc["test/x.wav", ["label", "split", "status"]].tolist() == ["", "test", "ok"]
    assert set(found["label"]) == {"", "cat", "dog"}


def test_a_missing_table_is_named(tmp_path):
    plant(tmp_path, "a.wav")
    with pytest.raises(SourceError, match=r"There is no train\.csv"):
        find(tmp_path, labels_csv="train.csv")


@pytest.mark.parametrize(
    ("table", "data", "said"),
    [
        (
            "id,label\na.wav,dog\n",
            {"id_column": "file"},
            "no column 'file'. Its columns: id, label",
        ),
        (
            "id,label\na.wav,dog\n",
            {"label_column": "class"},
            "no column 'class'. Its columns: id, label",
        ),
        ("id\na.wav\n", {}, "no column of labels. Its columns: id"),
        ("id,label\na.wav,dog\na.wav,cat\n", {}, "1 ids several labels: a.wav (rows 2, 3)"),
        (
            "id,label\na,dog\na.wav,cat\nx,cow\n",
            {"id_column": "label"},
            "None of the ids of train.csv (dog, cat, cow, …)",
        ),
        ("id,label\na.wav,dog\n", {}, "Only one class, 'dog'"),
        ("id,labels\na.wav,\nb.wav,rain\n", {"multilabel": True}, "Only one class, 'rain'"),
        ("id,label\na.wav,fold\nb.wav,dog\n", {}, "fold"),
        ('id,labels\na.wav,"fold,dog"\n', {"multilabel": True}, "fold"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_with_what_it_lacks(tmp_path, table, data, said):
    with pytest.raises(SourceError) as refusal:
        tabled(tmp_path, table, "a.wav", "b.wav", **data)
    assert said in str(refusal.value)


TAGS = 'id,labels\na.wav,"dog,cat"\nb.wav,dog\nc.wav,"cat,cow"\nd.wav,cow\n'


def test_a_class_that_is_left_out_is_left_out_of_several_labels_too(tmp_path):
    files = ("a.wav", "b.wav", "c.wav", "d.wav")
    found = tabled(tmp_path, TAGS, *files, multilabel=True, exclude=("cat",)).reset_index()
    assert targets.classes(found[found["status"].eq("ok")], multilabel=True) == ["cow", "dog"]


def test_a_test_file_keeps_its_several_labels_where_they_are_classes(tmp_path):
    files = ("a.wav", "b.wav", "c.wav", "d.wav", "test/x.wav")
    found = tabled(tmp_path, TAGS + 'test/x.wav,"dog,cow"\n', *files, multilabel=True)
    assert found.loc["test/x.wav", "label"] == "cow|dog"  # no training recording has just these two


def test_a_row_that_is_there_twice_counts_once(tmp_path):
    found = tabled(tmp_path, "id,label\na.wav,dog\nb.wav,cat\na.wav,dog\n", "a.wav", "b.wav")
    assert found["status"].eq("ok").sum() == 2


def test_where_no_folder_is_a_class_the_tables_that_lie_there_are_hinted_at(tmp_path):
    plant(tmp_path, "audio/a.wav", "meta/labels.csv")
    with pytest.raises(SourceError, match=r"labels_csv: meta/labels\.csv"):
        find(tmp_path)


# --- rows and files ----------------------------------------------------------------------------


def test_a_row_without_a_file_is_set_aside_as_missing_and_counted(tmp_path):
    table = "id,label\na.wav,dog\nb.wav,cat\nsub/lost.wav,dog\ngone,cow\n"
    found = tabled(tmp_path, table, "a.wav", "b.wav", "unlisted.wav")
    assert found.loc[["sub/lost.wav", "gone"], "status"].tolist() == ["quarantined"] * 2
    assert found.loc["gone", "reason"] == "MISSING: listed in train.csv, but there is no such file"
    assert found.loc["gone", ["label", "split", "source", "together"]].tolist() == [
        "",
        "train",
        "",
        "",
    ]
    assert artifacts.account(found) == {"found": 6, "used": 2, "quarantined": 2, "ignored": 2}
    assert found["recording_id"].is_unique
    assert set(found["label"]) == {"", "dog", "cat"}


@pytest.mark.parametrize(
    "path",
    [
        "../secret.wav",
        "../../secret.wav",
        "/secret.wav",
        "/etc/passwd",
        "dog/../../secret.wav",
        "link/../../secret.wav",
    ],
)
def test_a_path_that_leads_out_of_the_folder_is_set_aside_and_never_opened(tmp_path, path):
    plant(tmp_path, "secret.wav")
    table = f"id,label\na.wav,dog\nb.wav,cat\n{path},cat\n"
    found = tabled(tmp_path / "root", table, "a.wav", "b.wav")
    assert found.loc[path, "status"] == "quarantined"
    assert (
        found.loc[path, "reason"] == "OUTSIDE_ROOT: train.csv names a file outside the data folder"
    )
    assert artifacts.account(found) == {"found": 4, "used": 2, "quarantined": 1, "ignored": 1}


def test_a_whole_path_of_a_file_in_the_folder_is_no_file_of_the_table(tmp_path):
    table = f"id,label\na.wav,dog\nb.wav,cat\n{tmp_path}/c.wav,cat\n"
    found = tabled(tmp_path, table, "a.wav", "b.wav", "c.wav")
    assert found.loc[["c.wav", f"{tmp_path}/c.wav"], "status"].tolist() == [
        "ignored",
        "quarantined",
    ]


IDS = st.sampled_from(["a", "b", "c", "a.wav", "x/b.wav", "lost", "../out.wav", "/out.wav"])
PLACES = st.sets(st.sampled_from(["x/a.wav", "x/b.wav", "y/c.wav", "d.mp3", "n.txt", "test/t.wav"]))


@LAW
@given(st.dictionaries(IDS, st.sampled_from(["dog", "cat", ""]), max_size=6), PLACES)
def test_every_file_and_every_row_is_used_or_set_aside_with_a_reason(
    tmp_path_factory, labels, places
):
    root, labels = tmp_path_factory.mktemp("rows"), {"e": "dog", "f": "cat", **labels}
    files = {"e.wav", "f.wav", *places}
    try:
        found = tabled(
            root, "id,label\n" + "".join(f"{n},{label}\n" for n, label in labels.items()), *files
        )
    except SourceError as error:
        assert "fit several files" in str(error)
        return
    rows = found.index.difference([*files, "train.csv"])
    assert set(rows) <= set(labels) and {*files, "train.csv"} <= set(found.index)
    assert found["recording_id"].is_unique and found.index.is_unique
    assert found["reason"].ne("").eq(found["status"].ne("ok")).all()
    assert found.loc[rows, "reason"].str.match("MISSING: |OUTSIDE_ROOT: ").all()
    used = found["status"].eq("ok") & found["split"].eq("train")
    assert used.sum() + len(rows) <= len(labels)
    assert artifacts.account(found)["found"] == len(files) + 1 + len(rows)


def test_ids_that_fit_several_files_are_refused_with_the_files(tmp_path):
    with pytest.raises(
        SourceError, match=r"1 ids of train\.csv fit several files, such as x/a\.wav and y/a\.wav"
    ):
        tabled(tmp_path, "id,label\na,dog\nb,cat\n", "x/a.wav", "y/a.wav", "b.wav")


def test_equal_stems_in_two_folders_are_told_apart_by_their_paths(tmp_path):
    files = ("x/a.wav", "y/a.wav", "x/b.wav")
    found = tabled(tmp_path, "id,label\nx/a.wav,dog\ny/a.wav,cat\nb,cat\n", *files)
    assert (
        found.loc[list(files), "label"].tolist() == ["dog", "cat", "cat"]
        and found["recording_id"].is_unique
    )


def test_a_copy_elsewhere_does_not_take_a_recordings_row(tmp_path):
    table, files = (
        "id,label\na,dog\nb,cat\n",
        ("audio/a.wav", "audio/b.wav", "slow/a.wav", "slow/b.wav"),
    )
    found = tabled(tmp_path, table, *files, train_folders=["audio"])
    assert found.loc[list(files), "status"].tolist() == ["ok", "ok", "ignored", "ignored"]


def test_a_row_of_a_test_file_is_not_missing(tmp_path):
    found = tabled(
        tmp_path, "id,label\na.wav,dog\nb.wav,cat\nx.wav,dog\n", "a.wav", "b.wav", "test/x.wav"
    )
    assert artifacts.account(found)["quarantined"] == 0


# --- what a table says of sides, folds, groups -------------------------------------------------

SIDES = """id,label,split,fold,speaker,ok
a.wav,dog,train,fold1,Ann,1
b.wav,cat,train,fold2,Ann,1
c.wav,dog,test,fold3,,1
d.wav,cow,test,fold3,Cy,1
e.wav,cat,train,fold2,Cy,0
"""
SIDE_FILES = [f"{name}.wav" for name in "abcde"]


def test_a_split_column_tells_the_test_side_and_unknown_classes_there_are_no_labels(tmp_path):
    found = tabled(tmp_path, SIDES, *SIDE_FILES, label_column="label", split_column="split").loc[
        SIDE_FILES
    ]
    assert found["split"].tolist() == ["train", "train", "test", "test", "train"]
    assert (
        found["label"].tolist() == ["dog", "cat", "dog", "", "cat"]
        and found["status"].eq("ok").all()
    )


def test_the_test_side_may_be_called_otherwise(tmp_path):
    found = tabled(
        tmp_path, SIDES, *SIDE_FILES, label_column="label", split_column="fold", test_value="fold2"
    )
    assert found.loc[SIDE_FILES, "split"].tolist() == ["train", "test", "train", "train", "test"]


def test_a_row_of_the_test_side_that_has_no_file_is_missing_there(tmp_path):
    found = tabled(tmp_path, SIDES, *SIDE_FILES[:3], label_column="label", split_column="split")
    assert found.loc["d.wav", ["split", "status"]].tolist() == ["test", "quarantined"]


def test_a_fold_column_tells_the_official_folds_and_comes_before_the_names(tmp_path):
    found = tabled(tmp_path, SIDES, *SIDE_FILES, "x.wav", label_column="label", fold_column="fold")
    assert found.loc[SIDE_FILES, "official_fold"].tolist() == [1, 2, 3, 3, 2]
    assert (
        artifacts.pd.isna(found.loc["x.wav", "official_fold"])
        and found["official_fold"].dtype == "Int64"
    )
    names = [f"{fold}-100-{letter}-0.wav" for fold in (4, 5) for letter in "AB"]
    table = "id,label,fold\n" + "".join(
        f"{name},{name[6]},{n + 1}\n" for n, name in enumerate(names)
    )
    found = tabled(tmp_path / "names", table, *names, label_column="label", fold_column="fold").loc[
        names
    ]
    assert found["official_fold"].tolist() == [1, 2, 3, 4] and found["source"].eq("100").all()


def test_group_columns_bind_recordings_and_nothing_binds_nothing(tmp_path):
    data = {"label_column": "label", "group_columns": ["speaker", "fold"]}
    found = tabled(tmp_path, SIDES, *SIDE_FILES, "x.wav", **data)["together"]
    assert found["a.wav"] == "speaker=Ann|fold=fold1"
    assert found[["c.wav", "x.wav", "train.csv"]].tolist() == ["fold=fold3", "", ""]


def test_rows_that_do_not_count_leave_their_files_out(tmp_path):
    found = tabled(tmp_path, SIDES, *SIDE_FILES, label_column="label", where={"ok": "1"})
    assert found.loc["e.wav", ["status", "reason"]].tolist() == [
        "ignored",
        "not listed in train.csv",
    ]
    assert found["status"].eq("ok").sum() == 4


# --- classes as the config calls them ----------------------------------------------------------

ANIMALS = (
    "dog/1.wav",
    "wolf/2.wav",
    "cat/3.wav",
    "bird/4.wav",
    "test/wolf/5.wav",
    "test/bird/6.wav",
    "test/fish/7.wav",
)
SETTLED = {
    "nothing": ({}, ["dog", "wolf", "cat", "bird", "wolf", "bird", ""]),
    "rename": ({"rename": {"wolf": "dog"}}, ["dog", "dog", "cat", "bird", "dog", "bird", ""]),
    "classes": ({"classes": ["wolf", "cat"]}, [None, "wolf", "cat", None, "wolf", "", ""]),
    "other": (
        {"classes": ["wolf", "cat"], "other": "rest"},
        ["rest", "wolf", "cat", "rest", "wolf", "rest", "rest"],
    ),
    "exclude": ({"exclude": ["wolf", "bird"]}, ["dog", None, "cat", None, "", "", ""]),
    "exclude what is renamed": (
        {"rename": {"wolf": "dog", "fish": "cat"}, "exclude": ["dog"]},
        [None, None, "cat", "bird", "", "bird", "cat"],
    ),
    "the other left out": (
        {"classes": ["wolf", "cat"], "other": "rest", "exclude": ["rest"]},
        [None, "wolf", "cat", None, "wolf", "", ""],
    ),
    "a name that is the other": (
        {"classes": ["cat"], "other": "dog", "rename": {"wolf": "cat"}},
        ["dog", "cat", "cat", "dog", "cat", "dog", "dog"],
    ),
}


@pytest.mark.parametrize("said", SETTLED)
def test_labels_are_called_joined_and_left_out_as_the_config_says(tmp_path, said):
    data, labels = SETTLED[said]
    found = find(plant(tmp_path, *ANIMALS), **data).loc[list(ANIMALS)]
    assert found["label"].tolist() == [label or "" for label in labels]
    assert found["status"].tolist() == ["ignored" if label is None else "ok" for label in labels]
    assert found.loc[found["status"].eq("ignored"), "reason"].str.startswith("left out: ").all()


def test_several_labels_are_settled_one_by_one(tmp_path):
    files = ("a.wav", "b.wav", "c.wav", "d.wav")
    found = tabled(tmp_path / "1", TAGS, *files, multilabel=True, rename={"cow": "dog"}).loc[
        list(files), "label"
    ]
    assert found.tolist() == ["cat|dog", "dog", "cat|dog", "dog"]
    found = tabled(
        tmp_path / "2", TAGS, *files, multilabel=True, classes=["cat"], other="rest"
    ).loc[list(files)]
    assert found["label"].tolist() == ["cat|rest", "rest", "cat|rest", "rest"]
    found = tabled(tmp_path / "3", TAGS, *files, multilabel=True, classes=["cat", "dog"]).loc[
        list(files)
    ]
    assert found["label"].tolist() == ["cat|dog", "dog", "cat", ""]
    assert found.loc["d.wav", ["status", "reason"]].tolist() == [
        "ignored",
        "left out: not one of data.classes",
    ]


TWINS = {
    "case": ("Dog", "dog"),
    "spaces": ("big dog", "big  dog"),
    "both": ("Big Dog", "big  dog"),
    "beyond ASCII": ("Ärger", "ärger"),
}


@pytest.mark.parametrize("twins", TWINS)
@pytest.mark.parametrize("tabular", [False, True], ids=["folders", "table"])
def test_classes_that_differ_in_case_or_spaces_alone_are_refused_and_renaming_mends_it(
    tmp_path, twins, tabular
):
    one, other = TWINS[twins]

    def look(**data):
        if tabular:
            return tabled(
                tmp_path,
                f"id,label\na,{one}\nb, {other} \nc,cat\n",
                "a.wav",
                "b.wav",
                "c.wav",
                **data,
            )
        return find(plant(tmp_path, f"{one}/1.wav", f"{other}/2.wav", "cat/3.wav"), **data)

    with pytest.raises(SourceError, match="differ in case or in spaces alone") as refusal:
        look()
    assert repr(one) in str(refusal.value) and repr(other) in str(refusal.value)
    remedy = ast.literal_eval(re.search(r"data\.rename: (\{.*\})", str(refusal.value)).group(1))
    assert set(remedy) | set(remedy.values()) == {one, other}
    found = look(rename=remedy)
    assert sorted(found.loc[found["status"].eq("ok"), "label"]) == sorted(
        ["cat", *remedy.values(), *remedy.values()]
    )


@pytest.mark.parametrize(
    "name", [*sorted(artifacts.IDENTITY), "two\nlines", "a\rb", "a\tb", "bell\a"]
)
def test_a_class_that_no_table_can_hold_is_refused_and_renaming_mends_it(tmp_path, name):
    plant(tmp_path, f"{name}/1.wav", f"{name}/2.wav", "cat/1.wav")
    with pytest.raises(SourceError, match="cannot be called") as refusal:
        find(tmp_path)
    assert repr(name) in str(refusal.value) and f"data.rename: {{{json.dumps(name)}" in str(
        refusal.value
    )
    renamed = find(tmp_path, rename={name: "another name"})
    assert set(renamed["label"]) == {"another name", "cat"}


def test_spaces_around_a_label_and_the_spelling_of_its_accents_do_not_matter(tmp_path):
    found = find(plant(tmp_path, "dog /1.wav", "dog/2.wav", "caf\u00e9/3.wav", "cafe\u0301/4.wav"))
    assert sorted(found["label"]) == ["café", "café", "dog", "dog"]


def test_twins_on_the_test_side_alone_are_no_classes(tmp_path):
    found = find(plant(tmp_path, *TWO_CLASSES, "test/Dog/1.wav", "test/dog/2.wav"))
    assert found.loc[["test/Dog/1.wav", "test/dog/2.wav"], "label"].tolist() == ["", "dog"]


# --- files that are one elsewhere --------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("dog/a.wav", "dog/A.wav"),
        ("dog/a.wav", "dog/a.WAV"),
        ("dog/caf\u00e9.wav", "dog/cafe\u0301.wav"),
        ("d\u00f6g/1.wav", "do\u0308g/1.wav"),
        ("test/x/1.wav", "test/X/1.wav"),
        ("dog/\u00c4.wav", "dog/a\u0308.wav"),
    ],
)
def test_files_that_differ_in_case_or_accents_alone_are_refused_by_both_names(tmp_path, one, other):
    plant(tmp_path, *TWO_CLASSES[1:], "dog/b.wav", one, other)
    with pytest.raises(SourceError, match=r"^ID_COLLISION: 2 recordings") as refusal:
        find(tmp_path)
    assert ascii(one) in str(refusal.value) and ascii(other) in str(refusal.value)


def test_files_that_are_no_recordings_may_differ_in_case_alone(tmp_path):
    found = find(
        plant(tmp_path, *TWO_CLASSES, "README.md", "readme.md", "dog/.a.wav", "dog/.A.wav")
    )
    assert found["status"].eq("ok").sum() == 2


# --- folders to learn from and to test on ------------------------------------------------------


def test_train_and_test_folders_are_those_that_are_named(tmp_path):
    files = (
        "a/dog/1.wav",
        "b/cat/2.wav",
        "c/dog/3.wav",
        "test/dog/4.wav",
        "ab/cat/5.wav",
        "c/c2/cat/6.wav",
    )
    found = find(plant(tmp_path, *files), train_folders=["a", "b"], test_folders=["c/c2"]).loc[
        list(files)
    ]
    assert found["split"].tolist() == ["train"] * 5 + ["test"]
    assert found["status"].tolist() == ["ok", "ok", "ignored", "ignored", "ignored", "ok"]
    assert set(found.loc[found["status"].eq("ignored"), "reason"]) == {
        "lies below none of data.train_folders"
    }


def test_a_test_folder_that_is_named_replaces_those_known_by_name(tmp_path):
    files = ("dog/1.wav", "cat/2.wav", "holdout/3.wav", "test/dog/4.wav")
    found = find(plant(tmp_path, *files), test_folders=["holdout"]).loc[list(files)]
    assert found["split"].tolist() == ["train", "train", "test", "train"]


def test_train_folders_leave_the_known_test_folder_as_it_is(tmp_path):
    files = ("train/dog/1.wav", "train/cat/2.wav", "test/3.wav", "more/dog/4.wav")
    found = find(plant(tmp_path, *files), train_folders=["train"]).loc[list(files)]
    assert found["split"].tolist() == ["train", "train", "test", "train"]
    assert found["status"].tolist() == ["ok", "ok", "ok", "ignored"]


# --- labels judged anew ------------------------------------------------------------------------


def test_edits_change_labels_and_leave_recordings_out(tmp_path):
    root = plant(tmp_path, *TWO_CLASSES, "dog/c.wav", "test/dog/d.wav")
    edits = {sources.recording_id("dog/a.wav"): "cat", sources.recording_id("cat/b.wav"): "drop"}
    found = sources.find(root, Data(), edits).set_index("path")
    assert found["label"].to_dict() == {
        "cat/b.wav": "cat",
        "dog/a.wav": "cat",
        "dog/c.wav": "dog",
        "test/dog/d.wav": "dog",
    }
    assert found.loc["cat/b.wav", ["status", "reason"]].tolist() == [
        "ignored",
        "left out: relabel.csv",
    ]
    assert artifacts.account(found) == {"found": 4, "used": 3, "quarantined": 0, "ignored": 1}


@pytest.mark.parametrize(
    ("edit", "label"), [("dog | cow", "cow|dog"), ("dog|cat", "cat|dog"), ("none", "")]
)
def test_edits_may_give_several_labels_or_none_where_several_are_allowed(tmp_path, edit, label):
    files = ("a.wav", "b.wav", "c.wav", "d.wav")
    tabled(tmp_path, TAGS, *files, multilabel=True)
    data = Data(labels_csv="train.csv", multilabel=True)
    found = sources.find(tmp_path, data, {sources.recording_id("d.wav"): edit}).set_index("path")
    assert found.loc["d.wav", ["label", "status"]].tolist() == [label, "ok"]
    assert set(targets.classes(found[found["status"].eq("ok")], multilabel=True)) == {
        "cat",
        "cow",
        "dog",
    }


def test_an_edit_does_not_bring_in_a_class_that_differs_in_case_alone(tmp_path):
    root = plant(tmp_path, *TWO_CLASSES, "dog/c.wav")
    with pytest.raises(SourceError, match="differ in case or in spaces alone"):
        sources.find(root, Data(), {sources.recording_id("dog/a.wav"): "Cat"})


# --- links -------------------------------------------------------------------------------------


def test_a_loop_of_links_is_seen_once(tmp_path):
    plant(tmp_path, *TWO_CLASSES)
    (tmp_path / "dog" / "again").symlink_to(tmp_path)
    found = find(tmp_path)
    assert found["status"].value_counts().to_dict() == {"ok": 2, "ignored": 1}


def test_a_link_that_leaves_the_folder_is_set_aside(tmp_path):
    outside = plant(tmp_path / "outside", "secret.wav") / "secret.wav"
    root = plant(tmp_path / "root", *TWO_CLASSES)
    (root / "dog" / "link.wav").symlink_to(outside)
    assert find(root).loc["dog/link.wav", "reason"].startswith("OUTSIDE_ROOT")


def test_a_link_that_leads_nowhere_or_to_itself_is_set_aside(tmp_path):
    plant(tmp_path, *TWO_CLASSES)
    (tmp_path / "dog" / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    (tmp_path / "dog" / "loop.wav").symlink_to("loop.wav")
    found = find(tmp_path).loc[["dog/gone.wav", "dog/loop.wav"]]
    assert (
        found["status"].eq("quarantined").all()
        and found["reason"].str.startswith("UNREADABLE: ").all()
    )


def test_a_link_within_the_folder_is_a_recording(tmp_path):
    plant(tmp_path, *TWO_CLASSES)
    (tmp_path / "cat" / "same.wav").symlink_to("../dog/a.wav")
    assert row(tmp_path, "cat/same.wav") == ("cat", "train", "ok")


def test_a_row_that_leads_through_a_link_to_itself_is_missing(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    found = tabled(tmp_path, "id,label\na.wav,dog\nb.wav,cat\nloop/c.wav,cat\n", "a.wav", "b.wav")
    assert found.loc["loop/c.wav", "status"] == "quarantined"


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ((), "0 files"),
        (("dog/notes.txt", "cat/x.jpg"), "2 files"),
        (("1.wav", "2.wav"), "2 files"),
        (("test/dog/1.wav", "test/cat/2.wav"), "No labelled audio"),
        (("dog/1.wav", "dog/2.wav"), "'dog'"),
        (("dog/1.wav", "test/cat/2.wav"), "'dog'"),
    ],
)
def test_too_little_to_learn_from_names_the_folder(tmp_path, files, said):
    plant(tmp_path, *files)
    with pytest.raises(SourceError) as refusal:
        find(tmp_path)
    assert str(tmp_path) in str(refusal.value)
    assert said in str(refusal.value)


def test_a_class_cannot_take_the_name_of_a_column(tmp_path):
    with pytest.raises(SourceError, match="fold"):
        find(plant(tmp_path, "fold/1.wav", "dog/2.wav"))


# --- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("title", "names"),
    [
        ("ESC-50", {"1-100032-A-0.wav": ("100032", 1), "5-9032-B.ogg": ("9032", 5)}),
        ("UrbanSound8K", {"100032-3-0-0.wav": ("100032", None), "7061-6-0-12.wav": ("7061", None)}),
        ("Speech Commands", {"0a7c2a8d_nohash_0.wav": ("0a7c2a8d", None)}),
        ("xeno-canto", {"XC12345.mp3": ("XC12345", None), "XC9 - Song Thrush.mp3": ("XC9", None)}),
        (None, {"rex.wav": ("", None), "1-100032-A-0.wav": ("", None)}),
        (None, {"6-100032-A-0.wav": ("", None)}),  # there is no sixth fold
    ],
)
def test_a_grammar_is_used_if_every_name_fits_it(tmp_path, title, names):
    assert filenames.grammar_of([f"dog/{name}" for name in names])[0] == title
    found = find(
        plant(tmp_path, *(f"{label}/{name}" for label in ("dog", "cat") for name in names))
    )
    for name, (group, fold) in names.items():
        source, official = found.loc[f"dog/{name}", ["source", "official_fold"]]
        assert source == group
        assert official == fold if fold else artifacts.pd.isna(official)


def test_a_pattern_from_the_config_comes_before_the_grammars(tmp_path):
    plant(tmp_path, "dog/7-ab.wav", "cat/8-cd.wav", "cat/other.wav")
    found = find(tmp_path, name_pattern=r"(?P<fold>\d)-(?P<group>\w+)")
    assert found["source"].to_dict() == {
        "dog/7-ab.wav": "ab",
        "cat/8-cd.wav": "cd",
        "cat/other.wav": "",
    }
    assert found["official_fold"].dropna().to_dict() == {"dog/7-ab.wav": 7, "cat/8-cd.wav": 8}


WHALES = [f"2009032{n}_0000_{n}_{n % 2}.aif" for n in range(6)]


def test_a_pattern_may_read_the_label_from_the_file_name(tmp_path):
    plant(
        tmp_path,
        *(f"train2/{name}" for name in WHALES),
        "train2/odd.aif",
        "test2/20090330_0000_7.aif",
    )
    pattern = r"(?P<group>\d{8})_.*_(?P<label>[01])"
    found = find(tmp_path, name_pattern=pattern, train_folders=["train2"], test_folders=["test2"])
    trained = found.loc[[f"train2/{name}" for name in WHALES]]
    assert trained["label"].tolist() == ["0", "1"] * 3 and trained["source"].tolist() == [
        w[:8] for w in WHALES
    ]
    assert found.loc["train2/odd.aif", ["label", "status", "reason"]].tolist() == [
        "",
        "quarantined",
        "NO_LABEL: the file name tells no label",
    ]
    assert found.loc["test2/20090330_0000_7.aif", ["label", "status"]].tolist() == ["", "ok"]


def test_one_or_two_odd_names_do_not_spoil_a_grammar(tmp_path):
    names = [f"{label}/1-{n:05}-A-0.wav" for label in ("dog", "cat") for n in range(10)]
    found = find(plant(tmp_path, *names, "dog/rex.wav", "cat/my cat (2).wav"))
    assert found.loc[names, "source"].tolist() == [f"{n:05}" for _ in "ab" for n in range(10)]
    assert found.loc[names, "official_fold"].eq(1).all()
    assert found.loc["dog/rex.wav", "source"] == "" and artifacts.pd.isna(
        found.loc["dog/rex.wav", "official_fold"]
    )


def test_a_pattern_that_fits_no_name_is_refused(tmp_path):
    with pytest.raises(
        SourceError, match=r"data\.name_pattern .* fits none of the file names, such as 'b'"
    ):
        find(plant(tmp_path, *TWO_CLASSES), name_pattern=r"(?P<group>\d+)-.*")


TAKES = [
    f"{label}/{source}-{take}.wav"
    for label in ("dog", "cat")
    for source in range(4)
    for take in range(2)
]


@LAW
@given(st.integers(1, 12))
def test_max_per_class_limits_the_training_side_and_accounts_for_every_file(
    tmp_path_factory, limit
):
    root = plant(tmp_path_factory.mktemp("takes"), *TAKES, *(f"test/{name}" for name in TAKES))
    table = find(root, max_per_class=limit, name_pattern=r"(?P<group>\d)-\d")
    train = table[table["split"].eq("train")]
    kept = train["status"].eq("ok")
    assert kept.groupby(train["label"]).sum().to_dict() == dict.fromkeys(
        ("dog", "cat"), min(limit, 8)
    )
    assert table.loc[table["split"].eq("test"), "status"].eq("ok").all()
    assert artifacts.account(table)["found"] == 2 * len(TAKES)
    sources = train[kept].groupby("label")["source"].agg(set)
    there = train.groupby("label")["source"].nunique()
    assert sources.map(len).ge(there.clip(upper=min(3, limit))).all()


def test_max_per_class_leaves_the_same_sources_in_every_class(tmp_path):
    takes = [
        f"{digit}/{digit}_{who}_{take}.wav"
        for digit in "01"
        for who in ("ann", "bo", "cy", "di")
        for take in range(20)
    ]
    found = find(plant(tmp_path, *takes), max_per_class=8)
    kept = found[found["status"].eq("ok")]
    counts = kept.groupby(["label", "source"]).size().unstack()
    assert (
        counts.sum(axis=1).eq(8).all() and counts.shape == (2, 4) and counts.notna().all(axis=None)
    )


def test_sources_that_are_the_classes_bind_nothing_and_it_is_said(tmp_path):
    plant(
        tmp_path, *(f"{who}/{who}_00{take}.wav" for who in ("p225", "p226") for take in range(1, 5))
    )
    with pytest.warns(UserWarning, match="Every class has one source by the file names"):
        found = find(tmp_path)
    assert found["source"].eq("").all() and found["label"].nunique() == 2


# --- ESC-50 ------------------------------------------------------------------------------------

META = """filename,fold,target,category,esc10,src_file,take
1-100-A-0.wav,1,0,dog,True,100,A
2-200-B-1.wav,2,1,crackling_fire,True,200,B
3-300-A-2.wav,3,2,mouse_click,False,300,A
"""


def test_the_esc50_folder_is_read_through_its_table(tmp_path):
    audio = [f"audio/{line.split(',')[0]}" for line in META.splitlines()[1:]]
    root = plant(tmp_path, "README.md", "audio/stray.wav", *audio)
    plant(root, "meta/esc50.csv", content=META.encode())
    all50, ten = find(root, source="esc50"), find(root, source="esc10")
    assert all50["label"].to_dict() == {
        "README.md": "",
        "audio/1-100-A-0.wav": "dog",
        "audio/2-200-B-1.wav": "crackling fire",
        "audio/3-300-A-2.wav": "mouse click",
        "audio/stray.wav": "",
        "meta/esc50.csv": "",
    }
    assert all50.loc["audio/3-300-A-2.wav", ["together", "official_fold"]].tolist() == [
        "src_file=300",
        3,
    ]
    assert sorted(ten.index[ten["status"].eq("ok")]) == [
        "audio/1-100-A-0.wav",
        "audio/2-200-B-1.wav",
    ]
    assert ten.loc[["audio/3-300-A-2.wav", "audio/stray.wav"], "status"].tolist() == [
        "ignored",
        "ignored",
    ]
