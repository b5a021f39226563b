"""Certificates as people and programs read them in lists. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from joblet_agent.model.certificate import CertificateState

_TITLES = ("NAME", "ROLE", "SERIAL", "NOT AFTER", "STATE")


@dataclass(frozen=True, slots=True)
class Row:
    """One certificate."""

    name: str
    role: str
    """Of a client; ``server`` and ``ca`` for the other two kinds."""
    serial: str
    until: datetime
    state: CertificateState


def as_table(rows: Sequence[Row]) -> str:
    """Return a table with a header."""
    cells = [
        _TITLES,
        *((row.name, row.role, row.serial, f"{row.until:%Y-%m-%d %H:%M}", row.state) for row in rows),
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(map(str.ljust, line, widths)) for line in cells)
    return "\n".join(line.rstrip() for line in lines)


def as_json(rows: Sequence[Row]) -> str:
    """Return an array of objects; times as RFC 3339 has them."""
    content = [
        {
            "name": row.name,
            "role": row.role,
            "serial": row.serial,
            "not_after": f"{row.until:%Y-%m-%dT%H:%M:%SZ}",
            "state": row.state.value,
        }
        for row in rows
    ]
    return json.dumps(content, indent=2, ensure_ascii=False)
