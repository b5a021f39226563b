"""What members become, from ends, wishes and the time."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from joblet_agent.model.ids import JobId
from joblet_agent.model.job import JobRecord, JobSpec, JobState, Outcome
from joblet_agent.model.workflow import (
    Member,
    MemberPlan,
    MemberState,
    Wish,
    Workflow,
    WorkflowId,
    WorkflowState,
)
from joblet_agent.workflow_file import load
from joblet_agent.workflow_file.values import When
from joblet_agent.workflows.run import Run, again

NOW = datetime(2026, 11, 29, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Played:
    """A workflow whose jobs end as the test says."""

    def __init__(self, text: str, **fields: object) -> None:
        file = load(text).select()
        plans = [
            MemberPlan(
                number=number,
                name=job.name,
                group=job.group,
                requires=job.requires,
                is_for_failure=job.when is When.FAILURE,
                retries=job.retries,
                max_wait=job.max_wait,
            )
            for number, job in enumerate(file.jobs.values())
        ]
        workflow = Workflow(WorkflowId("w"), NOW, groups=file.groups, max_parallel=file.max_parallel)
        self.run = Run(replace(workflow, **fields), [Member(plan) for plan in plans])  # type: ignore[arg-type]
        self.now = NOW
        self._jobs = 0

    def start(self, most: int = 1000) -> list[str]:
        """Let all that may start; return their names."""
        numbers = self.run.take_ready(most)
        for number in numbers:
            self._jobs += 1
            self.run.started(number, JobId(f"job-{self._jobs}"), self.now)
        return [self.run.member(number).plan.name for number in numbers]

    def end(
        self, name: str, state: JobState = JobState.COMPLETED, outputs: Mapping[str, str] | None = None
    ) -> None:
        number = self.run.number_of(name)
        job_id = self.run.member(number).progress.job_id
        assert job_id is not None
        record = JobRecord(
            job_id, JobSpec("x"), state, self.now, ended_at=self.now, outcome=Outcome(state, exit_code=3)
        )
        self.run.job_ended(number, record, self.now, outputs)

    def wait(self, time: timedelta) -> None:
        self.now += time
        self.run.elapse(self.now)

    def states(self) -> dict[str, str]:
        members = [self.run.member(number) for number in range(self.run.size)]
        return {each.plan.name: each.progress.state.value for each in members}

    def state(self) -> WorkflowState:
        return self.run.summary(self.now).state


DIAMOND = """
jobs:
  top: {command: x}
  left: {command: x, requires: top}
  right: {command: x, requires: top}
  end: {command: x, requires: [left, right]}
