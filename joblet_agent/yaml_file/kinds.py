"""Kinds of values in a file: each reads a node, and says the same as JSON Schema."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from joblet_agent.yaml_file.nodes import Entries, Items, Node, Text
from joblet_agent.yaml_file.problems import Problems, near, shown

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]
"""Of a value, as in https://json-schema.org/draft/2020-12."""

UNREADABLE = object()
"""What a kind returns when it has told a problem."""


class Kind(Protocol):
    """Reads a node to a value, or tells what is wrong with it and returns UNREADABLE."""

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """Return the value. ``key`` names the place in problems."""
        ...

    def schema(self) -> Schema:
        """Return what an editor needs to check and complete such a value."""
        ...


@dataclass(frozen=True, slots=True)
class Scalar:
    """One text. ``parse`` makes the value of it, or raises ValueError with what it expects."""

    parse: Callable[[str], Any] = str
    json: Mapping[str, Any] = field(default_factory=lambda: {"type": ["string", "number", "boolean"]})

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """Return what ``parse`` makes of the text."""
        if not isinstance(node, Text):
            problems.add(node.mark, key, f"expected one value, not a {_word(node)}")
            return UNREADABLE
        try:
            return self.parse("" if node.is_nothing else node.text)
        except ValueError as error:
            told = str(error)
            problems.add(node.mark, key, told if ", not " in told else f"{told}, not {shown(node.text)}")
            return UNREADABLE

    def schema(self) -> Schema:
        """Return what was given for it."""
        return dict(self.json)


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list, or one of its items alone."""

    item: Kind

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """Return a tuple of those that are readable."""
        if isinstance(node, Text) and node.is_nothing:
            return ()
        if not isinstance(node, Items):
            value = self.item.read(node, key, problems)
            return value if value is UNREADABLE else (value,)
        values = (
            self.item.read(each, f"{key}[{number}]", problems) for number, each in enumerate(node.items)
        )
        return tuple(value for value in values if value is not UNREADABLE)

    def schema(self) -> Schema:
        """Return both forms."""
        item = self.item.schema()
        return {"anyOf": [{"type": "array", "items": item}, item]}


@dataclass(frozen=True, slots=True)
class MapOf:
    """A map whose keys are the user's own. ``names`` is the pattern that they match."""

    value: Kind
    names: re.Pattern[str]
    what: str

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """Return a dict of those that are readable."""
        if isinstance(node, Text) and node.is_nothing:
            return {}
        if not isinstance(node, Entries):
            problems.add(node.mark, key, f"expected names with values, not a {_word(node)}")
            return UNREADABLE
        values = {}
        for name, each in node.entries.items():
            if not self.names.fullmatch(name):
                problems.add(node.marks[name], key, f"expected {self.what}, not {shown(name)}")
            values[name] = self.value.read(each, f"{key}.{name}", problems)
        return {name: value for name, value in values.items() if value is not UNREADABLE}

    def schema(self) -> Schema:
        """Return the map's."""
        return {
            "type": "object",
            "propertyNames": {"pattern": f"^(?:{self.names.pattern})$"},
            "additionalProperties": self.value.schema(),
        }


@dataclass(frozen=True, slots=True)
class Key:
    """A key that a section may have. ``refused`` says why it may not, and what to do instead."""

    name: str
    kind: Kind
    meaning: str
    refused: str = ""


@dataclass(frozen=True, slots=True)
class SectionOf:
    """A map with known keys. ``alone`` reads anything else that may stand in its place."""

    keys: tuple[Key, ...]
    alone: Kind | None = None
    known: Mapping[str, Key] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "known", {each.name: each for each in self.keys})

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """Return a dict of the keys that are there and readable."""
        if isinstance(node, Text) and node.is_nothing:
            return {}
        if not isinstance(node, Entries):
            if self.alone is not None:
                return self.alone.read(node, key, problems)
            problems.add(node.mark, key, f"expected keys with values, not a {_word(node)}")
            return UNREADABLE
        known = self.known
        values = {}
        for name, each in node.entries.items():
            inner = f"{key}.{name}" if key else name
            if name not in known:
                where = f"{key}.{shown(name)}" if key else shown(name)
                problems.add(node.marks[name], where, unknown_key(name, known))
            elif known[name].refused:
                problems.add(node.marks[name], inner, known[name].refused)
            else:
                values[name] = known[name].kind.read(each, inner, problems)
        return {name: value for name, value in values.items() if value is not UNREADABLE}

    def schema(self) -> Schema:
        """Return the section's, with what each key means."""
        section = {
            "type": "object",
            "properties": {
                each.name: {**each.kind.schema(), "description": each.meaning}
                for each in self.keys
                if not each.refused
            },
            "additionalProperties": False,
        }
        return section if self.alone is None else {"anyOf": [section, self.alone.schema()]}


def unknown_key(name: str, known: Collection[str]) -> str:
    """Say that there is no such key, and which one was meant."""
    return f"unknown key{near(name, known) or '; known are ' + ', '.join(known)}"


def _word(node: Node) -> str:
    if isinstance(node, Text):
        return f"text ({shown(node.text)})"
    return "list" if isinstance(node, Items) else "map"
