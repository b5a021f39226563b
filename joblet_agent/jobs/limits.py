"""What a job may use: what it asked for, checked, and what it gets where it asked for nothing.

Everything that is set is enforced or refused, before anything is made. Refusals name the option, the most
that is possible, and the key of the configuration or the fact of the host that decides.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from joblet_agent.config import LimitsConfig, MaximaConfig, Unenforced
from joblet_agent.cpu_list import format_cpu_list, parse_cpu_list
from joblet_agent.errors import HostUnavailable, InvalidRequest, JobletError, NotOffered
from joblet_agent.jobs.check import quoted
from joblet_agent.jobs.host import HostFacts
from joblet_agent.model.identity import Role
from joblet_agent.model.resources import (
    INT32_MAX,
    LEAST_TASKS,
    MOST_NICE,
    MOST_TASKS,
    MOST_WEIGHT,
    NOTHING,
    Resources,
)
from joblet_agent.model.workspace import LEAST_WORK, MOST_WORK
from joblet_agent.units import LARGEST_SIZE, MIB, format_bytes, format_duration

LEAST_MEMORY: Final = 4 * MIB
"""Bytes; a job that does nothing takes 2.4 MiB, nearly all of it the launcher's (Debian 13)."""
LEAST_IO_BPS: Final = 1000
"""Bytes per second, as the earliest published agents had it."""

