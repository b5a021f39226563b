"""What comes along with a job, files and secrets: from before its record is written until it has ended."""

import asyncio
import logging
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from joblet_agent.errors import HostUnavailable
from joblet_agent.jobs import files
from joblet_agent.jobs.files import Delivery
from joblet_agent.jobs.paths import AgentPaths, JobPaths
from joblet_agent.jobs.secrets import SecretKeeper, deliver_files
from joblet_agent.jobs.tree import sync_tree
from joblet_agent.jobs.work_quotas import WorkQuotas
from joblet_agent.model.job import JobRecord, JobSpec
from joblet_agent.model.secrets import NO_SECRETS, Secrets

_log = logging.getLogger(__name__)


class NotDelivered(HostUnavailable):
    """What came with a job, files or secrets, cannot be stored; there is no such job."""


class Belongings:
    """Files and secrets of jobs on this host."""

    def __init__(self, paths: AgentPaths, secrets: SecretKeeper, quotas: WorkQuotas) -> None:
        self._paths = paths
        self._secrets = secrets
        self._quotas = quotas

    async def bring(
        self, record: JobRecord, delivery: Delivery | None, secrets: Secrets, *, lasting: bool
    ) -> None:
        """Store what came with a job that has no record yet; ``lasting``: it survives a power cut.

        Raises NotDelivered; take_back() removes what was stored until then.
        """
        if delivery is not None:
            await self._deliver(record, partial(_durably, delivery) if lasting else delivery)
        if secrets:
            await self._put_away(record, secrets, lasting=lasting)

    async def take_back(self, record: JobRecord) -> None:
        """Remove what came with a job that gets no record."""
        await asyncio.to_thread(files.remove_all, self._paths.job(record.id))
        await self.discard_secrets(record)

    async def discard_secrets(self, record: JobRecord) -> None:
        """Remove the secrets of a job that never starts."""
        if record.has_secrets:
            await asyncio.to_thread(self._secrets.discard, record.id)

    def prepare(self, record: JobRecord) -> Secrets:
        """Make the job's files for its start and return its secrets. Blocking; raises OSError."""
        own = self._paths.job(record.id)
        files.prepare(own, record.uid)
        if has_quota(record.spec):
            self._quotas.limit(own.work, record.spec.resources.work_size)
        if not record.has_secrets:
            return NO_SECRETS
        secrets = self._secrets.get(record.id)
        if secrets.files:
            deliver_files(own.credentials, secrets.files, record.uid)
        return secrets

    def discard_start(self, record: JobRecord) -> None:
        """Remove what nobody but systemd reads, and that before the command runs. Blocking."""
        self._paths.job(record.id).environment.unlink(missing_ok=True)
        if record.has_secrets:
            self._secrets.discard(record.id)

    def settle(self, record: JobRecord, *, keep: bool) -> bool:
        """Discard the secrets of a job that has ended, and its files unless told to ``keep`` them.

        Returns whether files are left. Blocking.
        """
        own = self._paths.job(record.id)
        if has_quota(record.spec):
            self._lift_quota(own)
        if record.has_secrets:  # the other private files go when the end is stored
            files.discard_secrets(own)
            self._secrets.discard(record.id)
        return files.settle_work(own, keep=keep)

    def work_is_full(self, record: JobRecord) -> bool:
        """Say whether the job has used up the size of its workspace on disk. Blocking."""
        try:
            return has_quota(record.spec) and self._quotas.is_full(self._paths.job(record.id).work)
        except OSError as error:
            _log.warning("job %s: cannot tell how full its /work is: %s", record.id, error.strerror)
            return False

    def reconcile(self, running: Iterable[JobRecord]) -> None:
        """Let the workspaces of these jobs have their limits, and no other have one. Blocking."""
        sizes = {
            self._paths.job(record.id).work: record.spec.resources.work_size
            for record in running
            if has_quota(record.spec)
        }
        try:
            self._quotas.reconcile(sizes)
        except OSError as error:
            _log.error("cannot set the limits of running jobs' /work again: %s", error.strerror)

    def _lift_quota(self, own: JobPaths) -> None:
        try:
            self._quotas.lift(own.work)
        except OSError as error:  # what is left of it the next agent takes away
            _log.warning("cannot lift the limit of %s: %s", own.work, error.strerror)

    async def _deliver(self, record: JobRecord, delivery: Delivery) -> None:
        own = self._paths.job(record.id)
        try:
            await asyncio.to_thread(files.deliver, own, delivery)
        except OSError as error:
            raise files_not_stored(error, self._paths.state_dir) from error

    async def _put_away(self, record: JobRecord, secrets: Secrets, *, lasting: bool) -> None:
        try:
            await asyncio.to_thread(self._secrets.put, record.id, secrets, lasting=lasting)
        except OSError as error:
            place = self._paths.state_dir if lasting else self._paths.run_dir
            raise secrets_not_stored(error, place) from error


def files_not_stored(error: OSError, place: Path) -> NotDelivered:
    """Return the error that says why files cannot be below ``place``."""
    return NotDelivered(
        f"cannot run job: its files cannot be stored: {error.strerror}",
        reason="CANNOT_STORE_FILES",
        hint=f"is the disk of {place} full?",
    )


def secrets_not_stored(error: OSError, place: Path) -> NotDelivered:
    """Return the error that says why secrets cannot be below ``place``."""
    return NotDelivered(
        f"cannot run job: its secrets cannot be stored: {error.strerror}",
        reason="CANNOT_STORE_SECRETS",
        hint=f"is there room below {place}? secrets leave a quarter of it free",
    )


def has_quota(spec: JobSpec) -> bool:
    """Say whether the job's workspace is a directory on disk with a limit."""
    return bool(spec.resources.work_size) and not spec.work_in_memory


def _durably(delivery: Delivery, work: Path) -> None:
    delivery(work)
    sync_tree(work)
