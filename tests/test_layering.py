"""The reading order: imports point up the list of helpers/__init__.py, and importing does nothing."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import helpers

FOLDER = Path(helpers.__file__).parent
MODULES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
ORDER = re.findall(r"^(\w+) {2,}\S", helpers.__doc__, re.MULTILINE)


def imported(module):
    """The modules of helpers that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse((FOLDER / f"{module}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            assert "*" not in {alias.name for alias in node.names}, f"{module} has a star import"
            if node.module == "helpers":
                found |= {alias.name for alias in node.names}
            elif node.module.startswith("helpers."):
                found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("helpers.")}
    return found


def test_every_module_is_listed_once():
    assert sorted(ORDER) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_modules_above_it(module):
    above = set(ORDER[: ORDER.index(module)])
    assert imported(module) <= above


WATCH = """
import contextlib, importlib, io, json, random, sys
import matplotlib, matplotlib.pyplot, numpy, torch
def state():
    return {
        "matplotlib settings": repr(dict(matplotlib.rcParams)),
        "numpy's generator": repr(numpy.random.get_state()[1].tolist()),
        "random's generator": repr(random.getstate()),
        "torch's generator": repr(torch.get_rng_state().tolist()),
        "torch's threads": torch.get_num_threads(),
    }
found = {}
for module in sys.argv[1:]:
    before, printed = state(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        importlib.import_module("helpers." + module)
    after = state()
    found[module] = [name for name in before if before[name] != after[name]] + printed.getvalue().splitlines()
print(json.dumps(found))
"""


def test_importing_prints_nothing_seeds_nothing_and_sets_nothing(tmp_path):
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WATCH, *ORDER],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(FOLDER.parent), "PATH": "", "HOME": str(tmp_path)},
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {module: [] for module in ORDER}
