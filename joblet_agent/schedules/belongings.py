"""What comes along with a recurring schedule, files and secrets: each of its jobs gets a copy of its own.

A schedule has one directory below ``state_dir``/schedules, root's alone, from before it is stored until it
is removed. Of its secrets the schedule has the names only.
"""

import asyncio
import errno
import logging
import os
from collections.abc import Collection
from pathlib import Path

from joblet_agent.jobs.belongings import Belongings, files_not_stored, secrets_not_stored
from joblet_agent.jobs.files import Delivery
from joblet_agent.jobs.paths import AgentPaths, SchedulePaths
from joblet_agent.jobs.removal import remove_tree
from joblet_agent.jobs.secrets import read_secrets, write_secrets
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.jobs.tree import copy_tree, sync_tree
from joblet_agent.model.job import JobRecord
from joblet_agent.model.schedule import ScheduleId
from joblet_agent.model.secrets import NO_SECRETS, Secrets

_log = logging.getLogger(__name__)


class ScheduleBelongings:
    """Files and secrets of recurring schedules on this host."""

    def __init__(self, paths: AgentPaths, jobs: Belongings) -> None:
        self._paths = paths
        self._jobs = jobs
        self._tasks = Tasks()
        self._is_closed = False

    async def close(self) -> None:
        """Copy no more; the next agent removes what is half done."""
        self._is_closed = True
        await self._tasks.close()

    async def keep(self, schedule_id: ScheduleId, delivery: Delivery | None, secrets: Secrets) -> None:
        """Store what came with a schedule, durably. Raises NotDelivered: discard() then removes the rest."""
        own = self._paths.schedule(schedule_id)
        if delivery is not None:
            try:
                await asyncio.to_thread(_deliver, own, delivery)
            except OSError as error:
                raise files_not_stored(error, self._paths.state_dir) from error
        if secrets:
            try:
                await asyncio.to_thread(_put_away, own, secrets)
            except OSError as error:
                raise secrets_not_stored(error, self._paths.state_dir) from error

    async def give(self, schedule_id: ScheduleId, job: JobRecord) -> None:
        """Store copies for a job that has no record yet. Raises NotDelivered, and nothing is left."""
        own = self._paths.schedule(schedule_id)
        has_files = await asyncio.to_thread(own.work.is_dir)
        delivery = self._copy_of(own) if has_files or job.spec.uploads else None
        secrets = NO_SECRETS
        if job.has_secrets:
            try:
                secrets = await asyncio.to_thread(read_secrets, own.secrets)
            except OSError as error:
                raise secrets_not_stored(error, self._paths.state_dir) from error
        try:
            await self._jobs.bring(job, delivery, secrets, lasting=True)
        except BaseException as error:
            if isinstance(error, Exception):  # who is cancelled leaves it to the next agent
                await self._jobs.take_back(job)
            raise

    async def take_back(self, job: JobRecord) -> None:
        """Remove what was given to a job that gets no record."""
        await self._jobs.take_back(job)

    async def discard(self, schedule_id: ScheduleId) -> None:
        """Remove all of a schedule, its secrets first; what cannot be removed is logged."""
        await asyncio.to_thread(_discard, self._paths.schedule(schedule_id))

    async def discard_all_but(self, known: Collection[ScheduleId]) -> None:
        """Remove what belongs to no schedule: an agent died in between. Returns when it knows what."""
        on_disk = await asyncio.to_thread(os.listdir, self._paths.schedules)
        orphans = [ScheduleId(name) for name in on_disk if name not in known]
        if orphans:
            self._tasks.start(self._discard_all(orphans), "sweep-schedules")

    async def _discard_all(self, orphans: Collection[ScheduleId]) -> None:
        for schedule_id in orphans:
            await self.discard(schedule_id)
        _log.info("removed the files of %d schedules without a record", len(orphans))

    def _copy_of(self, own: SchedulePaths) -> Delivery:
        def copy(work: Path) -> None:
            if not own.work.is_dir():
                raise OSError(errno.ENOENT, "those of the schedule are gone")
            work.parent.mkdir(mode=0o700)
            copy_tree(own.work, work, lambda: self._is_closed)

        return copy


def _deliver(own: SchedulePaths, delivery: Delivery) -> None:
    delivery(own.work)
    sync_tree(own.home)


def _put_away(own: SchedulePaths, secrets: Secrets) -> None:
    own.home.mkdir(mode=0o700, exist_ok=True)
    write_secrets(own.secrets, secrets)


def _discard(own: SchedulePaths) -> None:
    failures = []
    try:
        own.secrets.unlink(missing_ok=True)
    except OSError as error:
        failures.append(f"{own.secrets.name}: {error.strerror}")
    failures += remove_tree(own.home)
    if failures:
        _log.error("cannot remove %s completely, first: %s", own.home, failures[0])
