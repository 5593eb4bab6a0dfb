"""Files are written whole or not at all; tables come back as they went in; digests see contents and
names.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import prediction_rows

from helpers.base import artifacts, errors
from helpers.metrics import decisions

LAW = settings(deadline=None, derandomize=True, max_examples=80)


def put(path, kind, content):
    """Write a file, or a folder with one file in it."""
    if kind == "folder":
        path.mkdir()
    (path / "inside" if kind == "folder" else path).write_text(content)


def tree(root):
    return {
        path.relative_to(root).as_posix(): path.read_text()
        for path in root.rglob("*")
        if path.is_file()
    }


# --- replacing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("there_before", [True, False])
def test_replacing_shows_the_new_only_at_the_end(tmp_path, kind, there_before):
    target = tmp_path / "sub" / "target"
    if there_before:
        target.parent.mkdir()
        put(target, kind, "old")
    before = tree(tmp_path)
    with artifacts.replacing(target) as temporary:
        put(temporary, kind, "new")
        assert {name: text for name, text in tree(tmp_path).items() if text == "old"} == before
        assert target.exists() == there_before
    assert tree(tmp_path) == {"sub/target/inside" if kind == "folder" else "sub/target": "new"}


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("there_before", [True, False])
def test_an_error_inside_leaves_the_old_and_no_temporary(tmp_path, kind, error, there_before):
    if there_before:
        put(tmp_path / "target", kind, "old")
    before = tree(tmp_path)
    with pytest.raises(error), artifacts.replacing(tmp_path / "target") as temporary:
        put(temporary, kind, "half of the n")
        raise error
    assert tree(tmp_path) == before
    assert os.listdir(tmp_path) == ["target"] * there_before


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    artifacts.write_text(tmp_path / "a.txt", "old")
    monkeypatch.setattr(
        os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(OSError, match="No space left"):
        artifacts.write_text(tmp_path / "a.txt", "new")
    assert tree(tmp_path) == {"a.txt": "old"}


@pytest.mark.parametrize("value", [np.nan, np.inf, {"deep": [1, {"er": -np.inf}]}])
def test_json_without_a_meaning_is_refused_and_the_old_stays(tmp_path, value):
    artifacts.write_json(tmp_path / "a.json", {"é": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        artifacts.write_json(tmp_path / "a.json", value)
    assert artifacts.read_json(tmp_path / "a.json") == {"é": 1}
    assert os.listdir(tmp_path) == ["a.json"]


# --- tables ------------------------------------------------------------------------------------

AWKWARD = [
    "",
    "NA",
    "null",
    "None",
    "nan",
    "001",
    "1e5",
    "True",
    "a,b",
    'say "x"',
    '"',
    "two\nlines",
    "a\r\nb",
    " ",
    "é",
]
PRINTED = st.characters(
    exclude_categories=["Cs"], exclude_characters="\r\0"
)  # pandas 2 ends a text at a zero byte
NAMES = st.sampled_from(AWKWARD) | st.text(PRINTED)
NUMBERS = st.none() | st.floats(allow_nan=False)
ROWS = st.lists(
    st.tuples(NAMES, NAMES, NUMBERS, st.none() | st.integers(-(2**31), 2**31)), max_size=5
)


def clips_table(rows):
    table = pd.DataFrame(rows, columns=["label", "path", "start_seconds", "fold"])
    for column, kind in artifacts.SCHEMAS["clips.csv"].items():
        table[column] = (
            table[column].astype(kind)
            if column in table
            else pd.Series("", table.index, dtype="str")
        )
    return table.assign(valid_seconds=table["start_seconds"])[list(artifacts.SCHEMAS["clips.csv"])]


@LAW
@given(ROWS)
def test_a_table_comes_back_as_it_went_in(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "clips.csv"
    table = clips_table(rows)
    artifacts.write_table(path, table)
    pd.testing.assert_frame_equal(
        artifacts.read_table(path), table, check_exact=True, check_dtype=False
    )


def test_a_carriage_return_in_a_name_comes_back(tmp_path):
    artifacts.write_table(
        tmp_path / "t.csv", pd.DataFrame({"path": ["a\rb.wav"], "label": ["dog"]})
    )
    assert artifacts.read_table(tmp_path / "t.csv").to_numpy().tolist() == [["a\rb.wav", "dog"]]


def test_a_schema_orders_columns_types_them_and_names_a_missing_one(tmp_path):
    table = clips_table([("007", "a/b", 1.5, None)])
    artifacts.write_table(tmp_path / "clips.csv", table[table.columns[::-1]].assign(extra=1))
    read = artifacts.read_table(tmp_path / "clips.csv")
    assert list(read) == list(artifacts.SCHEMAS["clips.csv"])
    assert {
        column: str(kind)
        for column, kind in read.dtypes.items()
        if column in ("fold", "start_seconds")
    } == {
        "fold": "Int64",
        "start_seconds": "float64",
    }
    with pytest.raises(errors.StageError, match="group"):
        artifacts.write_table(tmp_path / "clips.csv", table.drop(columns="group"))
    (tmp_path / "clips.csv").write_text("clip_id\n1\n")
    with pytest.raises(errors.StageError, match="recording_id"):
        artifacts.read_table(tmp_path / "clips.csv")


def test_columns_beyond_an_open_schema_are_kept_as_numbers(tmp_path):
    table = pd.DataFrame({"clip_id": ["1"], "fold": [1], "dog": [0.1 + 0.2], "001": [1e-300]})
    artifacts.write_table(tmp_path / "out_of_fold.csv", table)
    assert artifacts.read_table(tmp_path / "out_of_fold.csv").to_dict("list") == table.to_dict(
        "list"
    )


@pytest.mark.parametrize("name", ["two\nlines", "a\rb", "a\r\nb", 'say "x"', "a,b", " ", "é"])
def test_a_columns_name_comes_back_whatever_it_holds(tmp_path, name):
    table = pd.DataFrame({"clip_id": ["1", "2"], "fold": [1, 2], name: [0.5, 1.0]})
    artifacts.write_table(tmp_path / "out_of_fold.csv", table)
    assert artifacts.read_table(tmp_path / "out_of_fold.csv").to_dict("list") == table.to_dict(
        "list"
    )


def test_columns_beside_those_of_the_classes_have_names_that_no_class_may_have(tmp_path):
    beside = {
        name
        for file in ("out_of_fold.csv", "seeds.csv", "predictions.csv")
        for name in artifacts.SCHEMAS[file]
    }
    rows = prediction_rows(["a", "b", "c"], ["a", "c", "b"])
    clips = rows[["recording_id", "label", "group", "fold"]].assign(clip_id=["1", "2", "3"])
    found = rows[["fold", "a", "b", "c"]].assign(clip_id=["1", "2", "3"])
    for table in (
        decisions.per_recording(found, clips),
        decisions.per_clip(found, clips),
        decisions.worst(rows, 2),
    ):
        beside |= set(table) - {"a", "b", "c"}
    assert beside - {artifacts.EVERYTHING_ELSE} <= artifacts.IDENTITY


CSV = b"clip_id,fold,dog\nx,1,0.5\ny,2,0.25\n"


@pytest.mark.parametrize(
    "content", [b"", bytes(len(CSV)), CSV[:5], b'clip_id,fold,dog\n"x,1', b"\xff" + CSV, b"{}"]
)
def test_a_damaged_table_is_named(tmp_path, content):
    (tmp_path / "out_of_fold.csv").write_bytes(content)
    with pytest.raises(artifacts.DamagedFile, match=r"out_of_fold\.csv is damaged"):
        artifacts.read_table(tmp_path / "out_of_fold.csv")


@pytest.mark.parametrize("content", [b"", bytes(20), b'{"a": 1', b"[" * 100_000, b"\xff"])
def test_damaged_json_is_named(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(artifacts.DamagedFile, match=r"a\.json is damaged"):
        artifacts.read_json(tmp_path / "a.json")


def test_what_is_missing_is_said_to_be_with_the_run_that_makes_it_again(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "home", lambda: tmp_path)
    for read, name in ((artifacts.read_json, "a.json"), (artifacts.read_table, "clips.csv")):
        with pytest.raises(
            artifacts.DamagedFile, match=rf"{name} is missing.*make run-all RUN=mine"
        ):
            read(tmp_path / "outputs" / "mine" / "deep" / name)
    for name, command in (
        ("cleaning_ledger.csv", "ablate"),
        ("ablation/1/out_of_fold.csv", "ablation"),
    ):
        with pytest.raises(artifacts.DamagedFile, match=f"Delete it; `make {command} RUN=mine`"):
            artifacts.read_table(tmp_path / "outputs" / "mine" / name)


# --- digests -----------------------------------------------------------------------------------


def grow(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


FILES = {"a/1.wav": "one", "a/2.wav": "two", "b/é.wav": "three"}


def test_equal_trees_have_equal_digests_wherever_they_lie(tmp_path):
    first, second = (
        grow(tmp_path / "x", FILES),
        grow(tmp_path / "y" / "z", dict(reversed(FILES.items()))),
    )
    assert artifacts.digest(first) == artifacts.digest(second)
    assert artifacts.digest(first / "a/1.wav") == artifacts.digest(second / "a/1.wav")
    assert artifacts.digest(tmp_path / "nothing") is None


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "a/1.wav").rename(root / "a/1b.wav"),  # still the first in order
        lambda root: (root / "a/1.wav").rename(root / "b/1.wav"),
        lambda root: (root / "a/1.wav").write_text("onE"),
        lambda root: (root / "a/1.wav").unlink(),
        lambda root: (root / "a/new").write_text(""),
        lambda root: grow(root, {"a/1.wav": "two", "a/2.wav": "one"}),
    ],
    ids=["rename", "move", "byte", "delete", "add", "swap"],
)
def test_any_change_of_name_or_byte_changes_the_digest_even_with_old_times(tmp_path, change):
    root = grow(tmp_path / "x", FILES)
    before, times = (
        artifacts.digest(root),
        {path: path.stat().st_mtime_ns for path in root.rglob("*")},
    )
    change(root)
    for path, mtime in times.items():
        if path.exists():
            os.utime(path, ns=(mtime, mtime))
    assert artifacts.digest(root) != before


# --- accounts, home ----------------------------------------------------------------------------


@LAW
@given(st.lists(st.sampled_from(["ok", "used", "quarantined", "ignored"])))
def test_an_account_adds_up(status):
    counts = artifacts.account(pd.DataFrame({"status": pd.Series(status, dtype="str")}))
    assert (
        counts["found"] == len(status) == counts["used"] + counts["quarantined"] + counts["ignored"]
    )
    assert counts["used"] == status.count("ok") + status.count("used")


def test_a_status_nobody_knows_does_not_add_up():
    with pytest.raises(errors.StageError, match="add up"):
        artifacts.account(pd.DataFrame({"status": ["ok", "lost"]}))


def test_home_is_the_repository_unless_that_is_read_only_or_another_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv("EARSHOT_HOME", raising=False)
    assert artifacts.home() == artifacts.REPOSITORY
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.chdir(tmp_path)
    assert artifacts.home() == Path.cwd() == tmp_path
    monkeypatch.setenv("EARSHOT_HOME", str(tmp_path / "named"))
    assert artifacts.home() == tmp_path / "named"
