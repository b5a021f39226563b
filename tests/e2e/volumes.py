"""Volumes as tests make and use them, and what of them is on the host."""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import DEADLINE, Client, command, eventually

PLACE = Path("/var/lib/joblet/volumes")
_GET_STATUS64 = 0x4C05  # loop(4); struct loop_info64 begins with the device of the file
FIRST = 1879113728
"""First uid of volumes (volumes.uid_first)."""


def create(client: Client, name: str, size: str = "10MB", kind: str = "memory") -> pb.CreateVolumeResponse:
    request = pb.CreateVolumeRequest(name=name, size=size, type=kind)
    reply: pb.CreateVolumeResponse = client.volumes.CreateVolume(request, timeout=DEADLINE)
    return reply


def remove(client: Client, name: str) -> pb.RemoveVolumeResponse:
    reply: pb.RemoveVolumeResponse = client.volumes.RemoveVolume(
        pb.RemoveVolumeRequest(name=name), timeout=DEADLINE
    )
    return reply


def volume(client: Client, name: str) -> pb.Volume:
    reply = client.agent.GetVolumes(pb.GetVolumesRequest(name=name), timeout=DEADLINE, wait_for_ready=True)
    found: pb.Volume = reply.volumes[0]
    return found


@contextmanager
def made(client: Client, name: str, size: str = "10MB", kind: str = "memory") -> Iterator[Path]:
    """Have a volume within the block; yield its directory on the host."""
    reply = create(client, name, size, kind)
    try:
        yield Path(reply.path)
    finally:
        eventually(lambda: volume(client, name).job_count, lambda count: count == 0)
        answer = remove(client, name)
        assert answer.success, answer.message
        assert not (PLACE / name).exists()


def in_job(client: Client, script: str, *volumes: str, state: str = "COMPLETED", **fields: Any) -> str:
    """Run a script in a job with the volumes, and return its output once the job is forgotten."""
    job_id = client.run("sh", "-c", script, volumes=volumes, network="none", **fields)
    status, log = client.ended(job_id), client.log(job_id).decode()
    assert status.status == state, (status.message, log)
    for each in volumes:
        name = each.partition(":")[0]
        eventually(lambda name=name: volume(client, name).job_uuids, lambda ids: job_id not in ids)  # type: ignore[misc]
    return log


def mounts() -> list[str]:
    """The mount points of volumes on the host."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return [line.split()[4] for line in lines if line.split()[4].startswith(f"{PLACE}/")]


def leftovers() -> list[str]:
    """What volumes have left on the host: nothing, when there are none."""
    listing = command(
        *("systemctl", "list-units", "--all", "--plain", "--no-legend"),
        *("joblet-volume-*", "var-lib-joblet-volumes-*"),
    ).stdout
    return [*os.listdir(PLACE), *mounts(), *listing.splitlines(), *map(str, _attached())]


def image_of(name: str) -> Path:
    """The image of a volume."""
    (image,) = (PLACE / name).glob("image-*")
    return image


def _attached() -> list[Path]:
    """Loop devices with files of this machine: the kernel's are there for all of them, by the same names."""
    own = os.stat(PLACE).st_dev
    found = [Path("/dev", entry.parent.name) for entry in Path("/sys/block").glob("loop*/loop")]
    return [device for device in found if _backing_device(device) == own]


def _backing_device(device: Path) -> int | None:
    with suppress(OSError), device.open("rb") as opened:  # it is being detached
        return int(struct.unpack_from("<Q", fcntl.ioctl(opened, _GET_STATUS64, bytes(232)))[0])
    return None
