"""A data folder is recognised by what lies in it, or left to its class folders; nothing in it stops
the recognition.
"""

import pytest
from competitions import ALL
from signals import plant

from helpers.base import artifacts, targets
from helpers.data import sources
from helpers.layouts import by_place, by_table
from helpers.run import presets

PRESETS = {name: name for name in ALL} | {"speech_commands_2017": "speech_commands"}
each = pytest.mark.parametrize("name", ALL)


# --- the presets' own data ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Every competition, by name, written once."""
    return {name: write(tmp_path_factory.mktemp(name)) for name, write in ALL.items()}


@pytest.fixture(scope="module")
def found(written):
    """What is found in every folder, its preset recognised: (config, table), by name."""
    loaded = {name: presets.load(data=competition.folder) for name, competition in written.items()}
    return {
        name: (one, sources.find(written[name].folder, one.data)) for name, one in loaded.items()
    }


@each
def test_each_layout_is_recognised_and_said_to_be(found, name):
    recognised, _ = found[name]
    assert recognised.preset == PRESETS[name]
    assert recognised.recognised == f"preset {PRESETS[name]}: {', '.join(recognised.layout)}"


@each
def test_the_classes_are_found_and_every_file_is_accounted_for(written, found, name):
    competition, (recognised, table) = written[name], found[name]
    classes = targets.classes(table[table["status"].eq("ok")], recognised.data.multilabel)
    assert [label.replace("_", " ") for label in classes] == sorted(
        c.replace("_", " ") for c in competition.classes
    )
    there = {
        path.relative_to(competition.folder).as_posix() for path in competition.folder.rglob("*")
    }
    assert set(table["path"]) == {path for path in there if (competition.folder / path).is_file()}
    assert artifacts.account(table) == {
        "found": len(table),
        "used": table["status"].eq("ok").sum(),
        "quarantined": 0,
        "ignored": table["status"].eq("ignored").sum(),
    }


TRAIN = {  # recordings to learn from, and of the test side
    **{"frequency_quest": (30, 6), "speech_commands_2017": (28, 6), "freesound_2018": (28, 7)},
    **{
        "freesound_2019": (12, 6),
        "birdcall_2020": (24, 4),
        "birdclef_2021": (24, 3),
        "birdclef_2022": (24, 3),
    },
    **{
        "birdclef_2023": (24, 3),
        "birdclef_2024": (24, 3),
        "birdclef_2025": (24, 3),
        "rainforest_2021": (16, 5),
    },
    **{
        "mlsp_2013": (20, 6),
        "right_whale_2013": (20, 6),
        "urbansound8k": (75, 0),
        "esc50": (35, 0),
    },
}


@each
def test_the_sides_are_told_apart(found, name):
    table = found[name][1]
    ok = table[table["status"].eq("ok")]
    assert (ok["split"].eq("train").sum(), ok["split"].eq("test").sum()) == TRAIN[name]


BINDING = {
    **{
        "frequency_quest": "names",
        "speech_commands_2017": "names",
        "right_whale_2013": "names",
        "mlsp_2013": "names",
    },
    **dict.fromkeys(("birdcall_2020", "birdclef_2021", "birdclef_2022", "birdclef_2023"), "author"),
    **dict.fromkeys(("birdclef_2024", "birdclef_2025"), "author"),
    **{"urbansound8k": "fsID", "esc50": "src_file"},
}


@pytest.mark.parametrize("name", BINDING)
def test_who_was_recorded_together_is_known(found, name):
    table = found[name][1]
    train = table[
        table["status"].eq("ok") & table["split"].eq("train") & table["label"].ne("silence")
    ]
    told = train["source" if BINDING[name] == "names" else "together"]
    assert told.ne("").all() and 1 < told.nunique() < len(told)
    if BINDING[name] != "names":
        assert told.str.startswith(BINDING[name] + "=").all()


@pytest.mark.parametrize(("name", "folds"), [("urbansound8k", 10), ("esc50", 5)])
def test_official_folds_are_read(found, name, folds):
    table = found[name][1]
    official = table.loc[table["status"].eq("ok"), "official_fold"]
    assert set(official) == set(range(1, folds + 1)) and official.notna().all()


@pytest.mark.parametrize(
    "name", ["birdcall_2020", "birdclef_2021", "birdclef_2024", "birdclef_2025"]
)
def test_a_hidden_test_set_does_not_hide_what_it_is(tmp_path, name):
    competition = ALL[name](tmp_path, hidden=True)
    recognised = presets.load(data=competition.folder)
    assert recognised.preset == name
    assert (
        not sources.find(tmp_path, recognised.data).query("split == 'test' and status == 'ok'").size
    )


