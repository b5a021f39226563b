"""What happened to jobs, as watchers are told it."""

from dataclasses import dataclass
from datetime import datetime

from joblet_agent.model.job import JobId, JobState, Outcome

DELETED = "DELETED"
"""Word of an event for a job whose record is gone; no state of a job."""

EVENT_WORDS = (*(state.value for state in JobState), DELETED)


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One change of a job's state, or where a job stands (number 0)."""

    number: int
    """Position in the history of all jobs: each change has the number after that of the one before."""
    time: datetime
    """When it was recorded; of the end of a job, when it ended."""
    job_id: JobId
    name: str
    word: str
    """One of EVENT_WORDS."""
    outcome: Outcome | None = None
    """How the job ended; None for all other changes."""


@dataclass(frozen=True, slots=True)
class WatchQuery:
    """Which events are wanted. Empty fields do not filter; all that are given must match."""

    after: int = 0
    """Number of the last event seen; 0 for what happens from now on."""
    with_standing: bool = False
    """Begin with where the jobs stand: those that have not ended, or all that ``given`` names."""
    given: tuple[str, ...] = ()
    """Ids of jobs, which may be shortened."""
    name: str = ""
    words: frozenset[str] = frozenset()
    started_by: str = ""
    """Name of who submitted the jobs. Of one that is deleted before the watch has seen it nobody knows."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a watcher gets: an event, or just how far the watch has come."""

    number: int
    """Where to go on after this; 0 while the watcher is told where jobs stand."""
    event: JobEvent | None = None
