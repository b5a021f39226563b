"""docs/attack-cases.md names tests that there are."""

import ast
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
DOCUMENT = TESTS.parent / "docs" / "attack-cases.md"
NAMED = re.compile(r"`([a-z0-9_/]+\.py)::(test_[a-z0-9_*]+)`")
CASES = [f"A{n}" for n in range(1, 9)] + [f"B{n}" for n in range(1, 10)]
CASES += [f"C{n}" for n in range(1, 10)] + [f"R{n}" for n in range(1, 16)]


def named() -> list[tuple[str, str]]:
    return NAMED.findall(DOCUMENT.read_text(encoding="utf-8"))


def is_there(file: str, name: str) -> bool:
    """Say whether the file below tests/ has such a test; ``*`` stands for any text."""
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return any(fnmatchcase(each, name) for each in functions)


@pytest.mark.parametrize(("file", "name"), named())
def test_each_test_that_is_named_is_there(file: str, name: str) -> None:
    assert is_there(file, name)


def test_each_case_has_a_row() -> None:
    rows = re.findall(r"^\| ([A-Z][0-9]+) \| ", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == CASES
