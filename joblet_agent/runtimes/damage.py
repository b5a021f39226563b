"""What is wrong with a tree, and its text on disk. Pure."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Damage", "damage_text", "read_damage"]


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is not as it was when the tree was added."""

    path: str
    """In the tree, fit for people; empty for the whole tree."""
    what: str
    """For people: ``is missing``, ``has another content``."""

    def __str__(self) -> str:
        return f"/{self.path} {self.what}" if self.path else f"it {self.what}"


def damage_text(found: Iterable[Damage]) -> bytes:
    """Return the file's content."""
    return json.dumps([[one.path, one.what] for one in found]).encode()


def read_damage(text: bytes) -> tuple[Damage, ...]:
    """Read a file's content. Raises ValueError."""
    try:
        return tuple(Damage(str(path), str(what)) for path, what in json.loads(text))
    except TypeError as error:
        raise ValueError(f"not a list of damages: {error}") from error
