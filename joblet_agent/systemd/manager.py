"""Transient units of jobs: start, stop, inspect, release, and the events of their lives."""

import asyncio
import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from signal import SIGKILL
from typing import Any

from dbus_next.signature import Variant

from joblet_agent.errors import HostUnavailable, JobletError, LaunchFailed, NotFound
from joblet_agent.model.job import Explanation, JobId
from joblet_agent.model.metrics import Usage
from joblet_agent.ports import Accounted, LaunchPlan, UnitListener, UnitStatus
from joblet_agent.systemd.build_units import SystemdBuildUnits
from joblet_agent.systemd.bus import SystemBus
from joblet_agent.systemd.environment import environment_file_text, write_secretly
from joblet_agent.systemd.exec_units import SystemdExecUnits
from joblet_agent.systemd.explain import explain_unit
from joblet_agent.systemd.field_files import keep_field_files, remove_field_file
from joblet_agent.systemd.leaving import LeavingUnits
from joblet_agent.systemd.limits import ceilings_of, limit_properties
from joblet_agent.systemd.name_servers import DnsmasqServers
from joblet_agent.systemd.names import (
    EXEC_UNIT_PATTERN,
    JOB_UNIT_PATTERN,
    JOBS_SLICE,
    JOBS_SLICE_PATH,
    control_group,
    job_of_path,
    job_of_unit,
    timer_of_path,
    timer_of_unit,
    unit_name,
    unit_path,
    workflow_of_slice,
)
from joblet_agent.systemd.properties import UnitSettings, hook_unit, unit_properties
from joblet_agent.systemd.signals import Signal
from joblet_agent.systemd.timers import SystemdTimers
from joblet_agent.systemd.users import UserRecords
from joblet_agent.systemd.version import require_host
from joblet_agent.systemd.view import Meanwhile, UnitView
from joblet_agent.systemd.volume_units import SystemdVolumeUnits
from joblet_agent.systemd.workflow_slices import SystemdWorkflowSlices

_RELOAD_DEADLINE = 90.0
_LOOKUP_DEADLINE = 5.0
_LEAVES_FROZEN = 256  # first version that does not stop frozen units
_NOT_COUNTED = 2**64 - 1
_ACCOUNTS = {
    "CPUUsageNSec": 0,
    "MemoryMax": 0,
    # Kept beyond the end of the control group from these versions on.
    "MemoryPeak": 256,
    "IOReadBytes": 257,
    "IOWriteBytes": 257,
    "IOReadOperations": 257,
    "IOWriteOperations": 257,
}
"""Properties of an ended service, and the first version of systemd that can be believed."""

_log = logging.getLogger(__name__)


