"""Every file, window and class that a submission is asked for has a row, and its id is spelled as
it must be.
"""

import time
import unicodedata

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from helpers.audio import windowing
from helpers.base import errors
from helpers.base.errors import SubmissionError
from helpers.base.settings import Audio, Config
from helpers.submission import row_ids

law = settings(deadline=None, max_examples=60, derandomize=True)
LABELS = ["cat", "dog"]
APART = unicodedata.normalize("NFD", "né")  # as macOS writes it: n, e, accent


def files(*paths, seconds=np.nan):
    """The recordings of a test folder."""
    identities = [f"r{number}" for number in range(len(paths))]
    return pd.DataFrame(
        {"recording_id": identities, "path": paths, "split": "test", "duration_seconds": seconds}
    )


def sample(*ids):
    return pd.DataFrame({"id": ids, "label": "cat"}, dtype=str)


def candidates(
    recordings,
    asked=None,
    shape="label",
    root="",
    windows=None,
    data=None,
    classes=LABELS,
    **submit,
):
    """The candidates of recordings; windows of so many seconds."""
    audio = {"test_windows": True, "clip_seconds": windows} if windows else {}
    config = Config(audio=audio, data=data or {}, submit=submit)
    return row_ids.candidates(root, recordings, classes, config, asked, shape)


def ids(*args, **options):
    return candidates(*args, **options)["id"].tolist()


def write(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8")
    return name


# --- files -------------------------------------------------------------------------------------


def test_without_a_sample_an_id_is_the_file_name_or_the_path_where_names_repeat():
    assert ids(files("t/a.wav", "t/b.wav")) == ["a.wav", "b.wav"]
    assert ids(files("s/a.wav", "t/a.wav")) == ["s/a.wav", "t/a.wav"]


@pytest.mark.parametrize(
    "asked",
    [("b.wav", "a.wav"), ("b", "a"), ("test/b.wav", "test/a.wav")],
    ids=["name", "stem", "path"],
)
def test_ids_are_spelled_as_the_sample_spells_them(asked):
    assert ids(files("test/a.wav", "test/b.wav"), sample(*asked)) == [asked[1], asked[0]]


@pytest.mark.parametrize("on_disk, in_sample", [("NFD", "NFC"), ("NFC", "NFD"), ("NFD", "NFD")])
def test_accents_in_two_spellings_are_one_name_and_the_samples_spelling_is_written(
    on_disk, in_sample
):
    disk, asked = (unicodedata.normalize(form, "né.wav") for form in (on_disk, in_sample))
    assert ids(files(f"test/{disk}", "test/b.wav"), sample(asked, "b.wav")) == [asked, "b.wav"]


def test_a_row_of_a_recording_says_which_it_is_and_stands_for_all_of_it():
    found = candidates(files("test/a.wav", "test/b.wav"))
    assert set(found) == {"id", "recording_id", "end_seconds", "label"}
    assert found["recording_id"].tolist() == ["r0", "r1"] and found["end_seconds"].isna().all()
    assert found["label"].tolist() == ["", ""]


def test_no_file_no_row():
    assert candidates(files()).empty and candidates(files(), windows=5.0, id="{stem}_{end}").empty


# --- templates ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path, options, expected",
    [
        ("test/a.b.wav", {"id": "{name}"}, "a.b.wav"),
        ("test/a.b.wav", {"id": "{stem}"}, "a.b"),
        ("test/a.b.wav", {"id": "{path}"}, "test/a.b.wav"),
        ("test/007.wav", {"id": "{stem}"}, "007"),
        ("test/3*4+5.wav", {"id": "{name}"}, "3*4+5.wav"),
        (
            "test/12_COL_2019.ogg",
            {"id": "{audio}-{site}", "id_pattern": r"(?P<audio>\d+)_(?P<site>\w+)_\d+"},
            "12-COL",
        ),
        ("test/a.wav", {"id": "clip {stem}, {{as is}}"}, "clip a, {as is}"),
    ],
)
def test_an_id_is_filled_in_by_its_template(path, options, expected):
    assert ids(files(path), **options) == [expected]


def test_a_column_of_the_labels_may_stand_in_an_id_and_a_class_with_two_digits(tmp_path):
    write(tmp_path, "names.txt", "rec_id,filename,label\n3,a,7\n12,b,10\n")
    data = {"labels_csv": "names.txt", "id_column": "filename"}
    found = candidates(
        files("wavs/a.wav", "wavs/b.wav"),
        shape="long",
        root=tmp_path,
        data=data,
        classes=["10", "7"],
        id="{rec_id}{label:0>2}",
    )
    assert found[["id", "recording_id", "label"]].to_numpy().tolist() == [
        ["310", "r0", "10"],
        ["307", "r0", "7"],
        ["1210", "r1", "10"],
        ["1207", "r1", "7"],
    ]


