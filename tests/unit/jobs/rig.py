"""A job core on fakes: everything of app.py that decides, nothing that needs a host."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from joblet_agent.config import (
    AgentConfig,
    JobsConfig,
    LimitsConfig,
    ProfilesConfig,
    RetentionConfig,
    SchedulesConfig,
)
from joblet_agent.errors import LimitReached, StoreFailed
from joblet_agent.jobs.agenda import Agenda
from joblet_agent.jobs.belongings import Belongings
from joblet_agent.jobs.control import UnitControl
from joblet_agent.jobs.file_service import FileService
from joblet_agent.jobs.launch import JobLauncher
from joblet_agent.jobs.limits import LimitPolicy
from joblet_agent.jobs.log_keeper import LogKeeper
from joblet_agent.jobs.logs import LogReader
from joblet_agent.jobs.metrics.reader import MetricsReader
from joblet_agent.jobs.metrics.sampler import MetricsSampler
from joblet_agent.jobs.paths import AgentPaths
from joblet_agent.jobs.profiles import Profiles
from joblet_agent.jobs.recovery import Recovery
from joblet_agent.jobs.registry import JobRegistry
from joblet_agent.jobs.retention import Retention
from joblet_agent.jobs.root import DefaultRoot
from joblet_agent.jobs.secrets import SecretKeeper
from joblet_agent.jobs.service import JobService
from joblet_agent.jobs.staging import UploadStaging
from joblet_agent.jobs.timers import TimerKeeper
from joblet_agent.jobs.tracker import JobTracker
from joblet_agent.jobs.uids import UidPool
from joblet_agent.jobs.waiting import WaitingJobs
from joblet_agent.model.identity import Identity, Role
from joblet_agent.model.job import JobId, JobRecord, JobSpec, JobState
from joblet_agent.model.resources import NOTHING, Resources
from joblet_agent.ports import JobStore, ScheduleStore, TimerManager, UnitManager
from joblet_agent.schedules.service import ScheduleService
from tests.fakes.audit_log import FakeAuditLog
from tests.fakes.clock import FakeClock
from tests.fakes.file_watcher import FakeFileWatcher
from tests.fakes.host import FakeHost
from tests.fakes.invocations import FakeInvocations
from tests.fakes.job_store import MemoryJobStore
from tests.fakes.journal_copy import FakeJournalCopy
from tests.fakes.log_keeper import FakeLogKeeper
from tests.fakes.schedule_store import MemoryScheduleStore
from tests.fakes.timers import FakeTimers
from tests.fakes.unit_manager import FakeUnitManager

CALLER = Identity("somebody", Role.ADMIN)
BOOT = "boot-1"
_SOON = 20.0


class RecordingStore(MemoryJobStore):
    """Writes down each save in the list that the unit manager writes its calls to."""

    def __init__(self, calls: list[str]) -> None:
        super().__init__()
        self.calls = calls
        self.history: list[JobRecord] = []
        self.failures_left = 0
        """So many saves fail before the next one succeeds."""

    async def save(self, *records: JobRecord) -> None:
        if self.failures_left:
            self.failures_left -= 1
            raise StoreFailed("cannot write to the state database: disk is full", reason="STORE_FULL")
        await asyncio.sleep(0)  # a real one takes a moment, and so may lose its caller
        await super().save(*records)
        self.history += records
        self.calls += [f"save {record.state} {record.id}" for record in records]
        await asyncio.sleep(0)


@dataclass
class Host:
    """What outlives an agent: the disk, systemd, the journal."""

    home: Path
    calls: list[str] = field(default_factory=list)
    invocations: FakeInvocations = field(default_factory=FakeInvocations)
    store: RecordingStore = field(init=False)
    units: FakeUnitManager = field(init=False)
    clock: FakeClock = field(default_factory=FakeClock)
    timers: FakeTimers = field(init=False)
    schedules: MemoryScheduleStore = field(init=False)
    paths: AgentPaths = field(init=False)

    def __post_init__(self) -> None:
        self.store = RecordingStore(self.calls)
        self.units = FakeUnitManager(self.invocations, self.calls)
        self.timers = FakeTimers(self.clock)
        self.schedules = MemoryScheduleStore(self.store)
        self.paths = AgentPaths(self.home / "state", self.home / "run")
        for directory in (*self.paths.directories, self.home / "etc"):
            directory.mkdir(parents=True, exist_ok=True)

    @property
    def records(self) -> list[JobRecord]:
        return list(self.store.records.values())

    def outcomes(self) -> dict[JobId, str]:
        """Each job's state and reason."""
        return {
            record.id: f"{record.state}/{record.outcome.reason if record.outcome else ''}"
            for record in self.records
        }


