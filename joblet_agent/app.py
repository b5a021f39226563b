"""The composition root: the only file that knows all the others."""

import asyncio
import fcntl
import logging
import os
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

from joblet_agent.config import AgentConfig
from joblet_agent.errors import HostUnavailable
from joblet_agent.inotify import InotifyWatcher
from joblet_agent.jobs.agenda import Agenda
from joblet_agent.jobs.belongings import Belongings
from joblet_agent.jobs.control import UnitControl
from joblet_agent.jobs.execs import ExecService
from joblet_agent.jobs.file_service import FileService
from joblet_agent.jobs.host import HostFacts
from joblet_agent.jobs.launch import JobLauncher
from joblet_agent.jobs.limits import LimitPolicy
from joblet_agent.jobs.live import LiveControl
from joblet_agent.jobs.log_keeper import LogKeeper
from joblet_agent.jobs.log_marks import LogMarks
from joblet_agent.jobs.logs import LogReader
from joblet_agent.jobs.metrics.reader import MetricsReader
from joblet_agent.jobs.metrics.sampler import MetricsSampler
from joblet_agent.jobs.node import NodeService
from joblet_agent.jobs.paths import AgentPaths
from joblet_agent.jobs.plan import PROGRAMS
from joblet_agent.jobs.profiles import Profiles
from joblet_agent.jobs.recovery import Recovery
from joblet_agent.jobs.registry import JobRegistry
from joblet_agent.jobs.retention import Retention
from joblet_agent.jobs.root import DefaultRoot
from joblet_agent.jobs.secrets import SecretKeeper
from joblet_agent.jobs.service import JobService
from joblet_agent.jobs.shutdown import HostShutdown
from joblet_agent.jobs.staging import UploadStaging
from joblet_agent.jobs.timers import TimerKeeper
from joblet_agent.jobs.tracker import JobTracker
from joblet_agent.jobs.uids import UidPool
from joblet_agent.jobs.waiting import WaitingJobs
from joblet_agent.jobs.watch import JobWatches
from joblet_agent.rpc.server import build_server
from joblet_agent.rpc.services import Services
from joblet_agent.schedules.service import ScheduleService
from joblet_agent.store import SqliteJobStore
from joblet_agent.systemd.audit import JournalAudit
from joblet_agent.systemd.invocations import JournalInvocations
from joblet_agent.systemd.journal import JournalWriter
from joblet_agent.systemd.manager import SystemdUnitManager
from joblet_agent.systemd.notify import Notifier
from joblet_agent.systemd.properties import UnitSettings

_RPC_GRACE = 1.0
_SHUTDOWN_LIMIT = timedelta(seconds=12)  # within TimeoutStopSec= of units/joblet-agent.service
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_log = logging.getLogger(__name__)


class SystemClock:
    """The host's clock (ports.Clock)."""

    def now(self) -> datetime:
        """Return the aware time in UTC."""
        return datetime.now(UTC)


