"""Units of volumes (ports.VolumeUnits): mount units, and programs that work on file systems.

All are transient. A mount unit stays as long as its file system is mounted; systemd shows it beside all
others (``systemctl list-units -t mount``). Programs run as services of their own, which go when they have
ended, whatever the end: with nothing but the files that they work on, and a deadline.
"""

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from joblet_agent.errors import LaunchFailed, NotFound
from joblet_agent.ports import MountPlan
from joblet_agent.systemd.awaited import AwaitedUnits, has_started, has_stopped
from joblet_agent.systemd.bus import SystemBus, UnitIsThere
from joblet_agent.systemd.names import JOBS_SLICE, VOLUME_UNIT_PATTERN, any_unit_path, mount_unit_name
from joblet_agent.systemd.property import Property, Value

_MOUNT_USEC: Final = 60_000_000
_TOOL_USEC: Final = 3_600_000_000
_MOST_WORDS: Final = 2000
_REPAIRED: Final = 1  # e2fsck(8): errors were corrected
_WORDS: Final = Path("/run/joblet/volumes")
_CAP_CHOWN, _CAP_FOWNER, _CAP_FSETID = 1 << 0, 1 << 3, 1 << 4
_CAP_SYS_ADMIN, _CAP_SYS_RESOURCE = 1 << 21, 1 << 24


@dataclass(frozen=True, slots=True)
class _Tool:
    """A program that works on a file system."""

    title: str
    commands: Sequence[Sequence[str]]
    """One after the other, if all go well."""
    writable: Sequence[Path] = ()
    """Directories; the rest of the host is read-only."""
    device: Path | None = None
    capabilities: int = 0
    fine: Sequence[int] = (0,)
    """Exit statuses that are no failure."""
    has_own_mounts: bool = True
    may_set_group: bool = False


