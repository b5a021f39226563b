"""What must be there in every tree that jobs have as their root: nothing can be made in a read-only root."""

from typing import Final

DIRECTORIES: Final = (
    *("data", "dev", "etc", "media", "mnt", "opt", "opt/runtime", "proc", "root", "run", "srv", "sys"),
    *(
        "tmp",
        "usr",
        "usr/lib",
        "usr/lib/joblet",
        "usr/local",
        "usr/local/nvidia",
        "usr/local/nvidia/lib",
        "var",
        "var/lib",
    ),
    *("volumes", "work"),
)
"""Directories, parents first: among them the place of the launcher and that of a GPU's driver."""

LINKS: Final = (
    ("bin", "usr/bin"),
    ("lib", "usr/lib"),
    ("sbin", "usr/sbin"),
    ("lib64", "usr/lib64"),
    ("lib64", "usr/lib/x86_64-linux-gnu"),
)
"""Links that systemd makes in a root where nothing has that name, and there is such a directory (252 and 257,
base-filesystem.c); in a tree they must be there before."""

TEMPORARY: Final = ("var/tmp", "../tmp")
"""A link where a tree has nothing there: jobs write to ``/var/tmp``, too."""

FILES: Final = ("etc/group", "etc/hostname", "etc/hosts", "etc/machine-id", "etc/passwd", "etc/resolv.conf")
"""Files that something of a job's may be mounted over; they are made where they are missing."""

CONTENTS: Final = {
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n",
    "etc/passwd": "root:x:0:0:root:/root:/usr/sbin/nologin\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
}
"""What files have that are made, or that are empty: a program finds the names that each has."""
