"""Air: the gauge of density, in nodes of the syntax tree, which no formatting squeezes."""

import ast
from pathlib import Path

import pytest

import helpers

FOLDER = Path(helpers.__file__).parent
PATHS = sorted(FOLDER.rglob("*.py"))
NODES_A_LINE = 11  # on average over the package
NODES_A_LINE_OF_A_FUNCTION = 18  # of functions of SHORT lines or more
SHORT = 6
BRANCHES = 10
BRANCHING = (ast.If, ast.IfExp, ast.For, ast.While, ast.ExceptHandler, ast.With, ast.BoolOp)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def nodes(tree):
    return sum(1 for _ in ast.walk(tree))


def code_lines(text):
    """Numbers of the lines that hold code: no docstring, no comment, not empty."""
    words = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            words |= set(range(node.lineno, node.end_lineno + 1))
    lines = enumerate(text.splitlines(), 1)
    return {
        number
        for number, line in lines
        if number not in words and line.strip() and not line.strip().startswith("#")
    }


def functions():
    for path in PATHS:
        text = path.read_text(encoding="utf-8")
        lines = code_lines(text)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                length = len(lines & set(range(node.lineno, node.end_lineno + 1)))
                yield f"{path.relative_to(FOLDER)}:{node.lineno} {node.name}", node, length


def test_the_package_is_airy():
    texts = [path.read_text(encoding="utf-8") for path in PATHS]
    total = sum(nodes(ast.parse(text)) for text in texts)
    assert total / sum(len(code_lines(text)) for text in texts) <= NODES_A_LINE


def test_no_function_is_dense():
    dense = {
        name: round(nodes(node) / length, 1)
        for name, node, length in functions()
        if length >= SHORT and nodes(node) / length > NODES_A_LINE_OF_A_FUNCTION
    }
    assert dense == {}


def test_no_function_branches_much():
    counts = {
        name: sum(isinstance(part, (*BRANCHING, ast.comprehension)) for part in ast.walk(node))
        for name, node, _ in functions()
    }
    assert {name: count for name, count in counts.items() if count > BRANCHES} == {}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(FOLDER)))
def test_one_statement_says_one_thing(path):
    """No parallel assignment (but for a swap), no comprehension inside a comprehension."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parallel = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Tuple)
        and isinstance(node.value, ast.Tuple)
        and sorted(map(ast.dump, node.value.elts))
        != sorted(
            ast.dump(ast.Name(target.id, ast.Load()))
            for target in node.targets[0].elts
            if isinstance(target, ast.Name)
        )
    ]
    nested = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, COMPREHENSIONS)
        and any(isinstance(part, COMPREHENSIONS) for part in ast.walk(node) if part is not node)
    ]
    assert (parallel, nested) == ([], [])
