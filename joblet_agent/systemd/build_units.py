"""Steps of builds as transient units (runtimes.build.step.BuildUnits), and the places that they work in.

A place is a directory of the agent's; its space is a file system of its own, in a sparse file, so that a
build without end finds an end and the host's disk does not. Where no such file can be mounted, memory takes
its part.
"""

import asyncio
import logging
import os
import pwd
import re
import shutil
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from joblet_agent.durable import is_full
from joblet_agent.errors import HostUnavailable, JobletError, LaunchFailed, NotFound
from joblet_agent.ports import FileWatcher, MountPlan, VolumeUnits
from joblet_agent.runtimes.build.handing import give_to_namespace, hand_over, mount_points
from joblet_agent.runtimes.build.step import ROOM, SPARE, BuildPlace, BuildStep, OnLine, StepEnd, StepKind
from joblet_agent.systemd.awaited import AwaitedUnits, View, has_stopped
from joblet_agent.systemd.build_log import BuildLog
from joblet_agent.systemd.build_properties import BUILD_USER, HOST_DIRECTORIES, HOST_LINKS, step_properties
from joblet_agent.systemd.bus import SystemBus
from joblet_agent.systemd.environment import variables_text, write_secretly
from joblet_agent.systemd.names import (
    BUILD_UNIT_PATTERN,
    any_unit_path,
    build_of_unit,
    build_unit_name,
)
from joblet_agent.units import format_bytes

_ID: Final = re.compile(r"[0-9a-z]{1,64}")
_STEP: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
_STOP_USEC: Final = 5_000_000
_MAKE_ROOM: Final = "make room there, for instance by: rnx runtime gc"
_FILE_SIZE: Final = 16 << 10
"""Bytes of space for each file that it may have."""
_NEARLY_NOTHING: Final = 256 << 10
_FULL: Final = re.compile(r"No space left on device|ENOSPC|enough free space", re.IGNORECASE)
_KILLED: Final = 128
_SUBORDINATES: Final = 65_536
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_log = logging.getLogger(__name__)


