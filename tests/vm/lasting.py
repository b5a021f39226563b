"""Networks and volumes that have to outlast a boot: a program for the inside of a virtual machine.

``python3 -m tests.vm.lasting ACT`` prints what it found as JSON. ``make`` makes them, with a job that uses
all of them and fills the volumes; ``look`` looks at what is there; ``use`` runs another such job; ``remove``
removes them. It is one program because starting rnx takes seconds there.
"""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict

from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.pb import joblet_pb2_grpc as stubs

_SOCKET = "unix:/run/joblet/agent.sock"
_DEADLINE = 120.0
_KEPT, _INNER, _PROBE = "kept", "inner", "probe"
_FILES, _FLEETING = "files", "fleeting"
_PORT = 8095
_MOUNTS = (f"{_FILES}:/srv/files", f"{_FLEETING}:/srv/fleeting")
_FILL = """
cd /srv
for volume in files fleeting; do
    cat $volume/kept 2>/dev/null || echo nothing
    dd if=/dev/zero of=$volume/fill bs=64k 2>/dev/null && echo endless
    echo $(( $(stat -c %s $volume/fill) >> 20 ))
    rm $volume/fill
    echo of-before > $volume/kept
done
sync files/kept
exec 3> files/open
exec python3 -m http.server --bind :: 80 --directory files
"""
_ASK = """
from urllib.request import urlopen
print(urlopen("http://web/kept", timeout=60).read().decode(), end="")
"""
_WRITE = "cd /srv/files; while :; do echo line >> log; mkdir -p a/b; rmdir a/b; done"


class _Host:
    def __init__(self) -> None:
        channel = grpc.insecure_channel(_SOCKET)
        self.jobs = stubs.JobServiceStub(channel)  # type: ignore[no-untyped-call]
        self.agent = stubs.AgentServiceStub(channel)  # type: ignore[no-untyped-call]
        self.networks = stubs.NetworkServiceStub(channel)  # type: ignore[no-untyped-call]
        self.volumes = stubs.VolumeServiceStub(channel)  # type: ignore[no-untyped-call]

    def make(self) -> dict[str, Any]:
        """Make two networks and two volumes, and use them."""
        networks = (
            pb.CreateNetworkRequest(name=_KEPT, cidr="10.95.0.0/24", bandwidth=50_000_000, mtu=1400),
            pb.CreateNetworkRequest(name=_INNER, cidr="10.95.1.0/24", cidr6="fd95::/64", internal=True),
        )
        for network in networks:
            _call(self.networks.CreateNetwork, network)
        for name, kind in ((_FILES, "filesystem"), (_FLEETING, "memory")):
            _call(self.volumes.CreateVolume, pb.CreateVolumeRequest(name=name, size="16MB", type=kind))
        return self.look() | self.use()

    def look(self) -> dict[str, Any]:
        """Return what the agent says of them, and what is in the kernel; before jobs use any."""
        # The answer comes when the kernel has what is wanted, which may be later than the agent is there.
        probe = pb.CreateNetworkRequest(name=_PROBE, cidr="10.95.9.0/24")
        _until(lambda: _is_made(self.networks.CreateNetwork, probe), bool)
        _remove(self.networks.RemoveNetwork, pb.RemoveNetworkRequest(name=_PROBE))
        networks = _call(self.agent.GetNetworks, pb.GetNetworksRequest()).networks
        volumes = _until(
            lambda: _call(self.agent.GetVolumes, pb.GetVolumesRequest()).volumes,
            lambda volumes: all(volume.used_bytes >= 0 for volume in volumes),
        )
        links = json.loads(_output("ip", "-json", "address"))
        return {
            "networks": [MessageToDict(network) for network in networks],
            "volumes": {volume.name: MessageToDict(volume) for volume in volumes},
            "links": {
                link["ifname"]: sorted(
                    address["local"] for address in link["addr_info"] if address["scope"] == "global"
                )
                for link in links
                if link["ifname"].startswith(("joblet", "jb"))
            },
            "rules": _output("nft", "--stateless", "list", "table", "inet", "joblet"),
            "namespaces": sorted(path.name for path in Path("/run/netns").glob("*")),
        }

    def use(self) -> dict[str, Any]:
        """Run a job that reads what was left to it, fills the volumes and serves one.

        Ask it by its port of the host, and by its name in another job.
        """
        ports = [pb.PublishedPort(host_port=_PORT, job_port=80)]
        job = self._run("sh", "-c", _FILL, name="web", network=_KEPT, bandwidth=10_000_000, ports=ports)
        served = _until(_served, lambda text: text is not None)
        asked = self._log(self._run("python3", "-I", "-c", _ASK, network=_KEPT))
        output = self._log(job, no_follow=True).splitlines()
        return {"job": job, "served": served, "asked": asked, "output": output}

    def write(self) -> dict[str, Any]:
        """Let a job write to the volume for as long as it runs."""
        job = self._run("sh", "-c", _WRITE, network="none")
        log = Path(_call(self.agent.GetVolumes, pb.GetVolumesRequest(name=_FILES)).volumes[0].path, "log")
        _until(lambda: log.exists() and log.stat().st_size, lambda size: size > 100)
        return {"job": job}

    def remove(self) -> dict[str, Any]:
        """Remove them all, with the jobs."""
        for job in self.jobs.ListJobs(pb.EmptyRequest(), timeout=_DEADLINE).jobs:
            if job.status == "RUNNING":
                _call(self.jobs.StopJob, pb.StopJobRequest(uuid=job.uuid, force=True))
        for network in (_KEPT, _INNER):
            _remove(self.networks.RemoveNetwork, pb.RemoveNetworkRequest(name=network))
        for volume in (_FILES, _FLEETING):
            _remove(self.volumes.RemoveVolume, pb.RemoveVolumeRequest(name=volume))
        return self.look()

    def _run(self, command: str, *args: str, **fields: Any) -> str:
        request = pb.RunJobRequest(command=command, args=args, volumes=_MOUNTS, **fields)
        return str(_call(self.jobs.RunJob, request).job_uuid)

    def _log(self, job: str, **fields: Any) -> str:
        request = pb.GetJobLogsRequest(uuid=job, **fields)
        return b"".join(chunk.payload for chunk in _call(self.jobs.GetJobLogs, request)).decode()


def _call(method: Callable[..., Any], request: object) -> Any:
    return method(request, timeout=_DEADLINE, wait_for_ready=True)


def _remove(method: Callable[..., Any], request: object) -> None:
    """Remove what a job may be about to leave; a refusal is an answer."""
    _until(lambda: _call(method, request), lambda reply: reply.success)


def _is_made(method: Callable[..., Any], request: object) -> bool:
    try:
        _call(method, request)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return False
    return True


def _served() -> str | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{_PORT}/kept", timeout=5) as answer:
            text: bytes = answer.read()
            return text.decode()
    except OSError:
        return None


def _until(read: Callable[[], Any], fits: Callable[[Any], bool]) -> Any:
    deadline = time.monotonic() + _DEADLINE
    while True:
        value = read()
        if fits(value):
            return value
        if time.monotonic() > deadline:
            sys.exit(f"not within {_DEADLINE:.0f} s: {value}")
        time.sleep(0.1)


def _output(*words: str) -> str:
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout


def main(acts: Sequence[str]) -> None:
    """Do these one after the other, and print all that they found."""
    host = _Host()
    found: dict[str, Any] = {}
    for act in acts:
        found |= getattr(host, act)()
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