# --- marks -------------------------------------------------------------------------------------

MARKS = {
    "paths": ("train/*/*.wav",),
    "more": ("train/*/*.wav", "train.csv: id, label"),
    "other": ("train/*/*.wav", "extra.json"),
    "none": (),
}


@pytest.mark.parametrize(
    ("files", "table", "name"),
    [
        (("train/dog/1.wav",), None, "paths"),
        (("train/dog/1.wav",), "label,more,id\n", "more"),
        (("train/dog/1.wav",), "id,Label\n", "paths"),  # a column is called exactly so
        (("train/dog/1.wav", "extra.json"), None, "other"),
        (("train/dog/1.wav", "extra.json"), "id,label\n", None),  # as many marks
        (("train/1.wav",), "id,label\n", None),
        ((), None, None),
    ],
)
def test_the_preset_with_the_most_marks_wins_and_between_equals_none(tmp_path, files, table, name):
    plant(tmp_path, *files)
    if table:
        (tmp_path / "train.csv").write_text(table)
    preset, says = by_place.preset_of(tmp_path, MARKS)
    assert preset == name
    if name:
        assert says == f"preset {name}: {', '.join(MARKS[name])}"
    elif len(files) == 2:
        assert says == "it could be more or other: name one with PRESET="


# --- tables ------------------------------------------------------------------------------------

CLIPS = [f"clip{n}.wav" for n in range(8)]
CLASSES = ("dog", "cat")


def tabled(root, columns, rows, table="labels.csv", audio="audio", files=CLIPS):
    """A folder of recordings and a table of them; returns what it is recognised as."""
    plant(root, *(f"{audio}/{name}" for name in files))
    lines = [",".join(columns), *(",".join(map(str, row)) for row in rows)]
    (root / table).parent.mkdir(parents=True, exist_ok=True)
    (root / table).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return by_table.keys_of(root)


def labelled(*more, ids=CLIPS):
    """Rows of an id, a label and further cells: functions of the row's number."""
    return [(name, CLASSES[n % 2], *(cell(n) for cell in more)) for n, name in enumerate(ids)]


def plain(table="labels.csv", id_column="id", label_column="label", **more):
    keys = {"labels_csv": table, "id_column": id_column, "label_column": label_column, **more}
    return {f"data.{key}": value for key, value in keys.items()}


@pytest.mark.parametrize("spelled", ["audio/{}", "{}", "stem"])
def test_a_table_that_names_the_recordings_is_taken(tmp_path, spelled):
    ids = [name[:-4] if spelled == "stem" else spelled.format(name) for name in CLIPS]
    keys, says = tabled(tmp_path, ["id", "label"], labelled(ids=ids))
    assert keys == plain()
    assert says.startswith("table labels.csv: ") and "'id'" in says and "'label'" in says


@pytest.mark.parametrize("table", ["labels.csv", "meta/labels.csv", "audio/deep/er/Labels.CSV"])
def test_a_table_may_lie_anywhere(tmp_path, table):
    assert tabled(tmp_path, ["id", "label"], labelled(), table)[0] == plain(table)


def test_ids_may_be_the_ends_of_paths(tmp_path):
    files = [f"{CLASSES[n % 2]}/{name}" for n, name in enumerate(CLIPS)]
    assert tabled(tmp_path, ["id", "label"], labelled(ids=files), files=files)[0] == plain()


def test_the_spelling_of_accents_does_not_matter(tmp_path):
    composed, apart = (
        [f"{spelled}{n}.wav" for n in range(8)] for spelled in ("caf\u00e9", "cafe\u0301")
    )
    assert tabled(tmp_path, ["id", "label"], labelled(ids=composed), files=apart)[0] == plain()


def test_the_label_is_the_column_whose_name_says_so_or_the_only_other_one(tmp_path):
    rows = [(n, CLASSES[n % 2], name, "dog") for n, name in enumerate(CLIPS)]
    assert tabled(tmp_path / "a", ["n", "Species", "file", "note"], rows)[0] == plain(
        id_column="file", label_column="Species"
    )
    rows = [(CLASSES[n % 2], "x", name, n) for n, name in enumerate(CLIPS)]
    assert tabled(tmp_path / "b", ["category", "tag", "file", "n"], rows)[0] == plain(
        id_column="file", label_column="category"
    )
    assert tabled(tmp_path / "c", ["what", "file"], [(label, name) for name, label in labelled()])[
        0
    ] == plain(id_column="file", label_column="what")
    assert tabled(tmp_path / "d", ["file", "what", "more"], labelled(lambda n: n))[0] == {}


