"""The series where its users run it: a session per notebook, read-only inputs, no network.

`make test-kaggle` and `make test-colab`: the kit as it is uploaded, the chain across sessions, a
training that ran out of time, and the inference notebook on a hidden test set.
"""

import json
import shutil
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from competitions import birdclef_2024
from networks import save_folds
from platforms import NOTEBOOK, run, unshare

from helpers.base import artifacts
from helpers.delivery import hidden, kit
from helpers.run import presets

pytestmark = [
    pytest.mark.platforms,
    pytest.mark.skipif(not unshare(), reason="unshare is not allowed on this machine"),
]
SETTINGS = (
    "train.epochs=2 train.views=2 model.channels=[4,4,8,8] evaluate.worst=2"
    " compare.models=[mfcc_linear] augment.copies=1"
)
SERIES = ("01_explore", "02_clean", "03_augment", "04_features", "05_train_cnn")
DATA = "/kaggle/input/competitions/birdclef-2024"
PARAMETERS = {"data": DATA, "run": "birds", "fast": True, "settings": SETTINGS}


class Kaggle:
    """An account: what its sessions see below /kaggle/input, and a working folder for each."""

    def __init__(self, folder):
        self.kit = folder / "kit"
        self.tree = folder / "tree"
        self.input = self.tree / "kaggle" / "input"
        self.working = self.tree / "kaggle" / "working"
        self.input.mkdir(parents=True)

    def session(self, name, **parameters):
        """Run a notebook of the kit in a session of its own: all that it shows as text."""
        shutil.rmtree(self.working, ignore_errors=True)
        self.working.mkdir()
        shutil.copy(self.kit / "notebooks" / name / f"{name}.ipynb", self.working)
        done = execute(self.tree, f"/kaggle/working/{name}.ipynb", "/kaggle/working", parameters)
        return printed(done, self.tree)

    def keep(self, slug):
        """Attach the output of the session that ended to the sessions that follow."""
        target = self.input / "notebooks" / "kim" / slug
        target.parent.mkdir(parents=True, exist_ok=True)
        return Path(shutil.move(self.working, target))


def execute(tree, notebook, work, parameters):
    """Execute a notebook in a session; the path of the executed copy there."""
    executed = f"{work}/executed.ipynb"
    given = (notebook, executed, json.dumps(parameters))
    done = run(tree, work, sys.executable, "-c", NOTEBOOK, *given)
    assert done.returncode == 0, done.stderr[-3000:]
    return executed


def printed(executed, tree):
    """All that an executed notebook shows as text."""
    texts = []
    for cell in nbformat.read(tree / executed[1:], as_version=4).cells:
        for output in cell.get("outputs", []):
            shown = output.get("data", {})
            texts += [
                output.get("text", ""),
                shown.get("text/plain", ""),
                shown.get("text/html", ""),
            ]
    return "\n".join(texts)


@pytest.fixture
def account(tmp_path):
    """The code is uploaded, and a competition attached whose test set is hidden."""
    account = Kaggle(tmp_path)
    write_kit(account, tmp_path / "birds")
    birdclef_2024(account.input / "competitions" / "birdclef-2024", hidden=True)
    return account