@pytest.mark.parametrize(
    "submit, lacking",
    [
        ({"id": "{rec_id}"}, r"\{rec_id\}, which is not known of test/a.wav"),
        (
            {"id": "{site}", "id_pattern": r"(?P<site>\d+)"},
            r"\{site\}, which is not known of test/a.wav",
        ),
        ({"id": "{0}"}, r"\{0\}, which is not known"),
        ({"id": "{stem.upper}"}, "which is not known"),
    ],
)
def test_what_a_template_asks_for_and_nobody_knows_is_named(submit, lacking):
    with pytest.raises(SubmissionError, match=lacking):
        candidates(files("test/a.wav"), **submit)


@pytest.mark.parametrize(
    "template", ["{stem", "stem}", "{}", "{stem:05d}", "{stem!q}", "{end:0>9}"]
)
def test_a_template_that_is_none_is_refused_in_words(template):
    with pytest.raises((SubmissionError, ValidationError), match=r"submit\.id"):
        candidates(files("test/a.wav"), id=template)


def test_a_pattern_that_is_none_is_refused_in_words():
    with pytest.raises((SubmissionError, ValidationError), match=r"submit\.id_pattern"):
        candidates(files("test/7_x.wav"), id="{site}", id_pattern=r"(?P<site>\d+_x")


def test_a_table_may_spell_accents_as_macos_does(tmp_path):
    write(tmp_path, "names.csv", f"file,site,label\n{APART},S1,cat\n")
    assert ids(
        files(f"test/{APART}.wav"), root=tmp_path, data={"labels_csv": "names.csv"}, id="{site}"
    ) == ["S1"]


# --- classes -----------------------------------------------------------------------------------


def test_long_rows_are_one_per_recording_and_class():
    found = candidates(files("t/a.wav", "t/b.wav"), shape="long")
    assert found["id"].tolist() == ["a_cat", "a_dog", "b_cat", "b_dog"]
    assert found["label"].tolist() == LABELS * 2 and found["recording_id"].tolist() == [
        "r0",
        "r0",
        "r1",
        "r1",
    ]


def test_long_rows_of_windows_are_one_per_window_and_class():
    expected = ["a_cat_5", "a_dog_5", "a_cat_10", "a_dog_10"]
    found = candidates(files("t/a.ogg", seconds=10.0), shape="long", windows=5.0)
    assert found["id"].tolist() == expected
    assert dict(zip(found["id"], found["end_seconds"], strict=True)) == dict(
        zip(expected, [5, 5, 10, 10], strict=True)
    )


# --- windows -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "seconds, size, ends",
    [
        (7.3, 5.0, ["5", "10"]),
        (5.0, 5.0, ["5"]),
        (0.2, 5.0, ["5"]),
        (15.0, 5.0, ["5", "10", "15"]),
        (4.0, 2.5, ["2.5", "5"]),
        (0.3, 0.1, ["0.1", "0.2", "0.3"]),
        (600.0000001, 5.0, [str(end) for end in range(5, 601, 5)]),
    ],
)
def test_a_recording_has_a_row_for_each_window_that_it_reaches_into(seconds, size, ends):
    found = candidates(files("t/a.ogg", seconds=seconds), windows=size, id="{stem}_{end}")
    assert found["id"].tolist() == [f"a_{end}" for end in ends]
    np.testing.assert_allclose(found["end_seconds"], [float(end) for end in ends])


def test_the_windows_of_several_files_stand_file_by_file():
    found = candidates(files("t/b.ogg", "t/a.ogg", seconds=[10.0, 4.0]), windows=5.0)
    assert found["id"].tolist() == ["b_5", "b_10", "a_5"] and found["recording_id"].tolist() == [
        "r0",
        "r0",
        "r1",
    ]


RATE = 8000  # Hz


@law
@given(st.integers(2, 160_000))
def test_a_recording_has_as_many_rows_as_clips(n_samples):
    assume(
        not 0 < n_samples % (5 * RATE) < RATE / 1000
    )  # a rest below a millisecond: see the next test
    clips = windowing.cut(
        np.zeros(n_samples, np.float32), Audio(sample_rate=RATE, clip_seconds=5.0), every=True
    )
    found = candidates(files("a.ogg", seconds=n_samples / RATE), windows=5.0, id="{stem}_{end}")
    assert len(found) == len(clips)


@pytest.mark.parametrize("rest_seconds", [1 / 44100, 1 / 32000, 5e-4])
def test_a_sample_too_many_is_no_window(rest_seconds):
    assert ids(files("a.ogg", seconds=5 + rest_seconds), windows=5.0, id="{stem}_{end}") == ["a_5"]


def test_a_file_that_cannot_be_heard_takes_the_windows_that_the_sample_asks_for():
    asked = sample("a.b_10", "a.b_5", "c_5", "aXb_15", "a.b_5_20", "a.b_x", "a.b_")
    found = candidates(
        files("t/a.b.ogg", "t/c.ogg", seconds=[np.nan, 5.0]), asked, windows=5.0, id="{stem}_{end}"
    )
    assert found["id"].tolist() == ["a.b_5", "a.b_10", "c_5"] and found["end_seconds"].tolist() == [
        5,
        10,
        5,
    ]