class Core:
    """One life of the agent's job core on a host."""

    def __init__(
        self,
        host: Host,
        *,
        jobs: JobsConfig | None = None,
        limits: LimitsConfig | None = None,
        retention: RetentionConfig | None = None,
        profiles: ProfilesConfig | None = None,
        schedules: SchedulesConfig | None = None,
        store: JobStore | None = None,
        units: UnitManager | None = None,
        timers: TimerManager | None = None,
        schedule_store: ScheduleStore | None = None,
        boot_id: str = BOOT,
    ) -> None:
        jobs = jobs or JobsConfig()
        self.config = replace(
            AgentConfig(),
            jobs=jobs,
            limits=limits or LimitsConfig(),
            retention=retention or RetentionConfig(),
            profiles=profiles or ProfilesConfig(),
        )
        self.host = host
        self.store = store or host.store
        self.units = units or host.units
        self.registry = JobRegistry(jobs.max_concurrent)
        self.uids = UidPool(jobs.uid_first, jobs.uid_count)
        self.keeper = FakeLogKeeper()
        self.sampler = MetricsSampler(
            self.units.control_group,
            interval=self.config.metrics.interval,
            most_samples=self.config.metrics.history,
        )
        self.journal = FakeJournalCopy()
        self.clock = host.clock
        self.logs = LogReader(FakeFileWatcher(), max_size=1 << 30)
        self.root = DefaultRoot(host.paths.default_root, host.home)
        self.retention = Retention(
            config=self.config.retention, store=self.store, clock=self.clock, paths=host.paths
        )
        self.staging = UploadStaging(host.paths.uploads, self.config.uploads, self.clock)
        offered = Profiles(jobs.default_profile, self.config.profiles)
        self.resync = asyncio.Event()
        secrets = SecretKeeper(fleeting=host.paths.starting_secrets, lasting=host.paths.waiting_secrets)
        belongings = Belongings(host.paths, secrets)
        self.tracker = JobTracker(
            registry=self.registry,
            store=self.store,
            units=self.units,
            invocations=host.invocations,
            sampler=self.sampler,
            journal=self.journal,
            clock=self.clock,
            belongings=belongings,
            paths=host.paths,
            uids=self.uids,
            retention=self.retention,
            boot_id=boot_id,
            resync=self.resync,
        )
        self.launcher = JobLauncher(
            registry=self.registry,
            store=self.store,
            units=self.units,
            tracker=self.tracker,
            keeper=cast(LogKeeper, self.keeper),
            belongings=belongings,
            paths=host.paths,
            root=self.root,
            uids=self.uids,
            profiles=offered,
            boot_id=boot_id,
            parallelism=jobs.start_parallelism,
            resync=self.resync,
        )
        self.waiting = WaitingJobs(
            registry=self.registry,
            store=self.store,
            launcher=self.launcher,
            belongings=belongings,
            retention=self.retention,
            paths=host.paths,
        )
        self.control = UnitControl(
            store=self.store,
            units=self.units,
            tracker=self.tracker,
            paths=host.paths,
            root=self.root,
            resync=self.resync,
        )
        self.recovery = Recovery(
            registry=self.registry,
            store=self.store,
            units=self.units,
            tracker=self.tracker,
            launcher=self.launcher,
            control=self.control,
            keeper=cast(LogKeeper, self.keeper),
            sampler=self.sampler,
            secrets=secrets,
            paths=host.paths,
            uids=self.uids,
            boot_id=boot_id,
            resync=self.resync,
        )
        self.timers = TimerKeeper(timers or host.timers)
        self.audit = FakeAuditLog()
        bounds = schedules or SchedulesConfig()
        self.agenda = Agenda(
            waiting=self.waiting,
            store=self.store,
            timers=self.timers,
            clock=self.clock,
            audit=self.audit,
            most=bounds.max_jobs,
        )
        self.service = JobService(
            config=self.config,
            registry=self.registry,
            launcher=self.launcher,
            waiting=self.waiting,
            control=self.control,
            retention=self.retention,
            staging=self.staging,
            agenda=self.agenda,
            store=self.store,
            units=self.units,
            logs=self.logs,
            sampler=self.sampler,
            metrics=MetricsReader(self.sampler),
            clock=self.clock,
            paths=host.paths,
            root=self.root,
            limits=LimitPolicy(self.config.limits, FakeHost(host.home / "host"), disks=()),
            profiles=offered,
        )
        self.files = FileService(jobs=self.service, staging=self.staging, paths=host.paths)

        self.schedules = ScheduleService(
            accept=self.service.accept,
            store=schedule_store or host.schedules,
            jobs=self.store,
            waiting=self.waiting,
            timers=self.timers,
            clock=self.clock,
            audit=self.audit,
            most=bounds.max_recurring,
        )

    async def open(self) -> None:
        self.units.listen(self.tracker.on_unit, self.resync.set)
        await self.staging.open()
        await self.recovery.recover()
        self.waiting.open()
        await self.retention.open()
        await self.agenda.recover()
        await self.schedules.recover()
        await self.timers.recover()

    async def close(self) -> None:
        for owner in (self.service, self.timers, self.schedules, self.agenda):
            await owner.close()
        await self.retention.close()
        await self.close_tracking()
        await self.staging.close()
        self.units.listen(lambda _status: None, lambda: None)
        self.logs.close()

    async def close_tracking(self) -> None:
        for owner in (self.recovery, self.waiting, self.control, self.launcher, self.tracker, self.sampler):
            await owner.close()

    async def run(self, command: str, *args: str, resources: Resources = NOTHING) -> JobRecord:
        return await self.service.run(JobSpec(command, args, resources=resources), CALLER)

    async def state(self, job_id: JobId) -> JobState:
        return (await self.service.get(job_id)).state

    async def ended(self, job_id: JobId) -> JobRecord:
        """Return the job's record once the agent is done with it."""
        records = self.host.store.records
        await until(lambda: records[job_id].has_ended and self.registry.get(job_id) is None)
        return records[job_id]

    def free_uids(self) -> int:
        """Take every uid that is left; the pool is of no use afterwards."""
        free = 0
        try:
            while True:
                self.uids.take()
                free += 1
        except LimitReached:
            return free


