"""What the value of a key may be. A rule returns the value, or raises ValueError with what it expects.

``write`` is the way back: ``read`` makes the same value of its text.

Rules see the text as it stands in the file, so that YAML's own guesses (``yes`` is true, ``010`` is
eight, ``1:30`` is ninety) never become a setting.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, Protocol

from joblet_agent.config.document import Scalar
from joblet_agent.config.texts import text_of, written
from joblet_agent.units import format_bytes, format_duration, parse_bytes, parse_duration


class Rule(Protocol):
    """One kind of value."""

    @property
    def expected(self) -> str:
        """What a value is, in words that complete "expected"."""
        ...

    def read(self, scalar: Scalar) -> object:
        """Return the value; ValueError says what was expected."""
        ...

    def write(self, value: Any) -> str:
        """Return the text of a value as it can stand in the file."""
        ...


class Change(Enum):
    """When a key's new value counts; a key that says nothing of it is live."""

    LIVE = "reload"
    """From ``systemctl reload`` on, for what happens then."""
    RESTART = "restart"
    """When the agent is started again."""


RESTART = Change.RESTART


@dataclass(frozen=True, slots=True)
class Count:
    """A whole number in a range."""

    least: int
    most: int

    @property
    def expected(self) -> str:
        """Name the range."""
        return f"a whole number from {self.least} to {self.most}"

    def read(self, scalar: Scalar) -> int:
        """Read decimal digits without leading zeros: to YAML those are octal."""
        is_number = scalar.is_plain and re.fullmatch("0|[1-9][0-9]{0,18}", scalar.text)
        if not is_number or not self.least <= int(scalar.text) <= self.most:
            raise ValueError(f"expected {self.expected}")
        return int(scalar.text)

    def write(self, value: int) -> str:
        """Write its digits."""
        return str(value)


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes in a range."""

    least: int
    most: int

    @property
    def expected(self) -> str:
        """Name the range."""
        return f"a size from {format_bytes(self.least)} to {format_bytes(self.most)}"

    def read(self, scalar: Scalar) -> int:
        """Read ``64KiB`` or plain bytes."""
        size = parse_bytes(scalar.text)
        if not self.least <= size <= self.most:
            raise ValueError(f"expected {self.expected}")
        return size

    def write(self, value: int) -> str:
        """Write it with the largest unit that fits."""
        return format_bytes(value)


@dataclass(frozen=True, slots=True)
class Duration:
    """A duration in a range."""

    least: timedelta
    most: timedelta

    @property
    def expected(self) -> str:
        """Name the range."""
        return f"a duration from {format_duration(self.least)} to {format_duration(self.most)}"

    def read(self, scalar: Scalar) -> timedelta:
        """Read ``1h30m``; a number without a unit is none."""
        duration = parse_duration(scalar.text)
        if not self.least <= duration <= self.most:
            raise ValueError(f"expected {self.expected}")
        return duration

    def write(self, value: timedelta) -> str:
        """Write it with units."""
        return format_duration(value)


@dataclass(frozen=True, slots=True)
class Switch:
    """True or false, or two other words for them."""

    on: str = "true"
    off: str = "false"

    @property
    def expected(self) -> str:
        """Name the words."""
        return f"{self.on} or {self.off}"

    def read(self, scalar: Scalar) -> bool:
        """Read only these two words, without quotes."""
        if not scalar.is_plain or scalar.text not in {self.on, self.off}:
            raise ValueError(f"expected {self.expected}")
        return scalar.text == self.on

    def write(self, value: bool) -> str:
        """Write one of the two words."""
        return self.on if value else self.off


@dataclass(frozen=True, slots=True)
class Word:
    """A name that fits a pattern."""

    kind: str
    pattern: str

    @property
    def expected(self) -> str:
        """Name the kind and its pattern."""
        return f"{self.kind}, that is {self.pattern}"

    def read(self, scalar: Scalar) -> str:
        """Read a text; one that YAML takes for a number, a date or nothing wants quotes."""
        if not re.fullmatch(self.pattern, text_of(scalar)):
            raise ValueError(f"expected {self.expected}")
        return scalar.text

    def write(self, value: str) -> str:
        """Write it, in quotes if need be."""
        return written(value)


@dataclass(frozen=True, slots=True)
class AbsolutePath:
    """An absolute path in its shortest form."""

    most_bytes: int = 4095
    may_be_empty: bool = False

    @property
    def expected(self) -> str:
        """Name the form."""
        return "an absolute path without '..'"

    def read(self, scalar: Scalar) -> Path | None:
        """Read a path of printable characters; ``..`` is none, because a link may lead it elsewhere.

        None for the empty text, where that is allowed.
        """
        text = text_of(scalar)
        if self.may_be_empty and not text:
            return None
        path = Path(text)
        if not text.startswith("/") or text.startswith("//") or ".." in path.parts or not text.isprintable():
            raise ValueError(f"expected {self.expected}")
        if len(text.encode()) > self.most_bytes:
            raise ValueError(f"expected a path of at most {self.most_bytes} bytes")
        return path

    def write(self, value: Path | None) -> str:
        """Write it, in quotes if need be."""
        return written("" if value is None else str(value))


@dataclass(frozen=True, slots=True)
class OneOf:
    """A word of a closed set."""

    words: type[StrEnum]

    @property
    def expected(self) -> str:
        """Name the words."""
        return f"one of {', '.join(self.words)}"

    def read(self, scalar: Scalar) -> StrEnum:
        """Read the enum's text, exactly."""
        if scalar.text not in list(self.words):
            raise ValueError(f"expected {self.expected}")
        return self.words(scalar.text)

    def write(self, value: StrEnum) -> str:
        """Write the enum's text."""
        return value.value
