"""One workflow under way: takes in what happens, stores what comes of it, then lets it happen.

The order that makes kill -9 harmless between any two lines::

    round    what has ended, is wished or due → what comes along with the jobs that are to start
             → store workflow, progress and these jobs, PENDING, in one transaction → queue the jobs
    wish     store it → do it to the jobs
    end      store it → its jobs' units are released → stop the slice → discard its secrets
    recover  read workflow and members → wishes again → ends that were stored and not taken in

A job that is stored and not in the queue is found by jobs/recovery.py. What came along with a job that is not
stored is removed there, too, and the member starts anew. So every job runs once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from joblet_agent.errors import HostUnavailable, InvalidRequest, JobletError, StoreFailed, WrongState
from joblet_agent.jobs.registry import JobRegistry
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.jobs.waiting import WaitingJobs
from joblet_agent.model.job import JobId, JobRecord, JobState, new_job_id
from joblet_agent.model.workflow import Member, MemberState, Wish, Workflow, WorkflowId
from joblet_agent.pauses import GrowingPause
from joblet_agent.ports import Clock, JobStore, WorkflowSlices, WorkflowStore
from joblet_agent.workflows.belongings import WorkflowBelongings
from joblet_agent.workflows.member_jobs import MemberJobs
from joblet_agent.workflows.outputs import OutputCollector
from joblet_agent.workflows.resolve import resolved
from joblet_agent.workflows.run import Run
from joblet_agent.workflows.watching import Watch

_BATCH = 50
"""Jobs that are made at a stretch: the event loop is free again after a few milliseconds."""
_LOOK_AGAIN = 60.0
"""Seconds after which a time ahead is looked at again: the clock may step."""
_LET_GO = 30.0
_STAND_STILL = 5.0

T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What drivers work with."""

    store: WorkflowStore
    jobs: JobStore
    registry: JobRegistry
    waiting: WaitingJobs
    member_jobs: MemberJobs
    belongings: WorkflowBelongings
    outputs: OutputCollector
    slices: WorkflowSlices
    clock: Clock
    most_active: Callable[[], int]
    """How many jobs a workflow without a bound of its own has in the queue or running."""


