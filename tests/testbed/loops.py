"""Loop devices that a machine left attached.

Loop devices are the one thing of a machine that no namespace contains. A machine's root is
an overlay of its own, so a device whose file lies on that overlay was attached in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import struct
from pathlib import Path

_LOOP_CLR_FD = 0x4C01
_LOOP_GET_STATUS64 = 0x4C05
_INFO64_SIZE = 232


def detach(device: int) -> list[Path]:
    """Detach every loop device whose file is on the file system with ``st_dev == device``."""
    detached = []
    for entry in Path("/sys/block").glob("loop*/loop"):
        node = Path("/dev") / entry.parent.name
        if _backing_device(node) == device:
            with node.open("rb") as opened:
                fcntl.ioctl(opened, _LOOP_CLR_FD)
            detached.append(node)
    return detached


def _backing_device(node: Path) -> int | None:
    with contextlib.suppress(OSError), node.open("rb") as opened:
        info = fcntl.ioctl(opened, _LOOP_GET_STATUS64, bytes(_INFO64_SIZE))
        return int(struct.unpack_from("<Q", info)[0])
    return None