def test_a_column_of_row_numbers_is_not_taken_for_the_names_of_files(tmp_path):
    files = [f"{n}.wav" for n in range(8)]
    rows = [(n, name, label) for n, (name, label) in enumerate(labelled(ids=files[::-1]))]
    assert tabled(tmp_path, ["", "file", "label"], rows, files=files)[0] == plain(id_column="file")


@pytest.mark.parametrize(
    ("listed", "taken"),
    [(8, True), (7, True), (6, False), (0, False)],
    ids=["all", "most", "some", "none"],
)
def test_a_table_has_to_name_nearly_all_recordings(tmp_path, listed, taken):
    ids = CLIPS[:listed] + [f"elsewhere{n}.wav" for n in range(9)]
    keys, says = tabled(tmp_path, ["id", "label"], labelled(ids=ids))
    assert (keys, bool(says)) == ((plain(), True) if taken else ({}, False))


def test_test_files_need_no_row(tmp_path):
    plant(
        tmp_path,
        *(f"test/x{n}.wav" for n in range(50)),
        *(f"__MACOSX/._{n}.wav" for n in range(50)),
    )
    assert tabled(tmp_path, ["id", "label"], labelled())[0] == plain()


def test_a_sample_submission_is_no_table_of_labels(tmp_path):
    assert tabled(tmp_path, ["id", "label"], labelled(), "Sample_Submission.csv") == ({}, "")


def test_between_two_tables_none_is_taken_and_it_is_said(tmp_path):
    tabled(tmp_path, ["id", "label"], labelled(), "one.csv")
    keys, says = tabled(tmp_path, ["id", "label"], labelled(), "two.csv")
    assert keys == {}
    assert says == (
        "class folders; several tables name the recordings (one.csv, two.csv): choose by "
        "data.labels_csv"
    )


def test_class_folders_alone_are_left_to_themselves(tmp_path):
    plant(tmp_path, "dog/1.wav", "cat/2.wav", "test/3.wav", "notes.txt")
    assert by_table.keys_of(tmp_path) == ({}, "")
    recognised = presets.load(data=tmp_path)
    assert (recognised.preset, recognised.data.labels_csv, recognised.recognised) == (
        "folder",
        None,
        "",
    )


def test_a_folder_that_is_empty_or_not_there_is_left_to_itself(tmp_path):
    assert by_table.keys_of(tmp_path) == by_table.keys_of(tmp_path / "nowhere") == ({}, "")
    tables_alone = tabled(tmp_path, ["id", "label"], labelled(), files=[])
    assert tables_alone == ({}, "")


# --- what else a table says --------------------------------------------------------------------

