"""What comes along with a workflow, files and secrets: each of its jobs gets copies of what it names.

A workflow has one directory below ``state_dir``/workflows, root's alone, from before it is stored until it is
removed. Its secrets are in there until it has ended, and no longer: a retry of jobs with secrets is refused
after that (secrets_gone).
"""

import asyncio
import logging
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from joblet_agent.durable import sync_directory
from joblet_agent.errors import InvalidRequest, WrongState
from joblet_agent.jobs.belongings import Belongings, NotDelivered, files_not_stored, secrets_not_stored
from joblet_agent.jobs.check import quoted
from joblet_agent.jobs.files import Delivery
from joblet_agent.jobs.paths import AgentPaths, WorkflowPaths
from joblet_agent.jobs.removal import remove_tree
from joblet_agent.jobs.secrets import write_private
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.jobs.tree import copy_part, copy_tree, sync_tree
from joblet_agent.model.job import JobRecord
from joblet_agent.model.secrets import NO_SECRETS, Secrets
from joblet_agent.model.workflow import MemberPlan, WorkflowId
from joblet_agent.units import format_bytes
from joblet_agent.workflows.places import parts_of
from joblet_agent.workflows.secrets import read_member, write_members

INPUTS = "inputs"
"""Directory in a job's ``/work`` with what jobs before it have left."""

_AT_ONCE = 4
"""Jobs that are given their files: all threads that there are would keep other jobs from starting."""

_log = logging.getLogger(__name__)


class WorkflowBelongings:
    """Files and secrets of workflows on this host."""

    def __init__(self, paths: AgentPaths, jobs: Belongings) -> None:
        self._paths = paths
        self._jobs = jobs
        self._tasks = Tasks()
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._is_closed = False

    async def close(self) -> None:
        """Copy no more; the next agent removes what is half done."""
        self._is_closed = True
        await self._tasks.close()

    async def keep(
        self, workflow_id: WorkflowId, delivery: Delivery | None, secrets: Mapping[int, Secrets]
    ) -> None:
        """Store what came with a workflow that has no record yet, durably; ``secrets`` by members' numbers.

        Raises NotDelivered, and nothing is left.
        """
        own = self._paths.workflow(workflow_id)
        try:
            if delivery is not None:
                await self._deliver(own, delivery)
            if any(secrets.values()):
                await self._put_away(own, secrets)
        except NotDelivered:
            await self.discard(workflow_id)
            raise

    async def keep_copy(self, workflow_id: WorkflowId, of: WorkflowId) -> None:
        """Store what another workflow has, for one that has no record yet.

        Raises NotDelivered, and nothing is left.
        """
        source, own = self._paths.workflow(of), self._paths.workflow(workflow_id)
        try:
            if await asyncio.to_thread(source.files.is_dir):
                await self._deliver(own, lambda files: self._copy_all(source, files))
            if await asyncio.to_thread(source.secrets.exists):
                await self._copy_secrets(source, own)
        except NotDelivered:
            await self.discard(workflow_id)
            raise

    async def give(
        self,
        workflow_id: WorkflowId,
        plan: MemberPlan,
        job: JobRecord,
        inputs: Mapping[str, int],
    ) -> None:
        """Store copies for a job of the workflow that has no record yet.

        These are the files that its plan names, its secrets, and what others have left: ``inputs`` has their
        numbers by their names, and it is in ``/work/inputs/NAME``. Raises NotDelivered, and nothing is left.
        """
        has_files = bool(plan.upload_files or plan.upload_directories or inputs)
        if not has_files and not job.has_secrets:
            return
        async with self._places:
            own = self._paths.workflow(workflow_id)
            secrets = await self._secrets_of(own, plan) if job.has_secrets else NO_SECRETS
            delivery = self._copies(own, plan, job, inputs) if has_files else None
            try:
                await self._jobs.bring(job, delivery, secrets, lasting=True)
            except BaseException as error:
                if isinstance(error, Exception):  # who is cancelled leaves it to the next agent
                    await self._jobs.take_back(job)
                raise

    async def take_back(self, job: JobRecord) -> None:
        """Remove what was given to a job that gets no record."""
        await self._jobs.take_back(job)

    async def discard_secrets(self, workflow_id: WorkflowId) -> None:
        """Remove the secrets of a workflow that has ended; what cannot be removed is logged."""
        await asyncio.to_thread(_discard_secrets, self._paths.workflow(workflow_id))

    async def discard(self, workflow_id: WorkflowId) -> None:
        """Remove all of a workflow, its secrets first; what cannot be removed is logged."""
        await asyncio.to_thread(_discard, self._paths.workflow(workflow_id))

    async def discard_all_but(
        self, known: Collection[WorkflowId], *, unfinished: Collection[WorkflowId]
    ) -> None:
        """Remove what belongs to no workflow, and secrets of ones that have ended: an agent died in between.

        Call before the first workflow is taken; returns when it knows what to remove.
        """
        known, unfinished = set(known), set(unfinished)
        on_disk = [WorkflowId(name) for name in await asyncio.to_thread(os.listdir, self._paths.workflows)]
        ended = [each for each in on_disk if each not in unfinished]
        orphans = [each for each in ended if each not in known]
        if ended:
            self._tasks.start(self._sweep(ended, orphans), "sweep-workflows")

    async def _sweep(self, ended: Collection[WorkflowId], orphans: Collection[WorkflowId]) -> None:
        for workflow_id in ended:
            await self.discard_secrets(workflow_id)
        for workflow_id in orphans:
            await self.discard(workflow_id)
        if orphans:
            _log.info("removed the files of %d workflows without a record", len(orphans))

    async def _deliver(self, own: WorkflowPaths, delivery: Delivery) -> None:
        try:
            await asyncio.to_thread(_deliver, own, delivery)
        except OSError as error:
            raise files_not_stored(error, self._paths.state_dir) from error

    async def _put_away(self, own: WorkflowPaths, secrets: Mapping[int, Secrets]) -> None:
        try:
            await asyncio.to_thread(_put_away, own, secrets)
        except OSError as error:
            raise secrets_not_stored(error, self._paths.state_dir) from error

    async def _copy_secrets(self, source: WorkflowPaths, own: WorkflowPaths) -> None:
        try:
            await asyncio.to_thread(_copy_secrets, source, own)
        except OSError as error:
            raise secrets_not_stored(error, self._paths.state_dir) from error

    def _copy_all(self, source: WorkflowPaths, files: Path) -> None:
        files.parent.mkdir(mode=0o700)
        copy_tree(source.files, files, lambda: self._is_closed)

    async def _secrets_of(self, own: WorkflowPaths, plan: MemberPlan) -> Secrets:
        try:
            return await asyncio.to_thread(read_member, own.secrets, plan.number)
        except FileNotFoundError as error:
            raise NotDelivered(
                "cannot run job: the secrets of its workflow are gone", reason="SECRETS_GONE", hint=_AGAIN
            ) from error
        except OSError as error:
            raise secrets_not_stored(error, self._paths.state_dir) from error

    def _copies(
        self, own: WorkflowPaths, plan: MemberPlan, job: JobRecord, inputs: Mapping[str, int]
    ) -> Delivery:
        if job.spec.work_in_memory:
            raise NotDelivered(
                "cannot run job: it gets files, and with a work size its /work is memory of its own here",
                reason="UPLOADS_INTO_MEMORY",
                hint="leave the work size out (limits.default.work_size), or use a volume",
            )

        def copy(work: Path) -> None:
            room = _Room(job.spec.resources.work_size)
            work.parent.mkdir(mode=0o700)
            work.mkdir(mode=0o755)
            for path in (*plan.upload_files, *plan.upload_directories):
                room.take(self._copy_named(own.files, work, path))
            for name, number in inputs.items():
                place = work / INPUTS / name
                place.mkdir(mode=0o755, parents=True, exist_ok=True)
                if (left := own.output_files(number)).is_dir():
                    for entry in sorted(os.listdir(left)):
                        room.take(copy_part(left, place, (entry,), lambda: self._is_closed))

        return copy

    def _copy_named(self, files: Path, work: Path, path: str) -> int:
        try:
            return copy_part(files, work, parts_of(path), lambda: self._is_closed)
        except (FileNotFoundError, NotADirectoryError, InvalidRequest) as error:
            raise NotDelivered(
                f"cannot run job: {quoted(path)} did not come with its workflow",
                reason="FILE_NOT_FOUND",
                hint="send it with the workflow, under the path that uploads has",
            ) from error


