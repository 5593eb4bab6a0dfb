"""A file that is not what was written: it is named and what to do is said, in one line, and nothing
is guessed.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from networks import save_folds
from safetensors.torch import save_file
from streamlit.testing.v1 import AppTest
from tables import noise, small_config

from helpers.base import artifacts
from helpers.compare import inference
from helpers.run import cli, journal, pipeline, presets, stages

APP = Path(__file__).parent.parent / "app" / "streamlit_app.py"
LABELS = ["bell", "dog", "rain"]
CARD, WEIGHTS = "fold1/card.json", "fold2/weights.safetensors"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run's two networks of random weights, with thresholds: the folder models/cnn."""
    folder = tmp_path_factory.mktemp("trained")
    save_folds(folder, LABELS, small_config(data={"multilabel": True}))
    cnn = folder / "models" / "cnn"
    artifacts.write_json(cnn / "thresholds.json", {"rain": 0.3, "bell": 0.1, "dog": 0.2})
    artifacts.seal(cnn)
    return cnn


@pytest.fixture
def cnn(trained, tmp_path, monkeypatch):
    """A copy of it in a run named "tiny", below a home of its own; beside that a recording."""
    monkeypatch.setenv("EARSHOT_HOME", str(tmp_path))
    monkeypatch.delenv("EARSHOT_RUN", raising=False)
    soundfile.write(tmp_path / "sound.wav", noise(8000), 8000)
    return Path(shutil.copytree(trained, tmp_path / "outputs" / "tiny" / "models" / "cnn"))


def edited(path, change):
    """Change what a JSON file holds."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def rename_class(card):
    card["labels"][0] = "whistle"


EDITS = {
    "class renamed": rename_class,
    "another rate": lambda card: card["config"]["audio"].update(sample_rate=8001),
    "trimmed otherwise": lambda card: card["config"]["clean"].update(trim_db=10),
    "joined otherwise": lambda card: card["config"]["model"].update(aggregate="max"),
    "no digest": lambda card: card.pop("sha256"),
    "no classes": lambda card: card.pop("labels"),
    "2000 classes": lambda card: card.update(labels=[f"class {number}" for number in range(2000)]),
    "another network": lambda card: card["config"]["model"].update(name="gru"),
    "1e9 channels": lambda card: card["config"]["model"].update(channels=[10**9, 10**9]),
}
CONTENTS = {
    "empty": b"",
    "zeros": bytes(500),
    "an empty dict": b"{}",
    "a list": b"[]",
    "nested 100000 deep": b"[" * 100_000,
    "bytes": bytes(range(128, 256)),
}
HARMS = {
    **{
        name: (CARD, lambda path, change=change: edited(path, change))
        for name, change in EDITS.items()
    },
    **{
        name: (CARD, lambda path, content=content: path.write_bytes(content))
        for name, content in CONTENTS.items()
    },
    "no card": (CARD, Path.unlink),
    "no weights": (WEIGHTS, Path.unlink),
    "weights cut": (WEIGHTS, lambda path: os.truncate(path, 1000)),
    "no thresholds": ("thresholds.json", Path.unlink),
    "thresholds edited": (
        "thresholds.json",
        lambda path: edited(path, lambda found: found.update(dog=0.9)),
    ),
    "no digests": ("digests.json", Path.unlink),
    "digests zeroed": ("digests.json", lambda path: path.write_bytes(bytes(300))),
    "digests a list": ("digests.json", lambda path: path.write_text("[1, 2]")),
}


def refused(cnn, capsys):
    """What the command says of a network that it refuses: one line."""
    assert cli.main(["predict", str(cnn.parents[3] / "sound.wav"), "--run", "tiny"]) == 1
    printed = capsys.readouterr()
    assert (
        printed.out == ""
        and printed.err.count("\n") == 1
        and "make run-all RUN=tiny" in printed.err
    )
    return printed.err


@pytest.mark.parametrize("harm", HARMS)
def test_a_network_that_was_changed_is_refused_and_the_file_named(cnn, capsys, harm):
    name, spoil = HARMS[harm]
    spoil(cnn / name)
    assert str(cnn / name) in refused(cnn, capsys)


def test_a_fold_that_was_added_or_taken_away_is_noticed(cnn, capsys):
    shutil.copytree(cnn / "fold2", cnn / "fold3")
    assert "fold3/card.json" in refused(cnn, capsys)
    shutil.rmtree(cnn / "fold3")
    shutil.rmtree(cnn / "fold2")
    assert "fold2/card.json is missing" in refused(cnn, capsys)


@pytest.mark.parametrize("harm", [*list(EDITS)[4:], *CONTENTS])
def test_even_with_fitting_digests_what_is_no_network_is_refused(cnn, capsys, harm):
    HARMS[harm][1](cnn / CARD)
    artifacts.seal(cnn)
    assert "fold1/" in refused(cnn, capsys)


def test_weights_of_something_else_are_refused_though_all_digests_fit(cnn, capsys):
    for content in (b"no weights at all", None):
        weights = cnn / "fold1" / "weights.safetensors"
        save_file({"a": torch.zeros(3)}, weights) if content is None else weights.write_bytes(
            content
        )
        edited(
            cnn / CARD,
            lambda card: card.update(
                sha256=artifacts.file_digest(cnn / "fold1/weights.safetensors")
            ),
        )
        artifacts.seal(cnn)
        assert "fold1/weights.safetensors" in refused(cnn, capsys)


def test_a_network_that_was_moved_as_a_whole_answers_as_before(cnn, tmp_path):
    clips = noise(8000).reshape(2, 4000)
    before = inference.Bundle(cnn.parents[1]).predict_clips(clips)
    moved = tmp_path / "elsewhere" / "models" / "cnn"
    shutil.copytree(cnn, moved)
    np.testing.assert_array_equal(
        inference.Bundle(tmp_path / "elsewhere").predict_clips(clips), before
    )
    edited(moved / CARD, rename_class)
    with pytest.raises(artifacts.DamagedFile, match=r"card\.json is not what was written"):
        inference.Bundle(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    "harm", ["class renamed", "zeros", "no card", "weights cut", "no thresholds"]
)
def test_the_app_shows_a_box_that_names_the_file(cnn, harm):
    name, spoil = HARMS[harm]
    spoil(cnn / name)
    app = AppTest.from_file(APP, default_timeout=60).run()
    assert not app.exception and len(app.error) == 1 and "make run-all" in app.error[0].value
    assert Path(name).name in "".join(caption.value for caption in app.caption).replace("\\", "")


# --- names that cannot be used -----------------------------------------------------------------


def test_a_file_whose_name_is_no_text_is_refused_in_one_line(cnn, capfd):
    sound = cnn.parents[3] / "sound.wav"
    odd = sound.with_name(os.fsdecode(b"odd\xff.wav"))
    shutil.copy(sound, odd)
    assert cli.main(["predict", str(odd), f"{sound}\0", str(sound), "--run", "tiny"]) == 1
    printed = capfd.readouterr()
    assert (
        printed.err.count("NAME_UNSAFE: the name cannot be used") == 2
        and printed.err.count("\n") == 2
    )
    assert printed.out.startswith(str(sound))


def test_a_data_folder_whose_name_is_no_text_is_refused_in_one_line(tmp_path, capfd):
    folder = os.path.join(os.fsencode(tmp_path), b"odd\xff")
    for name in (b"dog", b"cat"):
        os.makedirs(os.path.join(folder, name))
        shutil.copy(APP, os.path.join(folder, name, b"1.wav"))
    assert cli.main(["run-all", "--data", os.fsdecode(folder)]) == 2
    printed = capfd.readouterr().err
    assert printed.count("\n") == 1 and "not valid UTF-8" in printed


@pytest.mark.parametrize(
    "setting", ["audio.sample_rate=16k", "audio.sample_rate=.nan", "audio.clip_seconds=0"]
)
def test_a_setting_that_is_no_number_is_refused_where_others_follow_from_it(
    tmp_path, capsys, setting
):
    for name in ("dog/1.wav", "dog/2.wav", "cat/1.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, noise(8000), 8000)
    assert cli.main(["run-all", "--data", str(tmp_path), "--set", setting]) == 2
    assert f"{setting.partition('=')[0]}: got" in capsys.readouterr().err


# --- what a killed runner leaves behind --------------------------------------------------------

DEAD = 2**22 + 1  # no process has this number: Linux ends at 2**22


def started_for(folder):
    """A process that carries a run's mark, in a session of its own as kernels are."""
    surroundings = {**os.environ, pipeline.MARK: str(folder)}
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    return subprocess.Popen(command, env=surroundings, start_new_session=True)


