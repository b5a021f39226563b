"""YAML that nobody has vouched for: maps, lists and texts, within bounds, or RnxError with the line.

What YAML has beyond that is not needed in a configuration and can be abused: aliases unfold to any size, tags
and implicit types make values of kinds that nobody expects. So they are refused, and every scalar is a text.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rnx.config import HELP_HINT
from rnx.exits import RnxError

MOST_BYTES = 1024 * 1024
"""Of a file; some hundred nodes."""
DEEPEST = 8
"""Of maps and lists inside each other; a configuration has three."""


def read_text(path: Path) -> str:
    """Return the text of a file. Raises RnxError if it cannot be read, is not UTF-8 or has too many bytes."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise RnxError(f"cannot read {path}: {error.strerror}") from error
    return decoded(content, str(path))


def decoded(content: bytes, source: str) -> str:
    """Return the text of what was read. ``source`` names it in errors (RnxError)."""
    if len(content) > MOST_BYTES:
        raise RnxError(f"cannot read {source}: it has more than {MOST_BYTES} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RnxError(f"cannot read {source}: not UTF-8") from error


def read_document(text: str, source: str) -> object:
    """Return dicts, lists and strings; an empty document is an empty string. Raises RnxError only."""
    import yaml  # noqa: PLC0415 - 20 ms that the local socket does not need

    # libyaml is faster; PyYAML may have been built without it.
    loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        return _build(yaml.parse(text, Loader=loader))
    except _Refused as error:
        raise _bad(source, error) from error
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise _bad(source, f"{line}{error.problem}") from error
    except yaml.YAMLError as error:
        raise _bad(source, "not YAML") from error


def _bad(source: str, why: object) -> RnxError:
    return RnxError(
        f"cannot read the configuration {source}: {why}", hint=HELP_HINT, reason="BAD_CONFIGURATION"
    )


class _Refused(Exception):
    """YAML, but not what a configuration may have."""

    def __init__(self, event: Any, why: str) -> None:
        super().__init__(f"line {event.start_mark.line + 1}: {why}")


class _Map:
    """A map that is being read: entries so far, and the key whose value is next."""

    def __init__(self) -> None:
        self.value: dict[str, object] = {}
        self._key: str | None = None

    def add(self, item: object, event: Any) -> None:
        if self._key is not None:
            self.value[self._key], self._key = item, None
        elif not isinstance(item, str):
            raise _Refused(event, "a key that is no text")
        elif item in self.value:
            raise _Refused(event, "a key that was there before")
        else:
            self._key = item


class _List:
    """A list that is being read, or the stream of documents."""

    def __init__(self) -> None:
        self.value: list[object] = []

    def add(self, item: object, event: Any) -> None:
        self.value.append(item)


def _build(events: Iterator[Any]) -> object:
    """Put the events of the parser together; without recursion, so that depth costs nothing."""
    stream = _List()
    open_: list[_Map | _List] = [stream]
    for event in events:
        match type(event).__name__:
            case "AliasEvent":
                raise _Refused(event, "an alias (*name); write the value itself")
            case "DocumentStartEvent" if stream.value:
                raise _Refused(event, "a second document")
            case "ScalarEvent":
                open_[-1].add(_text(event), event)
            case "MappingStartEvent" | "SequenceStartEvent":
                if len(open_) > DEEPEST:
                    raise _Refused(event, f"more than {DEEPEST} maps and lists inside each other")
                open_.append(_Map() if type(event).__name__ == "MappingStartEvent" else _List())
            case "MappingEndEvent" | "SequenceEndEvent":
                ended = open_.pop()
                open_[-1].add(ended.value, event)
    return stream.value[0] if stream.value else ""


def _text(event: Any) -> str:
    text = str(event.value)
    try:
        text.encode()
    except UnicodeEncodeError:  # an escape for half a character, which PyYAML's own parser lets pass
        raise _Refused(event, "a text that is not Unicode") from None
    return text
