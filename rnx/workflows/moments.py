"""Times of workflow messages: Timestamps, where other messages have texts."""

from datetime import UTC, datetime, timedelta
from typing import Any

_LATEST = 250_000_000_000
"""The year 9892: whatever the zone, it is in the calendar."""


def wire_moment(message: Any, field: str) -> datetime | None:
    """Return a time of a workflow message; None if it is absent or no time."""
    if not message.HasField(field):
        return None
    stamp = getattr(message, field)
    if not 0 <= stamp.seconds < _LATEST:
        return None
    return datetime.fromtimestamp(stamp.seconds, UTC) + timedelta(microseconds=stamp.nanos // 1000)


def show_moment(message: Any, field: str) -> str:
    """Return such a time as RFC 3339 in UTC; empty if it is absent."""
    moment = wire_moment(message, field)
    return "" if moment is None else moment.isoformat().replace("+00:00", "Z")


def local_time(message: Any, field: str, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return such a time in the local zone; empty if it is absent."""
    moment = wire_moment(message, field)
    return "" if moment is None else moment.astimezone().strftime(form)


def put_time(data: dict[str, object], message: Any, field: str) -> None:
    """Put such a time into an object as it is on the wire, if it is there."""
    if message.HasField(field):
        stamp = getattr(message, field)
        data[field] = {"seconds": stamp.seconds, "nanos": stamp.nanos}