# who speaks in the n-th recording (dog, cat, dog, cat, …), and whether that can form groups
SPEAKERS = {
    "each says both": (lambda n: "ABCD"[n // 2], True),
    "of each class two": (lambda n: "ABCD"[n % 4], True),
    "one per class": (lambda n: "AB"[n % 2], False),
    "of one class only one": (lambda n: "A" if n % 2 else "ABCD"[n // 2], False),
    "all the same": (lambda n: "A", False),
    "all different": (lambda n: f"S{n}", False),
}


@pytest.mark.parametrize("spoken", SPEAKERS)
@pytest.mark.parametrize("column", ["speaker", "Client_ID"])
def test_a_column_of_speakers_is_taken_where_every_class_keeps_two(tmp_path, spoken, column):
    who, taken = SPEAKERS[spoken]
    keys, says = tabled(tmp_path, ["id", "label", column], labelled(who))
    assert keys == plain(**{"group_columns": (column,)} if taken else {})
    assert (column in says) == taken


def test_columns_that_together_leave_one_group_are_not_all_taken(tmp_path):
    keys, _ = tabled(
        tmp_path,
        ["id", "label", "speaker", "site"],
        labelled(lambda n: "AB"[n // 4], lambda n: n // 2 % 2),
    )
    assert len(keys["data.group_columns"]) == 1


FOLDS = {
    "numbers": (lambda n: n // 2 + 1, True),
    "words": (lambda n: f"fold{n // 2 + 1}", True),
    "only one": (lambda n: 1, False),
    "no numbers": (lambda n: "ab"[n // 4], False),
    "not all": (lambda n: n // 2 + 1 if n else "", False),
}


@pytest.mark.parametrize("dealt", FOLDS)
def test_a_column_of_folds_is_taken(tmp_path, dealt):
    fold, taken = FOLDS[dealt]
    keys, _ = tabled(tmp_path, ["id", "label", "Fold"], labelled(fold))
    assert keys == plain(**{"fold_column": "Fold"} if taken else {})


@pytest.mark.parametrize("column", ["split", "Subset", "set"])
def test_a_column_of_sides_is_taken_where_something_is_tested(tmp_path, column):
    keys, _ = tabled(
        tmp_path, ["id", "label", column], labelled(lambda n: "test" if n > 5 else "train")
    )
    assert keys == plain(split_column=column)
    data = presets.load(data=tmp_path).data
    found = sources.find(tmp_path, data).set_index("path")
    assert (
        found.loc[[f"audio/{name}" for name in CLIPS], "split"].tolist()
        == ["train"] * 6 + ["test"] * 2
    )
    assert tabled(tmp_path, ["id", "label", column], labelled(lambda n: "ab"[n % 2]))[0] == plain()


@pytest.mark.parametrize("test", ["Test", "TEST"])
def test_sides_may_be_written_large(tmp_path, test):
    keys, _ = tabled(
        tmp_path, ["id", "label", "split"], labelled(lambda n: test if n > 5 else "train")
    )
    assert keys == plain(split_column="split", test_value=test)


def test_what_is_recognised_is_what_is_found(tmp_path):
    columns = ["clip", "Label", "Speaker", "fold"]
    rows = labelled(lambda n: "ABCD"[n // 2], lambda n: f"fold{n // 4 + 1}")
    tabled(tmp_path, columns, rows, "meta/all.csv")
    found = sources.find(tmp_path, presets.load(data=tmp_path).data).set_index("path")
    assert found.loc["meta/all.csv", "status"] == "ignored"
    clips = found.loc[[f"audio/{name}" for name in CLIPS]]
    assert clips["label"].tolist() == list(CLASSES) * 4 and clips["status"].eq("ok").all()
    assert clips["together"].tolist() == [f"Speaker={'ABCD'[n // 2]}" for n in range(8)]
    assert clips["official_fold"].tolist() == [n // 4 + 1 for n in range(8)]


# --- nothing stops it --------------------------------------------------------------------------

GOOD = "id,label\n0.wav,dög\n1.wav,cat\n"
BROKEN = {
    "UTF-16": GOOD.encode("utf-16"),
    "cp1252": GOOD.encode("cp1252"),
    "cp1252 in its header": GOOD.replace("label", "größe").encode("cp1252"),
    "nothing": b"",
    "a picture": b"\x89PNG\r\n\x1a\n\0\0",
    "zero bytes": (GOOD + "2.wav,\0\n").encode(),
    "a row too long": (GOOD + "2.wav,dog,cat\n").encode(),
    "an open quote": (GOOD + '2.wav,"dog\n').encode(),
    "an open quote above": GOOD.replace("label", '"label').encode(),
    "two columns of one name": GOOD.replace("label", "id").encode(),
    "a column alone": b"id\n0.wav\n1.wav\n",
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_table_does_not_stop_the_recognition_or_hide_a_good_one(tmp_path, broken):
    plant(tmp_path, "dog/0.wav", "cat/1.wav")
    for name in ("labels.csv", "train.csv", "train_metadata.csv", "metadata/UrbanSound8K.csv"):
        plant(tmp_path, name, content=BROKEN[broken])
    assert presets.load(data=tmp_path).preset == "folder"
    assert by_table.keys_of(tmp_path) == ({}, "")
    assert tabled(tmp_path, ["id", "label"], labelled(ids=[*CLIPS, "0.wav"]), "good.csv")[
        0
    ] == plain("good.csv")


def test_the_same_table_is_taken_where_it_is_not_broken(tmp_path):
    plant(tmp_path, "dog/0.wav", "cat/1.wav")
    plant(tmp_path, "labels.csv", content=GOOD.encode("utf-8-sig"))
    assert by_table.keys_of(tmp_path)[0] == plain()


def test_a_link_that_leads_nowhere_does_not_stop_the_recognition(tmp_path):
    plant(tmp_path, "dog/0.wav", "cat/1.wav")
    (tmp_path / "labels.csv").symlink_to(tmp_path / "gone.csv")
    assert by_table.keys_of(tmp_path) == ({}, "")


def test_a_folder_with_the_name_of_a_table_does_not_stop_the_recognition(tmp_path):
    plant(tmp_path, "dog/0.wav", "cat/1.wav", "labels.csv/x", "train.csv/y")
    assert presets.load(data=tmp_path).preset == "folder"
