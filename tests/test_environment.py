"""Only what is missing is installed, an installed torch is held where it is, and what is promised
is tested.
"""

import ast
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from signals import encoded_av, write_wav
from tables import tone

from helpers import environment
from helpers.audio import recording
from helpers.base import artifacts
from helpers.base.settings import Config
from helpers.data import sources
from helpers.view import boards


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("numpy>=2", []),
        ("", []),
        ("# no-such-package\n\n   \n-r other.txt\n", []),
        ("no-such-package", ["no-such-package"]),
        ("  no-such-package >=1,<2   # why", ["no-such-package >=1,<2"]),
        ("numpy[extra]>=2 ; python_version >= '3'", []),
        (
            "no_such[extra]==1 ; python_version >= '3'",
            ["no_such[extra]==1 ; python_version >= '3'"],
        ),
        ("scikit-learn\npillow\nPyYAML\nxgboost-cpu\nipython", []),  # imported under other names
        ("numpy\nno-such-a\nscipy\nno-such-b", ["no-such-a", "no-such-b"]),
    ],
)
def test_only_packages_that_cannot_be_imported_are_missing(text, missing):
    assert environment.missing_requirements(text) == missing


def test_every_requirement_of_earshot_is_recognised_once_installed():
    assert (
        environment.missing_requirements(environment.REQUIREMENTS.read_text(encoding="utf-8")) == []
    )


def test_a_dotted_name_is_missing_rather_than_an_error():
    assert environment.missing_requirements("no.such.package>=1") == ["no.such.package>=1"]


@pytest.fixture
def pip(monkeypatch, tmp_path):
    """Requirements to install, and the calls of pip that they lead to, none of which is made."""
    calls, outcome = [], subprocess.CompletedProcess([], 0, "", "")
    monkeypatch.setattr(environment, "REQUIREMENTS", tmp_path / "requirements.txt")
    monkeypatch.setattr(environment, "INPUTS", str(tmp_path / "input"))
    monkeypatch.setattr(
        environment.subprocess, "run", lambda command, **_: calls.append(command) or outcome
    )
    return tmp_path / "requirements.txt", calls, outcome


def test_nothing_missing_means_pip_is_not_called(pip):
    requirements, calls, _ = pip
    requirements.write_text("numpy\ntorch>=2")
    environment.prepare()
    assert calls == []


def test_torch_is_held_at_its_version(pip, capsys):
    requirements, calls, _ = pip
    requirements.write_text("numpy\nno-such-package>=1")
    environment.prepare()
    [command] = calls
    assert command[-2:] == ["no-such-package>=1", f"torch=={metadata.version('torch')}"]
    assert "numpy" not in command
    assert "no-such-package" in capsys.readouterr().out


def test_torchaudio_is_the_one_that_belongs_to_the_installed_torch(pip, monkeypatch):
    requirements, calls, _ = pip
    requirements.write_text("torch>=2.10,<2.12\ntorchaudio>=2.10,<2.12   # a pair")
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    monkeypatch.setattr(environment.metadata, "version", {"torch": "2.10.1+cu126"}.get)
    environment.prepare()
    assert [command[-2:] for command in calls] == [["torchaudio==2.10.*", "torch==2.10.1+cu126"]]


def test_a_failing_pip_says_what_failed_and_what_to_do(pip):
    requirements, _, outcome = pip
    requirements.write_text("no-such-package")
    outcome.returncode, outcome.stderr = 1, "No matching distribution"
    with pytest.raises(
        RuntimeError, match=r"(?s)no-such-package.*No matching distribution.*--no-index"
    ):
        environment.prepare()


def test_without_what_is_optional_it_says_so_and_goes_on(pip, monkeypatch, capsys):
    requirements, calls, outcome = pip
    requirements.write_text("numpy>=2\nav>=14   # optional")
    monkeypatch.setitem(sys.modules, "av", None)
    outcome.returncode = 1
    environment.prepare()
    assert len(calls) == 1 and "av>=14" in calls[0]
    assert "m4a" in capsys.readouterr().out


