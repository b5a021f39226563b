"""The text that says when a job is to start: a point in time or a calendar expression. Pure."""

import re
from datetime import UTC, datetime, timedelta

from joblet_agent.errors import InvalidRequest
from joblet_agent.jobs.check import quoted

FARTHEST = timedelta(days=3660)
"""How far ahead a start may be."""
MOST_CALENDAR = 256
"""Characters of a calendar expression."""

EXAMPLES = "for example 2026-01-31T10:00:00Z, daily, Mon..Fri 02:00, *:0/15 (see systemd.time(7))"

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_LONG_FRACTION = re.compile(r"(\.\d{6})\d+")
_FRACTION = re.compile(r"(?<!\.)\.(?!\.)")
_CALENDAR = re.compile(r"[A-Za-z0-9 .,:*/~+_-]+", re.ASCII)


def read_when(text: str) -> datetime | str:
    """Return the aware time in UTC that RFC 3339 text says, or else the text as a calendar expression.

    Whether it is one, only systemd knows. Raises InvalidRequest for what can be neither.
    """
    text = text.strip()
    if _RFC3339.fullmatch(text):
        return _moment(text)
    if len(text) > MOST_CALENDAR or not _CALENDAR.fullmatch(text):
        raise bad_schedule(text, "it is neither a time in RFC 3339 nor a calendar expression")
    if _FRACTION.search(text):
        raise bad_schedule(text, "a calendar expression must not have fractions of a second")
    return text


def check_distance(moment: datetime, now: datetime) -> None:
    """Raise InvalidRequest for a start that is too far ahead."""
    if moment - now > FARTHEST:
        raise InvalidRequest(
            f"cannot schedule job: {moment:%Y-%m-%d} is more than {FARTHEST.days} days ahead",
            reason="SCHEDULE_TOO_FAR",
        )


def bad_schedule(text: str, why: str) -> InvalidRequest:
    """Return the error for a text that says no time."""
    return InvalidRequest(
        f"cannot schedule job: cannot read {quoted(text)}: {why}", reason="BAD_SCHEDULE", hint=EXAMPLES
    )


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(_LONG_FRACTION.sub(r"\1", text.upper())).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise bad_schedule(text, str(error)) from error