class SystemdVolumeUnits(AwaitedUnits):
    """The port on systemd's D-Bus interface. ``ready`` waits while systemd cannot take new units."""

    def __init__(self, bus: SystemBus, ready: Callable[[], Awaitable[None]], words: Path = _WORDS) -> None:
        super().__init__(bus)
        self._ready = ready
        self._words = words

    def unit_name(self, where: Path) -> str:
        """See ports.VolumeUnits."""
        return mount_unit_name(where)

    async def stop_tools(self) -> None:
        """See ports.VolumeUnits."""
        (units,) = await self._bus.manager("ListUnitsByPatterns", "asas", [[], [VOLUME_UNIT_PATTERN]])
        for unit in units:
            name = unit[0]
            with self._watching(name) as view:
                await self._dismiss(name)
                view.look()
                await self._until(name, view, has_stopped, _MOUNT_USEC)
            await asyncio.to_thread((self._words / name).unlink, missing_ok=True)

    async def mount(self, plan: MountPlan) -> None:
        """See ports.VolumeUnits."""
        await self._ready()
        name = mount_unit_name(plan.where)
        with self._watching(name) as view:
            with suppress(NotFound):
                await self._bus.manager("ResetFailedUnit", "s", [name])
            try:
                await self._start(name, mount_properties(plan))
            except UnitIsThere:  # somebody has stopped it, and it is not unloaded yet
                await self._bus.manager("StartUnit", "ss", [name, "fail"])
            view.is_gone = False  # that was the unit of an earlier mount
            await self._until(name, view, has_started, _MOUNT_USEC)
            if view.values.get("ActiveState") != "active":
                result = view.values.get("Result", "") or "it is gone"
                raise LaunchFailed(
                    f"systemd could not mount {plan.where}: {result}",
                    reason="CANNOT_MOUNT",
                    hint=f"see: journalctl -u '{name}'",
                )

    async def unmount(self, where: Path) -> None:
        """See ports.VolumeUnits."""
        await self._ready()
        name = mount_unit_name(where)
        with self._watching(name) as view:
            try:
                await self._bus.manager("StopUnit", "ss", [name, "replace"])
            except NotFound:
                return
            view.look()  # it may have been stopped already: then no signal comes
            await self._until(name, view, has_stopped, _MOUNT_USEC)
            if view.values.get("ActiveState") == "active":
                raise LaunchFailed(
                    f"cannot unmount {where}: somebody on the host uses it",
                    reason="VOLUME_BUSY",
                    hint=f"see: fuser -vm {where}",
                )

    async def make_directory(self, path: Path, number: int, mode: int) -> None:
        """See ports.VolumeUnits. The agent itself may set no such bit (RestrictSUIDSGID= of its unit)."""
        command = [
            "/usr/bin/install",
            "-d",
            "-m",
            f"{mode:o}",
            "-o",
            str(number),
            "-g",
            str(number),
            str(path),
        ]
        capabilities = _CAP_CHOWN | _CAP_FOWNER | _CAP_FSETID
        await self._run(
            _Tool(f"make {path}", [command], [path.parent], capabilities=capabilities, may_set_group=True)
        )

    async def make_file_system(self, image: Path, files: int) -> None:
        """See ports.VolumeUnits. No discard: that would give the blocks of the file back to the disk."""
        options = ["-q", "-t", "ext4", "-F", "-m", "0", "-N", str(files), "-E", "nodiscard"]
        command = ["/usr/sbin/mke2fs", *options, str(image)]
        await self._run(_Tool(f"make the file system of {image}", [command], [image.parent]))

    async def check_file_system(self, image: Path) -> bool:
        """See ports.VolumeUnits."""
        command = ["/usr/sbin/e2fsck", "-p", str(image)]
        tool = _Tool(f"check {image}", [command], [image.parent], fine=(0, _REPAIRED))
        return await self._run(tool) == _REPAIRED

    async def grow_unmounted(self, image: Path) -> None:
        """See ports.VolumeUnits. resize2fs(8) takes only what was checked completely."""
        check = ["/usr/sbin/e2fsck", "-f", "-p", str(image)]
        await self._run(_Tool(f"check {image}", [check], [image.parent], fine=(0, _REPAIRED)))
        await self._run(
            _Tool(f"grow {image}", [["/usr/sbin/resize2fs", str(image)]], writable=[image.parent])
        )

    async def grow_file_system(self, where: Path, device: Path) -> None:
        """See ports.VolumeUnits."""
        commands = [["/usr/sbin/losetup", "-c", str(device)], ["/usr/sbin/resize2fs", str(device)]]
        await self._run(
            _Tool(
                f"grow {where}",
                commands,
                device=device,
                capabilities=_CAP_SYS_ADMIN | _CAP_SYS_RESOURCE,
                has_own_mounts=False,
            )
        )

    async def remount(self, where: Path, options: Sequence[str]) -> None:
        """See ports.VolumeUnits."""
        command = ["/usr/bin/mount", "-n", "-o", ",".join(("remount", *options)), str(where)]
        await self._run(
            _Tool(f"resize {where}", [command], capabilities=_CAP_SYS_ADMIN, has_own_mounts=False)
        )

    async def _run(self, tool: _Tool) -> int:
        """Run the program; return its exit status. Raises LaunchFailed with what it says, HostUnavailable."""
        await self._ready()
        name = f"joblet-volume-{secrets.token_hex(8)}.service"
        words = self._words / name
        with self._watching(name) as view:
            try:
                await self._start(name, tool_properties(tool, words))
                await self._until(name, view, has_started, _TOOL_USEC)
                return await self._status(name, tool, words)
            finally:
                await self._dismiss(name)
                await asyncio.to_thread(words.unlink, missing_ok=True)

    async def _status(self, name: str, tool: _Tool, words: Path) -> int:
        service = await self._bus.properties(any_unit_path(name), "Service")
        status, result = service["ExecMainStatus"], service["Result"]
        if (
            status in tool.fine
            and result in {"success", "exit-code"}
            and service["ExecMainCode"] == os.CLD_EXITED
        ):
            return int(status)
        said = await asyncio.to_thread(_read_words, words)
        raise LaunchFailed(
            f"cannot {tool.title}: {said or result}",
            reason="VOLUME_TOOL_FAILED",
            hint=f"see: journalctl -u {name}",
        )


