"""The pages: links lead somewhere; commands, settings, presets and paths that they name exist."""

import ast
import importlib
import re
import subprocess

import pytest
import yaml

import helpers
from helpers.base.artifacts import REPOSITORY
from helpers.base.recipe import Section
from helpers.base.settings import Config
from helpers.run import cli, presets, stages

NAMES = ("README.md", "CONTRIBUTING.md", "data/README.md")
PATHS = [*(REPOSITORY / name for name in NAMES), *sorted((REPOSITORY / "docs").glob("*.md"))]
PAGES = {str(path.relative_to(REPOSITORY)): path.read_text(encoding="utf-8") for path in PATHS}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
ROOMS = re.findall(r"^(\w+) {2,}\S", helpers.__doc__, re.MULTILINE)
TREE_LINE = re.compile(r"( *)(\S+) {2,}(\S.*)")

each_page = pytest.mark.parametrize("page", PAGES)


def blocks(language):
    """Each piece of code in that language on any page: (page, source)."""
    return [
        (page, source)
        for page, text in PAGES.items()
        for kind, source in FENCE.findall(text)
        if kind == language
    ]


def code(text):
    """All that stands as code on a page, a piece a line."""
    prose = FENCE.sub("", text)
    return "\n".join([*re.findall(r"`([^`]+)`", prose), *(s for _, s in FENCE.findall(text))])


def anchors(text):
    """The ids that GitHub gives the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def option(parser, name):
    """The choices of a command line's positional argument, by its metavar."""
    return next(action.choices for action in parser._actions if action.metavar == name)


@each_page
def test_every_link_leads_to_a_file_and_a_heading(page):
    for target in LINK.findall(PAGES[page]):
        if target.startswith("https://"):
            continue
        name, _, heading = target.partition("#")
        path = (REPOSITORY / page).parent / name if name else REPOSITORY / page
        assert path.exists(), f"{page} links to {target}"
        if heading:
            assert heading in anchors(path.read_text(encoding="utf-8")), f"{page}: {target}"


@each_page
def test_every_command_is_there(page):
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    asked = set(re.findall(r"^(?:!.*)?make ([a-z][a-z-]*)", code(PAGES[page]), re.MULTILINE))
    assert asked <= targets
    commands = set(re.findall(r"-m(?: --)? helpers ([a-z][a-z-]*)", code(PAGES[page])))
    assert commands <= set(option(cli.parser(), "command"))
    modules = re.findall(r"-m (benchmarks\.\w+)|(benchmarks/\w+\.py)", code(PAGES[page]))
    for module, path in modules:
        assert (REPOSITORY / (path or module.replace(".", "/") + ".py")).is_file()


@each_page
def test_every_setting_preset_and_path_is_there(page):
    sections = {
        name: field.annotation
        for name, field in Config.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    }
    dotted = rf"(?<![\w/.])({'|'.join(sections)})\.(?!csv|tsv)([a-z_]+)"
    named = re.findall(dotted, code(PAGES[page]))
    for section, key in named:
        assert key in sections[section].model_fields, f"{page} names {section}.{key}"
    for preset in re.findall(r"PRESET=([a-z]\w*)(?!\S*\.yaml)\b", code(PAGES[page])):
        assert preset in presets.presets(), f"{page} names the preset {preset}"
    folders = "helpers|tests|app|benchmarks|notebooks|presets|results"
    for path in re.findall(rf"(?<!\S)((?:{folders})/[\w./-]+)", code(PAGES[page])):
        assert (REPOSITORY / path).exists(), f"{page} names {path}"


def test_every_preset_is_described():
    described = code(PAGES["docs/settings.md"] + PAGES["docs/competitions.md"]).splitlines()
    assert set(presets.presets()) <= set(described)


def test_the_defaults_of_the_settings_are_as_they_are_described():
    rows = re.findall(r"^\| `(\w+)\.(\w+)` \| (.*?) \|", PAGES["docs/settings.md"], re.MULTILINE)
    assert len(rows) > 10
    for section, key, described in rows:
        default = getattr(Config(), section).model_dump(mode="json")[key]
        assert yaml.safe_load(described) == default, f"{section}.{key}"


@pytest.mark.parametrize(("page", "source"), blocks("yaml"))
def test_every_preset_that_is_shown_can_be_loaded(page, source, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(source, encoding="utf-8")
    assert presets.load(str(path)).preset == "mine"


@pytest.mark.parametrize(("page", "source"), blocks("python"))
def test_what_shown_python_imports_and_calls_is_there(page, source):
    tree = ast.parse(source)
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                try:
                    names[alias.name] = importlib.import_module(f"{node.module}.{alias.name}")
                except ModuleNotFoundError:
                    names[alias.name] = getattr(importlib.import_module(node.module), alias.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = names.get(node.value.id)
            assert owner is None or hasattr(owner, node.attr), f"{page}: {ast.unparse(node)}"


def tree():
    """The tree of the README: (depth, name, caption) of each line."""
    layout = PAGES["README.md"].partition("## What is where")[2]
    lines = FENCE.search(layout).group(2).splitlines()
    parts = [TREE_LINE.fullmatch(line) for line in lines]
    assert all(parts), "a line of the tree has no caption"
    return [(len(part[1]) // 2, part[2], part[3]) for part in parts]


def test_the_tree_names_every_file_and_every_room():
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no checkout of git")
    top = {name.split("/")[0] for name in listed.stdout.splitlines()}
    named = [name for depth, name, _ in tree() if depth == 0]
    made = "outputs/<run>/"
    assert {name.split("/")[0] for name in named if name != made} == top
    assert all((REPOSITORY / name).exists() for name in named if name != made)
    below = {name for depth, name, _ in tree() if depth == 1}
    assert {name.rstrip("/") for name in below if name.endswith("/")} == set(ROOMS)


def test_the_tour_names_every_notebook():
    for stage in stages.STAGES:
        assert f"[{stage.name}](notebooks/{stage.name}.ipynb)" in PAGES["README.md"]


def test_the_newcomers_page_is_short():
    assert len(PAGES["README.md"].split()) <= 2500