class _Room:
    """What is left of a job's workspace."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0

    def take(self, size: int) -> None:
        self._taken += size
        if self._most and self._taken > self._most:
            raise NotDelivered(
                f"cannot run job: its work size is {format_bytes(self._most)}, and its files take more",
                reason="UPLOADS_OVER_WORK_SIZE",
                hint="let jobs leave less, or raise limits.default.work_size",
            )


_AGAIN = "run the workflow again, from its file"


def secrets_gone(workflow_id: WorkflowId) -> WrongState:
    """Return the error for a retry of jobs with secrets, which go when their workflow ends."""
    return WrongState(
        f"cannot retry workflow {workflow_id[:8]}: jobs of it have secrets, which went when it ended",
        reason="SECRETS_GONE",
        hint=_AGAIN,
    )


def _deliver(own: WorkflowPaths, delivery: Delivery) -> None:
    delivery(own.files)
    sync_tree(own.home)
    sync_directory(own.home.parent)


def _put_away(own: WorkflowPaths, secrets: Mapping[int, Secrets]) -> None:
    own.home.mkdir(mode=0o700, exist_ok=True)
    write_members(own.secrets, secrets)
    sync_directory(own.home.parent)


def _copy_secrets(source: WorkflowPaths, own: WorkflowPaths) -> None:
    own.home.mkdir(mode=0o700, exist_ok=True)
    write_private(own.secrets, source.secrets.read_bytes())


def _discard_secrets(own: WorkflowPaths) -> None:
    try:
        own.secrets.unlink(missing_ok=True)
    except OSError as error:
        _log.error("cannot remove the secrets %s: %s", own.secrets, error.strerror)


def _discard(own: WorkflowPaths) -> None:
    _discard_secrets(own)
    failures = remove_tree(own.home)
    if failures:
        _log.error("cannot remove %s completely, first: %s", own.home, failures[0])