class SystemdBuildUnits(AwaitedUnits):
    """The port on systemd's D-Bus interface. ``ready`` waits while systemd cannot take new units."""

    def __init__(
        self,
        bus: SystemBus,
        ready: Callable[[], Awaitable[None]],
        volumes: VolumeUnits,
        version: Callable[[], int],
    ) -> None:
        super().__init__(bus)
        self._ready = ready
        self._volumes = volumes
        self._version = version
        self._stopped: set[str] = set()
        self._root = Path()
        self._watcher: FileWatcher | None = None

    def open(self, root: Path, watcher: FileWatcher) -> None:
        """Say where places are, and what tells of growing files; before anything else."""
        self._root, self._watcher = root, watcher

    def place(self, build_id: str) -> BuildPlace:
        """See BuildUnits."""
        if not _ID.fullmatch(build_id):
            raise ValueError(f"{build_id!r} is no id of a build")
        return BuildPlace(build_id, self._root / build_id)

    async def open_place(self, build_id: str, *, size: int, files: int = 0) -> BuildPlace:
        """See BuildUnits."""
        place = self.place(build_id)
        owner = await asyncio.to_thread(_owner)
        size = await asyncio.to_thread(_prepare, place, size)
        count = files or max(65_536, size // _FILE_SIZE)
        title = f"Space of the Joblet build {build_id[:12]}"
        try:
            await self._volumes.make_file_system(place.image, count)
            options = ("loop", "nosuid", "nodev", "noatime", "barrier=0")
            await self._volumes.mount(MountPlan(place.space, str(place.image), "ext4", options, title))
        except LaunchFailed as error:
            _log.info("build %s has its space in memory: %s", build_id, error)
            await asyncio.to_thread(place.image.unlink, missing_ok=True)
            sizes = (f"size={size}", f"nr_inodes={count}", "mode=0755", "nosuid", "nodev")
            await self._volumes.mount(MountPlan(place.space, "tmpfs", "tmpfs", sizes, title))
        await asyncio.to_thread(_own_space, place, owner)
        return place

    async def close_place(self, build_id: str) -> None:
        """See BuildUnits."""
        place = self.place(build_id)
        await self.stop(build_id)
        if await asyncio.to_thread(os.path.ismount, place.space):
            await self._volumes.unmount(place.space)
        await asyncio.to_thread(_remove, place.root)
        self._stopped.discard(build_id)

    async def places(self) -> tuple[str, ...]:
        """See BuildUnits."""
        (units,) = await self._bus.manager("ListUnitsByPatterns", "asas", [[], [BUILD_UNIT_PATTERN]])
        there = {build_of_unit(unit[0]) for unit in units}
        there.update(await asyncio.to_thread(_names, self._root))
        return tuple(sorted(name for name in there if _ID.fullmatch(name)))

    async def keep_only(self, build_ids: Collection[str]) -> None:
        """See BuildUnits. What cannot be closed stays until the next start, and the log says why."""
        for build_id in await self.places():
            if build_id not in build_ids:
                try:
                    await self.close_place(build_id)
                except (JobletError, OSError) as error:
                    _log.warning("what is left of build %s could not be removed: %s", build_id, error)

    async def run(self, step: BuildStep, on_line: OnLine) -> StepEnd:
        """See BuildUnits."""
        await self._ready()
        if not _STEP.fullmatch(step.name):
            raise ValueError(f"{step.name!r} is no name of a step")
        environment = step.place.root / "environment"
        await asyncio.to_thread(_write_inputs, step, environment)
        await asyncio.to_thread(_make_ready, step)
        name = build_unit_name(step.place.build_id, step.name)
        with self._watching(name) as view:
            await self._start(name, step_properties(step, environment, self._version()))
            return await self._end(name, step, view, on_line)

    async def adopt(self, step: BuildStep, on_line: OnLine) -> StepEnd | None:
        """See BuildUnits."""
        name = build_unit_name(step.place.build_id, step.name)
        with self._watching(name) as view:
            now = await self._bus.properties(any_unit_path(name), "Unit")
            if now.get("LoadState") in {None, "not-found"}:
                return None
            view.update(now)
            return await self._end(name, step, view, on_line)

    async def stop(self, build_id: str) -> None:
        """See BuildUnits."""
        self.place(build_id)
        self._stopped.add(build_id)
        pattern = build_unit_name(build_id, "*")
        (units,) = await self._bus.manager("ListUnitsByPatterns", "asas", [[], [pattern]])
        for unit in units:
            await self._let_go(unit[0])

    async def _end(self, name: str, step: BuildStep, view: View, on_line: OnLine) -> StepEnd:
        said = BuildLog(step.place.log(step.name), on_line)
        following = asyncio.create_task(said.follow(self._files), name=f"log of {name}")
        deadline = step.deadline // timedelta(microseconds=1) + _STOP_USEC
        try:
            await self._until(name, view, has_ended, deadline)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        status, result = await self._result(name, step.place.build_id)
        # Not before all that it has started is gone, too.
        await self._let_go(name, view)
        await said.take()
        said.finish()
        is_full = result != "success" and await asyncio.to_thread(_is_full, step.place, said.last_lines)
        return StepEnd(status, result, tuple(said.last_lines), is_full)

    @property
    def _files(self) -> FileWatcher:
        if self._watcher is None:
            raise RuntimeError("open() comes first")
        return self._watcher

    async def _result(self, name: str, build_id: str) -> tuple[int, str]:
        service, unit = await asyncio.gather(
            self._bus.properties(any_unit_path(name), "Service"),
            self._bus.properties(any_unit_path(name), "Unit"),
        )
        if build_id in self._stopped:
            return _KILLED + 9, "stopped"
        if unit.get("LoadState") in {None, "not-found"} or unit.get("ActiveState") == "inactive":
            return _KILLED + 9, "gone"
        status = int(service["ExecMainStatus"])
        if service["ExecMainCode"] != os.CLD_EXITED:
            status += _KILLED
        return status, str(service["Result"])

    async def _let_go(self, name: str, view: View | None = None) -> None:
        if view is None:
            with self._watching(name) as own:
                await self._let_go(name, own)
            return
        try:
            await self._bus.manager("StopUnit", "ss", [name, "replace"])
        except NotFound:
            return
        view.look()
        with suppress(HostUnavailable):
            await self._until(name, view, has_stopped, _STOP_USEC)
        with suppress(NotFound):
            await self._bus.manager("ResetFailedUnit", "s", [name])


def has_ended(view: View) -> bool:
    """Say whether the step's program has ended."""
    state, sub = view.values.get("ActiveState"), view.values.get("SubState")
    if view.is_gone or state == "failed" or view.values.get("LoadState") == "not-found":
        return True
    if state == "active":
        return sub == "exited"
    return state == "inactive" and bool(view.seen & {"activating", "active", "deactivating"})


def _owner() -> Any:
    try:
        return pwd.getpwnam(BUILD_USER)
    except KeyError:
        raise LaunchFailed(
            f"cannot build runtimes: this host has no user {BUILD_USER}",
            reason="RUNTIME_TOOL_MISSING",
            hint="systemd-sysusers makes it; see: dpkg-reconfigure joblet-agent",
        ) from None


def _prepare(place: BuildPlace, size: int) -> int:
    """Make all but the file system; return the bytes that it gets."""
    try:
        # Parents first, with modes whatever the umask: what is in them is shown to joblet-build.
        for directory, mode in (
            (place.root.parent, 0o700),
            (place.root, 0o700),
            (place.space, 0o700),
            (place.root / "logs", 0o700),
            (place.root / "inputs", 0o755),
            (place.host, 0o755),
            *((place.host / name, 0o755) for name in HOST_DIRECTORIES),
        ):
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(mode)
        for name, target in HOST_LINKS.items():
            with suppress(FileExistsError):
                (place.host / name).symlink_to(target)
        disk = os.statvfs(place.root)
        free = disk.f_bavail * disk.f_frsize
        if free < ROOM:
            _remove(place.root)
            raise LaunchFailed(
                f"cannot build: the disk of {place.root.parent} has less than {format_bytes(ROOM)} left",
                reason="RUNTIME_BUILD_DISK_FULL",
                hint=_MAKE_ROOM,
            )
        size = min(size, free - SPARE) // 4096 * 4096
        with place.image.open("xb") as image:
            image.truncate(size)
    except OSError as error:
        raise _refused(f"cannot make {place.root}", error) from error
    return size


def _refused(what: str, error: OSError) -> LaunchFailed:
    no_room = is_full(error)
    return LaunchFailed(
        f"{what}: {error.strerror}",
        reason="RUNTIME_BUILD_DISK_FULL" if no_room else "CANNOT_PREPARE_FILES",
        hint=_MAKE_ROOM if no_room else None,
    )


def _own_space(place: BuildPlace, owner: Any) -> None:
    with suppress(FileNotFoundError):
        (place.space / "lost+found").rmdir()
    os.chown(place.space, owner.pw_uid, owner.pw_gid)
    place.space.chmod(0o755)
    place.tree.mkdir()
    place.tree.chmod(0o755)
    os.chown(place.tree, owner.pw_uid, owner.pw_gid)
    place.out.mkdir()
    place.out.chmod(0o1777)


def _write_inputs(step: BuildStep, environment: Path) -> None:
    inputs = step.place.inputs(step.name)
    try:
        inputs.mkdir(exist_ok=True)
        inputs.chmod(0o755)
        for name, text in {**step.inputs, "step": step.script}.items():
            file = inputs / name
            file.write_text(text, encoding="utf-8", errors="surrogateescape")
            file.chmod(0o755)
        step.place.log(step.name).write_bytes(b"")
    except OSError as error:
        raise _refused(f"cannot write {inputs}", error) from error
    write_secretly(environment, variables_text({"PATH": _PATH, "LC_ALL": "C.UTF-8", **step.environment}))


def _make_ready(step: BuildStep) -> None:
    """Let the tree belong to whoever works on it now."""
    owner = _owner()
    try:
        if step.kind is StepKind.PACKAGES:
            give_to_namespace(step.place.tree, _first_subordinate())
        elif step.is_writable:
            hand_over(step.place.tree, owner.pw_uid, owner.pw_gid)
        else:
            mount_points(step.place.tree)
    except OSError as error:
        raise _refused(f"cannot prepare {step.place.tree}", error) from error


def _first_subordinate() -> int:
    with suppress(OSError, ValueError):
        for line in Path("/etc/subuid").read_text(encoding="utf-8").splitlines():
            name, first, count = line.split(":")
            if name == BUILD_USER and int(count) >= _SUBORDINATES:
                return int(first)
    raise LaunchFailed(
        f"cannot build runtimes: user {BUILD_USER} has no {_SUBORDINATES} subordinate ids in /etc/subuid",
        reason="RUNTIME_NO_SUBORDINATE_IDS",
        hint="dpkg-reconfigure joblet-agent gives it some",
    )


def _is_full(place: BuildPlace, last_lines: Collection[str]) -> bool:
    if any(_FULL.search(line) for line in last_lines):
        return True
    for directory in (place.space, place.root):  # its own end, and that of the disk that it is on
        with suppress(OSError):
            room = os.statvfs(directory)
            if room.f_bavail * room.f_frsize < _NEARLY_NOTHING or room.f_favail == 0:
                return True
    return False


def _names(root: Path) -> list[str]:
    with suppress(FileNotFoundError):
        return os.listdir(root)
    return []


def _remove(root: Path) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(root)