_PERCENT = 100


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit: its name on the command line, its range, and the cgroup controller that enforces it."""

    option: str
    least: int
    most: int
    controller: str = ""


LIMITS: Final[Mapping[str, Limit]] = {
    "max_cpu": Limit("--max-cpu", 1, INT32_MAX, "cpu"),  # how many there are decides
    "max_memory": Limit("--max-memory", LEAST_MEMORY, LARGEST_SIZE, "memory"),
    "max_io_bps": Limit("--max-iobps", LEAST_IO_BPS, INT32_MAX, "io"),
    "cpu_cores": Limit("--cpu-cores", 0, 0, "cpuset"),
    "max_tasks": Limit("--max-tasks", LEAST_TASKS, MOST_TASKS, "pids"),
    "timeout": Limit("--timeout", 0, 0),
    "nice": Limit("--nice", 1, MOST_NICE),
    "cpu_weight": Limit("--cpu-weight", 1, MOST_WEIGHT, "cpu"),
    "io_weight": Limit("--io-weight", 1, MOST_WEIGHT, "io"),
    "work_size": Limit("--work-size", LEAST_WORK, MOST_WORK),
}
"""By the field of Resources."""

FIXED_AT_START: Final = {
    "timeout": "systemd counts it from the start",
    "nice": "it is a property of processes, and these have theirs already",
}
"""Limits of a job that runs which nobody can change, and why."""

_BOUNDED = ("max_cpu", "max_memory", "max_io_bps", "max_tasks", "timeout", "work_size")


class LimitPolicy:
    """Decides what jobs get. ``disks`` are the directories on disks that every job can reach."""

    def __init__(self, config: LimitsConfig, host: HostFacts, disks: Sequence[Path]) -> None:
        self._config = config
        self._host = host
        self._disks = tuple(disks)

    def settle(
        self,
        wanted: Resources,
        role: Role,
        *,
        act: str = "cannot run job",
        names: Collection[str] = tuple(LIMITS),
        has_quotas: bool = False,
    ) -> Resources:
        """Return what the job gets for what it wants: complete, possible, and allowed to the role.

        Looks at the limits ``names`` only. ``has_quotas`` says whether a workspace on disk can be limited;
        one of a size that was asked for can be memory. Raises InvalidRequest, or NotOffered for what this
        host cannot enforce; texts begin with ``act``.
        """
        given = [name for name in names if getattr(wanted, name) != getattr(NOTHING, name)]
        for name in given:
            self._check_value(act, name, getattr(wanted, name))
            self._check_maximum(act, name, getattr(wanted, name), role)
        filled = {name: self._default(name, role) for name in _BOUNDED if name in names and name not in given}
        if filled.get("work_size") and not has_quotas:
            self._check_unlimited_work(act, role)
            del filled["work_size"]
        settled = replace(wanted, **filled)
        if "cpu_cores" in given:
            settled = replace(settled, cpu_cores=self._checked_cores(act, settled.cpu_cores))
        for name in (*given, *(name for name, value in filled.items() if value and name != "max_tasks")):
            self._check_enforced(act, name)
        return settled

    def online_cpus(self) -> tuple[int, ...]:
        """Return the CPUs that jobs can use now."""
        return self._host.online_cpus()

    def unenforced(self) -> tuple[str, ...]:
        """Return the options whose cgroup controller this host lacks."""
        present = self._host.controllers()
        return tuple(
            limit.option for limit in LIMITS.values() if limit.controller and limit.controller not in present
        )

    def _check_value(self, act: str, name: str, value: Any) -> None:
        limit = LIMITS[name]
        if not isinstance(value, int):
            return
        if name == "nice" and value < 0:
            raise _bad(act, f"{limit.option} is {value}: a job must not come before the host's own processes")
        if not limit.least <= value <= limit.most:
            least, most = shown(name, limit.least), shown(name, limit.most)
            raise _bad(act, f"{limit.option} must be from {least} to {most}, not {shown(name, value)}")
        if name == "max_cpu" and value > self._host_cpu():
            raise _bad(
                act,
                f"{limit.option} is {shown(name, value)}, at most {shown(name, self._host_cpu())} are "
                f"possible: the host has {len(self._host.online_cpus())} cores, 100% each",
            )

    def _host_cpu(self) -> int:
        return _PERCENT * len(self._host.online_cpus())

    def _check_maximum(self, act: str, name: str, value: Any, role: Role) -> None:
        most = getattr(self._maxima(role), name, None)
        if most and value > most:
            raise InvalidRequest(
                f"{act}: {LIMITS[name].option} is {shown(name, value)}, the maximum of role {role} is "
                f"{shown(name, most)} (limits.{self._section(role)}.{name})",
                reason="LIMIT_OVER_MAXIMUM",
                hint="ask for less, or let somebody with another role run it",
            )

    def _default(self, name: str, role: Role) -> Any:
        """Return the configured default, within the role's maximum and what the host has."""
        default, most = getattr(self._config.default, name), getattr(self._maxima(role), name)
        value = min(default, most) if default and most else default or most
        return min(value, self._host_cpu()) if name == "max_cpu" and value else value

    def _maxima(self, role: Role) -> MaximaConfig:
        return self._config.admin if role is Role.ADMIN else self._config.operator

    def _section(self, role: Role) -> str:
        return "admin" if role is Role.ADMIN else "operator"

    def _checked_cores(self, act: str, text: str) -> str:
        try:
            wanted = parse_cpu_list(text)
        except ValueError as error:
            raise _bad(act, f"cannot read --cpu-cores={quoted(text)}: {error}") from error
        online = self._host.online_cpus()
        if missing := set(wanted) - set(online):
            raise _bad(
                act,
                f"--cpu-cores names {format_cpu_list(missing)}, which this host does not have online: "
                f"there are {format_cpu_list(online)}",
            )
        return format_cpu_list(wanted)

    def _check_unlimited_work(self, act: str, role: Role) -> None:
        """Let a job go without the default size of a workspace, but not beyond the maximum of its role."""
        most = self._maxima(role).work_size
        if most and self._config.unenforced is Unenforced.REFUSE:
            raise _not_enforced(
                act,
                f"its workspace would not be limited to {shown('work_size', most)} "
                f"(limits.{self._section(role)}.work_size): it is on a file system without project quotas, "
                "or the job is privileged",
                hint="with --work-size the workspace is memory; docs/operations.md tells how to have quotas",
            )

    def _check_enforced(self, act: str, name: str) -> None:
        if self._config.unenforced is Unenforced.ACCEPT:
            return
        limit = LIMITS[name]
        if limit.controller and limit.controller not in self._host.controllers():
            raise _not_enforced(
                act,
                f"{limit.option} would have no effect: this host has no cgroup controller {limit.controller}",
            )
        if name in ("max_io_bps", "io_weight"):
            self._check_disks(act, name)

    def _check_disks(self, act: str, name: str) -> None:
        for path in self._disks:
            try:
                storage = self._host.storage(path)
            except OSError as error:
                raise HostUnavailable(
                    f"{act}: cannot look at {path}: {error.strerror}", reason="CANNOT_READ_HOST"
                ) from error
            if storage.does_io and not storage.can_be_limited:
                raise _not_enforced(
                    act,
                    f"{LIMITS[name].option} would have no effect on {path}: {storage.filesystem} has no "
                    "block device here",
                )
            if name == "io_weight" and storage.device and not self._host.shares_by_weight(storage):
                raise _not_enforced(
                    act,
                    f"--io-weight would have no effect on {path}: nothing shares its disk by weight",
                    hint="an administrator can choose the I/O scheduler bfq for the disk",
                )


def shown(name: str, value: Any) -> str:
    """Return a limit's value as people read it."""
    match name:
        case "max_cpu":
            return f"{value}%"
        case "max_memory" | "work_size":
            return format_bytes(value) if value >= 0 else f"{value} bytes"
        case "max_io_bps":
            return f"{value} bytes/s"
        case "timeout":
            assert isinstance(value, timedelta)
            return format_duration(value)
        case _:
            return str(value)


def _bad(act: str, text: str) -> JobletError:
    return InvalidRequest(f"{act}: {text}", reason="BAD_LIMIT")


def _not_enforced(act: str, text: str, hint: str = "") -> JobletError:
    return NotOffered(
        f"{act}: {text}",
        reason="LIMIT_NOT_ENFORCED",
        hint=hint or "leave the option out; limits.unenforced in agent.yml lets such limits pass",
    )
