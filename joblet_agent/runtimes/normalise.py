"""Makes a tree fit to be a runtime, or says why it cannot be one.

Equal trees of different makers get equal digests here: owner, times, what a build host leaves behind, and
what jobs never see, because they have something of their own there, are the same afterwards.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from joblet_agent.errors import HostUnavailable, InvalidRequest
from joblet_agent.jobs.removal import remove_tree
from joblet_agent.jobs.tree import TreeWriter
from joblet_agent.model.mount_points import CONTENTS, DIRECTORIES, FILES, LINKS, TEMPORARY
from joblet_agent.runtimes import layout
from joblet_agent.runtimes.disk import disk_errors
from joblet_agent.runtimes.walk import Place, printable, walk
from joblet_agent.units import format_bytes

__all__ = ["normalise"]

_EMPTY_DIRECTORIES: Final = ("dev", "proc", "run", "sys", "tmp")
"""Jobs have file systems of their own over these."""
_EMPTY_FILES: Final = ("etc/hostname", "etc/machine-id", "etc/resolv.conf")
"""Of the host that the tree was made on."""
_REPLACED_LINKS: Final = (*_EMPTY_FILES, "etc/hosts")
_FORBIDDEN: Final = {"etc/ld.so.preload": "it would load a library into every program of a job"}
_MOST_SHOWN = 20
MOST_PATH = 3500
"""Bytes; with what comes before it, a path of the host ends at 4095."""
_DIRECTORY_MODE, _FILE_MODE = 0o755, 0o644
_MODES: Final = {"": 0o755, **dict.fromkeys(_EMPTY_DIRECTORIES, 0o755), "tmp": 0o1777}
"""Of what is the same in all trees; the first is the top, which every job must be able to enter."""
_STICKY = 0o1000
_PERMISSIONS = 0o777
_KEPT_ATTRIBUTES = ("security.selinux", "security.ima", "security.evm")
"""The host's own; nobody but its security modules changes them."""


def normalise(tree: Path, *, most_bytes: int = 0) -> None:
    """Make the tree normal; one that is so already is left as it is. Blocking.

    Nothing may write to the tree meanwhile. Raises InvalidRequest, which names paths, when it cannot be a
    runtime (RUNTIME_TREE_REFUSED) or has more than ``most_bytes`` (RUNTIME_TOO_LARGE; 0: no maximum), and
    HostUnavailable for the disk.
    """
    with disk_errors("take the tree as a runtime"):
        _require_fit(tree, most_bytes)
        _clear(tree)
        _complete(tree)
        for place in walk(tree):
            _make_normal(place)


def _require_fit(tree: Path, most_bytes: int) -> None:
    faults: list[str] = []
    size = 0
    counted: set[int] = set()
    device = 0
    for place in walk(tree):
        device = device or place.status.st_dev
        if fault := _fault(place, device):
            faults.append(f"{printable(place.path)}: {fault}")
        if place.is_file and place.status.st_ino not in counted:
            size += place.status.st_size
            if place.status.st_nlink > 1:
                counted.add(place.status.st_ino)
    if faults:
        raise InvalidRequest(
            "cannot take the tree as a runtime: "
            + "; ".join(faults[:_MOST_SHOWN])
            + (f"; and {len(faults) - _MOST_SHOWN} more" if len(faults) > _MOST_SHOWN else ""),
            reason="RUNTIME_TREE_REFUSED",
            hint="a runtime has files, directories and symbolic links, and what jobs need to be mounted over",
        )
    if most_bytes and size > most_bytes:
        raise InvalidRequest(
            f"cannot take the tree as a runtime: it has {size} bytes, "
            f"and may have {format_bytes(most_bytes)}",
            reason="RUNTIME_TOO_LARGE",
            hint="allow more in its definition: limits.disk",
        )


