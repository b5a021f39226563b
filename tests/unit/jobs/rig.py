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
    NetworksConfig,
    ProfilesConfig,
    RetentionConfig,
    SchedulesConfig,
    VolumesConfig,
)
from joblet_agent.core import JobCore, Outside
from joblet_agent.errors import LimitReached, StoreFailed
from joblet_agent.jobs.log_keeper import LogKeeper
from joblet_agent.jobs.paths import AgentPaths
from joblet_agent.jobs.root import DefaultRoot
from joblet_agent.jobs.work_quotas import WorkQuotas
from joblet_agent.model.identity import Identity, Role
from joblet_agent.model.job import JobId, JobRecord, JobSpec, JobState
from joblet_agent.model.resources import NOTHING, Resources
from joblet_agent.ports import (
    JobStore,
    NetworkBackend,
    NetworkStore,
    ScheduleStore,
    TimerManager,
    UnitManager,
    WorkflowSlices,
    WorkflowStore,
)
from tests.fakes.audit_log import FakeAuditLog
from tests.fakes.builds import FakeBuildUnits
from tests.fakes.clock import FakeClock
from tests.fakes.file_watcher import FakeFileWatcher
from tests.fakes.host import FakeHost
from tests.fakes.invocations import FakeInvocations
from tests.fakes.job_store import MemoryJobStore
from tests.fakes.journal_copy import FakeJournalCopy
from tests.fakes.log_keeper import FakeLogKeeper
from tests.fakes.networks import FakeNameServers, FakeNetworkBackend, MemoryNetworkStore
from tests.fakes.project_quotas import FakeProjectQuotas
from tests.fakes.schedule_store import MemoryScheduleStore
from tests.fakes.timers import FakeTimers
from tests.fakes.unit_manager import FakeUnitManager
from tests.fakes.volume_store import MemoryVolumeStore
from tests.fakes.volume_units import FakeVolumeUnits
from tests.fakes.workflow_store import MemoryWorkflowStore

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
        self.refuse()
        await asyncio.sleep(0)  # a real one takes a moment, and so may lose its caller
        self._check()
        self.put(*records)
        await asyncio.sleep(0)

    def refuse(self) -> None:
        if self.failures_left:
            self.failures_left -= 1
            raise StoreFailed("cannot write to the state database: disk is full", reason="STORE_FULL")
        super().refuse()

    def put(self, *records: JobRecord) -> None:
        super().put(*records)
        self.history += records
        self.calls += [f"save {record.state} {record.id}" for record in records]


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
    workflows: MemoryWorkflowStore = field(init=False)
    paths: AgentPaths = field(init=False)
    quotas: FakeProjectQuotas = field(default_factory=FakeProjectQuotas)
    kernel: FakeNetworkBackend = field(init=False)
    names: FakeNameServers = field(default_factory=FakeNameServers)
    networks: MemoryNetworkStore = field(default_factory=MemoryNetworkStore)
    volumes: MemoryVolumeStore = field(default_factory=MemoryVolumeStore)
    volume_units: FakeVolumeUnits = field(default_factory=FakeVolumeUnits)

    def __post_init__(self) -> None:
        self.store = RecordingStore(self.calls)
        self.units = FakeUnitManager(self.invocations, self.calls)
        self.timers = FakeTimers(self.clock)
        self.workflows = MemoryWorkflowStore(self.store)
        self.schedules = MemoryScheduleStore(self.store, self.workflows)
        self.kernel = FakeNetworkBackend(self.calls)
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


class Core(JobCore):
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
        networks: NetworksConfig | None = None,
        backend: NetworkBackend | None = None,
        network_store: NetworkStore | None = None,
        volumes: VolumesConfig | None = None,
        store: JobStore | None = None,
        units: UnitManager | None = None,
        timers: TimerManager | None = None,
        schedule_store: ScheduleStore | None = None,
        workflow_store: WorkflowStore | None = None,
        slices: WorkflowSlices | None = None,
        boot_id: str = BOOT,
    ) -> None:
        self.config = replace(
            AgentConfig(),
            jobs=jobs or JobsConfig(),
            limits=limits or LimitsConfig(),
            retention=retention or RetentionConfig(),
            profiles=profiles or ProfilesConfig(),
            schedules=schedules or SchedulesConfig(),
            networks=networks or NetworksConfig(),
            volumes=volumes or VolumesConfig(),
        )
        self.host = host
        self.store = store or host.store
        self.units = units or host.units
        self.keeper = FakeLogKeeper()
        self.journal = FakeJournalCopy()
        self.audit = FakeAuditLog()
        self.clock = host.clock
        super().__init__(
            self.config,
            host.paths,
            Outside(
                store=self.store,
                schedules=schedule_store or host.schedules,
                workflows=workflow_store or host.workflows,
                units=self.units,
                slices=slices or host.units.slices,
                timers=timers or host.timers,
                invocations=host.invocations,
                journal=self.journal,
                audit=self.audit,
                watcher=FakeFileWatcher(),
                clock=self.clock,
                networks=network_store or host.networks,
                backend=backend or host.kernel,
                names=host.names,
                host=FakeHost(host.home / "host"),
                volumes=host.volumes,
                volume_units=host.volume_units,
                build_units=FakeBuildUnits(host.paths.builds),
                projects=host.quotas,
                boot_id=boot_id,
            ),
            root=DefaultRoot(host.paths.default_root, host.home),
            quotas=WorkQuotas(host.quotas, self.config.jobs.project_first, self.config.jobs.project_count),
            disks=(),
            make_keeper=lambda _: cast(LogKeeper, self.keeper),
        )

    async def close(self) -> None:
        await super().close()
        self.units.listen(lambda _status: None, lambda: None)

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
    profiles: ProfilesConfig | None = None,
    networks: NetworksConfig | None = None,
) -> Host:
    """Run the case on a fresh host with one agent, and see that nothing of it is left running."""
    host = Host(home)

    async def main() -> None:
        core = Core(
            host, jobs=jobs, retention=retention, schedules=schedules, profiles=profiles, networks=networks
        )
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
