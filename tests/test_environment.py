"""Only what is missing is installed, and an installed torch is held where it is."""

import subprocess
from importlib import metadata

import pytest

from helpers import environment


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("numpy>=2", []),
        ("", []),
        ("# no-such-package\n\n   \n-r other.txt\n", []),
        ("no-such-package", ["no-such-package"]),
        ("  no-such-package >=1,<2   # why", ["no-such-package >=1,<2"]),
        ("numpy[extra]>=2 ; python_version >= '3'", []),
        ("no_such[extra]==1 ; python_version >= '3'", ["no_such[extra]==1 ; python_version >= '3'"]),
        ("scikit-learn\npillow\nPyYAML\nxgboost-cpu\nipython", []),  # imported under other names
        ("numpy\nno-such-a\nscipy\nno-such-b", ["no-such-a", "no-such-b"]),
    ],
)
def test_only_packages_that_cannot_be_imported_are_missing(text, missing):
    assert environment.missing_requirements(text) == missing


def test_every_requirement_of_earshot_is_recognised_once_installed():
    assert environment.missing_requirements(environment.REQUIREMENTS.read_text(encoding="utf-8")) == []


def test_a_dotted_name_is_missing_rather_than_an_error():
    assert environment.missing_requirements("no.such.package>=1") == ["no.such.package>=1"]


@pytest.fixture
def pip(monkeypatch, tmp_path):
    """Requirements to install, and the calls of pip that they lead to, none of which is made."""
    calls, outcome = [], subprocess.CompletedProcess([], 0, "", "")
    monkeypatch.setattr(environment, "REQUIREMENTS", tmp_path / "requirements.txt")
    monkeypatch.setattr(environment.subprocess, "run", lambda command, **_: calls.append(command) or outcome)
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


def test_a_failing_pip_says_what_failed_and_what_to_do(pip):
    requirements, _, outcome = pip
    requirements.write_text("no-such-package")
    outcome.returncode, outcome.stderr = 1, "No matching distribution"
    with pytest.raises(RuntimeError, match=r"(?s)no-such-package.*No matching distribution.*--no-index"):
        environment.prepare()
