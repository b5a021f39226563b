"""The directory of a volume that jobs see, on the host. Blocking; call from a thread. Raises OSError.

Only root gets to it, by its path: everything above is 0700. It belongs to the volume's own user and group,
and lets all of the group do everything in it: a default ACL (acl(5)) gives each new file and directory the
group's rights that its mode allows, whatever the umask of the job, and nobody else any.
"""

import os
import stat
import struct
from pathlib import Path

from joblet_agent.jobs.tree import DIRECTORY

MODE = 0o2770
"""The group of a new file is that of its directory."""
_ACL_NAME = "system.posix_acl_default"
_ENTRY = struct.Struct("<HHI")  # of linux/posix_acl_xattr.h
_USER_OBJ, _GROUP_OBJ, _OTHER = 0x01, 0x04, 0x20
_NO_ID = 0xFFFFFFFF
_ACL = struct.pack("<I", 2) + b"".join(
    _ENTRY.pack(tag, rights, _NO_ID) for tag, rights in ((_USER_OBJ, 7), (_GROUP_OBJ, 7), (_OTHER, 0))
)


def is_mounted(mount: Path) -> bool:
    """Say whether something is mounted on the directory; one that is not there has no mount."""
    try:
        return os.lstat(mount).st_dev != os.lstat(mount.parent).st_dev
    except (FileNotFoundError, NotADirectoryError):
        return False


def exists(contents: Path) -> bool:
    """Say whether the directory is there."""
    try:
        return stat.S_ISDIR(os.lstat(contents).st_mode)
    except FileNotFoundError:
        return False


def is_open_to_group(contents: Path, number: int) -> bool:
    """Say whether the directory has its owner, group and mode: its owner, a job, may have closed it."""
    status = os.lstat(contents)
    return (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (number, number, MODE)


def share(contents: Path) -> None:
    """Let what is made in the directory be the group's, too."""
    directory = os.open(contents, DIRECTORY)
    try:
        os.setxattr(directory, _ACL_NAME, _ACL)
    finally:
        os.close(directory)


def used_space(mount: Path) -> int:
    """Return how many bytes the files of a mounted file system take."""
    status = os.statvfs(mount)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def loop_device(mount: Path) -> Path | None:
    """Return the loop device that is mounted on the directory."""
    number = os.stat(mount).st_dev
    name = os.path.basename(os.readlink(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}"))
    return Path("/dev", name) if name.startswith("loop") else None
