"""Printing: data to standard output as text, JSON or YAML.

Text from the agent was written by whoever made the job, so no control character of it reaches a terminal.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO


class Format(StrEnum):
    """Forms of output by their text in ``-o``."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


COLOURS = {
    "RUNNING": 33,
    "COMPLETED": 32,
    "FAILED": 31,
    "SCHEDULED": 36,
    "PENDING": 36,
    "STOPPED": 35,
    "CANCELED": 35,
    "INITIALIZING": 34,
}


def clean(text: str) -> str:
    """Return the text with everything a terminal could act on, also line ends, as visible escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def show(form: Format, data: object, text: Callable[[], str]) -> None:
    """Print ``data`` in a form for programs, or what ``text`` makes of it for people."""
    if form is Format.TABLE:
        print(text())
    elif form is Format.JSON:
        print(_json(data, indent=2))
    else:
        print(_yaml(data), end="")


def show_lines(form: Format, texts: Sequence[str]) -> None:
    """Print texts, one a line; in a form for programs as an array."""
    if form is not Format.TABLE:
        show(form, list(texts), str)
        return
    for text in texts:
        print(clean(text))


def show_record(form: Format, data: Mapping[str, object]) -> None:
    """Print one of a stream of records at once: a line of JSON or a YAML document."""
    if form is Format.YAML:
        print(f"---\n{_yaml(data)}", end="", flush=True)
    else:
        print(_json(data), flush=True)


def uses_colours(stream: "TextIO | None" = None) -> bool:
    """Tell whether the stream (standard output) is a terminal whose user has not refused colours."""
    refused = any(os.environ.get(name) for name in ("NO_COLOR", "RNX_NO_COLOR"))
    return not refused and os.environ.get("TERM") != "dumb" and (stream or sys.stdout).isatty()


def status_word(status: str, *, stream: "TextIO | None" = None) -> str:
    """Return the state, with what is said behind it, coloured where ``stream`` is a terminal."""
    colour = COLOURS.get(status.partition(" ")[0])
    if colour is None or not uses_colours(stream):
        return clean(status)
    return f"\x1b[{colour}m{status}\x1b[0m"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; cells longer than ``most`` are cut, and it is at least ``least`` wide."""

    title: str
    most: int = 0
    paint: Callable[[str], str] = str
    least: int = 0


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows below a header and a line of dashes. Cells are cleaned, the last column is not padded."""
    cells = [[_cell(column, text) for column, text in zip(columns, row, strict=True)] for row in rows]
    widths = [
        max([len(column.title), column.least, *(len(row[place]) for row in cells)]) + 2
        for place, column in enumerate(columns)
    ]
    header = _line([column.title for column in columns], widths, columns=None)
    lines = [_line(row, widths, columns) for row in cells]
    return "\n".join([header, "-" * max(len(header), sum(widths)), *lines])


def _cell(column: Column, text: str) -> str:
    text = clean(text) or "-"
    return text if not column.most or len(text) <= column.most else text[: column.most - 3] + "..."


def _line(cells: Sequence[str], widths: Sequence[int], columns: Sequence[Column] | None) -> str:
    """Join the cells; colours are put on after the widths are known, because they take no room."""
    parts = []
    for place, cell in enumerate(cells):
        painted = columns[place].paint(cell) if columns else cell
        last = place == len(cells) - 1
        parts.append(painted if last else painted + " " * (widths[place] - len(cell)))
    return "".join(parts)


def _json(data: object, indent: int | None = None) -> str:
    import json  # noqa: PLC0415 - an attached run does without

    return json.dumps(data, indent=indent)


def _yaml(data: object) -> str:
    import yaml  # noqa: PLC0415 - only -o yaml needs it

    text: str = yaml.safe_dump(data, sort_keys=False)
    return text
