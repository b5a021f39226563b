"""One property of a unit, as ``StartTransientUnit`` and ``SetUnitProperties`` want it."""

from dataclasses import dataclass

Value = bool | int | str | bytes | list["Value"]


@dataclass(frozen=True, slots=True)
class Property:
    """One property of a job's unit."""

    name: str
    signature: str
    value: Value
    origin: str
    """The option or configuration key it comes from, or the promise it keeps."""
    manual: str


def line_text(text: str) -> str:
    """Return a text of somebody's as the end of a line of a unit file.

    systemd writes titles and identifiers into the unit's file as they are and reads that again at a reload: a
    line break would begin another setting, a backslash at the end take the next one in.
    """
    return "".join(char if char.isprintable() else " " for char in text).rstrip("\\ ")
