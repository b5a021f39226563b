"""Points in time: read from what people type, shown in the local zone."""

import re
from datetime import UTC, datetime, timedelta

from rnx.exits import UsageError

LONGEST = timedelta(days=365)
EXAMPLES = "for example 10m, 2h30m, 2026-01-31 10:00, 2026-01-31T10:00:00Z"

_ABSOLUTE = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?", re.ASCII | re.IGNORECASE
)
_LONG_FRACTION = re.compile(r"(\.\d{6})\d+")
_PART = re.compile(
    r"\s*(\d+)\s*(h|hours?|m|mins?|minutes?|s|secs?|seconds?)(?![a-z])", re.ASCII | re.IGNORECASE
)
_SECONDS = {"h": 3600, "m": 60, "s": 1}


def moment_before(text: str, now: datetime) -> datetime:
    """Read ``--since``: a point in time, or how long before ``now``."""
    return _moment("--since", text, now, -1)


def start_after(text: str, now: datetime) -> str:
    """Read ``--schedule``: a point in time, or how long after ``now``, as RFC 3339.

    Anything else is for the agent to judge: it may be a calendar expression, and only systemd can read that.
    """
    text = text.strip()
    if not (_ABSOLUTE.fullmatch(text) or _parts(text)):
        return text
    return _moment("--schedule", text, now, +1).isoformat()


def is_recurring(start: str) -> bool:
    """Tell whether ``start_after`` found no single point in time."""
    return bool(start) and not _ABSOLUTE.fullmatch(start)


def parse_span(flag: str, text: str) -> timedelta:
    """Read how long something may take: 30s, 10m, 2h30m."""
    return _relative(flag, text.strip())


def parse_wire(text: str) -> datetime | None:
    """Return the aware time that RFC 3339 text of the wire says; None when it is empty or something else.

    Unlike RFC 3339, Python 3.11 reads at most six digits of a fraction, so longer ones are cut.
    """
    try:
        moment = datetime.fromisoformat(_LONG_FRACTION.sub(r"\1", text))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def show_time(text: str, *, empty: str = "N/A", zone: bool = False) -> str:
    """Return a time of the wire in the local zone, to the second."""
    moment = parse_wire(text)
    if moment is None:
        return text or empty
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z" if zone else "%Y-%m-%d %H:%M:%S")


def show_exact_time(unix_ns: int) -> str:
    """Return a time as RFC 3339 in UTC, to the millisecond."""
    seconds, rest = divmod(unix_ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest // 1_000_000:03}Z"


def show_duration(duration: timedelta) -> str:
    """Return a duration in the two largest units that matter: 12.3s, 4.5m, 3h20m, 2d4h."""
    seconds = max(duration.total_seconds(), 0.0)
    if seconds < 60:  # noqa: PLR2004 - the units of time are no magic numbers
        return f"{seconds:.1f}s"
    if seconds < 3600:  # noqa: PLR2004
        return f"{seconds / 60:.1f}m"
    hours, minutes = divmod(int(seconds) // 60, 60)
    days, rest = divmod(hours, 24)
    if not days:
        return f"{hours}h{minutes}m" if minutes else f"{hours}h"
    return f"{days}d{rest}h" if rest else f"{days}d"


def _moment(flag: str, text: str, now: datetime, direction: int) -> datetime:
    text = text.strip()
    if _ABSOLUTE.fullmatch(text):
        return _absolute(flag, text)
    return now + direction * _relative(flag, text)


def _absolute(flag: str, text: str) -> datetime:
    """Read a date and time; without a zone it is local time."""
    try:
        moment = datetime.fromisoformat(_LONG_FRACTION.sub(r"\1", text.upper()))
    except ValueError as error:
        raise UsageError(f"cannot read {flag}={text}: {error}", hint=EXAMPLES) from error
    return moment.astimezone()


def _relative(flag: str, text: str) -> timedelta:
    parts = _parts(text)
    if not parts:
        raise UsageError(f"cannot read {flag}={text}: not a time", hint=EXAMPLES)
    seconds = sum(int(part[1][:12]) * _SECONDS[part[2][0].lower()] for part in parts)
    if not 1 <= seconds <= LONGEST.total_seconds():
        raise UsageError(
            f"cannot read {flag}={text}: expected 1 second to {LONGEST.days} days", hint=EXAMPLES
        )
    return timedelta(seconds=seconds)


def _parts(text: str) -> list[re.Match[str]]:
    """Return the numbers with their units; nothing if there is anything else in the text."""
    parts = list(_PART.finditer(text))
    return parts if "".join(part.group() for part in parts) == text else []
