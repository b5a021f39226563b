"""The text that says when: read, or refused, whatever it is. Attack case C7."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.errors import InvalidRequest
from joblet_agent.jobs.agenda import calendar_of
from joblet_agent.jobs.when import FARTHEST, MOST_CALENDAR, check_distance, read_when
from tests.fakes.timers import next_time


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-01T12:00:00Z", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01t12:00:00.5z", datetime(2026, 3, 1, 12, 0, 0, 500000, tzinfo=UTC)),
        ("2026-03-01T12:00:00.123456789+02:00", datetime(2026, 3, 1, 10, 0, 0, 123456, tzinfo=UTC)),
        ("1970-01-01T00:00:00Z", datetime(1970, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_rfc_3339(text: str, moment: datetime) -> None:
    assert read_when(text) == moment


@pytest.mark.parametrize(
    "text", ["daily", "Mon..Fri 02:00", "*-*-1 00:00", "*-02~03", "Mon 02:30 Europe/Berlin", "*:0/15"]
)
def test_calendar_expressions_are_left_to_systemd(text: str) -> None:
    assert read_when(f" {text} ") == text


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-29T10:00:00Z",
        "2026-13-01T10:00:00Z",
        "2026-01-01T25:00:00Z",
        "2026-12-31T23:59:60Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "",
        "daily\nOnBootSec=1",
        "daily\0",
        "%i",
        "*:*:0/0.000001",
        "x" * (MOST_CALENDAR + 1),
        "täglich",
        "$(reboot)",
    ],
)
def test_c7_what_is_neither_is_refused_with_examples(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_when(text)
    assert caught.value.reason == "BAD_SCHEDULE"
    assert str(caught.value).startswith("cannot schedule job: cannot read ")
    assert len(str(caught.value)) < 250
    assert "Mon..Fri 02:00" in str(caught.value.hint)


@given(
    st.text()
    | st.from_regex(r"\A\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,12})?(Z|[+-]\d\d:\d\d)\Z")
    | st.datetimes(timezones=st.timezones()).map(datetime.isoformat)
)
def test_c7_any_text_is_a_time_an_expression_or_refused(text: str) -> None:
    try:
        when = read_when(text)
    except InvalidRequest as error:
        assert error.reason == "BAD_SCHEDULE"  # noqa: PT017 - most texts are refused, some are not
        return
    if isinstance(when, datetime):
        assert when.tzinfo is UTC
    else:
        assert when.isprintable()
        assert len(when) <= MOST_CALENDAR


def test_c7_a_start_may_be_ten_years_ahead_and_no_further() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    check_distance(now + FARTHEST, now)
    check_distance(datetime(1970, 1, 1, tzinfo=UTC), now)
    with pytest.raises(InvalidRequest, match="more than 3660 days ahead") as caught:
        check_distance(datetime(9999, 12, 31, tzinfo=UTC), now)
    assert caught.value.reason == "SCHEDULE_TOO_FAR"


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))
def test_the_expression_of_one_point_in_time_is_exact(due: datetime) -> None:
    assert next_time(calendar_of(due), due - timedelta(microseconds=1)) == due
