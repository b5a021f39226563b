"""Project quotas of the file system that holds a directory (ports.ProjectQuotas).

quotactl_fd(2), which takes the file system by a descriptor: its device need not be visible (PrivateDevices=).
The same commands serve ext4 and XFS. The projects of files are set by ioctl_fsgetxattr(2). Only the standard
library: it is one system call and two ioctls.
"""

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from joblet_agent.ports import ProjectUsage

_QUOTACTL_FD = 443  # the same number on every architecture
_PROJECT = 2  # PRJQUOTA of linux/quota.h
_GET, _SET, _GET_NEXT = 0x800007, 0x800008, 0x800009  # Q_GETQUOTA, Q_SETQUOTA, Q_GETNEXTQUOTA
_STATE = (ord("X") << 8) + 8  # Q_XGETQSTATV of linux/dqblk_xfs.h
_STATE_VERSION = 1  # FS_QSTATV_VERSION1
_STATE_SIZE = 256  # struct fs_quota_statv has 160
_ENFORCED = 1 << 5  # FS_QUOTA_PDQ_ENFD
_LIMITS = 1 | 4  # QIF_BLIMITS, QIF_ILIMITS

# struct if_dqblk: hard and soft limit of blocks, bytes used; the same of inodes; two times; what is set
_QUOTA = struct.Struct("=8QI4x")
_NEXT_QUOTA = struct.Struct("=8QII")
_BLOCK = 1024  # QIF_DQBLKSIZE

_FSGETXATTR, _FSSETXATTR = 0x801C581F, 0x401C5820
# struct fsxattr: flags, extent size, extents, project, copy-on-write extent size, reserved
_ATTRIBUTES = struct.Struct("=5I8x")
_INHERIT = 0x200  # FS_XFLAG_PROJINHERIT

_libc = ctypes.CDLL(None, use_errno=True)


class ProjectQuotas:
    """Quotas of one file system."""

    def __init__(self, directory: Path) -> None:
        """Any directory on the file system will do; it is held open."""
        self._descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let the file system go."""
        os.close(self._descriptor)

    def are_enforced(self) -> bool:
        """See ports.ProjectQuotas. The kernel's own switch: accounting alone, or a missing call, is no limit.

        Below a directory that is of somebody else's project, files cannot be moved out of ours.
        """
        state = ctypes.create_string_buffer(struct.pack("=bxH", _STATE_VERSION, 0), _STATE_SIZE)
        try:
            self._control(_STATE, 0, state)
        except OSError:
            return False
        is_on = struct.unpack_from("=bxH", state)[1] & _ENFORCED
        return bool(is_on) and not _attributes(self._descriptor)[0] & _INHERIT

    def set_limit(self, project: int, *, size: int, files: int) -> None:
        """See ports.ProjectQuotas."""
        blocks = -(-size // _BLOCK)
        self._control(
            _SET, project, ctypes.create_string_buffer(_QUOTA.pack(blocks, 0, 0, files, 0, 0, 0, 0, _LIMITS))
        )

    def usage(self, project: int) -> ProjectUsage:
        """See ports.ProjectQuotas."""
        quota = ctypes.create_string_buffer(_QUOTA.size)
        try:
            self._control(_GET, project, quota)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ESRCH}:  # XFS: nothing is known of it
                return ProjectUsage(project)
            raise
        return _usage(project, quota)

    def known(self, first: int, last: int) -> Iterator[ProjectUsage]:
        """See ports.ProjectQuotas."""
        wanted = first
        while wanted <= last:
            quota = ctypes.create_string_buffer(_NEXT_QUOTA.size)
            try:
                self._control(_GET_NEXT, wanted, quota)
            except OSError as error:
                if error.errno in {errno.ENOENT, errno.ESRCH}:
                    return
                raise
            project = _NEXT_QUOTA.unpack_from(quota)[9]
            if not wanted <= project <= last:
                return
            yield _usage(project, quota)
            wanted = project + 1

    def assign(self, descriptor: int, project: int) -> None:
        """See ports.ProjectQuotas."""
        flags, extent, extents, _, cow = _attributes(descriptor)
        flags |= _INHERIT if os.path.isdir(descriptor) else 0
        fcntl.ioctl(descriptor, _FSSETXATTR, _ATTRIBUTES.pack(flags, extent, extents, project, cow))

    def project(self, descriptor: int) -> int:
        """See ports.ProjectQuotas."""
        return _attributes(descriptor)[3]

    def _control(self, command: int, project: int, data: "ctypes.Array[ctypes.c_char]") -> None:
        full = ctypes.c_uint(command << 8 | _PROJECT)
        done = _libc.syscall(_QUOTACTL_FD, self._descriptor, full, ctypes.c_uint(project), data)
        if done < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def _attributes(descriptor: int) -> tuple[int, int, int, int, int]:
    found = fcntl.ioctl(descriptor, _FSGETXATTR, bytes(_ATTRIBUTES.size))
    flags, extent, extents, project, cow = _ATTRIBUTES.unpack(found)
    return flags, extent, extents, project, cow


def _usage(project: int, quota: "ctypes.Array[ctypes.c_char]") -> ProjectUsage:
    blocks, _, used, inodes, _, files, *_ = _QUOTA.unpack_from(quota)
    return ProjectUsage(project, used, files, blocks * _BLOCK, inodes)
