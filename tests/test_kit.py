"""What is uploaded to Kaggle is complete, names no machine, and is enough to predict with."""

import json
import re
import subprocess

import nbformat
import pandas as pd
import pytest
from competitions import birdclef_2024
from networks import save_folds

from helpers.base import artifacts
from helpers.delivery import hidden, kit
from helpers.run import cli, presets, stages

KEYS = [
    *("id", "title", "code_file", "language", "kernel_type", "is_private"),
    *("enable_gpu", "enable_internet"),
    *("dataset_sources", "competition_sources", "kernel_sources"),
]


@pytest.fixture
def pip(monkeypatch):
    """Calls of pip, none of which is made, and how they end."""
    calls = []
    outcome = subprocess.CompletedProcess([], 0, "", "")

    def run(command, **_):
        calls.append(command)
        return outcome

    monkeypatch.setattr(kit.subprocess, "run", run)
    return calls, outcome


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A run with networks of random weights, for a data folder as BirdCLEF's."""
    monkeypatch.setattr(artifacts, "home", lambda: tmp_path)
    made = birdclef_2024(tmp_path / "data" / "birdclef-2024")
    config = presets.load("birdclef_2024", made.folder, settings="model.channels=[4,4,8,8]")
    folder = tmp_path / "outputs" / "my_birds"
    save_folds(folder, sorted(made.classes), config)
    given = {"preset": None, "data": str(made.folder), "fast": True, "settings": "train.epochs=2"}
    run = {"config": config.model_dump(mode="json"), "given": given, "stages": {}}
    artifacts.write_json(folder / "run.json", run)
    rows = pd.DataFrame({"recording_id": ["a", "b"], "label": sorted(made.classes)[:2]})
    rows = rows.assign(split="train", clip_id="", parent_id="", group="", path="", fold=1)
    rows = rows.assign(start_seconds=0.0, valid_seconds=1.0)
    artifacts.write_table(folder / "waveforms.csv", rows)
    return made, folder


def metadata(folder, name):
    return json.loads((folder / "notebooks" / name / "kernel-metadata.json").read_text())


def test_the_kit_of_a_run_is_complete(trained, pip, tmp_path, capsys):
    out = tmp_path / "kit"
    words = ["--run", "my_birds", "--user", "kim", "--attach", "birdclef-2024", "--out", str(out)]
    assert cli.main(["kaggle", *words]) == 0
    assert "with trained networks" in capsys.readouterr().out
    names = [stage.name for stage in stages.STAGES]
    for number, name in enumerate(names):
        about = metadata(out, name)
        assert list(about) == KEYS and about["enable_internet"] == "false"
        assert about["id"] == "kim/" + about["title"].lower().replace(" ", "-")
        assert (out / "notebooks" / name / about["code_file"]).is_file()
        earlier = [metadata(out, other)["id"] for other in names[:number]]
        assert about["kernel_sources"] == earlier
        assert about["competition_sources"] == ["birdclef-2024"]
        assert about["dataset_sources"] == ["kim/earshot-code", "kim/earshot-wheels"]
    last = metadata(out, kit.INFERENCE)
    assert last["kernel_sources"] == []
    assert last["dataset_sources"][-1] == "kim/earshot-my-birds-weights"
    for folder in ("code", "wheels", "weights"):
        about = artifacts.read_json(out / folder / "dataset-metadata.json")
        assert about["id"] in last["dataset_sources"] and 6 <= len(about["title"]) <= 50
    code = out / "code"
    assert (code / "helpers" / "environment.py").is_file() and not list(code.rglob("__pycache__"))
    assert not (code / "tests").exists() and (code / "app" / "starter" / "run.json").is_file()
    page = (out / "README.md").read_text()
    for folder in re.findall(r" -p (\S+)", page.split("```")[1]):
        assert (out / folder).is_dir()
    assert kit.USER not in page and "http" not in page


def test_notebooks_there_have_the_parameters_of_the_run(trained, pip, tmp_path):
    kit.Kit(trained[1], tmp_path / "kit", "kim").write(["05_train_cnn"])
    assert "named birdclef-2024, to each" in (tmp_path / "kit" / "README.md").read_text()
    path = tmp_path / "kit" / "notebooks" / "05_train_cnn" / "05_train_cnn.ipynb"
    cells = nbformat.read(path, as_version=4).cells
    [cell] = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    values = {}
    exec(cell.source, values)
    assert values["data"] == "/kaggle/input/birdclef-2024" and values["run"] == "my_birds"
    assert values["settings"] == "train.epochs=2" and values["fast"] is True
    assert values["preset"] is None and cell.source.count("  # ") == len(cell.source.splitlines())


def test_the_weights_are_all_that_predicting_needs(trained, pip, tmp_path):
    made, folder = trained
    target = tmp_path / "elsewhere" / "my_birds"
    kit.weights(folder, target)
    assert {path.name for path in target.iterdir()} == {"run.json", "shares.json", "models"}
    assert str(tmp_path) not in (target / "run.json").read_text()
    test = hidden.begin(target, made.folder, minutes=5)
    asked = test.asked()
    probabilities = test.predict(asked)
    assert probabilities["heard"].all() and set(asked.rows["id"]) == set(made.truth)
    assert test.prior.shares.to_dict() == hidden.class_shares(folder, test.bundle.labels).to_dict()


def test_without_a_run_networks_a_name_or_the_internet_the_rest_is_written(
    tmp_path, pip, monkeypatch, capsys
):
    monkeypatch.setattr(artifacts, "home", lambda: tmp_path)
    pip[1].returncode = 1
    pip[1].stderr = "ERROR: No matching distribution found for audiomentations"
    assert cli.main(["kaggle", "--run", "new", "--out", str(tmp_path / "kit")]) == 0
    said = capsys.readouterr()
    assert "without trained networks" in said.out and "could not be downloaded" in said.err
    page = (tmp_path / "kit" / "README.md").read_text()
    assert kit.USER in page and "could not be downloaded" in page and "weights" not in page
    about = metadata(tmp_path / "kit", kit.INFERENCE)
    assert about["dataset_sources"] == [f"{kit.USER}/earshot-code"]
    assert len(about["kernel_sources"]) == len(stages.STAGES)


def test_the_wheels_are_those_that_kaggle_lacks_for_its_python(pip, tmp_path):
    calls, _ = pip
    assert kit.wheels(tmp_path / "wheels") == ""
    [command] = calls
    assert {"download", "--only-binary", "--no-deps", "3.12"} <= set(command)
    pins = {word.partition("==")[0]: word for word in command if "==" in word}
    assert set(pins) == set(kit.LACKING) and pins["soxr"] < "soxr==1"