class Agent:
    """The running agent. One to a host: the second one refuses to start."""

    def __init__(self, config: AgentConfig) -> None:
        self._config = config
        self._profiles = Profiles(config.jobs.default_profile, config.profiles)
        self._paths = AgentPaths(config.state_dir, config.run_dir)
        self._clock = SystemClock()

    async def run(self, stop: asyncio.Event) -> None:
        """Adopt what runs, serve until ``stop`` is set, then leave everything as it is.

        Raises JobletError if it cannot start. Jobs never notice the end.
        """
        async with AsyncExitStack() as stack:
            notifier = Notifier()
            stack.push_async_callback(notifier.close)
            stack.callback(os.close, _hold_lock(self._paths))
            journal = JournalWriter()
            stack.callback(journal.close)
            audit = JournalAudit(journal)
            stack.callback(audit.close)
            watcher = InotifyWatcher()
            stack.callback(watcher.close)
            services = await self._assemble(stack, journal, audit, watcher)
            server = build_server(services, self._config, audit, watcher)
            stack.push_async_callback(server.stop, _RPC_GRACE)
            await server.start()
            notifier.start_watchdog()
            notifier.ready(f"serving on {self._config.socket.path}")
            _log.info("ready, serving on %s", self._config.socket.path)
            await stop.wait()
            notifier.stopping()

    async def _assemble(
        self, stack: AsyncExitStack, journal: JournalWriter, audit: JournalAudit, watcher: InotifyWatcher
    ) -> Services:
        config, paths = self._config, self._paths
        _make_directories(paths)
        store = await SqliteJobStore.open(paths.database)
        stack.push_async_callback(store.close)
        units = await self._opened_units(stack)
        registry = JobRegistry(config.jobs.max_concurrent)
        root = DefaultRoot(paths.default_root)
        await asyncio.to_thread(root.refresh)
        marks = LogMarks(registry, store)
        keeper = LogKeeper(
            watcher,
            max_size=config.logs.max_size,
            journal=journal if config.logs.journal else None,
            lines_per_second=config.logs.journal_lines_per_second,
            burst=config.logs.journal_burst,
            on_truncated=marks.log_was_truncated,
            on_copied=marks.log_was_copied,
        )
        sampler = MetricsSampler(
            units.control_group,
            interval=config.metrics.interval,
            most_samples=config.metrics.history,
            enabled=config.metrics.enabled,
        )
        retention = Retention(config=config.retention, store=store, clock=self._clock, paths=paths)
        staging = UploadStaging(paths.uploads, config.uploads, self._clock)
        stack.push_async_callback(staging.close)
        await staging.open()
        boot_id, resync = _boot_id(), asyncio.Event()
        uids = UidPool(config.jobs.uid_first, config.jobs.uid_count)
        secrets = SecretKeeper(fleeting=paths.starting_secrets, lasting=paths.waiting_secrets)
        belongings = Belongings(paths, secrets)
        tracker = JobTracker(
            registry=registry,
            store=store,
            units=units,
            invocations=JournalInvocations(),
            sampler=sampler,
            journal=journal,
            clock=self._clock,
            belongings=belongings,
            paths=paths,
            uids=uids,
            retention=retention,
            boot_id=boot_id,
            resync=resync,
        )
        launcher = JobLauncher(
            registry=registry,
            store=store,
            units=units,
            tracker=tracker,
            keeper=keeper,
            belongings=belongings,
            paths=paths,
            root=root,
            uids=uids,
            profiles=self._profiles,
            boot_id=boot_id,
            parallelism=config.jobs.start_parallelism,
            resync=resync,
        )
        waiting = WaitingJobs(
            registry=registry,
            store=store,
            launcher=launcher,
            belongings=belongings,
            retention=retention,
            paths=paths,
        )
        control = UnitControl(
            store=store, units=units, tracker=tracker, paths=paths, root=root, resync=resync
        )
        recovery = Recovery(
            registry=registry,
            store=store,
            units=units,
            tracker=tracker,
            launcher=launcher,
            control=control,
            keeper=keeper,
            sampler=sampler,
            secrets=secrets,
            paths=paths,
            uids=uids,
            boot_id=boot_id,
            resync=resync,
        )
        # Closed the other way round: who asks others goes before them.
        for owner in (sampler, tracker, launcher, control, waiting, recovery, marks, keeper):
            stack.push_async_callback(owner.close)
        timers = TimerKeeper(units.timers)
        agenda = Agenda(
            waiting=waiting,
            store=store,
            timers=timers,
            clock=self._clock,
            audit=audit,
            most=config.schedules.max_jobs,
        )

        def compare_again() -> None:
            resync.set()
            timers.request_resync()

        units.listen(tracker.on_unit, compare_again)
        await recovery.recover()
        waiting.open()
        stack.push_async_callback(retention.close)
        await retention.open()
        logs = LogReader(watcher, max_size=config.logs.max_size)
        stack.callback(logs.close)
        limits = LimitPolicy(config.limits, HostFacts(), disks=(PROGRAMS, paths.jobs))
        jobs = JobService(
            config=config,
            registry=registry,
            launcher=launcher,
            waiting=waiting,
            control=control,
            retention=retention,
            staging=staging,
            agenda=agenda,
            store=store,
            units=units,
            logs=logs,
            sampler=sampler,
            metrics=MetricsReader(sampler),
            clock=self._clock,
            paths=paths,
            root=root,
            limits=limits,
            profiles=self._profiles,
        )
        stack.push_async_callback(jobs.close)
        schedules = ScheduleService(
            accept=jobs.accept,
            store=store.schedules,
            jobs=store,
            waiting=waiting,
            timers=timers,
            clock=self._clock,
            audit=audit,
            most=config.schedules.max_recurring,
        )
        await _started(stack, agenda, schedules, timers)
        node = NodeService(config=config, registry=registry, units=units, limits=limits)
        files = FileService(jobs=jobs, staging=staging, paths=paths)
        live = LiveControl(find=jobs.get, registry=registry, control=control, units=units, journal=journal)
        execs = await _opened(ExecService(live, control, units.exec_units(), journal, paths, root), stack)
        stack.push_async_callback(HostShutdown(registry, units, waiting).see_off, _SHUTDOWN_LIMIT)
        return Services(jobs, JobWatches(store.events, jobs.get), node, files, live, schedules, execs)

    async def _opened_units(self, stack: AsyncExitStack) -> SystemdUnitManager:
        config = self._config
        units = SystemdUnitManager(
            UnitSettings(
                0,
                config.jobs.stop_grace,
                config.limits.default.max_tasks,
                config.jobs.tmp_size,
                on_failure=config.hooks.on_failure,
            )
        )
        await units.open()
        stack.push_async_callback(units.close)
        return units


async def _started(
    stack: AsyncExitStack, agenda: Agenda, schedules: ScheduleService, timers: TimerKeeper
) -> None:
    """Take over what is to start later, and then start what is due."""
    stack.push_async_callback(agenda.close)
    stack.push_async_callback(schedules.close)
    stack.push_async_callback(timers.close)  # before those who listen to it
    await agenda.recover()
    await schedules.recover()
    await timers.recover()


async def _opened(execs: ExecService, stack: AsyncExitStack) -> ExecService:
    stack.push_async_callback(execs.close)
    await execs.recover()
    return execs


def _make_directories(paths: AgentPaths) -> None:
    for directory in paths.directories:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def _boot_id() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip()


def _hold_lock(paths: AgentPaths) -> int:
    paths.run_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
    descriptor = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise HostUnavailable(
            f"cannot start: another agent runs already and holds {paths.lock}",
            reason="AGENT_RUNS_ALREADY",
            hint="see: systemctl status joblet-agent",
        ) from error
    return descriptor
