"""All that decides about jobs, joined together. What it needs from outside are ports.

app.py joins it to the adapters, the tests to fakes (tests/unit/jobs/rig.py).
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from joblet_agent.config import AgentConfig
from joblet_agent.gpu.jobs import JobGpus
from joblet_agent.jobs.agenda import Agenda
from joblet_agent.jobs.belongings import Belongings
from joblet_agent.jobs.control import UnitControl
from joblet_agent.jobs.file_service import FileService
from joblet_agent.jobs.host import HostFacts
from joblet_agent.jobs.launch import JobLauncher
from joblet_agent.jobs.limits import LimitPolicy
from joblet_agent.jobs.log_keeper import LogKeeper
from joblet_agent.jobs.log_marks import LogMarks
from joblet_agent.jobs.logs import LogReader
from joblet_agent.jobs.metrics.link import Links
from joblet_agent.jobs.metrics.reader import MetricsReader
from joblet_agent.jobs.metrics.sampler import MetricsSampler
from joblet_agent.jobs.news import JobNews
from joblet_agent.jobs.paths import AgentPaths
from joblet_agent.jobs.profiles import Profiles
from joblet_agent.jobs.recovery import Recovery
from joblet_agent.jobs.registry import JobRegistry
from joblet_agent.jobs.retention import Retention
from joblet_agent.jobs.root import DefaultRoot
from joblet_agent.jobs.secrets import SecretKeeper
from joblet_agent.jobs.service import JobService
from joblet_agent.jobs.staging import UploadStaging
from joblet_agent.jobs.submissions import Submissions
from joblet_agent.jobs.timers import TimerKeeper
from joblet_agent.jobs.tracker import JobTracker
from joblet_agent.jobs.uids import UidPool
from joblet_agent.jobs.waiting import WaitingJobs
from joblet_agent.jobs.work_quotas import WorkQuotas
from joblet_agent.networks.catalog import Catalog
from joblet_agent.networks.jobs import JobNetworks
from joblet_agent.networks.name_keeper import NameKeeper
from joblet_agent.networks.service import NetworkService
from joblet_agent.ports import (
    AuditLog,
    Clock,
    EndedInvocations,
    FileWatcher,
    JobStore,
    JournalCopy,
    NameServers,
    NetworkBackend,
    NetworkStore,
    ProjectQuotas,
    ScheduleStore,
    TimerManager,
    UnitManager,
    VolumeStore,
    VolumeUnits,
    WorkflowSlices,
    WorkflowStore,
)
from joblet_agent.runtimes.assembly import Runtimes
from joblet_agent.runtimes.build.step import BuildUnits
from joblet_agent.runtimes.users import RuntimeUsers
from joblet_agent.schedules.belongings import ScheduleBelongings
from joblet_agent.schedules.service import ScheduleService
from joblet_agent.schedules.starts import JobStarts
from joblet_agent.volumes.backing import Backings
from joblet_agent.volumes.catalog import VolumeCatalog
from joblet_agent.volumes.copies import VolumeCopies
from joblet_agent.volumes.jobs import JobVolumes
from joblet_agent.volumes.service import VolumeService
from joblet_agent.volumes.snapshots import VolumeSnapshots
from joblet_agent.volumes.views import VolumeViews
from joblet_agent.workflow_file.masking import masked
from joblet_agent.workflows.accept import WorkflowAccept
from joblet_agent.workflows.admission import WorkflowAdmission
from joblet_agent.workflows.afterwards import Afterwards
from joblet_agent.workflows.agenda import WorkflowAgenda
from joblet_agent.workflows.belongings import WorkflowBelongings
from joblet_agent.workflows.driver import Means
from joblet_agent.workflows.drivers import Drivers
from joblet_agent.workflows.member_jobs import MemberJobs
from joblet_agent.workflows.outputs import OutputCollector
from joblet_agent.workflows.retention import WorkflowRetention
from joblet_agent.workflows.service import WorkflowService
from joblet_agent.workflows.starts import WorkflowStarts


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What the core works on; whoever made it closes it, after the core."""

    store: JobStore
    schedules: ScheduleStore
    workflows: WorkflowStore
    units: UnitManager
    slices: WorkflowSlices
    timers: TimerManager
    invocations: EndedInvocations
    journal: JournalCopy
    audit: AuditLog
    watcher: FileWatcher
    clock: Clock
    networks: NetworkStore
    backend: NetworkBackend
    names: NameServers
    host: HostFacts
    volumes: VolumeStore
    volume_units: VolumeUnits
    build_units: BuildUnits
    projects: ProjectQuotas
    """Of the file system with the work directories and the volumes."""
    boot_id: str
    """Kernel boot id."""


