"""The small part of YAML that a configuration needs: mappings of texts to scalars, with line numbers.

Read from parser events, so nothing is built that was not asked for: anchors, aliases, tags, lists, more
than one document, duplicate keys and deep nesting are refused where they begin. A bomb never unfolds.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import yaml
from yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

DEEPEST = 4
"""Sections inside one another; the configuration itself has two levels."""

# libyaml's parser where PyYAML was built with it: the other one takes ten seconds for a megabyte.
_LOADER: type[yaml.CSafeLoader] | type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value as it stands in the file; ``is_plain`` means that it has no quotes."""

    text: str
    is_plain: bool
    line: int


@dataclass(frozen=True, slots=True)
class Section:
    """A mapping; each key with its line."""

    line: int
    entries: dict[str, "Value"] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)


Value: TypeAlias = Scalar | Section


class DocumentError(Exception):
    """The text is not such a document. ``line`` counts from 1; 0 when nobody knows."""

    def __init__(self, text: str, line: int) -> None:
        super().__init__(text)
        self.line = line


def parse_document(text: str) -> Section:
    """Return the document's mapping, empty for an empty document; raise DocumentError."""
    try:
        return _document(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise DocumentError(_words(error.problem, error.context), mark.line + 1 if mark else 0) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1 if isinstance(error.position, int) else 0
        raise DocumentError(f"not YAML: {error.reason}", line) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # PyYAML's own scanner passes "\UFFFFFFFF" to chr() and tells of it with ValueError or OverflowError.
        raise DocumentError(f"not YAML: {error}", 0) from error


def is_nothing(value: Value) -> bool:
    """Tell a key with nothing behind it, as when all keys of a section are commented out."""
    return isinstance(value, Scalar) and value.is_plain and not value.text


def _words(problem: str | None, context: str | None) -> str:
    return f"not YAML: {', '.join(part for part in (context, problem) if part)}"


def _document(events: Iterator[Event]) -> Section:
    root = Section(line=1)
    has_root = False
    for event in events:
        match event:
            case StreamEndEvent():
                break
            case DocumentStartEvent() if has_root:
                raise DocumentError("a second document begins", _line(event))
            case NodeEvent():
                has_root = True
                value = _value(events, event, depth=0)
                if isinstance(value, Section):
                    root = value
                elif not is_nothing(value):
                    raise DocumentError("expected keys, each with a value", value.line)
    return root


def _value(events: Iterator[Event], event: NodeEvent, depth: int) -> Value:
    line = _line(event)
    _refuse_machinery(event, line)
    match event:
        case ScalarEvent():
            return Scalar(event.value, is_plain=event.implicit[0], line=line)
        case MappingStartEvent() if depth < DEEPEST:
            return _section(events, line, depth)
        case SequenceStartEvent():
            raise DocumentError("expected no list", line)
        case _:
            raise DocumentError("sections are nested too deeply", line)


def _refuse_machinery(event: NodeEvent, line: int) -> None:
    if isinstance(event, AliasEvent) or event.anchor is not None:
        raise DocumentError("anchors and aliases (& and *) are not offered", line)
    if isinstance(event, ScalarEvent | CollectionStartEvent) and event.tag is not None:
        raise DocumentError("tags (!) are not offered", line)


def _section(events: Iterator[Event], line: int, depth: int) -> Section:
    section = Section(line)
    for event in events:
        if isinstance(event, MappingEndEvent):
            break
        key = _key(event)
        if key.text in section.entries:
            raise DocumentError(f"{key.text!a} is already set in line {section.lines[key.text]}", key.line)
        value_event = next(events)
        assert isinstance(value_event, NodeEvent), "the parser gives every key a value"
        section.lines[key.text] = key.line
        section.entries[key.text] = _value(events, value_event, depth + 1)
    return section


def _key(event: Event) -> Scalar:
    line = _line(event)
    if isinstance(event, NodeEvent):
        _refuse_machinery(event, line)
    if not isinstance(event, ScalarEvent):
        raise DocumentError("expected a key", line)
    return Scalar(event.value, is_plain=event.implicit[0], line=line)


def _line(event: Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0
