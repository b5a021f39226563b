"""Time that the test moves."""

from datetime import UTC, datetime, timedelta

BEGINNING = datetime(2026, 3, 1, 12, tzinfo=UTC)


class FakeClock:
    """ports.Clock: every look at it is a millisecond later than the one before."""

    def __init__(self, start: datetime = BEGINNING) -> None:
        self.time = start

    def now(self) -> datetime:
        self.time += timedelta(milliseconds=1)
        return self.time
