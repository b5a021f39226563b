"""Builds of runtimes in a machine: their events, and what is left of them."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import grpc

from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.pb import joblet_pb2_grpc as stubs
from tests.e2e.agent import SOCKET, command
from tests.e2e.host import configured, rnx

MIRROR = "http://127.0.0.1:8099"
PLACES = Path("/var/lib/joblet/runtimes/builds")
CONFIG = f"""\
runtimes:
  max_builds: 2
  mirrors:
    debian: {MIRROR}/debian
    debian_security: {MIRROR}/debian-security
    ubuntu: {MIRROR}/ubuntu
    pip_index: {MIRROR}/pypi/simple
    npm_registry: {MIRROR}/npm
"""
DEADLINE = 600.0


@dataclass
class Built:
    """What a build has told."""

    phases: list[pb.BuildPhaseProgress] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    results: list[pb.BuildResult] = field(default_factory=list)

    @property
    def result(self) -> pb.BuildResult:
        assert len(self.results) == 1, self.log
        return self.results[0]

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    @property
    def build_id(self) -> str:
        return self.phases[0].build_id


@dataclass
class OnceIn:
    """Does something once in a build: when the phase has begun, or its step has said something more."""

    phase: int
    act: Callable[[], None]
    in_step: bool
    is_done: bool = False
    _lines: int = -1

    def __call__(self, built: Built) -> None:
        if self.is_done or not built.phases or built.phases[-1].phase_number < self.phase:
            return
        if self._lines < 0:
            self._lines = len(built.lines)
        if not self.in_step or len(built.lines) > self._lines:
            self.is_done = True
            self.act()


class Builder:
    """Stubs on the local socket, as published clients have them."""

    def __init__(self) -> None:
        self._channel = grpc.insecure_channel(SOCKET)
        self.runtimes = stubs.RuntimeServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self.agent = stubs.AgentServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        self._channel.close()

    def build(self, text: str, seen: Callable[[Built], None] = lambda _built: None, **fields: Any) -> Built:
        """Build, and follow to the end; ``seen`` is called for each event."""
        request = pb.BuildRuntimeRequest(yaml_content=text, verbose=True, **fields)
        return self._read(self.runtimes.BuildRuntime(request, timeout=DEADLINE, wait_for_ready=True), seen)

    def lock(self, text: str) -> Built:
        request = pb.LockRuntimeRequest(yaml_content=text)
        return self._read(self.agent.LockRuntime(request, timeout=DEADLINE), lambda _built: None)

    def follow(self, build: str) -> Built:
        request = pb.FollowRuntimeBuildRequest(build=build, verbose=True)
        return self._read(self.agent.FollowRuntimeBuild(request, timeout=DEADLINE), lambda _built: None)

    def cancel(self, build: str) -> pb.CancelRuntimeBuildResponse:
        request = pb.CancelRuntimeBuildRequest(build=build)
        answer: pb.CancelRuntimeBuildResponse = self.agent.CancelRuntimeBuild(request, timeout=60)
        return answer

    def under_way(self) -> list[pb.RuntimeBuild]:
        request = pb.GetRuntimeBuildsRequest()
        return list(self.agent.GetRuntimeBuilds(request, timeout=60, wait_for_ready=True).builds)

    def installed(self) -> dict[str, pb.RuntimeInfo]:
        answer = self.runtimes.ListRuntimes(pb.EmptyRequest(), timeout=60, wait_for_ready=True)
        return {f"{each.name}@{each.version}": each for each in answer.runtimes}

    def info(self, runtime: str) -> pb.RuntimeInfo:
        request = pb.GetRuntimeInfoRequest(runtime=runtime)
        info: pb.RuntimeInfo = self.runtimes.GetRuntimeInfo(request, timeout=60).runtime
        return info

    def _read(self, stream: Any, seen: Callable[[Built], None]) -> Built:
        built = Built()
        for event in stream:
            match event.WhichOneof("progress_type"):
                case "phase":
                    built.phases.append(event.phase)
                case "log":
                    built.lines.append(event.log.message)
                case "result":
                    built.results.append(event.result)
            seen(built)
        return built


def has_mirror() -> bool:
    """Say whether there are package archives."""
    try:
        with urlopen(f"{MIRROR}/pypi/simple/six/", timeout=20) as answer:
            return bool(answer.status == 200)
    except URLError:
        return False


@contextmanager
def builder() -> Iterator[Builder]:
    """Yield the stubs of an agent that finds package archives."""
    with configured(CONFIG):
        made = Builder()
        try:
            yield made
        finally:
            made.close()


def removed(*runtimes: str) -> None:
    for runtime in runtimes:
        rnx("runtime", "remove", "--force", runtime)


def left_of_builds() -> list[str]:
    """Return every unit, process, mount and file that a build has left."""
    units = command("systemctl", "list-units", "--all", "--plain", "--no-legend", "joblet-build-*").stdout
    processes = subprocess.run(
        ["pgrep", "--list-full", "--uid", "joblet-build"], check=False, capture_output=True, text=True
    ).stdout
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(PLACES) in line]
    files = [str(path) for path in PLACES.iterdir()] if PLACES.exists() else []
    return [*units.splitlines(), *processes.splitlines(), *mounts, *files]


def host_state() -> list[str]:
    """Return what hostile builds could have changed: files of the host, mounts, processes of other units."""
    found = command(
        "find",
        *(
            "/etc",
            "/usr/bin",
            "/usr/sbin",
            "/usr/lib/systemd",
            "/root",
            "/home",
            "/opt",
            "/srv",
            "/var/lib/dpkg",
        ),
        *("-xdev", "-not", "-path", "*/__pycache__*", "-not", "-path", "/opt/joblet*"),
        *("-printf", "%p %y %m %U:%G %s %T@\n"),
    ).stdout.splitlines()
    mounts = [
        line.split(" - ")[0].split(" ", 4)[4]
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
    ]
    return sorted(found) + sorted(mounts)
