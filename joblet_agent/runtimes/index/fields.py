"""Values of an index while it is read: each is checked, and what is wrong with it is kept."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from joblet_agent.model.web import file_address, web_address

__all__ = ["MOST_WORD", "Fields", "shown"]

MOST_WORD = 64
_MOST_PLATFORMS = 32
_LARGEST = 1 << 62
_PLATFORM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_PINNED_IMAGE = re.compile(r"docker://[a-z0-9.-]+(?::[0-9]{1,5})?(?:/[a-z0-9._-]+)+@sha256:[0-9a-f]{64}")
_RELATIVE = re.compile(r"(?!/)[A-Za-z0-9._~%+,=@/-]{1,1024}")


@dataclass(slots=True)
class Fields:
    """Reads values by kind; ``place`` is where one stands in the file. What is wrong is read as empty."""

    problems: list[str] = field(default_factory=list)

    def text(self, tree: dict[str, Any], key: str, place: str, most: int) -> str:
        """Return a text of at most so many characters; whole numbers are taken for texts."""
        value = tree.get(key)
        if value is None:
            return ""
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or len(value) > most or not value.isprintable():
            self.problem(place, f"expected a text of at most {most} printable characters")
            return ""
        return value

    def address(self, value: Any, place: str) -> str:
        """Return an address, or a path below the directory of the index."""
        try:
            return _address(value)
        except ValueError as error:
            self.problem(place, str(error))
            return ""

    def sha256(self, entry: dict[str, Any], key: str, place: str, prefix: str = "") -> str:
        """Return 64 hexadecimal digits, without the prefix."""
        value = entry.get(key)
        if value is None or value == "":
            return ""
        digits = value.removeprefix(prefix) if isinstance(value, str) else ""
        if not _SHA256.fullmatch(digits):
            self.problem(f"{place}.{key}", f"expected {prefix}HEX, with 64 hexadecimal digits")
            return ""
        return digits.lower()

    def size(self, entry: dict[str, Any], key: str, place: str) -> int:
        """Return a number of bytes; 0: it is not told."""
        value = entry.get(key)
        if value is None:
            return 0
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST:
            self.problem(f"{place}.{key}", "expected a number of bytes")
            return 0
        return value

    def platforms(self, entry: dict[str, Any], place: str) -> Iterator[str]:
        """Yield platforms such as ``linux-amd64``."""
        values = entry.get("platforms")
        if values is None:
            return
        if not isinstance(values, list) or len(values) > _MOST_PLATFORMS:
            self.problem(f"{place}.platforms", f"expected a list of at most {_MOST_PLATFORMS}")
            return
        for number, value in enumerate(values):
            if isinstance(value, str) and _PLATFORM.fullmatch(value):
                yield value
            else:
                self.problem(f"{place}.platforms[{number}]", "expected a platform such as linux-amd64")

    def problem(self, place: str, text: str) -> None:
        """Keep what is wrong."""
        self.problems.append(f"{place}: {text}")


def _address(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("expected an address")
    if value.startswith("docker:"):
        if not _PINNED_IMAGE.fullmatch(value):
            raise ValueError("expected docker://HOST/NAME@sha256:HEX")
    elif value.startswith("file:"):
        file_address(value)
    elif ":" in value:
        web_address(value)
    elif not _RELATIVE.fullmatch(value) or {"", ".", ".."} & set(unquote(value).split("/")):
        raise ValueError("expected an address, or a path below the directory of the index")
    return value


def shown(text: str) -> str:
    """Return a key as it may stand in a message."""
    return text if text.isprintable() and len(text) <= MOST_WORD else repr(text[:MOST_WORD])
