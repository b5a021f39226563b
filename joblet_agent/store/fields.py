"""A stored JSON object: values of the type that is asked for, and what nobody asks for. Pure.

A newer agent may have stored more than this one knows. What was not asked for is told with its place, and put
back there when the object is written again: whoever goes back a version and forth again loses nothing.
"""

import json
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar

Place: TypeAlias = tuple[str | int, ...]
"""Keys and positions that lead to a value inside an object."""

T = TypeVar("T")
WordT = TypeVar("WordT", bound=StrEnum)

# With the default escapes the text is ASCII, so that even a lone surrogate comes back as it was.
_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = json.JSONDecoder().decode
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class BrokenRecord(Exception):
    """What is stored is not what it should be."""


class Fields:
    """One object; raises BrokenRecord for a value of another type than the one that is asked for."""

    def __init__(self, stored: object) -> None:
        if not isinstance(stored, dict):
            raise BrokenRecord("it is no JSON object")
        self._stored = stored
        self._asked: set[str] = set()
        self._inner: list[tuple[Place, Fields]] = []

    def take(self, key: str, kind: type[T], default: T) -> T:
        """Return the value, or the default where there is none."""
        self._asked.add(key)
        value: Any = self._stored.get(key, default)
        if type(value) is not kind:
            raise BrokenRecord(f"{key} is no {kind.__name__}")
        return value

    def word(self, key: str, default: WordT) -> WordT:
        """Return the word of the default's kind; one that this agent does not know was not asked for."""
        text = self.take(key, str, default.value)
        try:
            return type(default)(text)
        except ValueError:
            self._asked.discard(key)
            return default

    def time(self, key: str) -> datetime | None:
        """Return the time, or None where there is none."""
        return time_of(self.take(key, int, 0)) if key in self._stored else None

    def inner(self, key: str) -> "Fields | None":
        """Return the object, or None where there is none."""
        if key not in self._stored:
            return None
        self._asked.add(key)
        inner = Fields(self._stored[key])
        self._inner.append(((key,), inner))
        return inner

    def inners(self, key: str) -> "list[Fields]":
        """Return a list of objects."""
        inners = [Fields(value) for value in self.take(key, list, [])]
        self._inner += [((key, position), inner) for position, inner in enumerate(inners)]
        return inners

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts."""
        values = self.take(key, list, [])
        if not all(type(value) is str for value in values):
            raise BrokenRecord(f"{key} is no list of texts")
        return tuple(values)

    def all_texts(self) -> Mapping[str, tuple[str, ...]]:
        """Return the lists of texts that all of its values are."""
        return {key: self.texts(key) for key in self._stored}

    def text_by_text(self, key: str) -> Mapping[str, str]:
        """Return an object whose values are texts."""
        values = self.take(key, dict, {})
        if not all(type(value) is str for value in values.values()):
            raise BrokenRecord(f"{key} has a value that is no text")
        return values

    def unknown(self) -> dict[Place, object]:
        """Return what was not asked for, here and further inside."""
        found: dict[Place, object] = {
            (key,): value for key, value in self._stored.items() if key not in self._asked
        }
        for place, inner in self._inner:
            found.update({place + further: value for further, value in inner.unknown().items()})
        return found


def to_json(value: object) -> bytes:
    """Return the value as compact JSON."""
    return _encode(value).encode()


def from_json(stored: bytes) -> object:
    """Return the stored value; raise ValueError, or RecursionError for what is nested too deep."""
    value: object = _decode(stored.decode())
    return value


def without_nothing(**fields: object) -> dict[str, object]:
    """Return the fields that have more to say than their default."""
    return {key: value for key, value in fields.items() if value}


def put_back(fields: MutableMapping[str, Any], unknown: Mapping[Place, object]) -> None:
    """Add what a newer agent had stored; nothing where its object is gone, and never over another value."""
    for (*way, key), value in unknown.items():
        inner: Any = fields
        try:
            for step in way:
                inner = inner[step]
        except LookupError:
            continue
        inner.setdefault(key, value)


def time_of(usec: int) -> datetime:
    """Return the aware time of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=usec)


def usec_of(time: datetime) -> int:
    """Return the microseconds since 1970 of an aware time."""
    return (time - _EPOCH) // _MICROSECOND
