"""The job use cases: decide, order, record. Knows nothing of proto, D-Bus or SQL."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Any

from joblet_agent.config import AgentConfig
from joblet_agent.errors import AmbiguousId, InvalidRequest, LimitReached, WrongState
from joblet_agent.jobs.agenda import Agenda
from joblet_agent.jobs.check import check_spec
from joblet_agent.jobs.control import UnitControl
from joblet_agent.jobs.files import Delivery
from joblet_agent.jobs.ids import id_prefix, not_found
from joblet_agent.jobs.launch import JobLauncher
from joblet_agent.jobs.limits import FIXED_AT_START, LIMITS, LimitPolicy
from joblet_agent.jobs.logs import JobEnd, LogChunk, LogReader
from joblet_agent.jobs.metrics.reader import MetricsReader
from joblet_agent.jobs.metrics.sampler import MetricsSampler
from joblet_agent.jobs.paths import AgentPaths
from joblet_agent.jobs.plan import launch_plan
from joblet_agent.jobs.profiles import Profiles
from joblet_agent.jobs.registry import ActiveJob, JobRegistry
from joblet_agent.jobs.retention import Retention
from joblet_agent.jobs.root import DefaultRoot
from joblet_agent.jobs.secret_check import check_secrets
from joblet_agent.jobs.staging import UploadStaging
from joblet_agent.jobs.submissions import Submissions, check_token
from joblet_agent.jobs.uploads import bring_uploads, check_uploads
from joblet_agent.jobs.waiting import WaitingJobs
from joblet_agent.jobs.when import check_distance, read_when
from joblet_agent.jobs.work_quotas import WorkQuotas
from joblet_agent.model.files import NO_UPLOADS, Uploads
from joblet_agent.model.identity import Identity
from joblet_agent.model.job import (
    Explanation,
    JobFilter,
    JobId,
    JobPage,
    JobRecord,
    JobSpec,
    JobState,
    LogQuery,
    Outcome,
    Reason,
    Token,
    new_job_id,
)
from joblet_agent.model.metrics import MetricsQuery, Reading
from joblet_agent.model.profile import Profile
from joblet_agent.model.runtime import PinnedRuntime
from joblet_agent.model.secrets import NO_SECRETS, Secrets
from joblet_agent.networks.jobs import JobNetworks
from joblet_agent.ports import Clock, JobGpus, JobRuntimes, JobStore, JobVolumes, UnitManager

_START_DEADLINE = 30.0
_STOP_ANSWER_MOST = timedelta(seconds=8)  # published clients wait 10 s for the reply
_ID_LENGTH = 36
NO_PINS: Mapping[str, PinnedRuntime] = MappingProxyType({})
_OWN_PAGE = 500

_log = logging.getLogger(__name__)


class JobService:
    """What callers can do with jobs. Ids may be shortened to a prefix that fits one job only."""

    def __init__(
        self,
        *,
        config: AgentConfig,
        registry: JobRegistry,
        launcher: JobLauncher,
        waiting: WaitingJobs,
        control: UnitControl,
        retention: Retention,
        staging: UploadStaging,
        agenda: Agenda,
        store: JobStore,
        units: UnitManager,
        logs: LogReader,
        sampler: MetricsSampler,
        metrics: MetricsReader,
        clock: Clock,
        paths: AgentPaths,
        root: DefaultRoot,
        limits: LimitPolicy,
        profiles: Profiles,
        submissions: Submissions,
        quotas: WorkQuotas,
        networks: JobNetworks,
        volumes: JobVolumes,
        runtimes: JobRuntimes,
        gpus: JobGpus,
    ) -> None:
        self._config = config
        self._registry = registry
        self._launcher = launcher
        self._waiting = waiting
        self._control = control
        self._retention = retention
        self._staging = staging
        self._agenda = agenda
        self._store = store
        self._units = units
        self._logs = logs
        self._sampler = sampler
        self._metrics = metrics
        self._clock = clock
        self._paths = paths
        self._root = root
        self._limits = limits
        self._profiles = profiles
        self._submissions = submissions
        self._quotas = quotas
        self._networks = networks
        self._volumes = volumes
        self._runtimes = runtimes
        self._gpus = gpus

    async def run(
        self,
        spec: JobSpec,
        caller: Identity,
        uploads: Uploads = NO_UPLOADS,
        *,
        secrets: Secrets = NO_SECRETS,
        token: Token | None = None,
    ) -> JobRecord:
        """Start the job, or let it wait if ``jobs.max_concurrent`` run; return once its command runs.

        A job with a start time ahead is SCHEDULED; one whose time is past starts at once. If the caller has
        submitted the token before, the answer is the job of that time as it is now.

        Raises InvalidRequest, NotPermitted, LimitReached, StoreFailed, NotFound for an upload (no job exists
        then), LaunchFailed and HostUnavailable (the job exists and is, or will be found, FAILED or
        running; with CANNOT_STORE_FILES and CANNOT_STORE_SECRETS there is none).
        """
        if spec.gpus:
            await self._gpus.refresh()
        record = self.accept(spec, caller, uploads, secrets, token)
        admit = partial(self._admit, record, uploads, secrets, caller)
        with self._runtimes.hold([record]):
            return self._newest(await self._submissions.make(caller.name, token, admit))

    async def _admit(
        self, record: JobRecord, uploads: Uploads, secrets: Secrets, caller: Identity
    ) -> JobRecord:
        is_later = record.scheduled_at is not None and record.scheduled_at > record.created_at
        must_wait = not self._registry.has_room or len(self._registry.queue) > 0
        if is_later:
            self._agenda.check_room()
        elif must_wait:
            self._check_queue()
        # Last of all: from here on the job owns its files.
        record, delivery = self._with_uploads(record, uploads, caller)
        if is_later:
            record = replace(record, state=JobState.SCHEDULED)
            await self._agenda.add(record, delivery, secrets)
            return record
        if must_wait:
            record = replace(record, state=JobState.PENDING)
            await asyncio.shield(self._waiting.enqueue(record, delivery, secrets))
            return record
        job = await asyncio.shield(self._launcher.launch(record, delivery, secrets))
        await self._until_begun(job)
        return job.record

    def accept(
        self,
        spec: JobSpec,
        caller: Identity,
        uploads: Uploads = NO_UPLOADS,
        secrets: Secrets = NO_SECRETS,
        token: Token | None = None,
        pins: Mapping[str, PinnedRuntime] = NO_PINS,
    ) -> JobRecord:
        """Return the record that the job begins with; nothing is stored and no upload taken yet.

        ``pins`` are runtimes that were found before, by what was asked for.

        Raises InvalidRequest, NotPermitted, LimitReached.
        """
        if token is not None:
            check_token(token.text)
        check_spec(spec)
        spec = self._with_own(self._admitted(spec, caller), uploads, secrets)
        runtime = pins.get(spec.runtime) or self._runtimes.admit(spec.runtime)
        self._gpus.check(spec.gpus, needed_by=str(runtime) if runtime and runtime.needs_gpu else "")
        record = JobRecord(
            id=new_job_id(),
            spec=spec,
            state=JobState.INITIALIZING,
            created_at=self._clock.now(),
            started_by=caller.name,
            role=caller.role.value,
            token=token,
            runtime=runtime,
        )
        when = read_when(spec.schedule) if spec.schedule else None
        if isinstance(when, datetime):
            check_distance(when, record.created_at)
            return replace(record, scheduled_at=when)
        return record

    def accept_like(self, record: JobRecord, spec: JobSpec, uploads: Uploads, secrets: Secrets) -> JobRecord:
        """Accept a job that wants of the host what an accepted one does, from network to limits.

        What was found out for that one holds for it. Raises as ``accept``.
        """
        check_spec(spec)
        own = replace(
            record.spec,
            command=spec.command,
            args=spec.args,
            name=spec.name,
            environment=spec.environment,
            work_dir=spec.work_dir,
        )
        return replace(record, id=new_job_id(), spec=self._with_own(own, uploads, secrets))

    def _admitted(self, spec: JobSpec, caller: Identity) -> JobSpec:
        spec = self._networks.admit(spec, caller)
        spec = replace(spec, profile=self._profiles.admit(spec.profile, caller))
        self._volumes.check(spec.volumes, Profile(spec.profile))
        # Quotas do not bind who has CAP_SYS_RESOURCE.
        has_quotas = self._quotas.are_enforced and spec.profile != Profile.PRIVILEGED
        resources = self._limits.settle(spec.resources, caller.role, has_quotas=has_quotas)
        return replace(spec, resources=resources, work_in_memory=bool(resources.work_size) and not has_quotas)

    def _with_own(self, spec: JobSpec, uploads: Uploads, secrets: Secrets) -> JobSpec:
        """Return the spec with the names of its secrets."""
        check_uploads(spec, uploads, self._config.uploads.max_entries)
        check_secrets(spec, secrets)
        if spec.secret_environment or spec.secret_files or secrets:
            return replace(
                spec,
                secret_environment=tuple(sorted(secrets.environment)),
                secret_files=tuple(sorted(secrets.files)),
            )
        return spec

    async def _until_begun(self, job: ActiveJob) -> None:
        try:
            async with asyncio.timeout(_START_DEADLINE):
                await job.begun.wait()
        except TimeoutError:
            _log.warning("job %s: systemd accepted it, but has not started it yet", job.record.id)

    def _with_uploads(
        self, record: JobRecord, uploads: Uploads, caller: Identity
    ) -> tuple[JobRecord, Delivery | None]:
        """Return the record with the paths of its files, and what brings them."""
        brought = bring_uploads(record.spec, uploads, self._staging, caller.name)
        if brought is None:
            return record, None
        paths, delivery = brought
        return replace(record, spec=replace(record.spec, uploads=paths)), delivery

    def _check_queue(self) -> None:
        most = self._config.jobs.max_waiting
        if len(self._registry.queue) >= most:
            raise LimitReached(
                f"cannot queue job: {most} jobs wait already (jobs.max_waiting)",
                reason="QUEUE_FULL",
                hint="try again later, or cancel waiting jobs",
            )

    async def get(self, given: str) -> JobRecord:
        """Return the job. Raises NotFound, AmbiguousId."""
        return await self._record(await self._resolve(given))

    async def update(self, given: str, changes: Mapping[str, Any], caller: Identity) -> JobRecord:
        """Change limits (fields of Resources) of a job that waits or runs; nothing takes one away.

        Returns once they are in force. Raises InvalidRequest and NotOffered as run does, WrongState for a
        job that has ended and for a limit that cannot change any more.
        """
        job_id = await self._resolve(given)
        act = f"cannot change job {job_id[:8]}"
        if not changes:
            raise InvalidRequest(f"{act}: no limit is given", reason="NOTHING_TO_CHANGE")

        def edited(record: JobRecord) -> JobRecord:
            wanted = replace(record.spec.resources, **changes)
            resources = self._limits.settle(wanted, caller.role, act=act, names=tuple(changes))
            return replace(record, spec=replace(record.spec, resources=resources))

        record = await self._agenda.change(job_id, edited)
        if record is None and job_id in self._registry.queue:
            record = await asyncio.shield(self._waiting.change(job_id, edited))
        if record is not None:
            return record
        job = self._registry.get(job_id)
        if job is None or job.record.has_ended:
            raise _already_ended(await self._record(job_id), "change")
        for name, why in FIXED_AT_START.items():
            if name in changes:
                raise WrongState(
                    f"{act}: {LIMITS[name].option} cannot change once the job runs: {why}",
                    reason="LIMIT_FIXED",
                    hint="stop the job, and run it again with the other limit",
                )
        await self._until_begun(job)
        await asyncio.shield(self._control.change_limits(job, edited, tuple(changes)))
        return job.record

    async def stop(self, given: str, *, force: bool) -> JobRecord:
        """Stop the job: the stop signal to all its processes, after the grace (with ``force`` at once) kill.

        A job that waits is CANCELED. Returns when it has ended, at the latest after 8 s, then in
        state STOPPING. Raises WrongState if it has ended already.
        """
        job_id = await self._resolve(given)
        canceled = await self._cancel_waiting(job_id)
        if canceled is not None:
            return canceled
        job = self._registry.get(job_id)
        if job is None or job.record.has_ended:
            raise _already_ended(await self._record(job_id), "stop")
        await asyncio.shield(self._control.stop(job, force=force))
        await self._wait_for_end(job)
        return job.record

    async def cancel(self, given: str) -> JobRecord:
        """Withdraw a job that has not started. Raises WrongState for any other."""
        job_id = await self._resolve(given)
        canceled = await self._cancel_waiting(job_id)
        if canceled is None:
            record = await self._record(job_id)
            raise WrongState(
                f"cannot cancel job {job_id[:8]}: it is {record.state}, not waiting",
                reason="JOB_NOT_WAITING",
                hint="running jobs are ended with: rnx stop",
            )
        return canceled

    async def delete(self, given: str) -> JobId:
        """Forget an ended job: its record, its log and its files.

        Raises WrongState while it has not ended, and for files that cannot be removed.
        """
        record = await self.get(given)
        job = self._registry.get(record.id)
        if job is not None and record.has_ended:
            await job.forgotten.wait()  # its unit is being released
        if not record.has_ended:
            raise WrongState(
                f"cannot delete job {record.id[:8]}: it is {record.state}",
                reason="JOB_NOT_ENDED",
                hint="stop it first: rnx stop",
            )
        await self._retention.delete_one(record.id)
        return record.id

    async def delete_ended(self, started_by: str = "") -> tuple[int, int]:
        """Forget every ended job; return how many, and how many were left because they have not ended.

        With a name only those that this caller has submitted.
        """
        for job in self._registry:
            if job.end.ended:
                await job.forgotten.wait()  # its unit is being released
        if started_by:
            own = await self._submitted_by(started_by)
            ids = [record.id for record in own if record.has_ended and self._registry.get(record.id) is None]
            await self._retention.delete(ids)
            return len(ids), sum(not record.has_ended for record in own)
        ids = [
            job_id
            for job_id in await self._store.ended_beyond(keep=0, before=None)
            if self._registry.get(job_id) is None
        ]
        await self._retention.delete(ids)
        return len(ids), self._registry.unfinished + len(self._agenda)

    async def _submitted_by(self, name: str) -> list[JobRecord]:
        records: list[JobRecord] = []
        token = ""
        while True:
            page = await self.page(JobFilter(started_by=name), size=_OWN_PAGE, token=token)
            records += page.jobs
            token = page.next_token
            if not token:
                return records

    async def page(self, wanted: JobFilter, *, size: int, token: str) -> JobPage:
        """Return a page of jobs, newest first."""
        page = await self._store.page(wanted, size=size, token=token)
        return replace(page, jobs=tuple(self._newest(record) for record in page.jobs))

    async def logs(self, given: str, query: LogQuery) -> AsyncIterator[LogChunk]:
        """Return the wanted part of the job's output as it is and comes. Raises as the reader does."""
        record = await self.get(given)
        return self._logs.read(self._paths.job(record.id), query, await self._end_of(record.id))

    async def metrics(self, given: str, query: MetricsQuery) -> tuple[JobRecord, AsyncIterator[Reading]]:
        """Return the job and the wanted part of its samples as it is and comes; raise as the reader does."""
        record = await self.get(given)
        end = await self._end_of(record.id)
        return record, self._metrics.read(record.id, self._paths.job(record.id), query, end)

    async def readings(self, given: Sequence[str]) -> list[tuple[JobRecord, Reading | None]]:
        """Return the running ones of these jobs (of all, if none is given), each with its newest reading.

        None for a job that has not been sampled yet. Raises WrongState if this agent takes no samples.
        """
        self._metrics.require_samples()
        wanted = [await self._resolve(each) for each in given]
        jobs = [self._registry.get(job_id) for job_id in wanted] if wanted else list(self._registry)
        records = [job.record for job in jobs if job is not None]
        return [
            (record, self._sampler.latest(record.id))
            for record in records
            if record.started_at is not None and not record.has_ended
        ]

    async def use(self, record: JobRecord) -> Reading | None:
        """Return what the job uses now; None if its command does not run, or nobody can tell."""
        return await self._sampler.now(record)

    @property
    def metrics_interval(self) -> timedelta:
        """Return the time between two samples of a job."""
        return self._config.metrics.interval

    async def explain(self, given: str) -> Explanation:
        """Tell which unit the job is, and why."""
        return self.explained(await self.get(given))

    def explained(self, record: JobRecord) -> Explanation:
        """Tell which unit a job with this record is, or would be."""
        place = self._networks.place_of(record)
        if record.spec.gpus and record.gpus is None and not record.has_ended:
            with suppress(InvalidRequest):  # the driver has gone meanwhile
                record = replace(record, gpus=self._gpus.take(record.spec.gpus, ()))
        return self._units.explain(launch_plan(record, self._paths, self._root.path, place=place))

    def trouble(self, job_id: JobId) -> str:
        """Say what is wrong with a job that goes on all the same; empty for nothing."""
        return self._networks.trouble(job_id)

    def queue_position(self, job_id: JobId) -> int:
        """Return 1 for the job that starts next, 0 for one that does not wait."""
        return self._registry.queue.position(job_id)

    def log_size(self, job_id: JobId) -> int:
        """Return how many bytes of the job's output can be read."""
        return self._logs.size(self._paths.job(job_id))

    def has_files(self, record: JobRecord) -> bool:
        """Say whether there is a workspace that can be looked into."""
        return not record.spec.work_in_memory and os.path.lexists(self._paths.job(record.id).work)

    def work_bytes(self, job_id: JobId) -> int:
        """Return the disk space that an ended job's files take; 0 if none are kept, or not measured yet."""
        return self._retention.work_bytes(job_id)

    def unit_name(self, job_id: JobId) -> str:
        """Return the name of the job's systemd unit."""
        return self._units.unit_name(job_id)

    async def _cancel_waiting(self, job_id: JobId) -> JobRecord | None:
        if (canceled := await self._agenda.cancel(job_id)) is not None:
            return canceled
        if job_id not in self._registry.queue:
            return None
        record = await self._record(job_id)
        if not self._registry.queue.remove(job_id):
            return None  # it was started meanwhile
        record = replace(
            record,
            state=JobState.CANCELED,
            ended_at=self._clock.now(),
            outcome=Outcome(JobState.CANCELED, Reason.CANCELED, 0, 0, "withdrawn before it started"),
        )
        await asyncio.shield(self._waiting.withdraw(record))
        return record

    async def _wait_for_end(self, job: ActiveJob) -> None:
        longest = min(self._config.jobs.stop_grace + timedelta(seconds=2), _STOP_ANSWER_MOST)
        try:
            async with asyncio.timeout(longest.total_seconds()):
                await job.end.wait()
        except TimeoutError:
            _log.info("job %s is still stopping", job.record.id)

    async def _end_of(self, job_id: JobId) -> JobEnd:
        end = self._registry.end_of(job_id)
        if (await self._record(job_id)).has_ended:  # perhaps since the line above: nobody else would tell
            self._registry.announce_end(job_id)
        return end

    async def _resolve(self, given: str) -> JobId:
        text = id_prefix(given, "job")
        if len(text) == _ID_LENGTH and self._registry.get(JobId(text)) is not None:
            return JobId(text)
        found = set(await self._store.find(text, most=2)) | self._registry.ids_matching(text)
        if not found:
            raise not_found(text, "job")
        if len(found) > 1:
            raise AmbiguousId(
                f"id {text} fits more than one job", reason="JOB_ID_AMBIGUOUS", hint="give more characters"
            )
        return found.pop()

    async def _record(self, job_id: JobId) -> JobRecord:
        job = self._registry.get(job_id)
        if job is not None:
            return job.record
        record = await self._store.get(job_id)
        if record is None:
            raise not_found(job_id, "job")
        return record

    def _newest(self, record: JobRecord) -> JobRecord:
        job = self._registry.get(record.id)
        return record if job is None else job.record


def _already_ended(record: JobRecord, verb: str) -> WrongState:
    return WrongState(
        f"cannot {verb} job {record.id[:8]}: it has ended already, {record.state}", reason="JOB_ENDED"
    )
