"""Numbers and what is demanded of them: percentiles, bounds, rows, the table and the JSON text."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Bound:
    """What a value must keep to: ``limit`` is the most, or with ``is_least`` the least."""

    limit: float
    is_least: bool = False

    def holds(self, value: float) -> bool:
        """Say whether the value keeps to it."""
        return value >= self.limit if self.is_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'>=' if self.is_least else '<='} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Row:
    """One number of one benchmark."""

    benchmark: str
    what: str
    value: float
    unit: str
    bound: Bound | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """``reached``, ``NOT reached``, or nothing for a number without a bound."""
        if self.bound is None:
            return ""
        return "reached" if self.bound.holds(self.value) else "NOT reached"


def percentile(values: Sequence[float], rank: float) -> float:
    """Return the nearest-rank percentile: a value that was measured, never one in between."""
    return sorted(values)[max(0, math.ceil(len(values) * rank / 100) - 1)]


def median(values: Sequence[float]) -> float:
    """Return the 50th percentile."""
    return percentile(values, 50)


def compared(
    benchmark: str, what: str, unit: str, ours: Sequence[float], theirs: Sequence[float], other: str = "bare"
) -> list[Row]:
    """Return the rows of two series that were measured in turns: p50, p99 and least of each.

    The least tells what the same takes when nothing else runs on the machine.
    """
    return [
        Row(benchmark, f"{what}, {who}, {name}", percentile(series, rank), unit)
        for who, series in (("agent", ours), (other, theirs))
        for name, rank in (("p50", 50), ("p99", 99), ("least", 0))
    ]


def table(rows: Iterable[Row]) -> str:
    """Return the rows as text for people."""
    cells = [
        (
            row.benchmark,
            row.what,
            f"{_number(row.value)} {row.unit}",
            str(row.bound or ""),
            row.verdict,
            row.note,
        )
        for row in rows
    ]
    head = ("benchmark", "what", "value", "bound", "verdict", "note")
    widths = [max(len(line[column]) for line in (head, *cells)) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (head, *cells)
    )


def markdown(rows: Iterable[Row]) -> str:
    """Return the rows as a table for docs/performance.md."""
    lines = ["| benchmark | what | value | bound | |", "| --- | --- | ---: | ---: | --- |"]
    for row in rows:
        verdict = f"**{row.verdict}**" if row.verdict.startswith("NOT") else row.verdict
        cells = (row.benchmark, row.what, f"{_number(row.value)} {row.unit}", str(row.bound or ""), verdict)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def as_json(machine: Mapping[str, str], rows: Iterable[Row]) -> str:
    """Return machine and rows for programs."""
    listed = [asdict(row) | {"verdict": row.verdict} for row in rows]
    return json.dumps({"machine": machine, "rows": listed}, indent=2) + "\n"


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