def test_processes_and_temporary_files_of_a_killed_runner_are_cleared_away_and_no_others(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("EARSHOT_HOME", str(tmp_path))
    folder = tmp_path / "outputs" / "demo"
    ours = [
        ".05_train_cnn.ipynb.{}.tmp",
        "models/.cnn.{}.tmp/fold1/card.json",
        "checkpoints/.fold1.safetensors.{}.tmp",
    ]
    places = [
        folder / name
        for name in (*ours, "models/cnn/.thresholds.json.{}.tmp", "../../data/.demo.{}.tmp")
    ]
    theirs = [
        folder / "models" / "cnn" / "card.json",
        folder / ".hidden.tmp",
        folder / "notes.1.tmp",
        folder / ".a.tmp",
    ]
    for path in [
        *theirs,
        *(Path(str(path).format(number)) for path in places for number in (DEAD, os.getppid())),
    ]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("something")
    (folder / "notebooks").mkdir()
    (folder / "notebooks" / f".05_train_cnn.ipynb.{DEAD}.ipynb").write_text("{}")
    (folder / "run.json").write_bytes(bytes(50))  # a power cut may take the record too
    left, other = started_for(folder), started_for(folder.with_name("other"))
    try:
        pipeline.clear_leftovers(folder)
        assert left.wait(5) is not None and other.poll() is None
    finally:
        for process in (left, other):
            process.kill()
            process.wait()
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(str(DEAD) in str(path) for path in kept)
    assert len(kept) == len(theirs) + len(places)


def test_all_attempts_at_a_stage_count(tmp_path, monkeypatch):
    monkeypatch.setenv("EARSHOT_HOME", str(tmp_path))
    (tmp_path / "data").mkdir()
    settled = presets.load("folder")

    def begin():
        return stages.begin("01_explore", settled, data=tmp_path / "data")

    begun = begin()
    journal.add_attempt(begun.folder, "01_explore", time.time() + 100)
    journal.add_attempt(
        begun.folder, "01_explore", time.time() + 100
    )  # the same attempt: counted already
    second = begin()  # whose time nobody knows
    third = begin()
    assert second.spent == third.spent == pytest.approx(100, abs=5)
    (tmp_path / "data" / "new.wav").write_text("")  # another task
    assert begin().spent == 0