class JobCore:
    """The services of jobs and schedules and all that is behind them, from ``open`` to ``close``."""

    def __init__(
        self,
        config: AgentConfig,
        paths: AgentPaths,
        outside: Outside,
        *,
        root: DefaultRoot,
        quotas: WorkQuotas,
        disks: Sequence[Path],
        make_keeper: Callable[[LogMarks], LogKeeper],
    ) -> None:
        """``disks`` has a directory on each disk that every job reaches."""
        self.root = root
        self.quotas = quotas
        self._outside = outside
        self._make_parts(config, paths)
        self._make_networks(config)
        self._make_volumes(config, paths)
        self.runtimes = Runtimes(
            config, paths, self._outside.clock, self._outside.build_units, self._outside.boot_id
        )
        self._make_tracking(config, paths, make_keeper)
        self._make_services(config, paths, disks)
        self._make_workflows(config)

    def _make_networks(self, config: AgentConfig) -> None:
        outside = self._outside
        catalog = Catalog(config.networks)
        self.name_keeper = NameKeeper(outside.names)
        self.job_networks = JobNetworks(
            config=config.networks,
            jobs_config=config.jobs,
            catalog=catalog,
            store=outside.networks,
            backend=outside.backend,
            servers=outside.names,
            names=self.name_keeper,
            has_address=outside.host.has_address,
        )
        self.networks = NetworkService(
            config=config.networks,
            catalog=catalog,
            store=outside.networks,
            backend=outside.backend,
            names=self.name_keeper,
            clock=outside.clock,
            until_applied=self.job_networks.until_applied,
            let_go=self.registry.let_go,
        )

    def _make_volumes(self, config: AgentConfig, paths: AgentPaths) -> None:
        outside = self._outside
        backings = Backings(config.volumes, outside.volume_units, outside.projects, paths)
        catalog = self.volume_catalog = VolumeCatalog(
            config.volumes, outside.volumes, self.registry, backings
        )
        self.job_volumes = JobVolumes(catalog)
        self.volumes = VolumeService(
            config=config.volumes,
            catalog=catalog,
            backings=backings,
            views=VolumeViews(catalog, backings, paths),
            clock=outside.clock,
        )
        self.volume_copies = VolumeCopies(catalog, backings, self.staging)
        self.volume_snapshots = VolumeSnapshots(catalog, backings.images, outside.clock)

    def _make_parts(self, config: AgentConfig, paths: AgentPaths) -> None:
        store, clock = self._outside.store, self._outside.clock
        self.resync = asyncio.Event()
        self.news = JobNews()
        self.registry = JobRegistry(config.jobs)
        self.uids = UidPool(config.jobs.uid_first, config.jobs.uid_count)
        self.profiles = Profiles(config.jobs, config.profiles)
        self.gpus = JobGpus()
        self.links = Links(self._outside.backend.interface)
        self.sampler = MetricsSampler(self._outside.units.control_group, self.links, config.metrics)
        self.retention = Retention(config=config.retention, store=store, clock=clock, paths=paths)
        self.staging = UploadStaging(paths.uploads, config.uploads, clock)
        self.secrets = SecretKeeper(fleeting=paths.starting_secrets, lasting=paths.waiting_secrets)
        self.belongings = Belongings(paths, self.secrets, self.quotas)
        self.workflow_belongings = WorkflowBelongings(paths, self.belongings)
        self.outputs = OutputCollector(paths, config.workflows)
        self.logs = LogReader(self._outside.watcher, config.logs)
        self.timers = TimerKeeper(self._outside.timers)
        self.submissions = Submissions(store)

    def _make_tracking(
        self, config: AgentConfig, paths: AgentPaths, make_keeper: Callable[[LogMarks], LogKeeper]
    ) -> None:
        """Make what follows jobs from their submission to their end."""
        outside = self._outside
        self.marks = LogMarks(self.registry, outside.store)
        self.log_keeper = make_keeper(self.marks)
        self.tracker = JobTracker(
            registry=self.registry,
            store=outside.store,
            units=outside.units,
            invocations=outside.invocations,
            sampler=self.sampler,
            links=self.links,
            journal=outside.journal,
            clock=outside.clock,
            belongings=self.belongings,
            paths=paths,
            uids=self.uids,
            networks=self.job_networks,
            runtimes=self.runtimes.jobs,
            retention=self.retention,
            news=self.news,
            collect=self.outputs.collect,
            boot_id=outside.boot_id,
            resync=self.resync,
        )
        self.launcher = JobLauncher(
            registry=self.registry,
            store=outside.store,
            units=outside.units,
            tracker=self.tracker,
            keeper=self.log_keeper,
            belongings=self.belongings,
            paths=paths,
            root=self.root,
            uids=self.uids,
            profiles=self.profiles,
            networks=self.job_networks,
            volumes=self.job_volumes,
            runtimes=self.runtimes.jobs,
            gpus=self.gpus,
            boot_id=outside.boot_id,
            parallelism=config.jobs.start_parallelism,
            resync=self.resync,
        )
        self.waiting = WaitingJobs(
            registry=self.registry,
            store=outside.store,
            launcher=self.launcher,
            belongings=self.belongings,
            retention=self.retention,
            news=self.news,
            paths=paths,
        )
        self.control = UnitControl(
            store=outside.store,
            units=outside.units,
            tracker=self.tracker,
            paths=paths,
            root=self.root,
            resync=self.resync,
        )
        self.recovery = Recovery(
            registry=self.registry,
            store=outside.store,
            units=outside.units,
            tracker=self.tracker,
            launcher=self.launcher,
            control=self.control,
            keeper=self.log_keeper,
            sampler=self.sampler,
            secrets=self.secrets,
            belongings=self.belongings,
            paths=paths,
            uids=self.uids,
            networks=self.job_networks,
            boot_id=outside.boot_id,
            resync=self.resync,
        )

    def _make_services(self, config: AgentConfig, paths: AgentPaths, disks: Sequence[Path]) -> None:
        outside = self._outside
        self.limits = LimitPolicy(config.limits, outside.host, disks=disks)
        self.agenda = Agenda(
            waiting=self.waiting,
            store=outside.store,
            timers=self.timers,
            clock=outside.clock,
            audit=outside.audit,
            config=config.schedules,
        )
        self.service = JobService(
            config=config,
            registry=self.registry,
            launcher=self.launcher,
            waiting=self.waiting,
            control=self.control,
            retention=self.retention,
            staging=self.staging,
            agenda=self.agenda,
            store=outside.store,
            units=outside.units,
            logs=self.logs,
            sampler=self.sampler,
            metrics=MetricsReader(self.sampler),
            clock=outside.clock,
            paths=paths,
            root=self.root,
            limits=self.limits,
            profiles=self.profiles,
            submissions=self.submissions,
            quotas=self.quotas,
            networks=self.job_networks,
            volumes=self.job_volumes,
            runtimes=self.runtimes.jobs,
            gpus=self.gpus,
        )
        self.files = FileService(jobs=self.service, staging=self.staging, paths=paths)
        self.workflow_accept = WorkflowAccept(
            accept=self.service.accept,
            accept_like=self.service.accept_like,
            explain=self.service.explained,
            networks=lambda: (view.name for view in self.networks.all()),
            volumes=lambda: (volume.name for volume in self.volume_catalog),
            mask=masked,
            clock=outside.clock,
        )
        self.workflow_starts = WorkflowStarts(
            accept=self.workflow_accept,
            belongings=self.workflow_belongings,
            store=outside.workflows,
            audit=outside.audit,
            paths=paths,
        )
        schedule_belongings = ScheduleBelongings(paths, self.belongings)
        self.schedules = ScheduleService(
            accept=self.service.accept,
            networks=self.job_networks,
            runtimes=self.runtimes.jobs,
            store=outside.schedules,
            jobs=outside.store,
            job_starts=JobStarts(
                belongings=schedule_belongings,
                get=outside.store.get,
                waiting=self.waiting,
                audit=outside.audit,
                clock=outside.clock,
            ),
            workflow_starts=self.workflow_starts,
            belongings=schedule_belongings,
            staging=self.staging,
            submissions=self.submissions,
            timers=self.timers,
            clock=outside.clock,
            config=config.schedules,
        )

    def _make_workflows(self, config: AgentConfig) -> None:
        outside = self._outside
        users = RuntimeUsers(jobs=outside.store, workflows=outside.workflows, schedules=self.schedules.all)
        self.runtimes.store.users = users.digests
        self.runtimes.serve(self.service, users.users_of)
        jobs = config.jobs
        means = Means(
            store=outside.workflows,
            jobs=outside.store,
            registry=self.registry,
            waiting=self.waiting,
            member_jobs=MemberJobs(self.service, self.registry, self.control),
            belongings=self.workflow_belongings,
            outputs=self.outputs,
            slices=outside.slices,
            clock=outside.clock,
            most_active=lambda: jobs.max_concurrent,
        )
        drivers = Drivers(means, self.news)
        agenda = WorkflowAgenda(drivers, self.timers, outside.clock, outside.audit)
        admission = WorkflowAdmission(
            config=config,
            accept=self.workflow_accept,
            store=outside.workflows,
            belongings=self.workflow_belongings,
            staging=self.staging,
            submissions=self.submissions,
            schedules=self.schedules,
            starts=self.workflow_starts,
            agenda=agenda,
            drivers=drivers,
            runtimes=self.runtimes.jobs,
        )
        afterwards = Afterwards(means, drivers, self.retention)
        self.workflows = WorkflowService(
            means=means,
            accept=self.workflow_accept,
            drivers=drivers,
            agenda=agenda,
            admission=admission,
            afterwards=afterwards,
            schedules=self.schedules,
        )
        self.workflow_retention = WorkflowRetention(
            config=config.retention,
            store=outside.workflows,
            clock=outside.clock,
            delete=afterwards.delete,
        )
        drivers.listen(lambda _: self.workflow_retention.reconsider())

    async def open(self) -> None:
        """Take over what the store and systemd know, then start what waits and what is due. Call once."""
        await self.staging.open()
        await self.networks.open()
        await self.volumes.open()
        await self.runtimes.open()
        await self.gpus.refresh()
        self._outside.units.listen(self.tracker.on_unit, self._compare_again)
        await self.workflows.load()
        await self.recovery.recover()
        self.workflows.open()
        self.waiting.open()
        await self.retention.open()
        await self.agenda.recover()
        await self.schedules.recover()
        await self.workflows.sweep()
        self.workflow_retention.open()
        await self.timers.recover()

    def reconsider(self) -> None:
        """Go by changed values of the configuration at once, where nothing else would make anybody look."""
        self.registry.room_wanted.set()
        self.sampler.reconsider()
        self.retention.reconsider()
        self.workflow_retention.reconsider()
        self.runtimes.reconsider()

    async def close(self) -> None:
        """Leave everything as it is: jobs never notice."""
        async with AsyncExitStack() as stack:
            # Closed the other way round: who asks others goes before them.
            stack.push_async_callback(self.staging.close)
            stack.push_async_callback(self.volumes.close)
            stack.push_async_callback(self.runtimes.close)
            stack.push_async_callback(self.workflow_belongings.close)
            stack.push_async_callback(self.close_tracking)
            stack.push_async_callback(self.marks.close)
            stack.push_async_callback(self.log_keeper.close)
            stack.push_async_callback(self.retention.close)
            stack.callback(self.logs.close)
            stack.push_async_callback(self.workflows.close)
            stack.push_async_callback(self.workflow_retention.close)
            stack.push_async_callback(self.submissions.close)
            stack.push_async_callback(self.agenda.close)
            stack.push_async_callback(self.schedules.close)
            stack.push_async_callback(self.timers.close)
            stack.push_async_callback(self.networks.close)

    async def close_tracking(self) -> None:
        """Follow jobs no more."""
        async with AsyncExitStack() as stack:
            for owner in (
                self.name_keeper,
                self.job_networks,
                self.sampler,
                self.tracker,
                self.launcher,
                self.control,
                self.waiting,
                self.recovery,
            ):
                stack.push_async_callback(owner.close)

    def _compare_again(self) -> None:
        self.resync.set()
        self.timers.request_resync()
