"""The house: a room imports only rooms above it, no module stands in a circle, and importing does
nothing.
"""

import ast
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import helpers

FOLDER = Path(helpers.__file__).parent
ROOMS = re.findall(r"^(\w+) {2,}\S", helpers.__doc__, re.MULTILINE)
PATHS = sorted(path for path in FOLDER.glob("*/*.py") if path.stem != "__init__")
MODULES = [".".join(path.relative_to(FOLDER).with_suffix("").parts) for path in PATHS]
MOST = 8  # modules in a room


def imported(source, where):
    """The modules of helpers, "room.module", that a piece of Python imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{where} imports relatively"
            assert "*" not in {alias.name for alias in node.names}, f"{where} has a star import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    below = {name.removeprefix("helpers.") for name in names if name.startswith("helpers.")}
    return below & set(MODULES)


def text(module):
    return (FOLDER / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")


def test_every_room_is_listed_once_and_says_what_it_is_for():
    folders = {path.parent.name for path in PATHS}
    assert set(ROOMS) == folders and len(ROOMS) == len(folders)
    for room in ROOMS:
        says = ast.get_docstring(
            ast.parse((FOLDER / room / "__init__.py").read_text(encoding="utf-8"))
        )
        missing = [m for m in MODULES if m.startswith(f"{room}.") and m.split(".")[1] not in says]
        assert "Notebooks:" in says and not missing, f"{room} does not say what {missing} are for"


def test_a_room_is_small():
    sizes = Counter(module.split(".")[0] for module in MODULES)
    assert {room: size for room, size in sizes.items() if size > MOST} == {}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_its_own_room_and_those_above(module):
    room = module.split(".")[0]
    above = ROOMS[: ROOMS.index(room) + 1]
    assert {other.split(".")[0] for other in imported(text(module), module)} <= set(above)


def test_no_module_imports_itself_through_others():
    arrows = {module: imported(text(module), module) for module in MODULES}
    while free := [module for module, others in arrows.items() if not others & set(arrows)]:
        for module in free:
            del arrows[module]
    assert not arrows, f"these stand in a circle: {sorted(arrows)}"


WATCH = """
import contextlib, importlib, io, json, random, sys
import matplotlib, matplotlib.pyplot, numpy, skops.io, torch
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
    changed = [name for name in before if before[name] != after[name]]
    found[module] = changed + printed.getvalue().splitlines()
print(json.dumps(found))
"""


def test_importing_prints_nothing_seeds_nothing_and_sets_nothing(tmp_path):
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WATCH, *MODULES],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(FOLDER.parent), "PATH": "", "HOME": str(tmp_path)},
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {module: [] for module in MODULES}


def test_threads_that_wait_sleep_unless_the_user_says_otherwise():
    asked = "import helpers, os; print(os.environ['OMP_WAIT_POLICY'])"
    others = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    for given, expected in ({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"):
        command = [sys.executable, "-c", asked]
        run = subprocess.run(command, env={**others, **given}, capture_output=True, text=True)
        assert run.stdout.strip() == expected


UNIX_ONLY = {"fcntl", "grp", "pwd", "resource", "termios"}


@pytest.mark.parametrize("module", MODULES)
def test_no_module_needs_what_windows_lacks(module):
    tree = ast.parse(text(module))
    names = {name.name for n in ast.walk(tree) if isinstance(n, ast.Import) for name in n.names}
    assert not names & UNIX_ONLY
