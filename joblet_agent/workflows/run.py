"""What happens next in a workflow: from ends, wishes and the time to what its members become. Pure.

Nothing here starts, stops or stores anything. Whoever drives it (driver.py) tells what has happened, takes
what is to start and what has changed, stores that, and then acts. Every member ends once, and its end costs
what asks about it, so a workflow of n jobs costs n times as much as one of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from heapq import heapify, heappop, heappush

from joblet_agent.model.ids import JobId
from joblet_agent.model.job import JobRecord, JobState
from joblet_agent.model.workflow import (
    Counts,
    Member,
    MemberPlan,
    MemberState,
    Progress,
    Wish,
    Workflow,
    WorkflowState,
)
from joblet_agent.workflow_file.expression import End, to_text
from joblet_agent.workflows.conditions import Conditions

_HARM = {end: number for number, end in enumerate(End)}
_MOST_TOLD = 200
"""Characters of a condition in a message."""


@dataclass(slots=True)
class _Group:
    """A matrix: it ends when all its members have, as the one that fared worst."""

    missing: int
    worst: End = End.COMPLETED


class _Outputs(Mapping[str, Mapping[str, str]]):
    """Looks them up when they are asked for: a member refers to few of many."""

    def __init__(self, numbers: Mapping[str, int], progress: Sequence[Progress]) -> None:
        self._numbers = numbers
        self._progress = progress

    def __getitem__(self, name: str) -> Mapping[str, str]:
        return self._progress[self._numbers[name]].outputs

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


class Run:
    """A workflow under way, and the progress of its members."""

    def __init__(self, workflow: Workflow, members: Sequence[Member]) -> None:
        """``members`` are all of it by number, as they are stored."""
        self.workflow = workflow
        self._plans: list[MemberPlan] = [member.plan for member in members]
        self._progress: list[Progress] = [member.progress for member in members]
        self._numbers = {plan.name: plan.number for plan in self._plans}
        self._groups = {name: _Group(len(names)) for name, names in workflow.groups.items()}
        self._counts: dict[MemberState, int] = dict.fromkeys(MemberState, 0)
        for progress in self._progress:
            self._counts[progress.state] += 1
        self._active = {n for n, each in enumerate(self._progress) if each.state is MemberState.ACTIVE}
        self._conditions = Conditions()
        self._ready: list[int] = []
        self._met: set[int] = set()
        self._retries: list[tuple[datetime, int]] = []
        self._changed: set[int] = set()
        self._ended: list[int] = []
        for plan in self._plans:
            self._conditions.add(plan.number, plan.requires)
        for number, each in enumerate(self._progress):
            if each.state.end is not None:
                self._tell_end(number)
        start = workflow.started_at or workflow.scheduled_at or workflow.created_at
        self._waits = [(start + plan.max_wait, plan.number) for plan in self._plans if plan.max_wait]
        heapify(self._waits)
        self._settle(start)

    # -- what it is ----------------------------------------------------------------------------------

    @property
    def has_ended(self) -> bool:
        """Say whether nothing more comes of any member."""
        return not (self._counts[MemberState.WAITING] or self._counts[MemberState.ACTIVE])

    @property
    def active(self) -> Sequence[int]:
        """Return the members whose jobs have not ended."""
        return sorted(self._active)

    @property
    def active_count(self) -> int:
        """Return how many these are."""
        return len(self._active)

    @property
    def next_time(self) -> datetime | None:
        """Return when ``elapse`` has something to do if nothing else happens."""
        times = [heap[0][0] for heap in (self._retries, self._waits) if heap]
        return min(times, default=None)

    def member(self, number: int) -> Member:
        """Return the member as it is now."""
        return Member(self._plans[number], self._progress[number])

    def number_of(self, name: str) -> int:
        """Return the number of the member of that name."""
        return self._numbers[name]

    @property
    def size(self) -> int:
        """Return the number of members."""
        return len(self._plans)

    @property
    def outputs(self) -> Mapping[str, Mapping[str, str]]:
        """Return what members wrote to their outputs, by their names."""
        return _Outputs(self._numbers, self._progress)

    # -- what happens --------------------------------------------------------------------------------

    def started(self, number: int, job_id: JobId, now: datetime) -> None:
        """Take in that a job is made of a member that ``take_ready`` gave."""
        before = self._progress[number]
        self._set(number, Progress(MemberState.ACTIVE, job_id, before.tries + 1))
        self._active.add(number)
        if self.workflow.state is not WorkflowState.RUNNING:
            begun = self.workflow.started_at or now
            self.workflow = replace(self.workflow, started_at=begun, state=WorkflowState.RUNNING)

    def not_started(self, number: int, message: str, now: datetime) -> None:
        """Take in that there is no job of a member: none can be made, or it is gone."""
        self._end(number, replace(self._progress[number], state=MemberState.FAILED, message=message), now)
        self._settle(now)

    def job_ended(
        self,
        number: int,
        record: JobRecord,
        now: datetime,
        outputs: Mapping[str, str] | None = None,
        problem: str = "",
    ) -> None:
        """Take in how a job has ended; one that is not the member's newest is passed over.

        ``problem`` says what is wrong with its outputs.
        """
        before = self._progress[number]
        if before.state is not MemberState.ACTIVE or before.job_id != record.id:
            return
        outcome = record.outcome
        after = replace(
            before,
            state=MemberState(record.state.value),
            started_at=record.started_at,
            ended_at=record.ended_at,
            exit_code=outcome.exit_code if outcome else 0,
            message=(outcome.message if outcome else "") or problem,
            outputs=outputs or {},
        )
        plan = self._plans[number]
        if (
            record.state is JobState.FAILED
            and before.tries <= plan.retries.count
            and self.workflow.wish is Wish.NONE
        ):
            self._active.discard(number)
            due = now + plan.retries.pause(before.tries)
            self._set(number, replace(after, state=MemberState.WAITING, not_before=due, outputs={}))
            heappush(self._retries, (due, number))
        else:
            self._end(number, after, now)
            self._settle(now)

    def elapse(self, now: datetime) -> None:
        """Take in what time it is: retries become due, and waits too long."""
        while self._retries and self._retries[0][0] <= now:
            _, number = heappop(self._retries)
            if self._progress[number].state is MemberState.WAITING:
                heappush(self._ready, number)
        while self._waits and self._waits[0][0] <= now:
            _, number = heappop(self._waits)
            progress, plan = self._progress[number], self._plans[number]
            if progress.state is MemberState.WAITING and number not in self._met:
                text = f"what it requires has not come within {plan.max_wait} (max_wait)"
                self._end(number, replace(progress, state=MemberState.CANCELED, message=text), now)
        self._settle(now)

    def wish(self, wish: Wish, now: datetime) -> None:
        """Take in that the whole is to end: all that waits is canceled."""
        self.workflow = replace(self.workflow, wish=wish)
        text = "the workflow was stopped" if wish is Wish.STOP else "the workflow was canceled"
        for number, progress in enumerate(self._progress):
            if progress.state is MemberState.WAITING:
                self._end(number, replace(progress, state=MemberState.CANCELED, message=text), now)
        self._settle(now)

    def begin(self) -> None:
        """Take in that its time has come."""
        if self.workflow.state is WorkflowState.SCHEDULED:
            self.workflow = replace(self.workflow, state=WorkflowState.PENDING)

    def pause(self, *, is_paused: bool) -> None:
        """Take in that it stands still, or goes on."""
        self.workflow = replace(self.workflow, is_paused=is_paused)

    # -- what comes of it ----------------------------------------------------------------------------

    def take_ready(self, most: int) -> list[int]:
        """Return members of which jobs are to be made now, at most so many, in the order of the file.

        Each must be told of by ``started`` or ``not_started``.
        """
        workflow = self.workflow
        if workflow.is_paused or workflow.state is WorkflowState.SCHEDULED or workflow.wish is not Wish.NONE:
            return []
        most = min(most, self.workflow.max_parallel or most) - len(self._active)
        taken: list[int] = []
        while self._ready and len(taken) < most:
            number = heappop(self._ready)
            if self._progress[number].state is MemberState.WAITING:
                taken.append(number)
        return taken

    def take_changed(self) -> dict[int, Progress]:
        """Return the members that have changed since the last call, by number."""
        changed, self._changed = self._changed, set()
        return {number: self._progress[number] for number in sorted(changed)}

    def summary(self, now: datetime) -> Workflow:
        """Return the workflow as it is now; the end is ``now`` if it has just ended."""
        counts = self._counts
        self.workflow = replace(
            self.workflow,
            counts=Counts(
                total=len(self._plans),
                active=counts[MemberState.ACTIVE],
                completed=counts[MemberState.COMPLETED],
                skipped=counts[MemberState.SKIPPED],
                canceled=counts[MemberState.CANCELED],
                stopped=counts[MemberState.STOPPED],
                failed=counts[MemberState.FAILED],
            ),
        )
        if self.has_ended and not self.workflow.state.has_ended:
            self.workflow = replace(
                self.workflow, state=end_state(self.workflow), ended_at=now, is_paused=False
            )
        return self.workflow

    def _set(self, number: int, progress: Progress) -> None:
        self._counts[self._progress[number].state] -= 1
        self._counts[progress.state] += 1
        self._progress[number] = progress
        self._changed.add(number)

    def _end(self, number: int, progress: Progress, now: datetime) -> None:
        self._active.discard(number)
        self._set(number, replace(progress, ended_at=progress.ended_at or now, not_before=None))
        self._tell_end(number)

    def _tell_end(self, number: int) -> None:
        self._ended.append(number)

    def _settle(self, now: datetime) -> None:
        """Go on from ends to what they decide, until they decide nothing more."""
        while True:
            for number, is_met in self._conditions.take_decided():
                progress = self._progress[number]
                if progress.state is not MemberState.WAITING:
                    continue
                if not is_met:
                    self._give_up(number, progress, now)
                    continue
                self._met.add(number)
                if progress.not_before is not None:
                    heappush(self._retries, (progress.not_before, number))
                else:
                    heappush(self._ready, number)
            if not self._ended:
                return
            for number in self._ended:
                self._ask(number)
            self._ended.clear()

    def _ask(self, number: int) -> None:
        plan, end = self._plans[number], self._progress[number].state.end
        assert end is not None
        self._conditions.end(plan.name, end)
        group = self._groups.get(plan.group)
        if group is not None:
            group.missing -= 1
            group.worst = max(group.worst, end, key=_HARM.__getitem__)
            if not group.missing:
                self._conditions.end(plan.group, group.worst)

    def _give_up(self, number: int, progress: Progress, now: datetime) -> None:
        plan = self._plans[number]
        if plan.is_for_failure:
            state, text = MemberState.SKIPPED, "nothing that it is for has failed"
        else:
            wanted = to_text(plan.requires)
            wanted = wanted if len(wanted) <= _MOST_TOLD else f"{wanted[:_MOST_TOLD]}..."
            state, text = MemberState.CANCELED, f"what it requires cannot come true any more: {wanted}"
        self._end(number, replace(progress, state=state, message=text), now)


def end_state(workflow: Workflow) -> WorkflowState:
    """Return how a workflow has ended, from its counts and what was wished."""
    counts = workflow.counts
    if workflow.wish is Wish.STOP and (counts.stopped or counts.canceled):
        return WorkflowState.STOPPED
    for number, state in (
        (counts.failed, WorkflowState.FAILED),
        (counts.stopped, WorkflowState.STOPPED),
        (counts.canceled, WorkflowState.CANCELED),
    ):
        if number:
            return state
    return WorkflowState.COMPLETED


def again(members: Sequence[Member], *, failed_only: bool) -> dict[int, Progress]:
    """Return the progress of the members that are run again, by number.

    With ``failed_only`` those that have not completed, the skipped ones included, which may be for one of
    the others; nothing if there are no others.
    """
    keep = {MemberState.COMPLETED} if failed_only else set()
    chosen = [each for each in members if each.progress.state not in keep]
    if failed_only and all(each.progress.state is MemberState.SKIPPED for each in chosen):
        return {}
    return {each.plan.number: Progress() for each in chosen}
