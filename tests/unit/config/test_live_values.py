"""Values that a reload changes are read when they are needed: nobody keeps a copy from when it was made."""

import ast
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import get_type_hints

import joblet_agent
from joblet_agent.config import values
from joblet_agent.config.rules import Change

AGENT = Path(joblet_agent.__file__).parent
ROOTS = {AGENT / "core.py", AGENT / "rpc" / "server.py"}
"""Where services are made: all that is read there is kept by somebody."""


def kept(tree: ast.AST, *, is_root: bool) -> Iterator[str]:
    """The live values that functions take out of a configuration when something is made."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef) or not (is_root or function.name == "__init__"):
            continue
        arguments = [*function.args.args, *function.args.kwonlyargs]
        kinds = {
            each.arg: getattr(values, each.annotation.id)
            for each in arguments
            if isinstance(each.annotation, ast.Name) and each.annotation.id.endswith("Config")
        }
        for node in ast.walk(function):
            if not isinstance(node, ast.Attribute):
                continue
            words = ast.unparse(node).split(".")
            if words[0] in kinds and is_live_value(kinds[words[0]], words[1:]):
                yield f"{function.name} in line {node.lineno}: {'.'.join(words)}"


def is_live_value(kind: type, names: list[str]) -> bool:
    for name in names:
        hints = get_type_hints(kind, include_extras=True)
        if name not in hints:
            return False  # a method
        if not is_dataclass(hints[name]):
            return Change.RESTART not in hints[name].__metadata__
        kind = hints[name]
    return False  # a section, which is what shall be kept


def test_nobody_keeps_a_copy_of_a_value_that_a_reload_changes() -> None:
    found = {
        str(path.relative_to(AGENT)): list(
            kept(ast.parse(path.read_text(encoding="utf-8")), is_root=path in ROOTS)
        )
        for path in AGENT.rglob("*.py")
        if not {"config", "pb"} & set(path.relative_to(AGENT).parts)
    }
    assert {"core.py", "jobs/retention.py"} <= found.keys()
    assert {path: copies for path, copies in found.items() if copies} == {}


def test_a_copy_would_be_noticed() -> None:
    text = """
class X:
    def __init__(self, config: JobsConfig, *, all: AgentConfig) -> None:
        self._config = config
        self._most = config.max_waiting
        self._first = config.uid_first
        self._files = all.viewer.files
        self._limits = all.limits
"""
    assert list(kept(ast.parse(text), is_root=False)) == [
        "__init__ in line 5: config.max_waiting",
        "__init__ in line 7: all.viewer.files",
    ]
