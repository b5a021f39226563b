"""Sizes and durations as people write them: ``512MiB``, ``1h30m``. Pure.

Both parsers raise ValueError with a text that says what they expect; neither takes a sign, a
fraction, white space or digits other than ASCII's.
"""

import re
from datetime import timedelta

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB

LONGEST_TIME = timedelta(days=36500)
"""The longest time limit of a job."""

LARGEST_SIZE = 2**63 - 1
"""What fits the signed 64-bit numbers of the wire, of systemd and of SQLite."""

_SIZE_UNITS = {"TiB": TIB, "GiB": GIB, "MiB": MIB, "KiB": KIB, "": 1}
_SIZE = re.compile(r"([0-9]{1,19})(TiB|GiB|MiB|KiB|)")

_DURATION_UNITS = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
# Eight digits keep every sum below the largest timedelta (999,999,999 days).
_DURATION = re.compile("".join(f"(?:([0-9]{{1,8}}){unit})?" for unit in _DURATION_UNITS))


def parse_bytes(text: str) -> int:
    """Return the bytes of ``64KiB``, ``512MiB``, ``1GiB``, ``2TiB`` or a plain number of them."""
    match = _SIZE.fullmatch(text)
    size = int(match[1]) * _SIZE_UNITS[match[2]] if match else None
    if size is None or size > LARGEST_SIZE:
        raise ValueError("expected a size such as 512MiB (KiB, MiB, GiB, TiB, or plain bytes)")
    return size


def format_bytes(size: int) -> str:
    """Return the shortest exact text that ``parse_bytes`` reads back."""
    if size == 0:
        return "0"
    unit = next(unit for unit, factor in _SIZE_UNITS.items() if size % factor == 0)
    return f"{size // _SIZE_UNITS[unit]}{unit}"


def readable_bytes(size: int) -> str:
    """Return a size in binary units to three digits or so: 512 MiB, 1.46 GiB."""
    for name, unit in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size >= unit:
            return f"{size / unit:.4g} {name}"
    return f"{size} B"


def parse_duration(text: str) -> timedelta:
    """Return the duration of ``10s``, ``1h30m``, ``30d``, ``500ms``: units descend, each at most once."""
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError("expected a duration such as 10s, 1h30m or 30d (units d, h, m, s, ms)")
    parts = zip(match.groups(default="0"), _DURATION_UNITS.values(), strict=True)
    return sum((int(number) * unit for number, unit in parts), timedelta(0))


def format_duration(duration: timedelta) -> str:
    """Return the text that ``parse_duration`` reads back, in whole milliseconds."""
    text = ""
    for name, unit in _DURATION_UNITS.items():
        number, duration = divmod(duration, unit)
        text += f"{number}{name}" if number else ""
    return text or "0s"


def parse_timeout(text: str) -> timedelta:
    """Return the time limit that ``30s``, ``5m`` or ``1h30m`` says; ValueError for none, and for zero."""
    timeout = parse_duration(text)
    if not timedelta(0) < timeout <= LONGEST_TIME:
        raise ValueError(f"expected more than 0s and at most {LONGEST_TIME.days}d")
    return timeout