def write_kit(account, folder):
    """Write the kit of a run and upload its data sets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kit, "wheels", lambda folder: "no wheels here")
        kit.Kit(folder, account.kit, "kim", "birdclef-2024").write(list(SERIES))
    for name in ("code", "weights"):
        if (account.kit / name).is_dir():
            target = account.input / "datasets" / "kim" / f"earshot-{name}"
            shutil.rmtree(target, ignore_errors=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(account.kit / name, target)


def show_test_set(account):
    """Kaggle runs the notebook again where the test set lies: what is asked for, a broken file."""
    competition = account.input / "competitions" / "birdclef-2024"
    shutil.rmtree(competition)
    made = birdclef_2024(competition)
    broken = min((competition / "test_soundscapes").iterdir())
    broken.write_bytes(broken.read_bytes()[:100])
    return made, broken.name


def answer(account, minutes):
    """Run the inference notebook: the ids of its submission, and what it shows."""
    said = account.session(kit.INFERENCE, minutes=minutes)
    table = pd.read_csv(account.working / "submission.csv")
    assert not table.isna().any().any()
    return sorted(table["row_id"]), said


def test_the_series_runs_a_notebook_a_session_and_answers_the_hidden_test_set(account):
    for name in SERIES[:4]:
        said = account.session(name, **PARAMETERS)
        assert ("Taken from /kaggle/input/notebooks/kim/" in said) == (name != SERIES[0])
        account.keep(name)
    short = {**PARAMETERS, "settings": f"{SETTINGS} train.max_minutes=0.001"}
    account.session("05_train_cnn", **short)
    stopped = account.keep("05-stopped") / "outputs" / "birds"
    assert list((stopped / "checkpoints").iterdir())
    said = account.session("05_train_cnn", **PARAMETERS)
    assert "checkpoints" in said and "All trained to the end" in said
    shutil.rmtree(stopped)
    account.keep("05")
    made, broken = show_test_set(account)
    ids, said = answer(account, 10)
    assert ids == sorted(made.truth) and broken in said


def test_the_quickstart_goes_from_recordings_to_the_report_in_one_session(account):
    said = account.session(kit.QUICKSTART, **PARAMETERS)
    made = account.working / "outputs" / "birds"
    assert "[8/8] 08_submit" in said and "Before you trust this" in said
    assert 'download="submission.csv"' in said and (made / "report.html").is_file()


def test_with_weights_as_a_data_set_every_row_is_written_in_time(account, tmp_path):
    config = presets.load("birdclef_2024", "birdclef-2024", settings=SETTINGS)
    made, broken = show_test_set(account)
    save_folds(tmp_path / "birds", sorted(made.classes), config)
    run = {"config": config.model_dump(mode="json"), "given": {}}
    artifacts.write_json(tmp_path / "birds" / "run.json", run)
    shares = dict.fromkeys(made.classes, 1 / len(made.classes))
    artifacts.write_json(tmp_path / "birds" / hidden.SHARES, shares)
    write_kit(account, tmp_path / "birds")
    ids, said = answer(account, 10)
    assert ids == sorted(made.truth) and broken in said
    ids, said = answer(account, 0)
    assert ids == sorted(made.truth) and hidden.LATE in said


def test_a_session_can_neither_write_to_its_inputs_nor_reach_the_network(account):
    account.working.mkdir()
    write = ("touch", "/kaggle/input/mark")
    connect = (
        sys.executable,
        "-c",
        "import socket; socket.create_connection(('192.0.2.1', 80), 2)",
    )
    assert run(account.tree, "/kaggle/working", *write).returncode != 0
    assert run(account.tree, "/kaggle/working", *connect).returncode != 0


def test_colab_goes_on_from_what_lies_on_drive(tmp_path):
    """The code is in /content; the run before the disconnect had its home on Drive."""
    tree = tmp_path / "tree"
    content = tree / "content"
    for name in kit.CODE:
        kit._copy(kit.REPOSITORY / name, content / "earshot" / name)
    birdclef_2024(content / "birds")
    given = {**PARAMETERS, "data": "/content/birds"}
    for name in ("01_explore", "02_clean"):
        execute(tree, f"/content/earshot/notebooks/{name}.ipynb", "/content", given)
    drive = content / "drive" / "MyDrive" / "sounds"
    drive.mkdir(parents=True)
    (content / "earshot" / "outputs").rename(drive / "outputs")
    third = execute(tree, "/content/earshot/notebooks/03_augment.ipynb", "/content", given)
    taken = "Taken from /content/drive/MyDrive/sounds/outputs/birds: 01_explore, 02_clean"
    assert taken in printed(third, tree)
