"""The composition root: the only file that knows all the others."""

import asyncio
import fcntl
import logging
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from joblet_agent.config import AgentConfig, LogsConfig
from joblet_agent.core import JobCore, Outside
from joblet_agent.errors import HostUnavailable
from joblet_agent.inotify import InotifyWatcher
from joblet_agent.jobs.execs import ExecService
from joblet_agent.jobs.host import HostFacts
from joblet_agent.jobs.live import LiveControl
from joblet_agent.jobs.log_keeper import LogKeeper
from joblet_agent.jobs.log_marks import LogMarks
from joblet_agent.jobs.node import NodeService
from joblet_agent.jobs.paths import AgentPaths
from joblet_agent.jobs.plan import PROGRAMS
from joblet_agent.jobs.root import DefaultRoot
from joblet_agent.jobs.shutdown import HostShutdown
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.jobs.watch import JobWatches
from joblet_agent.jobs.work_quotas import WorkQuotas
from joblet_agent.netlink.client import NetlinkBackend
from joblet_agent.quota import ProjectQuotas
from joblet_agent.reload import Reloads
from joblet_agent.reload_call import listen, reload_socket
from joblet_agent.rpc.runtime_services import RuntimeServices
from joblet_agent.rpc.server import build_server
from joblet_agent.rpc.services import Services
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

    def __init__(self, config: AgentConfig, path: Path | None = None) -> None:
        """``path`` is the file that the configuration is from, to be read again; None for the usual one."""
        self._config = config
        self._path = path
        self._paths = AgentPaths(config.state_dir, config.run_dir)

    async def run(self, stop: asyncio.Event, hangup: asyncio.Event) -> None:
        """Adopt what runs, serve until ``stop`` is set, then leave everything as it is.

        Whenever ``hangup`` is set, read the configuration again.

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
            core, units, services = await self._assemble(stack, journal, audit, watcher)
            server = build_server(services, self._config, audit, watcher)
            stack.push_async_callback(server.stop, _RPC_GRACE)
            await server.start()
            notifier.start_watchdog()
            reloads = Reloads(self._config, self._path, notifier, partial(self._reconsider, core, units))
            await _take_reloads(stack, reloads, hangup)
            reloads.ready()
            core.runtimes.begin()
            _log.info("ready, serving on %s", self._config.socket.path)
            await stop.wait()
            notifier.stopping()

    async def _assemble(
        self, stack: AsyncExitStack, journal: JournalWriter, audit: JournalAudit, watcher: InotifyWatcher
    ) -> tuple[JobCore, SystemdUnitManager, Services]:
        config, paths = self._config, self._paths
        _make_directories(paths)
        store = await SqliteJobStore.open(paths.database)
        stack.push_async_callback(store.close)
        units = await self._opened_units(stack)
        units.builds.open(paths.builds, watcher)
        backend = NetlinkBackend()
        stack.push_async_callback(backend.close)
        await backend.open()
        projects = ProjectQuotas(paths.jobs)
        stack.callback(projects.close)
        core = JobCore(
            config,
            paths,
            Outside(
                store=store,
                schedules=store.schedules,
                workflows=store.workflows,
                units=units,
                slices=units.slices,
                timers=units.timers,
                invocations=JournalInvocations(),
                journal=journal,
                audit=audit,
                watcher=watcher,
                clock=SystemClock(),
                networks=store.networks,
                backend=backend,
                names=units.name_servers(),
                host=HostFacts(),
                volumes=store.volumes,
                volume_units=units.volumes,
                build_units=units.builds,
                projects=projects,
                boot_id=_boot_id(),
            ),
            root=DefaultRoot(paths.default_root),
            quotas=await asyncio.to_thread(_work_quotas, projects, config, paths),
            disks=(PROGRAMS, paths.jobs),
            make_keeper=partial(_log_keeper, config.logs, watcher, journal),
        )
        await asyncio.to_thread(core.root.refresh)
        stack.push_async_callback(core.close)
        await core.open()
        jobs, registry, control = core.service, core.registry, core.control
        node = NodeService(
            config=config, registry=registry, units=units, limits=core.limits, quotas=core.quotas
        )
        live = LiveControl(find=jobs.get, registry=registry, control=control, units=units, journal=journal)
        execs = ExecService(live, control, units.exec_units(), journal, paths, core.root, core.job_networks)
        stack.push_async_callback(execs.close)
        await execs.recover()
        stack.push_async_callback(HostShutdown(registry, units, core.waiting).see_off, _SHUTDOWN_LIMIT)
        watches = JobWatches(store.events, jobs.get)
        return (
            core,
            units,
            Services(
                jobs,
                watches,
                node,
                core.files,
                live,
                core.schedules,
                execs,
                core.networks,
                core.volumes,
                core.volume_copies,
                core.volume_snapshots,
                core.workflows,
                RuntimeServices(
                    core.runtimes.service,
                    core.runtimes.transfer,
                    core.runtimes.builds,
                    core.runtimes.installer,
                ),
            ),
        )

    async def _reconsider(self, core: JobCore, units: SystemdUnitManager, changed: Sequence[str]) -> None:
        """Do what a change of values wants done at once; all else reads them when it needs them."""
        logging.getLogger().setLevel(self._config.log_level.upper())
        core.reconsider()
        if "hooks.on_failure" in changed:
            try:
                await units.check_hook()
            except HostUnavailable as error:
                _log.warning("hooks.on_failure: %s", error)

    async def _opened_units(self, stack: AsyncExitStack) -> SystemdUnitManager:
        units = SystemdUnitManager(UnitSettings(self._config))
        await units.open()
        stack.push_async_callback(units.close)
        return units


async def _take_reloads(stack: AsyncExitStack, reloads: Reloads, hangup: asyncio.Event) -> None:
    tasks = Tasks()
    stack.push_async_callback(tasks.close)
    tasks.start(reloads.follow(hangup), "reloads")
    if (path := reload_socket()) is not None:
        stack.callback((await listen(path, reloads.reload)).close)


def _log_keeper(
    config: LogsConfig, watcher: InotifyWatcher, journal: JournalWriter, marks: LogMarks
) -> LogKeeper:
    return LogKeeper(
        watcher,
        config,
        journal,
        on_truncated=marks.log_was_truncated,
        on_copied=marks.log_was_copied,
    )


def _work_quotas(projects: ProjectQuotas, config: AgentConfig, paths: AgentPaths) -> WorkQuotas:
    quotas = WorkQuotas(projects, config.jobs.project_first, config.jobs.project_count)
    if config.limits.default.work_size and not quotas.are_enforced:
        _log.info(
            "jobs may fill the disk of %s: its file system has no project quotas, so that "
            "limits.default.work_size does nothing; to have them: docs/operations.md, Workspaces",
            paths.jobs,
        )
    return quotas


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
