"""What the value of a key may be. A rule returns the value, or raises ValueError with what it expects.

Rules see the text as it stands in the file, so that YAML's own guesses (``yes`` is true, ``010`` is
eight, ``1:30`` is ninety) never become a setting.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import yaml

from joblet_agent.config.document import Scalar
from joblet_agent.model.units import format_bytes, format_duration, parse_bytes, parse_duration

_resolver = yaml.resolver.Resolver()


class Rule(Protocol):
    """One kind of value."""

    def read(self, scalar: Scalar) -> object:
        """Return the value; ValueError says what was expected."""
        ...


@dataclass(frozen=True, slots=True)
class Count:
    """A whole number in a range."""

    least: int
    most: int

    def read(self, scalar: Scalar) -> int:
        """Read decimal digits without leading zeros: to YAML those are octal."""
        is_number = scalar.is_plain and re.fullmatch("0|[1-9][0-9]{0,18}", scalar.text)
        if not is_number or not self.least <= int(scalar.text) <= self.most:
            raise ValueError(f"expected a whole number from {self.least} to {self.most}")
        return int(scalar.text)


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes in a range."""

    least: int
    most: int

    def read(self, scalar: Scalar) -> int:
        """Read ``64KiB`` or plain bytes."""
        size = parse_bytes(scalar.text)
        if not self.least <= size <= self.most:
            raise ValueError(f"expected a size from {format_bytes(self.least)} to {format_bytes(self.most)}")
        return size


@dataclass(frozen=True, slots=True)
class Duration:
    """A duration in a range."""

    least: timedelta
    most: timedelta

    def read(self, scalar: Scalar) -> timedelta:
        """Read ``1h30m``; a number without a unit is none."""
        duration = parse_duration(scalar.text)
        if not self.least <= duration <= self.most:
            least, most = format_duration(self.least), format_duration(self.most)
            raise ValueError(f"expected a duration from {least} to {most}")
        return duration


@dataclass(frozen=True, slots=True)
class Switch:
    """True or false, or two other words for them."""

    on: str = "true"
    off: str = "false"

    def read(self, scalar: Scalar) -> bool:
        """Read only these two words, without quotes."""
        if not scalar.is_plain or scalar.text not in {self.on, self.off}:
            raise ValueError(f"expected {self.on} or {self.off}")
        return scalar.text == self.on


@dataclass(frozen=True, slots=True)
class Word:
    """A name that fits a pattern."""

    kind: str
    pattern: str

    def read(self, scalar: Scalar) -> str:
        """Read a text; one that YAML takes for a number, a date or nothing wants quotes."""
        if not re.fullmatch(self.pattern, _text(scalar)):
            raise ValueError(f"expected {self.kind}, that is {self.pattern}")
        return scalar.text


@dataclass(frozen=True, slots=True)
class AbsolutePath:
    """An absolute path in its shortest form."""

    most_bytes: int = 4095
    may_be_empty: bool = False

    def read(self, scalar: Scalar) -> Path | None:
        """Read a path of printable characters; ``..`` is none, because a link may lead it elsewhere.

        None for the empty text, where that is allowed.
        """
        text = _text(scalar)
        if self.may_be_empty and not text:
            return None
        path = Path(text)
        if not text.startswith("/") or text.startswith("//") or ".." in path.parts or not text.isprintable():
            raise ValueError("expected an absolute path without '..'")
        if len(text.encode()) > self.most_bytes:
            raise ValueError(f"expected a path of at most {self.most_bytes} bytes")
        return path


@dataclass(frozen=True, slots=True)
class OneOf:
    """A word of a closed set."""

    words: type[StrEnum]

    def read(self, scalar: Scalar) -> StrEnum:
        """Read the enum's text, exactly."""
        if scalar.text not in list(self.words):
            raise ValueError(f"expected one of {', '.join(self.words)}")
        return self.words(scalar.text)


def _text(scalar: Scalar) -> str:
    """Return the text unless YAML takes it for something else."""
    if scalar.is_plain and _plain_tag(scalar.text) != "tag:yaml.org,2002:str":
        raise ValueError("expected a text (put it in quotes)")
    return scalar.text


def _plain_tag(text: str) -> str:
    return str(_resolver.resolve(yaml.ScalarNode, text, (True, False)))  # type: ignore[no-untyped-call]
