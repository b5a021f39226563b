import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from rnx.exits import UsageError
from rnx.times import is_recurring, moment_before, parse_wire, show_duration, show_time, start_after

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "XXX-02")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10m", 600), ("2h30m", 9000), ("1h 15min 30s", 4530), ("5MIN", 300), ("10 s", 10), ("1hour", 3600)],
)
def test_relative_times(text: str, seconds: int) -> None:
    assert moment_before(text, NOW) == NOW - timedelta(seconds=seconds)
    assert start_after(text, NOW) == (NOW + timedelta(seconds=seconds)).isoformat()
    assert not is_recurring(start_after(text, NOW))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-12-31T23:59:00Z", datetime(2025, 12, 31, 23, 59, tzinfo=UTC)),
        ("2025-12-31T23:59:00.5+02:00", datetime(2025, 12, 31, 21, 59, 0, 500000, tzinfo=UTC)),
        ("2025-12-31T23:59:00.123456789Z", datetime(2025, 12, 31, 23, 59, 0, 123456, tzinfo=UTC)),
        ("2025-12-31 23:59", datetime(2025, 12, 31, 21, 59, tzinfo=UTC)),
        ("2025-12-31T23:59:01", datetime(2025, 12, 31, 21, 59, 1, tzinfo=UTC)),
    ],
)
def test_absolute_times_without_a_zone_are_local(text: str, expected: datetime) -> None:
    assert moment_before(text, NOW) == expected
    assert datetime.fromisoformat(start_after(text, NOW)) == expected


@pytest.mark.parametrize(
    "text",
    ["", "soon", "0s", "366h 9000h", "10", "10x", "m10", "10m!", "2025-13-01 10:00", "20250101", "10minx"],
)
def test_other_texts_are_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        moment_before(text, NOW)
    assert str(caught.value).startswith(f"cannot read --since={text}")
    assert "2h30m" in caught.value.hint


@pytest.mark.parametrize("text", ["0s", "366h 9000h", "2025-13-01 10:00", "2025-02-29T10:00:00Z"])
def test_a_start_that_is_a_time_and_cannot_be_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        start_after(text, NOW)
    assert str(caught.value).startswith(f"cannot read --schedule={text}")
    assert "2h30m" in caught.value.hint


@pytest.mark.parametrize(
    "text", ["daily", " Mon..Fri 02:00 ", "*-*-1 00:00", "*:0/15", "soon", "10", "10minx"]
)
def test_what_is_no_time_may_be_a_calendar_expression_for_the_agent_to_judge(text: str) -> None:
    assert start_after(text, NOW) == text.strip()
    assert is_recurring(start_after(text, NOW))


def test_times_of_the_wire_are_shown_in_the_local_zone() -> None:
    assert show_time("2026-01-31T10:00:00Z") == "2026-01-31 12:00:00"
    assert show_time("2026-01-31T10:00:00Z", zone=True) == "2026-01-31 12:00:00 XXX"
    assert show_time("") == "N/A"
    assert show_time("later") == "later"
    assert parse_wire("2026-01-31T10:00:00.123456789Z") is not None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0s"),
        (12.34, "12.3s"),
        (270, "4.5m"),
        (12000, "3h20m"),
        (10800, "3h"),
        (187200, "2d4h"),
        (172800, "2d"),
        (-5, "0.0s"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert show_duration(timedelta(seconds=seconds)) == text