class SystemdUnitManager:
    """The unit manager (ports.UnitManager) on systemd's D-Bus interface."""

    def __init__(self, settings: UnitSettings) -> None:
        self._settings = settings  # the version is known once the bus is open
        self._bus = SystemBus(self._on_signal, self._on_reconnected)
        self.timers = SystemdTimers(self._bus, self._until_reloaded)
        """The timers on the same bus (ports.TimerManager)."""
        self.volumes = SystemdVolumeUnits(self._bus, self._until_reloaded)
        """File systems of volumes, on the same bus (ports.VolumeUnits)."""
        self.slices = SystemdWorkflowSlices(self._bus, self._until_reloaded)
        """Slices of workflows, on the same bus (ports.WorkflowSlices)."""
        self.builds = SystemdBuildUnits(
            self._bus, self._until_reloaded, self.volumes, lambda: self._settings.systemd_version
        )
        """Steps of builds of runtimes, on the same bus (runtimes.build.step.BuildUnits)."""
        self._leaving = LeavingUnits(self._bus)
        self._users = UserRecords()
        self._views: dict[JobId, UnitView] = {}
        self._readings: list[Meanwhile] = []
        self._listener: UnitListener = _ignore_status
        self._resync: Callable[[], None] = _ignore
        self._not_reloading = asyncio.Event()
        self._not_reloading.set()
        self._renewal: asyncio.Task[None] | None = None
        self._checks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Connect to the bus. Raises HostUnavailable, also for a systemd that is too old."""
        await self._bus.open()
        version = require_host(await self._bus.manager_property("Version"))
        self._settings = replace(
            self._settings,
            systemd_version=version,
            host_namespaces=_own_namespaces(),
            cgroup_root=await self._bus.manager_property("ControlGroup"),
            has_user_records=await self._open_users(),
        )
        names = [JOB_UNIT_PATTERN, EXEC_UNIT_PATTERN]
        (units,) = await self._bus.manager("ListUnitsByPatterns", "asas", [[], names])
        keep_field_files({unit[0] for unit in units})
        await self.check_hook()

    async def _open_users(self) -> bool:
        (units,) = await self._bus.manager("ListUnitsByPatterns", "asas", [[], [JOB_UNIT_PATTERN]])
        self._users.keep_only([job_id for unit in units if (job_id := job_of_unit(unit[0])) is not None])
        try:
            async with asyncio.timeout(_LOOKUP_DEADLINE):
                trouble = await asyncio.to_thread(self._users.trouble)
        except TimeoutError:
            trouble = f"the host's user database takes more than {_LOOKUP_DEADLINE:g} s to answer"
        if trouble:
            _log.warning("units of jobs have no User=, their users have no names: %s", trouble)
        return not trouble

    async def close(self) -> None:
        """Disconnect; units go on."""
        await self._leaving.close()
        tasks = [*self._checks, *filter(None, [self._renewal])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._bus.close()

    def listen(self, listener: UnitListener, resync: Callable[[], None]) -> None:
        """See ports.UnitManager."""
        self._listener, self._resync = listener, resync

    async def start(self, plan: LaunchPlan) -> None:
        """See ports.UnitManager. While systemd reloads, the start waits."""
        await self._until_reloaded()
        write_secretly(plan.environment_file, environment_file_text(plan, self._settings))
        if plan.uid and self._settings.has_user_records:
            self._users.write(plan.job_id, plan.uid)
        self._views[plan.job_id] = UnitView(plan.job_id)
        self._leaving.forget(unit_name(plan.job_id))
        properties = [
            [entry.name, Variant(entry.signature, entry.value)]
            for entry in unit_properties(plan, self._settings)
        ]
        try:
            await self._bus.manager(
                "StartTransientUnit", "ssa(sv)a(sa(sv))", [unit_name(plan.job_id), "fail", properties, []]
            )
        except HostUnavailable:
            raise  # the unit may exist: its view stays, recovery finds out
        except LaunchFailed:
            self._views.pop(plan.job_id, None)
            self._users.remove(plan.job_id)
            raise

    def exec_units(self) -> SystemdExecUnits:
        """Return the units of commands inside jobs, on the same connection; once it is open."""
        return SystemdExecUnits(self._bus, self._settings, self._until_reloaded)

    def name_servers(self) -> DnsmasqServers:
        """Return the name servers of networks, on the same connection; once it is open."""
        return DnsmasqServers(self._bus)

    async def set_limits(self, plan: LaunchPlan, names: Collection[str]) -> None:
        """See ports.UnitManager. systemd keeps them in a drop-in below /run, which goes with the unit."""
        properties = [
            [entry.name, Variant(entry.signature, entry.value)]
            for entry in limit_properties(plan.spec.resources, plan.disks, names)
        ]
        await self._bus.manager("SetUnitProperties", "sba(sv)", [unit_name(plan.job_id), True, properties])

    async def ceilings(self) -> Mapping[str, str]:
        """See ports.UnitManager."""
        return ceilings_of(await self._bus.properties(JOBS_SLICE_PATH, "Slice"))

    async def _until_reloaded(self) -> None:
        try:
            async with asyncio.timeout(_RELOAD_DEADLINE):
                await self._not_reloading.wait()
        except TimeoutError as error:
            raise HostUnavailable(
                "cannot start a unit: systemd is still reloading", reason="SYSTEMD_RELOADING"
            ) from error

    async def stop(self, job_id: JobId) -> None:
        """See ports.UnitManager.

        systemd 257 takes the stop of a frozen unit, and does nothing (its unit job ends as "frozen");
        252 thaws it by itself. Once a unit is stopping, neither would thaw it.
        """
        view = self._views.get(job_id)
        if view is not None and view.is_frozen and self._settings.systemd_version >= _LEAVES_FROZEN:
            await self._unless_gone("ThawUnit", "s", [unit_name(job_id)])
        await self._unless_gone("StopUnit", "ss", [unit_name(job_id), "replace"])

    async def kill(self, job_id: JobId, number: int = SIGKILL) -> None:
        """See ports.UnitManager."""
        await self._unless_gone("KillUnit", "ssi", [unit_name(job_id), "all", number])

    async def freeze(self, job_id: JobId) -> None:
        """See ports.UnitManager."""
        await self._bus.manager("FreezeUnit", "s", [unit_name(job_id)])
        self._note_freezer(job_id, "frozen")

    async def thaw(self, job_id: JobId) -> None:
        """See ports.UnitManager."""
        await self._bus.manager("ThawUnit", "s", [unit_name(job_id)])
        self._note_freezer(job_id, "running")

    async def is_frozen(self, job_id: JobId) -> bool:
        """See ports.UnitManager."""
        unit = await self._bus.properties(unit_path(job_id), "Unit")
        if _is_gone(unit.get("LoadState")):
            raise NotFound("systemd does not know the unit", reason="UNIT_NOT_FOUND")
        self._note_freezer(job_id, unit["FreezerState"])
        now = UnitView(job_id)
        now.update(unit)
        return now.is_frozen

    def _note_freezer(self, job_id: JobId, state: str) -> None:
        view = self._views.get(job_id)
        if view is not None:  # systemd 252 sends no signal of it
            view.update({"FreezerState": state})

    async def release(self, job_id: JobId) -> None:
        """See ports.UnitManager."""
        view = self._views.pop(job_id, None)
        await self._leaving.release(unit_name(job_id), has_failed=None if view is None else view.has_failed)
        self._users.remove(job_id)

    async def status(self, job_id: JobId) -> UnitStatus:
        """See ports.UnitManager."""
        unit, service = await self._all_properties(job_id)
        view = UnitView(job_id)
        view.update(service | unit)
        return view.status(gone=_is_gone(unit.get("LoadState")))

    async def present(self) -> Sequence[UnitStatus]:
        """See ports.UnitManager.

        Of running units three properties are read: all properties of one take 3 ms to decode.
        """
        with self._keeping_signals() as meanwhile:
            (units,) = await self._bus.manager("ListUnitsByPatterns", "asas", [[], [JOB_UNIT_PATTERN]])
            return [
                status
                for status in await asyncio.gather(*(self._present(meanwhile, *unit[:5]) for unit in units))
                if status is not None
            ]

    async def _present(
        self, meanwhile: Meanwhile, name: str, _description: str, load: str, active: str, sub: str
    ) -> UnitStatus | None:
        job_id = job_of_unit(name)
        if job_id is None or _is_gone(load):
            return None
        if (active, sub) == ("active", "running"):
            path = unit_path(job_id)
            wanted = (("Unit", "InvocationID"), ("Service", "MainPID"), ("Unit", "FreezerState"))
            values = await asyncio.gather(*(self._bus.property(path, *one) for one in wanted))
            read = {"ActiveState": active, "SubState": sub}
            read |= {name: value for (_, name), value in zip(wanted, values, strict=True)}
            is_gone = False
        else:
            unit, service = await self._all_properties(job_id)
            read = service | unit
            is_gone = _is_gone(unit.get("LoadState"))
        view = self._views.setdefault(job_id, UnitView(job_id))
        view.update(read)
        view.update(meanwhile.changed(job_id))
        if is_gone or (meanwhile.is_removed(job_id) and await self._is_unloaded(job_id)):
            self._views.pop(job_id, None)
            self._users.remove(job_id)
            return view.status(gone=True)
        return view.status()

    @contextmanager
    def _keeping_signals(self) -> Iterator[Meanwhile]:
        meanwhile = Meanwhile()
        self._readings.append(meanwhile)
        try:
            yield meanwhile
        finally:
            self._readings.remove(meanwhile)

    async def accounted(self, job_id: JobId) -> Accounted:
        """See ports.UnitManager."""
        known = [name for name, since in _ACCOUNTS.items() if self._settings.systemd_version >= since]
        path = unit_path(job_id)
        values = await asyncio.gather(*(self._bus.property(path, "Service", name) for name in known))
        told = {name: value for name, value in zip(known, values, strict=True) if value != _NOT_COUNTED}
        return Accounted(
            usage=Usage(
                cpu_usec=told.get("CPUUsageNSec", 0) // 1000,
                memory_peak=told.get("MemoryPeak", 0),
                read_bytes=told.get("IOReadBytes", 0),
                write_bytes=told.get("IOWriteBytes", 0),
                read_ops=told.get("IOReadOperations", 0),
                write_ops=told.get("IOWriteOperations", 0),
            ),
            memory_max=told.get("MemoryMax", 0),
        )

    def control_group(self, job_id: JobId, workflow_id: str = "") -> Path:
        """See ports.UnitManager."""
        return control_group(job_id, self._settings.cgroup_root, workflow_id)

    async def tell_failure(self, job_id: JobId) -> None:
        """See ports.UnitManager."""
        if self._settings.on_failure:
            await self._bus.manager("StartUnit", "ss", [hook_unit(job_id, self._settings), "replace"])

    async def check_hook(self) -> None:
        """Say so now, not at the first failure, if the configured hook cannot be started."""
        name = self._settings.on_failure.replace("@.", "@joblet-check.")
        if not name:
            return
        (path,) = await self._bus.manager("LoadUnit", "s", [name])
        state = await self._bus.property(path, "Unit", "LoadState")
        if state != "loaded":
            _log.error("hooks.on_failure: systemd has no usable unit %s: its state is %s", name, state)

    async def host_is_stopping(self) -> bool:
        """See ports.UnitManager."""
        return bool(await self._bus.manager_property("SystemState") == "stopping")

    def unit_name(self, job_id: JobId) -> str:
        """See ports.UnitManager."""
        return unit_name(job_id)

    @property
    def slice_name(self) -> str:
        """See ports.UnitManager."""
        return JOBS_SLICE

    def explain(self, plan: LaunchPlan) -> Explanation:
        """See ports.UnitManager."""
        return explain_unit(plan, self._settings)

    async def _all_properties(self, job_id: JobId) -> tuple[dict[str, Any], dict[str, Any]]:
        path = unit_path(job_id)
        return await asyncio.gather(self._bus.properties(path, "Unit"), self._bus.properties(path, "Service"))

    async def _unless_gone(self, member: str, signature: str, body: Sequence[Any]) -> None:
        try:
            await self._bus.manager(member, signature, body)
        except NotFound:
            _log.debug("%s: unit is gone already", member)

    def _on_signal(self, signal: Signal) -> None:
        member, body = signal.member, signal.body
        if member == "PropertiesChanged":
            job_id = job_of_path(signal.path)
            if job_id is not None:
                self._on_changed(job_id, body[0])
            elif (timer := timer_of_path(signal.path)) is not None:
                self.timers.on_changed(timer, body[0])
            else:
                self.volumes.on_changed(signal.path, body[0])
                self.builds.on_changed(signal.path, body[0])
        elif member == "UnitRemoved" and self._not_reloading.is_set():  # a reload unloads all, for a moment
            remove_field_file(body[0])
            self._leaving.forget(body[0])
            job_id = job_of_unit(body[0])
            if job_id is not None:
                self._on_removed(job_id)
            elif (timer := timer_of_unit(body[0])) is not None:
                self.timers.on_removed(timer)
            elif (workflow := workflow_of_slice(body[0])) is not None:
                self.slices.on_removed(workflow)
            else:
                self.volumes.on_removed(body[0])
                self.builds.on_removed(body[0])
        elif member == "Reloading":
            self._on_reloading(body[0])
        elif member == "NameOwnerChanged" and body[2]:
            self._on_new_systemd()

    def _on_changed(self, job_id: JobId, changed: Mapping[str, Any]) -> None:
        for meanwhile in self._readings:
            meanwhile.note(job_id, changed)
        view = self._views.get(job_id)
        if view is not None:
            view.update(changed)
            self._listener(view.status())

    def _on_removed(self, job_id: JobId) -> None:
        for meanwhile in self._readings:
            meanwhile.note_removed(job_id)
        if job_id in self._views:
            check = asyncio.create_task(self._check_removed(job_id), name=f"removed-{job_id}")
            self._checks.add(check)
            check.add_done_callback(self._checks.discard)

    async def _check_removed(self, job_id: JobId) -> None:
        """Tell that a unit is gone, if it is.

        A reload removes all units and loads them again. Who has come back to the bus in the middle of one has
        not heard it begin; systemd answers when it is over.
        """
        try:
            is_unloaded = await self._is_unloaded(job_id)
        except JobletError as error:
            _log.debug("%s", error)
            is_unloaded = False
        if not is_unloaded:
            self._resync()
        elif (view := self._views.pop(job_id, None)) is not None:
            self._users.remove(job_id)
            self._listener(view.status(gone=True))

    async def _is_unloaded(self, job_id: JobId) -> bool:
        return _is_gone(await self._bus.property(unit_path(job_id), "Unit", "LoadState"))

    def _on_reloading(self, begins: bool) -> None:
        if begins:
            self._not_reloading.clear()
        else:
            self._not_reloading.set()
            self._compare()

    def _on_new_systemd(self) -> None:
        self._not_reloading.set()
        self._renewal = asyncio.create_task(self._renew(), name="systemd-renewal")

    async def _renew(self) -> None:
        try:
            await self._bus.subscribe()
        except HostUnavailable as error:
            _log.warning("%s", error)
        self._compare()

    def _on_reconnected(self) -> None:
        self._not_reloading.set()
        self._compare()

    def _compare(self) -> None:
        self._resync()
        self.volumes.look_again()
        self.builds.look_again()
        self.slices.look_again()


def _own_namespaces() -> tuple[str, ...]:
    """Return the host's namespaces, which are the agent's own (units/joblet-agent.service)."""
    return tuple(os.readlink(f"/proc/self/ns/{kind}") for kind in ("net", "ipc", "uts"))


def _is_gone(load_state: str | None) -> bool:
    """Say whether systemd knows nothing of a unit.

    A unit whose settings it could not read again after a reload (``error``) still runs, and still tells
    how it ends.
    """
    return load_state in {None, "not-found"}


def _ignore_status(_status: UnitStatus) -> None:
    """Nobody listens yet."""


def _ignore() -> None:
    """Nobody listens yet."""