def test_wheels_among_kaggles_inputs_are_taken_before_the_internet(pip, monkeypatch):
    requirements, calls, outcome = pip
    folder = Path(environment.INPUTS) / "wheels" / "deeper"
    folder.mkdir(parents=True)
    (folder / "no_such_package-1-py3-none-any.whl").touch()
    requirements.write_text("no-such-package>=1")
    environment.prepare()
    [command] = calls
    assert {"--no-index", f"--find-links={folder}"} < set(command)
    outcome.returncode = 1
    with pytest.raises(RuntimeError, match="wheels"):
        environment.prepare()
    assert ["--no-index" in command for command in calls] == [True, True, False]


# --- without PyAV ------------------------------------------------------------------------------


def test_without_pyav_what_only_it_reads_is_set_aside_with_what_to_do(tmp_path, monkeypatch):
    m4a = encoded_av(tone(440, seconds=1.0), 8000)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_wav(tmp_path / name / "1.wav", tone(440, seconds=1.0))
        (tmp_path / name / "2.m4a").write_bytes(m4a)
    monkeypatch.setitem(sys.modules, "av", None)
    found = recording.survey(tmp_path, sources.find(tmp_path, Config().data), 60).set_index("path")
    assert found["status"].to_dict() == {
        "a/1.wav": "ok", "a/2.m4a": "quarantined", "b/1.wav": "ok", "b/2.m4a": "quarantined",
    }  # fmt: skip
    assert (
        found.loc["a/2.m4a", "reason"].startswith("NO_DECODER")
        and "pip install av" in found.loc["a/2.m4a", "reason"]
    )


def test_no_module_needs_pyav_to_load():
    for path in [
        *artifacts.REPOSITORY.glob("helpers/**/*.py"),
        *artifacts.REPOSITORY.glob("app/*.py"),
    ]:
        body = ast.parse(path.read_text(encoding="utf-8")).body
        imports = [node for node in body if isinstance(node, (ast.Import, ast.ImportFrom))]
        names = [alias.name for node in imports for alias in node.names]
        assert "av" not in names, path.name


def test_players_need_no_pyav(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    assert len(boards.card("a", waveform=tone(440, seconds=1.0), sample_rate=8000)) > 1000


# --- what is promised --------------------------------------------------------------------------


def requirements(name):
    """The requirements of a file, by package and without those of other systems."""
    lines = (artifacts.REPOSITORY / name).read_text(encoding="utf-8").splitlines()
    found = [
        Requirement(line.split("#")[0]) for line in lines if line.strip() and line[0] not in "#-"
    ]
    return {
        one.name.lower(): one.specifier
        for one in found
        if one.marker is None or one.marker.evaluate()
    }


@pytest.mark.parametrize(
    "name", ["requirements.txt", "requirements-extras.txt", "requirements-dev.txt"]
)
def test_every_lower_bound_is_the_version_that_make_test_lowest_installs(name):
    pins = {
        package: str(pin).removeprefix("==")
        for package, pin in requirements("requirements-lowest.txt").items()
    }
    for package, allowed in requirements(name).items():
        [lowest] = [bound.version for bound in allowed if bound.operator == ">="]
        assert Requirement(f"{package}=={lowest}").specifier.contains(pins[package]), package


# Versions of the images of 2026 that the series leaves alone.
KAGGLE = {
    **{
        "torch": "2.10.0",
        "torchaudio": "2.10.0",
        "numpy": "2.0.2",
        "pandas": "2.2.2",
        "scikit-learn": "1.6.1",
        "matplotlib": "3.10.0",
    },
    **{
        "scipy": "1.16.3",
        "librosa": "0.11.0",
        "soundfile": "0.13.1",
        "papermill": "2.7.0",
        "nbconvert": "6.4.5",
    },
}
COLAB = {
    **{
        "torch": "2.11.0",
        "torchaudio": "2.11.0",
        "numpy": "2.1.3",
        "pandas": "2.2.3",
        "scikit-learn": "1.6.1",
        "matplotlib": "3.10.0",
    },
    **{"scipy": "1.16.3", "librosa": "0.11.0", "ipykernel": "6.17.1", "ipython": "7.34.0"},
}


@pytest.mark.parametrize("image", [KAGGLE, COLAB], ids=["Kaggle", "Colab"])
def test_what_the_platforms_ship_is_allowed(image):
    allowed = requirements("requirements.txt")
    assert not [
        package for package, version in image.items() if not allowed[package].contains(version)
    ]
