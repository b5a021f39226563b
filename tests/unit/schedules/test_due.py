"""What a schedule has to do: every relation of store, timer and clock. Attack case C7."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from joblet_agent.model.job import JobId, JobRecord, JobSpec, JobState
from joblet_agent.model.schedule import Schedule, ScheduleId
from joblet_agent.ports import TimerId, TimerKind, TimerPhase, TimerStatus
from joblet_agent.schedules.due import Claim, Follow, next_step

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
HOURLY = Schedule(
    ScheduleId("s"),
    "hourly",
    JobRecord(JobId("s"), JobSpec("true"), JobState.SCHEDULED, NOON - 9 * HOUR),
    next_at=NOON,
    last_at=NOON - HOUR,
)


def step(at: timedelta, ahead: datetime | None, schedule: Schedule = HOURLY) -> Claim | Follow | None:
    """Return the step so long after noon, with the timer's next time."""
    phase = TimerPhase.WAITING if ahead else TimerPhase.ELAPSED
    return next_step(schedule, TimerStatus(TimerId(TimerKind.SCHEDULE, "s"), phase, ahead), NOON + at)


ZERO, TICK = timedelta(0), timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("at", "ahead", "expected"),
    [
        (-TICK, NOON, None),
        (ZERO, NOON, None),  # about to trigger
        (ZERO, NOON + HOUR, Claim(NOON, NOON + HOUR)),
        (5 * HOUR + TICK, NOON + 6 * HOUR, Claim(NOON, NOON + 6 * HOUR)),  # the agent was away: once
        (ZERO, None, Claim(NOON, None)),  # the calendar ends
        (-HOUR / 2, NOON - HOUR / 4, Follow(NOON - HOUR / 4)),  # another time zone
        (-HOUR / 2, NOON + HOUR / 4, Follow(NOON + HOUR / 4)),
    ],
)
def test_what_is_due_and_what_comes_next(
    at: timedelta, ahead: datetime | None, expected: Claim | Follow | None
) -> None:
    assert step(at, ahead) == expected


def test_c7_a_clock_that_is_set_forward_by_an_hour_starts_once() -> None:
    assert step(HOUR - TICK, NOON + HOUR) == Claim(NOON, NOON + HOUR)
    assert step(HOUR, NOON + 2 * HOUR) == Claim(NOON, NOON + 2 * HOUR)


def test_c7_a_clock_that_is_set_back_by_an_hour_repeats_nothing() -> None:
    assert step(-1.5 * HOUR, NOON - HOUR) is None
    assert step(-HOUR, NOON) is None


def test_c7_a_clock_that_was_wrong_by_years_does_not_stop_a_schedule() -> None:
    wrong = replace(HOURLY, last_at=NOON.replace(year=2036), next_at=NOON.replace(year=2036) + HOUR)
    assert step(-HOUR / 2, NOON, wrong) == Follow(NOON, forgets_last=True)


@pytest.mark.parametrize("phase", [TimerPhase.TRIGGERED, TimerPhase.GONE])
def test_nothing_is_decided_before_the_timer_knows(phase: TimerPhase) -> None:
    assert next_step(HOURLY, TimerStatus(TimerId(TimerKind.SCHEDULE, "s"), phase), NOON + HOUR) is None


def test_a_paused_schedule_does_nothing() -> None:
    assert step(HOUR, NOON + 2 * HOUR, replace(HOURLY, is_paused=True, next_at=None)) is None