@asynccontextmanager
async def mortal_threads() -> AsyncIterator[None]:
    """See that threads of the agent within the block are done behind it: a process takes its own along."""
    loop = asyncio.get_running_loop()
    executor = ThreadPoolExecutor()
    loop.set_default_executor(executor)
    try:
        yield
    finally:
        loop.set_default_executor(ThreadPoolExecutor())
        await asyncio.to_thread(executor.shutdown)


async def until(condition: Callable[[], bool]) -> None:
    """Let others run until the condition holds; fail if it never does."""
    async with asyncio.timeout(_SOON):
        while not condition():  # noqa: ASYNC110  # files are made in threads, which set no event
            await asyncio.sleep(0)


def with_core(
    home: Path,
    case: Callable[[Core], Awaitable[None]],
    *,
    jobs: JobsConfig | None = None,
    retention: RetentionConfig | None = None,
    schedules: SchedulesConfig | None = None,
) -> Host:
    """Run the case on a fresh host with one agent, and see that nothing of it is left running."""
    host = Host(home)

    async def main() -> None:
        core = Core(host, jobs=jobs, retention=retention, schedules=schedules)
        await core.open()
        try:
            async with asyncio.timeout(_SOON):
                await case(core)
        finally:
            await core.close()
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left

    asyncio.run(main())
    return host


def states(records: Sequence[JobRecord]) -> list[JobState]:
    """The states of one job's saved records, in order."""
    return [record.state for record in records]
