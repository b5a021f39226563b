"""YAML as a tree of texts, lists and maps, each with its place; what else YAML has is a problem.

Read from parser events, so nothing unfolds and nothing becomes a value of a kind that nobody expects. Faults
of the form (a key twice, an alias) are told and passed over; after a fault of the syntax there is no tree.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)

from joblet_agent.yaml_file.problems import Mark, Problems, shown

DEEPEST = 16
"""Maps and lists inside one another."""

# libyaml's parser where PyYAML was built with it: the other one takes ten seconds for a megabyte.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


_new = tuple.__new__  # half of the time of Mark()
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


@dataclass(slots=True)  # not frozen, for there are very many: that takes half of the time
class Text:
    """A scalar as it stands in the file; ``is_plain`` means that it has no quotes."""

    mark: Mark
    text: str
    is_plain: bool = True

    @property
    def is_nothing(self) -> bool:
        """Tell a key or a dash with nothing behind it."""
        return self.is_plain and self.text in {"", "~", "null"}


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    mark: Mark
    items: list["Node"] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Entries:
    """A map; each key with its place."""

    mark: Mark
    entries: dict[str, "Node"] = field(default_factory=dict)
    marks: dict[str, Mark] = field(default_factory=dict)


Node: TypeAlias = Text | Items | Entries


class _NoTree(Exception):
    """The syntax is wrong."""

    def __init__(self, mark: Mark, text: str) -> None:
        super().__init__(text)
        self.mark = mark


def parse(text: str, problems: Problems, instead: str = "") -> Node | None:
    """Return the document's tree; None when it has none, with a problem if that is a fault.

    ``instead`` says what the file has in place of anchors and aliases.
    """
    try:
        return _Reader(LOADER(text).get_event, problems, instead).document()
    except _NoTree as error:
        problems.add(error.mark, "", str(error))
    except yaml.MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        words = ", ".join(part for part in (error.context, error.problem) if part)
        problems.add(Mark(place.line + 1, place.column + 1) if place else Mark(), "", f"not YAML: {words}")
    except yaml.reader.ReaderError as error:
        before = text[: error.position] if isinstance(error.position, int) else ""
        column = len(before) - before.rfind("\n")
        problems.add(Mark(before.count("\n") + 1, column), "", f"not YAML: {error.reason}")
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # PyYAML's own scanner passes "\UFFFFFFFF" to chr() and tells of it with ValueError or OverflowError.
        problems.add(Mark(), "", f"not YAML: {error}")
    return None


class _Reader:
    def __init__(self, events: Callable[[], Event], problems: Problems, instead: str) -> None:
        self._next = events
        self._problems = problems
        self._instead = f"; {instead}" if instead else ""

    def document(self) -> Node | None:
        root: Node | None = None
        while True:
            event = self._next()
            match event:
                case StreamEndEvent():
                    return root
                case DocumentStartEvent() if root is not None:
                    raise _NoTree(_mark(event), "a second document begins; a file has one")
                case NodeEvent():
                    root = self._node(event, "", 0)

    def _node(self, event: Any, key: str, depth: int) -> Node:
        kind, mark = type(event), _mark(event)
        if kind is ScalarEvent and event.tag is None and event.anchor is None:
            return self._text(event, mark, key)  # nearly always
        if kind is AliasEvent:
            self._problems.add(mark, key, f"aliases (*) are not offered{self._instead}")
            return Text(mark, "")
        if event.anchor is not None:
            self._problems.add(mark, key, f"anchors (&) are not offered{self._instead}")
        if event.tag is not None and event.tag != "!":
            self._problems.add(mark, key, "tags (!) are not offered")
        if kind is ScalarEvent:
            return self._text(event, mark, key)
        if depth == DEEPEST:
            raise _NoTree(mark, f"{key}: more than {DEEPEST} maps and lists inside one another")
        return (self._entries if kind is MappingStartEvent else self._items)(mark, key, depth)

    def _text(self, event: Any, mark: Mark, key: str) -> Text:
        text: str = event.value
        if (not text.isascii() or "\0" in text) and _NO_TEXT.search(text):
            self._problems.add(mark, key, f"{shown(text)} has characters that are no text")
            text = ""
        return Text(mark, text, event.implicit[0])

    def _items(self, mark: Mark, key: str, depth: int) -> Items:
        items: list[Node] = []
        while type(event := self._next()) is not SequenceEndEvent:
            items.append(self._node(event, f"{key}[{len(items)}]", depth + 1))
        return Items(mark, items)

    def _entries(self, mark: Mark, key: str, depth: int) -> Entries:
        entries: dict[str, Node] = {}
        marks: dict[str, Mark] = {}
        while type(event := self._next()) is not MappingEndEvent:
            name = self._node(event, key, depth + 1)
            if not isinstance(name, Text):
                self._problems.add(name.mark, key, "a key must be a text")
                self._node(self._next(), key, depth + 1)
                continue
            inner = f"{key}.{name.text}" if key else name.text
            value = self._node(self._next(), inner, depth + 1)
            if name.text in entries:
                line = marks[name.text].line
                self._problems.add(name.mark, inner, f"is already there in line {line}")
            else:
                entries[name.text] = value
                marks[name.text] = name.mark
        return Entries(mark, entries, marks)


def marks_in(node: Node) -> dict[str, Mark]:
    """Return the places of all keys in maps, and of the items of their lists: of ``uploads.files[0]``."""
    marks: dict[str, Mark] = {}
    if isinstance(node, Entries):
        _note(node, "", marks)
    return marks


def _note(node: Entries, prefix: str, marks: dict[str, Mark]) -> None:
    for name, value in node.entries.items():
        key = f"{prefix}{name}"
        marks[key] = node.marks[name]
        match value:
            case Items(items=items):
                marks.update((f"{key}[{number}]", each.mark) for number, each in enumerate(items))
            case Entries():
                _note(value, f"{key}.", marks)


def _mark(event: Any) -> Mark:
    place = event.start_mark
    return _new(Mark, (place.line + 1, place.column + 1))
