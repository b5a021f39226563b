"""Disks for virtual machines: a kernel, an initrd and an ext4 file system per release."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.testbed import cache, host, vm_agent
from tests.testbed.images import build_tree, image_key, mask_units
from tests.testbed.packages import KERNEL, image_packages
from tests.testbed.releases import Release

DISK_SIZE = "6G"
KERNEL_FILE = "vmlinuz"
INITRD_FILE = "initrd.img"
DISK_FILE = "disk.ext4"

# Half a minute of an emulated boot, for what no test looks at.
MASKED_UNITS = (
    "dev-hugepages.mount",
    "e2scrub_reap.service",
    "getty@tty1.service",
    "modprobe@drm.service",
    "modprobe@efi_pstore.service",
    "proc-sys-fs-binfmt_misc.automount",
    "serial-getty@ttyS0.service",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-pstore.service",
)
INITRD_MODULES = ("ext4", "virtio_blk", "virtio_pci")

_AGENT_UNIT = f"""\
[Unit]
Description=Commands from the host of this virtual machine
BindsTo=dev-virtio\\x2dports-{vm_agent.PORT}.device
After=dev-virtio\\x2dports-{vm_agent.PORT}.device

[Service]
ExecStart=/usr/bin/python3 -I /usr/local/lib/vm_agent.py
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
"""


@contextmanager
def vm_image(release: Release) -> Iterator[Path]:
    """The folder with the three files for that release, made if it is not there; never write to it."""
    packages = sorted(image_packages() | KERNEL)
    agent = Path(vm_agent.__file__).read_bytes()
    recipe = (
        image_key(release, packages).encode()
        + agent
        + _AGENT_UNIT.encode()
        + json.dumps([DISK_SIZE, MASKED_UNITS, INITRD_MODULES]).encode()
    )
    key = hashlib.sha256(recipe).hexdigest()[:12]
    with cache.artifact(f"{release.value}-vm", key, lambda path: _build(release, packages, path)) as path:
        yield path


def _build(release: Release, packages: list[str], path: Path) -> None:
    path.mkdir()
    tree = path / "tree"
    build_tree(release, packages, tree)
    mask_units(tree, MASKED_UNITS)
    _add_agent(tree)
    _shrink_initrd(tree)
    for link in (KERNEL_FILE, INITRD_FILE):
        shutil.copyfile(_kernel_file(tree, link), path / link)
    # Sparse: it takes the room of its content.
    host.call(["mke2fs", "-q", "-t", "ext4", "-d", str(tree), str(path / DISK_FILE), DISK_SIZE], timeout=600)
    shutil.rmtree(tree)


def _add_agent(tree: Path) -> None:
    shutil.copyfile(vm_agent.__file__, tree / "usr/local/lib/vm_agent.py")
    units = tree / "etc/systemd/system"
    (units / "vm-agent.service").write_text(_AGENT_UNIT, encoding="utf-8")
    wants = units / "multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "vm-agent.service").symlink_to("../vm-agent.service")


def _shrink_initrd(tree: Path) -> None:
    """Leave in the initrd what finds the root disk: unpacking all modules takes long when emulated."""
    settings = tree / "etc/initramfs-tools"
    (settings / "conf.d/testbed").write_text("MODULES=list\nCOMPRESS=lz4\n", encoding="ascii")
    with (settings / "modules").open("a", encoding="ascii") as modules:
        modules.writelines(f"{name}\n" for name in INITRD_MODULES)
    host.call(["chroot", str(tree), "update-initramfs", "-u"], timeout=300)


def _kernel_file(tree: Path, link: str) -> Path:
    """The file of the only kernel in the tree."""
    name = link.removesuffix(".img")
    (found,) = (tree / "boot").glob(f"{name}*-*")
    return found
