"""Disk and memory: where the agent keeps its state, what is left there, what can be limited there."""

from collections.abc import Sequence
from pathlib import Path

from joblet_agent.config import FilesystemBacking, Unenforced
from joblet_agent.fitness.finding import Probe, Subject, Verdict, failed, ok, unknown, warning
from joblet_agent.fitness.scene import Scene
from joblet_agent.jobs.host import Storage
from joblet_agent.jobs.paths import AgentPaths
from joblet_agent.jobs.plan import PROGRAMS
from joblet_agent.quota import ProjectQuotas
from joblet_agent.units import GIB, MIB, format_bytes

_REMOTE = frozenset({"9p", "afs", "ceph", "cifs", "glusterfs", "nfs", "nfs4", "smb3", "smbfs"})
_FULL, _LITTLE = 64 * MIB, 1 * GIB
_FULL_FILES, _FEW_FILES = 1000, 20_000
_LITTLE_RUN = 64 * MIB
_LITTLE_MEMORY = 448 * MIB  # of a machine with 512 MiB the kernel leaves so much
_QUOTAS = "docs/operations.md, Workspaces"


def _type(scene: Scene) -> Verdict:
    state = scene.loaded.config.state_dir
    mount = scene.host.facts.mount(scene.host.nearest(state))
    where = f"{state} is on {mount.filesystem} ({mount.point or '?'})"
    if mount.filesystem in _REMOTE or mount.filesystem.startswith("fuse"):
        return failed(
            where,
            "the database needs the locks and the shared memory of a local file system",
            "state_dir on a local disk, ext4 or XFS",
        )
    if not Storage(mount.filesystem).does_io:
        return warning(where, "nothing of jobs is left after a reboot", "state_dir on a disk")
    return ok(where)


def _options(scene: Scene) -> Verdict | None:
    state = scene.loaded.config.state_dir
    mount = scene.host.facts.mount(scene.host.nearest(state))
    if "ro" in mount.options:
        return failed(
            f"{mount.point} is mounted read-only",
            "the agent does not start",
            f"mount -o remount,rw {mount.point}",
        )
    if "noexec" in mount.options:
        return warning(
            f"{mount.point} is mounted noexec",
            "jobs cannot execute files that came with them, nor programs of runtimes",
            "take noexec out of its line in /etc/fstab, or give state_dir a file system of its own",
        )
    return ok(f"{mount.point} can be written to")


def _space(scene: Scene) -> Verdict:
    state = scene.loaded.config.state_dir
    free = scene.host.space(state).free
    text = f"{_rounded(free)} are free for {state}"
    if free < _FULL:
        return failed(
            text, "jobs are refused (STORE_FULL, CANNOT_PREPARE_FILES)", "rnx delete-all, or a larger disk"
        )
    if free < _LITTLE:
        return warning(
            text, "logs and files of jobs soon fill the disk", "a larger disk, or a smaller logs.max_size"
        )
    return ok(text)


def _files(scene: Scene) -> Verdict | None:
    state = scene.loaded.config.state_dir
    files = scene.host.space(state).files
    if files is None:
        return None
    text = f"{files} files can be made in {state}"
    if files < _FULL_FILES:
        return failed(
            text,
            "jobs are refused (CANNOT_PREPARE_FILES)",
            "rnx delete-all, or a file system with more inodes",
        )
    if files < _FEW_FILES:
        return warning(text, "files of jobs soon use up its inodes", "a file system with more inodes")
    return ok(text)


def _run(scene: Scene) -> Verdict:
    run = scene.loaded.config.run_dir
    free = scene.host.space(run).free
    text = f"{_rounded(free)} are free for {run}"
    if free < _LITTLE_RUN:
        return warning(
            text, "jobs with many arguments or secrets may not start", "mount -o remount,size=20% /run"
        )
    return ok(text)


def _quotas(scene: Scene) -> Verdict:
    config = scene.loaded.config
    try:
        quotas = ProjectQuotas(
            scene.host.path(scene.host.nearest(AgentPaths(config.state_dir, config.run_dir).jobs))
        )
    except PermissionError:
        return unknown(f"whether {config.state_dir} has project quotas", "run it as root")
    try:
        are_enforced = quotas.are_enforced()
    finally:
        quotas.close()
    if are_enforced:
        return ok(f"project quotas hold jobs in {config.state_dir} to their size")
    text = f"the file system of {config.state_dir} has no project quotas"
    limits = config.limits
    if limits.unenforced is Unenforced.REFUSE and (limits.admin.work_size or limits.operator.work_size):
        return failed(
            text, "jobs are refused where limits.*.work_size has a maximum, unless with --work-size", _QUOTAS
        )
    if config.volumes.enabled and config.volumes.filesystem is FilesystemBacking.QUOTA:
        return failed(
            text, "volumes of the type filesystem are refused, as volumes.filesystem is quota", _QUOTAS
        )
    return warning(
        text, "one job can fill the disk; --work-size makes /work memory", f"to have them: {_QUOTAS}"
    )


def _disks(scene: Scene) -> list[tuple[Path, Storage]]:
    places = (PROGRAMS, scene.loaded.config.state_dir)
    return [(path, scene.host.facts.storage(scene.host.path(scene.host.nearest(path)))) for path in places]


def _io_limits(scene: Scene) -> Verdict | None:
    if "io" not in scene.host.facts.controllers():
        return None
    unlimited = [(path, disk) for path, disk in _disks(scene) if disk.does_io and not disk.can_be_limited]
    if not unlimited:
        return ok("I/O can be limited")
    return warning(
        ", ".join(f"{path} is on {disk.filesystem}, without a block device here" for path, disk in unlimited),
        "jobs with --max-iobps or --io-weight are refused",
        "/usr and state_dir on local disks",
    )


def _io_weight(scene: Scene) -> Verdict | None:
    if "io" not in scene.host.facts.controllers():
        return None
    disks = [disk for _, disk in _disks(scene) if disk.device]
    if all(scene.host.facts.shares_by_weight(disk) for disk in disks):
        return ok("disks are shared by weight")
    return warning(
        "no disk is shared by weight",
        "jobs with --io-weight are refused",
        'a udev rule that chooses the I/O scheduler bfq: ATTR{queue/scheduler}="bfq"',
    )


def _memory(scene: Scene) -> Verdict:
    fields = dict(line.split(":", 1) for line in scene.host.lines("/proc/meminfo") if ":" in line)
    total = int(fields["MemTotal"].split()[0]) * 1024
    text = f"{_rounded(total)} of memory"
    if total < _LITTLE_MEMORY:
        return warning(
            text, "the agent needs 100 MiB of it, and jobs come on top", "a host with 512 MiB or more"
        )
    return ok(text)


def _rounded(size: int) -> str:
    step = GIB if size >= 10 * GIB else MIB
    return format_bytes(size // step * step)


PROBES: Sequence[Probe] = (
    Probe("DISK_TYPE", Subject.DISK, _type),
    Probe("DISK_OPTIONS", Subject.DISK, _options),
    Probe("DISK_SPACE", Subject.DISK, _space),
    Probe("DISK_FILES", Subject.DISK, _files),
    Probe("DISK_RUN", Subject.DISK, _run),
    Probe("DISK_QUOTAS", Subject.DISK, _quotas),
    Probe("DISK_IO_LIMITS", Subject.DISK, _io_limits),
    Probe("DISK_IO_WEIGHT", Subject.DISK, _io_weight),
    Probe("MEMORY", Subject.MEMORY, _memory),
)