class Driver:
    """Takes a workflow to its end."""

    def __init__(
        self,
        workflow: Workflow,
        members: Sequence[Member],
        means: Means,
        closed: Callable[[WorkflowId], None],
    ) -> None:
        """Call ``start`` later. ``closed`` is called when nothing is left to do."""
        self.id = workflow.id
        self._run = Run(workflow, members)
        self._means = means
        self._closed = closed
        self._numbers = {
            member.progress.job_id: member.plan.number for member in members if member.progress.job_id
        }
        self._ended: list[JobRecord] = []
        self._wishes: list[tuple[Callable[[datetime], None], asyncio.Future[None]]] = []
        self._woken = asyncio.Event()
        self._woken.set()
        self._watches: set[Watch] = set()
        self._has_slice = False
        self._is_resuming = False
        self._tasks = Tasks()
        self.done = asyncio.Event()
        """Set when nothing is left to do."""
        for number in self._run.active:
            self._expect(number)

    # -- from outside --------------------------------------------------------------------------------

    @property
    def workflow(self) -> Workflow:
        """Return the workflow as it is now."""
        return self._run.workflow

    def members(self) -> list[Member]:
        """Return all members as they are now."""
        return [self._run.member(number) for number in range(self._run.size)]

    def start(self) -> None:
        """Begin, or go on after a restart. Call once, when jobs are recovered."""
        self._tasks.start(self._drive(), f"workflow-{self.id}")

    def hold(self) -> None:
        """Let the jobs of a paused workflow that wait go on waiting. Before the queue is opened."""
        if self._stands_still():
            self._means.member_jobs.hold(self._active_ids())

    async def close(self) -> None:
        """Drive no more; the next agent goes on."""
        await self._tasks.close()
        for watch in list(self._watches):
            watch.end()

    def job_begun(self, record: JobRecord) -> None:
        """Take in that a job of it runs."""
        number = self._numbers.get(record.id)
        if number is not None:
            self._tell_watches([number])
            if self._stands_still():
                self._means.member_jobs.pause([record.id], self._stands_still)

    def job_ended(self, record: JobRecord) -> None:
        """Take in how a job of it has ended, which is stored."""
        self._ended.append(record)
        self._woken.set()

    async def begin(self) -> None:
        """Let a scheduled one start; return when that is stored."""
        await self._wish(lambda _: self._run.begin())

    async def want(self, wish: Wish) -> None:
        """Let the whole end; return when that is stored, and asked of what runs."""
        await self._wish(lambda now: self._run.wish(wish, now))
        self._carry_out_wish()

    async def pause(self) -> None:
        """Let it stand still; return when it does, at the latest after some seconds."""
        await self._wish(lambda _: self._run.pause(is_paused=True))
        await _at_most(self._means.member_jobs.pause(self._active_ids(), self._stands_still), _STAND_STILL)

    async def resume(self) -> None:
        """Let it go on."""
        self._is_resuming = True
        try:
            # Stored last: after a death in between it is paused as before, and whoever asked does so again.
            tasks = self._means.member_jobs.resume(self._active_ids(), lambda: not self._stands_still())
            await _at_most(tasks, _STAND_STILL)
            with suppress(WrongState):  # it has gone on, to its end
                await self._wish(lambda _: self._run.pause(is_paused=False))
        finally:
            self._is_resuming = False

    def watch(self) -> Watch:
        """Return a watch of it."""
        watch = Watch(self._look, range(self._run.size), self._watches.discard)
        self._watches.add(watch)
        return watch

    # -- the rounds ----------------------------------------------------------------------------------

    async def _drive(self) -> None:
        self._carry_out_wish()
        if self._stands_still():
            self._means.member_jobs.pause(self._active_ids(), self._stands_still)
        await self._find_ends()
        while not self.workflow.state.has_ended:
            await self._until_woken()
            await self._round()
        for _, stored in self._wishes:
            stored.set_exception(already_ended(self.workflow))
        await self._leave()
        self._closed(self.id)
        self.done.set()

    async def _until_woken(self) -> None:
        due = self._run.next_time
        delay = _LOOK_AGAIN
        if due is not None:
            delay = min(max((due - self._means.clock.now()) / timedelta(seconds=1), 0), delay)
        with suppress(TimeoutError):
            async with asyncio.timeout(delay if due is not None else None):
                await self._woken.wait()
        self._woken.clear()

    async def _round(self) -> None:
        now = self._means.clock.now()
        await self._take_in_ends(now)
        wishes, self._wishes = self._wishes, []
        for wish, _ in wishes:
            wish(now)
        self._run.elapse(now)
        jobs = await self._make_jobs(now)
        changed = self._run.take_changed()
        workflow = self._run.summary(now)
        if changed or wishes:
            await _until_stored(lambda: self._means.store.save(workflow, changed, jobs), self.id)
        for job in jobs:
            self._means.waiting.take_in(job.id)
        if self._stands_still():  # meanwhile
            self._means.member_jobs.hold(job.id for job in jobs)
        for _, stored in wishes:
            if not stored.done():
                stored.set_result(None)
        self._tell_watches(changed)

    async def _take_in_ends(self, now: datetime) -> None:
        ended, self._ended = self._ended, []
        known = [(self._numbers[record.id], record) for record in ended if record.id in self._numbers]
        results = await asyncio.gather(
            *(self._means.outputs.result(self.id, number, record.id) for number, record in known)
        )
        for (number, record), result in zip(known, results, strict=True):
            self._run.job_ended(number, record, now, result.outputs, result.problem)

    async def _make_jobs(self, now: datetime) -> list[JobRecord]:
        most = self._means.most_active()
        numbers = self._run.take_ready(min(most, self._run.active_count + _BATCH))
        if not numbers:
            return []
        if len(numbers) >= _BATCH:
            self._woken.set()  # there may be more
        if not self._has_slice:
            await self._make_slice()
        templates = await _until_stored(lambda: self._means.store.templates(self.id, numbers), self.id)
        made = await asyncio.gather(
            *(self._make_job(number, templates.get(number), now) for number in numbers)
        )
        jobs = []
        for number, job in zip(numbers, made, strict=True):
            if isinstance(job, JobRecord):
                self._run.started(number, job.id, now)
                self._numbers[job.id] = number
                self._expect(number)
                jobs.append(job)
            else:
                self._run.not_started(number, job, now)
                self._woken.set()
        return jobs

    async def _make_job(self, number: int, template: JobRecord | None, now: datetime) -> JobRecord | str:
        """Return the record of a new job with what comes along in its place, or why there can be none."""
        plan = self._run.member(number).plan
        if template is None:
            return "what it is to run cannot be read from the state database"
        try:
            job = resolved(template, self._run.outputs)
            job = replace(job, id=new_job_id(), created_at=now, state=JobState.PENDING, workflow_id=self.id)
            inputs = {name: self._run.number_of(name) for name in plan.inputs}
            await self._means.belongings.give(self.id, plan, job, inputs)
        except (InvalidRequest, HostUnavailable) as error:
            return str(error)
        return job

    async def _make_slice(self) -> None:
        try:
            await self._means.slices.make(self.id, self.workflow.name or self.workflow.file or self.id[:8])
        except JobletError as error:  # systemd makes one of its own, without a title
            _log.warning("the slice of workflow %s has no title: %s", self.id, error)
        self._has_slice = True

    # -- begin and end -------------------------------------------------------------------------------

    async def _find_ends(self) -> None:
        """Take in the ends that were stored while nobody listened."""
        ids = [job_id for job_id in self._active_ids() if not self._is_under_way(job_id)]
        for job_id in ids:
            record = await _until_stored(partial(self._means.jobs.get, job_id), self.id)
            if record is None:
                self._run.not_started(self._numbers[job_id], "its job was deleted", self._means.clock.now())
            elif record.has_ended:
                self._ended.append(record)
        self._woken.set()

    def _is_under_way(self, job_id: JobId) -> bool:
        job = self._means.registry.get(job_id)
        return job_id in self._means.registry.queue or (job is not None and not job.end.ended)

    async def _leave(self) -> None:
        """Wait until systemd has let go of all of it, then leave nothing behind."""
        ids = [
            member.progress.job_id
            for number in range(self._run.size)
            if (member := self._run.member(number)).progress.job_id is not None
        ]
        with suppress(TimeoutError):
            async with asyncio.timeout(_LET_GO):
                for job_id in ids:
                    if (job := self._means.registry.get(job_id)) is not None:
                        await job.forgotten.wait()
        try:
            await self._means.slices.remove(self.id)
        except JobletError as error:
            _log.warning("the slice of workflow %s stays until the next start: %s", self.id, error)
        await self._means.belongings.discard_secrets(self.id)

    def _carry_out_wish(self) -> None:
        if self.workflow.wish is Wish.STOP:
            self._means.member_jobs.stop(self._active_ids())
        elif self.workflow.wish is Wish.CANCEL:
            self._means.member_jobs.withdraw(self._active_ids())

    def _expect(self, number: int) -> None:
        member = self._run.member(number)
        if member.progress.job_id is not None and member.progress.state is MemberState.ACTIVE:
            self._means.outputs.expect(member.progress.job_id, self.id, number, member.plan.output_files)

    def _stands_still(self) -> bool:
        return self.workflow.is_paused and not self._is_resuming

    def _active_ids(self) -> list[JobId]:
        ids = (self._run.member(number).progress.job_id for number in self._run.active)
        return [job_id for job_id in ids if job_id is not None]

    async def _wish(self, wish: Callable[[datetime], None]) -> None:
        if self.workflow.state.has_ended:
            raise already_ended(self.workflow)
        stored = asyncio.get_running_loop().create_future()
        self._wishes.append((wish, stored))
        self._woken.set()
        await stored

    def _look(self, numbers: Iterable[int]) -> tuple[Workflow, list[Member]]:
        return self.workflow, [self._run.member(number) for number in numbers]

    def _tell_watches(self, numbers: Collection[int]) -> None:
        for watch in self._watches:
            watch.tell(numbers, is_last=self.workflow.state.has_ended)


def already_ended(workflow: Workflow) -> WrongState:
    """Return the error for what cannot be done to a workflow any more."""
    return WrongState(
        f"cannot change workflow {workflow.id[:8]}: it has ended already, {workflow.state}",
        reason="WORKFLOW_ENDED",
        hint="run its jobs again with: rnx workflow retry",
    )


async def _until_stored(act: Callable[[], Awaitable[T]], workflow_id: WorkflowId) -> T:
    """Do what the store must do, whatever the disk says now."""
    pause = GrowingPause()
    while True:
        try:
            return await act()
        except StoreFailed as error:
            _log.error("workflow %s cannot go on now, trying again: %s", workflow_id, error)
            await pause.wait()


async def _at_most(tasks: Collection[asyncio.Task[None]], seconds: float) -> None:
    if tasks:
        await asyncio.wait(tasks, timeout=seconds)
