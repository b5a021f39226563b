"""Transient units of commands that join a running job (ports.ExecUnits).

The unit is the launcher's, in its mode "join" (units/joblet-launch): it enters the job's control group
and namespaces, so it has no mounts and no limits of its own; what a process brings along (system call
filter, resource limits, …) is copied from the job's unit. Which properties is the table below. Pure but
for the class.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from dbus_next.signature import Variant

from joblet_agent.errors import NotFound
from joblet_agent.ports import ExecPlan
from joblet_agent.systemd.bus import SystemBus
from joblet_agent.systemd.environment import environment_file_text, variables_text, write_secretly
from joblet_agent.systemd.names import (
    EXEC_UNIT_PATTERN,
    control_group,
    exec_unit_name,
    unit_name,
)
from joblet_agent.systemd.properties import LAUNCHER, UnitSettings, slice_property, unit_properties
from joblet_agent.systemd.property import Property

_OF_THE_PROCESS: Final = frozenset(
    {
        "IgnoreSIGPIPE",
        "KeyringMode",
        "LockPersonality",
        "LogExtraFields",
        "MemoryDenyWriteExecute",
        "Nice",
        "NoNewPrivileges",
        "RestrictAddressFamilies",
        "RestrictRealtime",
        "RestrictSUIDSGID",
        "SyslogIdentifier",
        "SystemCallArchitectures",
        "SystemCallErrorNumber",
        "UMask",
    }
)
_JOINING_CALLS: Final = frozenset({"setns", "chroot"})
_CAP_KILL, _CAP_SYS_CHROOT = 1 << 5, 1 << 18
_JOINED_NAMESPACES = 0x0400_0000 | 0x0800_0000 | 0x4000_0000  # CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWNET
_START_USEC, _STOP_USEC = 20_000_000, 2_000_000


class SystemdExecUnits:
    """The port on systemd's D-Bus interface."""

    def __init__(self, bus: SystemBus, settings: UnitSettings, ready: Callable[[], Awaitable[None]]) -> None:
        """``ready`` returns when systemd is not reloading."""
        self._bus = bus
        self._settings = settings
        self._ready = ready

    async def start(self, plan: ExecPlan) -> None:
        """See ports.ExecUnits."""
        await self._ready()
        group = control_group(plan.job.job_id, self._settings.cgroup_root, plan.job.workflow_id)
        text = environment_file_text(plan.job, self._settings) + _joining(plan, group)
        write_secretly(plan.job.environment_file, text)
        properties = [
            [entry.name, Variant(entry.signature, entry.value)]
            for entry in exec_properties(plan, self._settings)
        ]
        name = exec_unit_name(plan.exec_id)
        await self._bus.manager("StartTransientUnit", "ssa(sv)a(sa(sv))", [name, "fail", properties, []])

    async def stop(self, exec_id: str) -> None:
        """See ports.ExecUnits."""
        await self._stop(exec_unit_name(exec_id))

    async def stop_all(self) -> int:
        """See ports.ExecUnits."""
        (units,) = await self._bus.manager("ListUnitsByPatterns", "asas", [[], [EXEC_UNIT_PATTERN]])
        for unit in units:
            await self._stop(unit[0])
        return len(units)

    async def _stop(self, name: str) -> None:
        try:
            await self._bus.manager("StopUnit", "ss", [name, "replace"])
        except NotFound:
            return


def exec_properties(plan: ExecPlan, settings: UnitSettings) -> list[Property]:
    """Return the properties of the unit."""
    own = [
        Property("Description", "s", f"Command in Joblet job {plan.job.job_id[:8]}", "", "systemd.unit(5)"),
        Property("Type", "s", "exec", "", "systemd.service(5)"),
        Property("CollectMode", "s", "inactive-or-failed", "the agent knows its end", "systemd.unit(5)"),
        slice_property(plan.job),
        Property("ExecStart", "a(sasb)", [[LAUNCHER, [LAUNCHER], False]], "", "systemd.service(5)"),
        Property(
            "EnvironmentFiles", "a(sb)", [[str(plan.job.environment_file), False]], "", "systemd.exec(5)"
        ),
        Property("StandardInput", "s", "null", "the launcher makes the command's", "systemd.exec(5)"),
        Property("StandardOutputFileToAppend", "s", str(plan.output), "", "systemd.exec(5)")
        if plan.terminal is None
        else Property("StandardOutput", "s", "null", "the terminal is the job's own", "systemd.exec(5)"),
        Property("StandardErrorFileToAppend", "s", str(plan.report), "", "systemd.exec(5)"),
        Property("TimeoutStartUSec", "t", _START_USEC, "", "systemd.service(5)"),
        Property("TimeoutStopUSec", "t", _STOP_USEC, "", "systemd.service(5)"),
    ]
    return own + [
        changed
        for entry in unit_properties(plan.job, settings)
        if (changed := _of_the_command(entry)) is not None
    ]


def _of_the_command(entry: Property) -> Property | None:
    """Return what of the job's property is the command's, with what the launcher needs to join."""
    value: Any = entry.value
    if entry.name in _OF_THE_PROCESS or entry.name.startswith("Limit"):
        return entry
    if entry.name == "CapabilityBoundingSet":  # the command has none
        return replace(entry, value=value | _CAP_KILL | _CAP_SYS_CHROOT)
    if entry.name == "RestrictNamespaces":  # setns(2) is filtered as unshare(2) is
        return replace(entry, value=value | _JOINED_NAMESPACES)
    if entry.name == "SystemCallFilter":  # the launcher takes back what is given here
        is_allowed, calls = value
        others = [call for call in calls if call not in _JOINING_CALLS]
        return replace(entry, value=[is_allowed, others + sorted(_JOINING_CALLS) if is_allowed else others])
    return None


def _joining(plan: ExecPlan, group: Path) -> str:
    joining = {
        "JOBLET_JOIN_GROUP": str(group),
        "JOBLET_JOIN_UNIT": unit_name(plan.job.job_id),
        "JOBLET_JOIN_ERRORS": str(plan.errors),
        "JOBLET_JOIN_ORDERS": str(plan.orders),
    }
    if plan.input is not None:
        joining["JOBLET_JOIN_INPUT"] = str(plan.input)
    if plan.terminal is not None:
        joining["JOBLET_JOIN_SIZE"] = f"{plan.terminal.rows} {plan.terminal.columns}"
    return variables_text(joining)
