"""What a recurring schedule has to do now. Pure: the schedule, its timer and the time in, one step out.

The store says which start comes next (``next_at``) and which was the newest (``last_at``); the timer says
what systemd takes for the next one from now on. They differ when a start was missed, when the time zone
was changed, and when the clock was set::

    next_at is past, the timer is beyond it     the start is due; all that were missed meanwhile are this one
    the timer is elsewhere, ahead of last_at    follow it: the calendar means another time now
    the timer is not ahead of last_at           the clock was set back: those starts have happened, wait until
                                                it is beyond; but by more than CORRECTION: follow
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from joblet_agent.model.schedule import Schedule
from joblet_agent.ports import TimerPhase, TimerStatus

CORRECTION = timedelta(hours=3)
"""A clock that is set back by up to this much repeats no start."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Start what was due at ``due``; the next start is ``next_at``."""

    due: datetime
    next_at: datetime | None


@dataclass(frozen=True, slots=True)
class Follow:
    """Start nothing; the next start is ``next_at``."""

    next_at: datetime
    forgets_last: bool = False
    """Starts before ``last_at`` may happen again."""


def next_step(schedule: Schedule, timer: TimerStatus, now: datetime) -> Claim | Follow | None:
    """Return what to do; None for nothing until the timer tells more."""
    if schedule.is_paused or timer.phase not in {TimerPhase.WAITING, TimerPhase.ELAPSED}:
        return None
    ahead = timer.next_at
    if ahead is not None and schedule.last_at is not None and ahead <= schedule.last_at:
        is_correction = schedule.last_at - ahead <= CORRECTION
        return None if is_correction else Follow(ahead, forgets_last=True)
    if schedule.next_at is not None and schedule.next_at <= now:
        # A timer that still stands at it is about to trigger, and then knows the next one.
        return Claim(schedule.next_at, ahead) if ahead is None or ahead > schedule.next_at else None
    if ahead is not None and ahead != schedule.next_at:
        return Follow(ahead)
    return None