def mount_properties(plan: MountPlan) -> list[Property]:
    """Return the properties of the mount unit."""
    manual = "systemd.mount(5)"
    return [
        Property("Description", "s", plan.title, "", "systemd.unit(5)"),
        Property("What", "s", plan.what, "", manual),
        Property("Type", "s", plan.type, "", manual),
        Property("Options", "s", ",".join(plan.options), "", manual),
        Property("TimeoutUSec", "t", _MOUNT_USEC, "", manual),
        # At a shutdown jobs end before the file system goes. Not in their units: what they name stays loaded.
        Property("Before", "as", [JOBS_SLICE], "jobs stop before it goes", "systemd.unit(5)"),
        Property("CollectMode", "s", "inactive-or-failed", "nothing is left", "systemd.unit(5)"),
    ]


def tool_properties(tool: _Tool, words: Path) -> list[Property]:
    """Return the properties of the service."""
    commands: list[Value] = [[command[0], list(command), False] for command in tool.commands]
    said = str(words)
    own = [
        Property("Description", "s", f"Joblet: {tool.title}", "", "systemd.unit(5)"),
        Property("Type", "s", "oneshot", "", "systemd.service(5)"),
        Property("RemainAfterExit", "b", True, "the result stays until it is read", "systemd.service(5)"),
        Property("ExecStart", "a(sasb)", commands, "", "systemd.service(5)"),
        Property("StandardInput", "s", "null", "", "systemd.exec(5)"),
        Property("StandardOutputFileToAppend", "s", said, "", "systemd.exec(5)"),
        Property("StandardErrorFileToAppend", "s", said, "", "systemd.exec(5)"),
        Property("TimeoutStartUSec", "t", _TOOL_USEC, "", "systemd.service(5)"),
        Property("TimeoutStopUSec", "t", 10_000_000, "", "systemd.service(5)"),
        Property("UMask", "u", 0o077, "", "systemd.exec(5)"),
        Property("CapabilityBoundingSet", "t", tool.capabilities, "its files are root's", "systemd.exec(5)"),
        Property("NoNewPrivileges", "b", True, "", "systemd.exec(5)"),
        Property("RestrictAddressFamilies", "(bas)", [True, ["AF_UNIX"]], "", "systemd.exec(5)"),
        Property("RestrictNamespaces", "t", 0, "", "systemd.exec(5)"),
        Property("RestrictRealtime", "b", True, "", "systemd.exec(5)"),
        Property("RestrictSUIDSGID", "b", not tool.may_set_group, "", "systemd.exec(5)"),
        Property("LockPersonality", "b", True, "", "systemd.exec(5)"),
        Property("MemoryDenyWriteExecute", "b", True, "", "systemd.exec(5)"),
        Property("SystemCallArchitectures", "as", ["native"], "", "systemd.exec(5)"),
    ]
    if tool.has_own_mounts:
        own += [
            Property("PrivateNetwork", "b", True, "", "systemd.exec(5)"),
            Property("ProtectSystem", "s", "strict", "", "systemd.exec(5)"),
            Property("ReadWritePaths", "as", [str(path) for path in tool.writable], "", "systemd.exec(5)"),
            Property("ProtectHome", "s", "yes", "", "systemd.exec(5)"),
            Property("PrivateTmp", "b", True, "", "systemd.exec(5)"),
            Property("PrivateDevices", "b", True, "", "systemd.exec(5)"),
            Property("ProtectKernelTunables", "b", True, "", "systemd.exec(5)"),
            Property("ProtectKernelModules", "b", True, "", "systemd.exec(5)"),
            Property("ProtectControlGroups", "b", True, "", "systemd.exec(5)"),
            Property("SystemCallFilter", "(bas)", [True, ["@system-service"]], "", "systemd.exec(5)"),
        ]
    else:  # it works on the host's own mounts
        allowed: list[Value] = [[str(tool.device), "rw"]] if tool.device else []
        own += [
            Property("DevicePolicy", "s", "closed", "", "systemd.resource-control(5)"),
            Property("DeviceAllow", "a(ss)", allowed, "", "systemd.resource-control(5)"),
            Property(
                "SystemCallFilter", "(bas)", [True, ["@system-service", "@mount"]], "", "systemd.exec(5)"
            ),
        ]
    return own


def _read_words(path: Path) -> str:
    """Return what the program has said, on one line."""
    with suppress(FileNotFoundError), path.open(encoding="utf-8", errors="replace") as file:
        return " ".join(file.read(_MOST_WORDS).split())
    return ""