def test_a_file_that_cannot_be_heard_takes_the_sites_and_classes_that_the_sample_asks_for():
    asked = sample("9_COL_cat_5", "9_COL_dog_5", "9_COL_dog_10", "8_COL_cat_5")
    options = {
        "id": "{audio}_{site}_{label}_{end}",
        "id_pattern": r"(?P<audio>\d+)_(?P<site>\w+)_\d+",
    }
    found = candidates(files("t/9_COL_2019.ogg"), asked, shape="long", windows=5.0, **options)
    assert found[["id", "label"]].to_numpy().tolist() == [
        ["9_COL_cat_5", "cat"],
        ["9_COL_dog_5", "dog"],
        ["9_COL_dog_10", "dog"],
    ]


def test_the_windows_of_a_file_that_cannot_be_heard_may_end_between_seconds():
    assert ids(files("a.ogg"), sample("a_2.5", "a_5"), windows=2.5, id="{stem}_{end}") == [
        "a_2.5",
        "a_5",
    ]


def test_a_length_that_is_not_known_may_be_none_or_not_a_number():
    for unknown in (None, np.nan):
        table = files("a.ogg", "b.ogg").assign(
            duration_seconds=pd.Series([unknown, 5.0], dtype=object)
        )
        assert ids(table, sample("a_5", "b_5"), windows=5.0, id="{stem}_{end}") == ["a_5", "b_5"]


# --- rows that a table lists -------------------------------------------------------------------

ROWS = "site,row_id,seconds,audio_id\ns1,s1_a_5,5,a\ns1,s1_a_10,10,a\ns3,s3_b,,b.mp3\n"


def listed(folder, text, *paths, **submit):
    return candidates(
        files(*paths), root=folder, rows_csv=write(folder, "test.csv", text), **submit
    )


def test_a_table_may_list_the_rows_and_without_seconds_a_row_is_the_whole_recording(tmp_path):
    found = listed(
        tmp_path, ROWS, "test/b.mp3", "test/a.mp3", rows_columns=("row_id", "audio_id", "seconds")
    )
    assert (
        found["id"].tolist() == ["s1_a_5", "s1_a_10", "s3_b"]
        and found["label"].tolist() == [""] * 3
    )
    assert found["recording_id"].tolist() == ["r1", "r1", "r0"]
    np.testing.assert_array_equal(found["end_seconds"], [5, 10, np.nan])


def test_a_table_of_two_columns_lists_whole_recordings(tmp_path):
    found = listed(
        tmp_path, "n,file\n07,t/a.wav\n", "t/a.wav", "t/b.wav", rows_columns=("n", "file")
    )
    assert (
        found[["id", "recording_id"]].to_numpy().tolist() == [["07", "r0"]]
        and found["end_seconds"].isna().all()
    )


def test_a_row_of_the_table_without_a_file_has_no_recording(tmp_path):
    assert listed(tmp_path, ROWS, "test/a.mp3")["recording_id"].tolist() == ["r0", "r0", ""]


def test_a_column_that_the_table_lacks_is_named_with_those_it_has(tmp_path):
    with pytest.raises(
        errors.SourceError, match=r"test\.csv has no column 'audio_id'\. Its columns: row_id, file"
    ):
        listed(tmp_path, "row_id,file\n1,a\n", "a.wav")


@pytest.mark.parametrize("seconds", ["5s", "00:05", "five"])
def test_a_window_that_ends_at_no_number_is_refused_in_words(tmp_path, seconds):
    with pytest.raises((SubmissionError, errors.SourceError), match=rf"test\.csv.*{seconds}"):
        listed(tmp_path, f"row_id,audio_id,seconds\n1,a,{seconds}\n", "a.wav")


def test_a_name_in_the_table_that_two_files_have_is_refused(tmp_path):
    with pytest.raises(SubmissionError, match=r"a\.mp3"):
        listed(tmp_path, ROWS, "s/a.mp3", "t/a.mp3", "t/b.mp3")


def test_the_table_of_rows_may_spell_accents_as_macos_does(tmp_path):
    found = listed(tmp_path, f"row_id,audio_id,seconds\n1,{APART},5\n", f"test/{APART}.mp3")
    assert found["recording_id"].tolist() == ["r0"]


# --- speed -------------------------------------------------------------------------------------


def test_a_large_test_set_has_its_ids_within_seconds():
    soundscapes = files(*(f"test/soundscape_{number}.ogg" for number in range(700)), seconds=60.0)
    before = time.process_time()
    assert len(candidates(soundscapes, windows=5.0, id="{stem}_{end}")) == 700 * 12
    assert time.process_time() - before < 2