def _fault(place: Place, device: int) -> str:
    fault = ""
    if place.status.st_dev != device:
        fault = "something is mounted on it"
    elif place.path in _FORBIDDEN:
        fault = _FORBIDDEN[place.path]
    elif len(os.fsencode(place.path)) > MOST_PATH:
        fault = f"its path is longer than {MOST_PATH} bytes"
    elif place.path in DIRECTORIES and not place.is_directory:
        fault = "it must be a directory, for jobs have something mounted there"
    elif place.path in FILES and not (place.is_file or (place.is_link and place.path in _REPLACED_LINKS)):
        fault = "it must be a file, for jobs have something mounted there"
    elif not (place.is_file or place.is_directory or place.is_link) and not _goes(place):
        fault = f"it is {_kind(place.status.st_mode)}"
    return fault


def _goes(place: Place) -> bool:
    return place.path.partition("/")[0] in _EMPTY_DIRECTORIES


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def _clear(tree: Path) -> None:
    """Remove what is the build host's, and what jobs never see."""
    for name in _EMPTY_DIRECTORIES:
        directory = tree / name
        if directory.is_dir() and os.listdir(directory) and (failures := remove_tree(directory)):
            raise HostUnavailable(
                f"cannot empty /{name} of the tree: {'; '.join(failures[:3])}", reason="RUNTIME_DISK_FAILED"
            )
    with suppress(OSError):  # it is not there, or no directory, or has something
        os.rmdir(tree / TEMPORARY[0])
    for name in CONTENTS:
        with suppress(FileNotFoundError):
            if not (tree / name).lstat().st_size:
                os.unlink(tree / name)
    for name in _REPLACED_LINKS:
        path = tree / name  # /etc is a directory of the tree by now, not a link
        with suppress(FileNotFoundError):
            status = os.lstat(path)
            if not stat.S_ISREG(status.st_mode) or (name in _EMPTY_FILES and status.st_size):
                os.unlink(path)  # not emptied: its content may be shared with another tree


def _complete(tree: Path) -> None:
    """Make the mount points that are missing; what is in front of them is a directory, or was refused."""
    with TreeWriter(tree) as writer:
        for name in DIRECTORIES:
            if not (tree / name).is_dir():
                writer.make_directory(name.split("/"), _MODES.get(name, _DIRECTORY_MODE))
        for name, target in LINKS:
            if not os.path.lexists(tree / name) and (tree / target).is_dir():
                os.symlink(target, tree / name)
        name, target = TEMPORARY
        if not os.path.lexists(tree / name):
            os.symlink(target, tree / name)
        for name in FILES:
            if not (tree / name).exists():
                with open(writer.create(name.split("/"), _FILE_MODE), "w", encoding="ascii") as file:
                    file.write(CONTENTS.get(name, ""))


def _make_normal(place: Place) -> None:
    """Give it the owner, mode, times and attributes that all have, unless it has them: it may be shared."""
    if place.is_link:
        _own(place)
    else:
        _make_open_normal(place)
    if place.status.st_mtime_ns != layout.MTIME * 10**9:
        times = (layout.MTIME, layout.MTIME)
        os.utime(place.name, times, dir_fd=place.directory, follow_symlinks=False)


def _own(place: Place) -> None:
    if (place.status.st_uid, place.status.st_gid) != layout.OWNER:
        os.chown(place.name, *layout.OWNER, dir_fd=place.directory, follow_symlinks=False)


def _make_open_normal(place: Place) -> None:
    descriptor = place.open()
    try:
        _own(place)
        mode = _normal_mode(place)
        if mode != stat.S_IMODE(os.fstat(descriptor).st_mode):
            os.fchmod(descriptor, mode)
        for name in os.listxattr(descriptor):
            if name not in _KEPT_ATTRIBUTES:
                _drop_attribute(descriptor, name)
    finally:
        os.close(descriptor)


def _normal_mode(place: Place) -> int:
    if place.path in _MODES and place.is_directory:
        return _MODES[place.path]
    return place.mode & (_PERMISSIONS | (_STICKY if place.is_directory else 0))


def _drop_attribute(descriptor: int, name: str) -> None:
    if name == "security.capability":
        # Taking it away wants a capability that the agent does not have; a change of the owner also drops it.
        os.fchown(descriptor, *layout.OWNER)
        if name not in os.listxattr(descriptor):
            return
    os.removexattr(descriptor, name)
