"""A stage knows what it reads, writes and depends on, and runs again when that changed and only
then.
"""

import json
import os

import pandas as pd
import pytest
from signals import plant

from helpers.base import artifacts, code, recipe, settings
from helpers.base.errors import SourceError, StageError
from helpers.run import journal, presets, stages

RECORDINGS = pd.DataFrame(columns=list(artifacts.SCHEMAS["recordings.csv"]))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home for runs, with two recordings to run on."""
    monkeypatch.setattr(artifacts, "home", lambda: tmp_path)
    plant(tmp_path / "data", "dog/1.wav", "cat/2.wav")
    return tmp_path


def settled(settings=""):
    return presets.load("folder", settings=settings)


def explore(home, **counts):
    """Run the first stage, as its notebook does."""
    stage = stages.begin("01_explore", settled(), data=home / "data")
    stage.write("recordings.csv", RECORDINGS)
    stage.counts = counts
    return stage.finish()


def why(home, settings="", name="01_explore"):
    return stages.why_stale(
        stages.spec(name), settled(settings), home / "outputs" / "folder", home / "data"
    )


# --- contracts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("submit", ["cnn", "svm"])
def test_every_input_is_written_by_one_earlier_stage(submit):
    people, written = {"data", "relabel.csv"}, set()  # what people bring, and edit
    for stage in stages.STAGES:
        assert set(stage.inputs(settled(f"submit.model={submit}"))) <= people | written
        outputs = stage.outputs(settled())
        assert len(outputs) == len(set(outputs))
        assert not (people | written) & set(outputs)
        written |= set(outputs)


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("01_explore", {"recordings.csv"}),
        (
            "02_clean",
            {"duplicates.csv", "split_certificate.json", "shortcuts.json", "quarantine.csv"},
        ),
        ("07_evaluate", {"suspects.csv", "predictions.csv"}),
    ],
)
def test_what_a_stage_finds_out_is_among_its_outputs(name, files):
    assert files <= set(stages.spec(name).outputs(settled()))


def test_edits_by_hand_are_read_by_the_first_stage_alone():
    assert [stage.name for stage in stages.STAGES if "relabel.csv" in stage.inputs(settled())] == [
        "01_explore"
    ]


def test_every_stage_has_its_notebook_and_real_sections():
    for stage in stages.STAGES:
        assert (artifacts.REPOSITORY / "notebooks" / f"{stage.name}.ipynb").is_file()
        assert all(
            isinstance(getattr(settings.Config(), section), recipe.Section)
            for section in {*stage.sections} - {"listener"}  # of which `Config.digest` knows
        )
        assert settings.Config().digest(stage.sections)
        assert all(settings.Config().digest((key,)) for key in stage.keys)


def test_the_page_that_says_who_learns_from_copies_is_made_again_when_that_changes():
    spec = stages.spec("03_augment")
    before = settled().digest((*spec.sections, *spec.keys))
    for change in ("train.augmented_copies=true", "compare.augmented_copies=false"):
        assert settled(change).digest((*spec.sections, *spec.keys)) != before
    assert settled("train.epochs=3").digest((*spec.sections, *spec.keys)) == before


def test_model_folders_expand_to_the_models_of_the_config():
    chosen = settled('compare.models=["svm","xgboost"] submit.model=svm')
    tables = ["leaderboard.csv", "balance.csv", "leak_gap.json", "learning_curve.json"]
    assert stages.spec("06_compare_models").outputs(chosen) == [
        "models/svm",
        "models/xgboost",
        *tables,
    ]
    models = [
        name for name in stages.spec("08_submit").inputs(chosen) if name.startswith("models/")
    ]
    assert models == ["models/cnn", "models/svm"]


def test_an_ensemble_is_submitted_with_all_its_members():
    chosen = settled('compare.models=["mfcc_linear","svm","gru","stacking"] submit.model=stacking')
    needed = {
        name for name in stages.spec("08_submit").inputs(chosen) if name.startswith("models/")
    }
    assert needed == {"models/cnn", "models/svm", "models/gru", "models/stacking"}


@pytest.mark.parametrize("run", ["a/b", "../a", "/tmp/a", "..", ".", "a/"])
def test_a_run_name_cannot_leave_outputs(home, run):
    with pytest.raises(StageError, match="without slashes"):
        journal.run_folder(settled(), run)


def test_a_run_is_named_after_its_preset(home):
    assert journal.run_folder(settled()) == home / "outputs" / "folder"
    assert journal.run_folder(presets.load("demo", fast=True)) == home / "outputs" / "demo-fast"
    assert journal.run_folder(settled(), "mine") == home / "outputs" / "mine"


# --- begin and finish --------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(1, len(stages.STAGES)))
def test_a_stage_without_its_inputs_names_the_earlier_notebook_to_run(home, number):
    with pytest.raises(StageError, match=r"Run \d\d_\w+\.ipynb first") as refusal:
        stages.begin(stages.STAGES[number].name, settled(), data=home / "data")
    earlier = {f"{stage.name}.ipynb" for stage in stages.STAGES[:number]}
    assert any(name in str(refusal.value) for name in earlier)


def test_an_input_of_an_unfinished_stage_does_not_count(home):
    stage = stages.begin("01_explore", settled(), data=home / "data")
    stage.write("recordings.csv", RECORDINGS)
    with pytest.raises(StageError, match=r"needs recordings\.csv.*Run 01_explore\.ipynb first"):
        stages.begin("02_clean", settled(), data=home / "data")
    stage.finish()
    assert list(
        stages.begin("02_clean", settled(), data=home / "data").read("recordings.csv")
    ) == list(RECORDINGS)


def test_a_broken_promise_is_not_done(home):
    stage = stages.begin("01_explore", settled(), data=home / "data")
    with pytest.raises(StageError, match=r"promised recordings\.csv"):
        stage.finish()
    assert why(home) == "did not finish"


def test_the_record_keeps_what_earlier_stages_said(home):
    shown = explore(home, found=2, used=2)
    assert shown[["stage", "found", "used"]].to_numpy().tolist() == [["01_explore", 2, 2]]
    stages.begin("02_clean", settled(), data=home / "data")
    run = journal.read_run(home / "outputs" / "folder")
    assert run["counts"] == {"found": 2, "used": 2}
    assert {name: record["status"] for name, record in run["stages"].items()} == {
        "01_explore": "done",
        "02_clean": "running",
    }
    assert settings.Config(**run["config"]) == settled()
    assert run["digests"]["data"] == artifacts.digest(home / "data")
    assert run["stages"]["01_explore"]["seconds"] >= 0
    assert run["stages"]["01_explore"]["peak_mb"] > 0


def test_a_folder_without_a_record_has_none(tmp_path):
    assert journal.read_run(tmp_path) == {}


def test_a_record_that_is_damaged_or_lost_is_put_right_from_its_copy(home):
    explore(home, found=2, used=2)
    folder = home / "outputs" / "folder"
    record, copy = folder / "run.json", folder / journal.COPY
    sound = record.read_bytes()
    assert copy.read_bytes() == sound and journal.mend_run(folder) == ""
    for content in (b"", bytes(len(sound)), sound[:-30], b"{}", b"[]", b'{"stages": [1]}', None):
        record.unlink() if content is None else record.write_bytes(content)
        assert "run.json is" in journal.mend_run(folder)
        assert record.read_bytes() == sound
    copy.write_bytes(b"")
    assert journal.mend_run(folder) == "" and why(home) is None  # the copy alone is no loss


def test_where_record_and_copy_are_damaged_the_run_begins_anew_with_its_checkpoints(home):
    explore(home)
    folder = home / "outputs" / "folder"
    artifacts.write_text(folder / "checkpoints" / "fold1.safetensors", "a training under way")
    for name in ("run.json", journal.COPY):
        (folder / name).write_bytes(bytes(100))
    with pytest.raises(StageError, match=r"run\.json is damaged.*make run-all RUN=folder"):
        stages.begin("01_explore", settled(), data=home / "data")
    assert "so is its copy" in journal.mend_run(folder) and why(home) == "not run yet"
    assert (folder / "checkpoints" / "fold1.safetensors").is_file()
    explore(home)
    assert why(home) is None


# --- staleness ---------------------------------------------------------------------------------


def touch(home):
    for path in (home / "data/dog/1.wav", home / "outputs/folder/recordings.csv"):
        os.utime(path, (0, 0))


def change_keeping_times(home):
    path = home / "data/dog/1.wav"
    times = path.stat().st_mtime_ns
    path.write_bytes(b"y")
    os.utime(path, ns=(times, times))


CHANGES = {
    "nothing": (lambda home: None, None),
    "time stamps": (touch, None),
    "an input's byte": (change_keeping_times, "input data changed"),
    "an input's name": (
        lambda home: (home / "data/dog/1.wav").rename(home / "data/dog/3.wav"),
        "input data changed",
    ),
    "a new input": (lambda home: plant(home / "data", "cat/3.wav"), "input data changed"),
    "an output": (
        lambda home: (home / "outputs/folder/recordings.csv").write_text("x"),
        "output recordings.csv changed",
    ),
    "a lost output": (
        lambda home: (home / "outputs/folder/recordings.csv").unlink(),
        "output recordings.csv changed",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_stage_is_stale_exactly_when_a_content_changed(home, change):
    make, reason = CHANGES[change]
    assert why(home) == "not run yet"
    explore(home)
    make(home)
    assert why(home) == reason


def edit(home, text):
    (home / "outputs" / "folder" / "relabel.csv").write_text(text, encoding="utf-8")


NOTHING_EDITED = (
    "recording_id,path,label,suggested,doubt,new_label\n"
    "r1,a.wav,dog,cat,0.9,\nr2,b.wav,cat,dog,0.8,\n"
)
EDITED = NOTHING_EDITED.replace("0.9,", "0.9,cat")
SPREADSHEET = "\ufeffnew_label;note;recording_id\r\n;seen;r2\r\n cat ;;r1\r\n"


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (None, NOTHING_EDITED, None),
        (None, EDITED, "input relabel.csv changed"),
        (EDITED, SPREADSHEET, None),
        (EDITED, NOTHING_EDITED, "input relabel.csv changed"),
        (EDITED, EDITED.replace("0.9,cat", "0.9,drop"), "input relabel.csv changed"),
    ],
    ids=[
        "a list alone",
        "an edit",
        "the same edit from a spreadsheet",
        "an edit taken back",
        "another edit",
    ],
)
def test_of_the_labels_judged_anew_only_the_edits_count(home, before, after, reason):
    explore(home)
    if before:
        edit(home, before)
        explore(home)
    assert why(home) is None
    edit(home, after)
    assert why(home) == reason


def test_edits_that_cannot_be_read_are_said_where_they_are_asked_for(home):
    explore(home)
    edit(home, "recording_id,label\nr1,dog\n")
    with pytest.raises(
        SourceError, match=r"relabel\.csv needs the columns recording_id and new_label"
    ):
        why(home)
    with pytest.raises(SourceError, match=r"relabel\.csv"):
        stages.begin("01_explore", settled(), data=home / "data")


def test_settings_of_its_own_sections_make_a_stage_stale_and_no_others(home):
    explore(home)
    own = stages.spec("01_explore").sections
    changes = {
        "data": "max_bad_fraction=0.5",
        "audio": "max_seconds=9",
        "clean": "denoise=true",
        "train": "epochs=3",
    }
    reasons = {section: why(home, f"{section}.{change}") for section, change in changes.items()}
    assert reasons == {
        section: "its settings changed" if section in own else None for section in changes
    }
    assert why(home, "seed=1") == "its settings changed"


@pytest.mark.parametrize(
    ("function", "answer", "reason"),
    [
        ("helpers.base.code.code_digest", lambda name: "other", "its code changed"),
        (
            "helpers.run.journal.library_versions",
            lambda: {"numpy": "0"},
            "library versions changed",
        ),
    ],
)
def test_other_code_or_libraries_make_a_stage_stale(home, monkeypatch, function, answer, reason):
    explore(home)
    monkeypatch.setattr(function, answer)
    assert why(home) == reason


# --- code --------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository whose notebook reaches a and, through a, b; but not c."""
    cells = [
        {"cell_type": "markdown", "source": ["words"]},
        {"cell_type": "code", "source": ["from helpers.room import a\n", "a.run()"], "outputs": []},
    ]
    plant(tmp_path, "helpers/room/a.py", content=b"from helpers.room import b")
    plant(tmp_path, "helpers/room/b.py", "helpers/room/c.py", content=b"x = 1")
    plant(tmp_path, "notebooks/n.ipynb", content=json.dumps({"cells": cells}).encode())
    monkeypatch.setattr(code, "REPOSITORY", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "old", "new", "seen"),
    [
        ("helpers/room/a.py", "import b", "import b  # why", True),
        ("helpers/room/b.py", "x = 1", "x = 2", True),
        ("helpers/room/c.py", "x = 1", "x = 2", False),
        ("notebooks/n.ipynb", "a.run()", "a.run(1)", True),
        ("notebooks/n.ipynb", "words", "other words", False),
        ("notebooks/n.ipynb", '"outputs": []', '"outputs": [1]', False),
    ],
)
def test_a_code_digest_sees_the_code_that_is_reached_and_nothing_else(
    repository, path, old, new, seen
):
    before = code.code_digest("n")
    text = (repository / path).read_text()
    (repository / path).write_text(text.replace(old, new))
    assert old in text
    assert (code.code_digest("n") != before) == seen


def test_modules_are_found_through_others(repository):
    assert code.helper_modules("from helpers.room import a") == ["room.a", "room.b"]
    assert code.helper_modules("import numpy") == []


def test_the_code_of_a_stage_includes_what_its_modules_import_by_either_form():
    reached = code.helper_modules("from helpers.audio import recording")
    assert {"audio", "audio.recording", "audio.decoder", "base.artifacts"} <= set(reached)
    assert "base.settings" in code.helper_modules("from helpers.run.presets import load")
    assert "run.stages" in code.helper_modules("from helpers.run import begin")
