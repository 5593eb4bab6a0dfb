"""Digests of code: what a stage or a module depends on, read from its imports."""

import ast
import hashlib
import json

from helpers.base.artifacts import REPOSITORY


def code_digest(name: str) -> str:
    """SHA-256 of a stage's notebook (its code alone) and of every helper module that it reaches."""
    notebook = json.loads((REPOSITORY / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return _digest_of_code(cells, helper_modules("\n".join(cells)))


def module_digest(name: str) -> str:
    """SHA-256 of a helper module, such as "training.fit", and of every one that it reaches."""
    source = _path(name).read_text(encoding="utf-8")
    return _digest_of_code([source], helper_modules(source))


def _digest_of_code(sources, modules):
    texts = sources + [_path(module).read_text(encoding="utf-8") for module in modules]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def helper_modules(source: str) -> list[str]:
    """Names of the helper modules that a piece of Python imports, directly or through others."""
    modules = set()
    waiting = [source]
    while waiting:
        for module in _imported(waiting.pop()) - modules:
            modules.add(module)
            waiting.append(_path(module).read_text(encoding="utf-8"))
    return sorted(modules)


def _imported(source):
    """Names below helpers that a piece of Python imports, "audio.clean" as well as its room."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    below = {name.removeprefix("helpers.") for name in names if name.startswith("helpers.")}
    return {name for name in below if _path(name).is_file()}


def _path(module):
    """The file of a module, or what a room itself says."""
    path = REPOSITORY / "helpers" / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