"""


def test_a_job_starts_when_all_that_it_requires_has_completed() -> None:
    played = Played(DIAMOND)
    assert played.start() == ["top"]
    assert played.start() == []
    played.end("top")
    assert played.start() == ["left", "right"]
    played.end("right")
    assert played.start() == []
    played.end("left")
    assert played.start() == ["end"]
    assert played.state() is WorkflowState.RUNNING
    played.end("end")
    assert played.state() is WorkflowState.COMPLETED


def test_what_cannot_come_true_any_more_is_canceled_with_all_behind_it() -> None:
    played = Played(DIAMOND)
    played.start()
    played.end("top", JobState.FAILED)
    assert played.states() == {"top": "FAILED", "left": "CANCELED", "right": "CANCELED", "end": "CANCELED"}
    assert played.state() is WorkflowState.FAILED
    assert "top=COMPLETED" in played.run.member(1).progress.message


def test_jobs_for_a_failure_are_skipped_without_one() -> None:
    played = Played("jobs: {a: {command: x}, f: {command: x, when: failure}, z: {command: x, when: always}}")
    assert played.start() == ["a"]
    played.end("a")
    assert played.start() == ["z"]
    played.end("z")
    assert played.states() == {"a": "COMPLETED", "f": "SKIPPED", "z": "COMPLETED"}
    assert played.state() is WorkflowState.COMPLETED


def test_a_job_that_failed_is_tried_again_after_growing_pauses() -> None:
    played = Played("jobs: {a: {command: x, retries: {count: 2, delay: 10s, backoff: 3}}}")
    played.start()
    played.end("a", JobState.FAILED)
    assert played.run.next_time == NOW + 10 * SECOND
    played.wait(9 * SECOND)
    assert played.start() == []
    played.wait(SECOND)
    assert played.start() == ["a"]
    played.end("a", JobState.FAILED)
    assert played.run.next_time == NOW + 40 * SECOND
    played.wait(30 * SECOND)
    assert played.start() == ["a"]
    played.end("a", JobState.FAILED)
    assert played.states() == {"a": "FAILED"}
    assert played.run.member(0).progress.tries == 3


def test_a_group_ends_with_its_last_job_as_the_worst_of_them() -> None:
    played = Played(
        "jobs: {t: {command: x, matrix: {v: [1, 2]}}, ok: {command: x, requires: t}, "
        "bad: {command: x, requires: [{t: FAILED}]}}"
    )
    assert played.start() == ["t-1", "t-2"]
    played.end("t-1", JobState.FAILED)
    assert played.start() == []
    played.end("t-2")
    assert played.start() == ["bad"]
    assert played.states()["ok"] == "CANCELED"


def test_a_wait_that_is_too_long_ends_in_cancellation() -> None:
    played = Played("jobs: {a: {command: x}, b: {command: x, requires: a, max_wait: 1m}}")
    played.start()
    played.wait(timedelta(minutes=2))
    assert played.states()["b"] == "CANCELED"


def test_no_more_run_at_once_than_allowed() -> None:
    played = Played("max_parallel: 2\njobs: {t: {command: x, matrix: {v: [1, 2, 3]}}}")
    assert played.start() == ["t-1", "t-2"]
    played.end("t-1")
    assert played.start() == ["t-3"]


def test_a_wish_to_stop_cancels_what_waits_and_ends_as_stopped() -> None:
    played = Played(DIAMOND)
    played.start()
    played.run.wish(Wish.STOP, NOW)
    assert played.states() == {"top": "ACTIVE", "left": "CANCELED", "right": "CANCELED", "end": "CANCELED"}
    played.end("top", JobState.STOPPED)
    assert played.state() is WorkflowState.STOPPED


def test_nothing_starts_while_it_is_paused() -> None:
    played = Played(DIAMOND)
    played.run.pause(is_paused=True)
    assert played.start() == []
    played.run.pause(is_paused=False)
    assert played.start() == ["top"]


def test_an_end_of_an_earlier_try_is_passed_over() -> None:
    played = Played("jobs: {a: {command: x, retries: 1}}")
    played.start()
    first = played.run.member(0).progress.job_id
    played.end("a", JobState.FAILED)
    played.wait(SECOND)
    played.start()
    assert first is not None
    stale = JobRecord(first, JobSpec("x"), JobState.FAILED, NOW, ended_at=NOW)
    played.run.job_ended(0, stale, NOW)
    assert played.states() == {"a": "ACTIVE"}


def test_it_goes_on_from_what_is_stored() -> None:
    played = Played(DIAMOND)
    played.start()
    played.end("top")
    members = [played.run.member(number) for number in range(played.run.size)]
    assert Run(played.run.workflow, members).take_ready(10) == [1, 2]


def test_only_what_has_not_completed_is_run_again() -> None:
    played = Played(DIAMOND)
    played.start()
    played.end("top")
    played.start()
    played.end("left", JobState.FAILED)
    played.end("right")
    members = [played.run.member(number) for number in range(played.run.size)]
    assert sorted(again(members, failed_only=True)) == [1, 3]
    assert sorted(again(members, failed_only=False)) == [0, 1, 2, 3]
    assert all(each.state is MemberState.WAITING for each in again(members, failed_only=False).values())
