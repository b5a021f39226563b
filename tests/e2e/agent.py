"""The installed agent, as tests inside a machine talk to it: stubs, states, kills."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import grpc

from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.pb import joblet_pb2_grpc as stubs

SOCKET = "unix:/run/joblet/agent.sock"
JOBS = Path("/var/lib/joblet/jobs")
ENDED = frozenset({"COMPLETED", "FAILED", "STOPPED", "CANCELED"})
DEADLINE = 30.0

T = TypeVar("T")


class Client:
    """Stubs on the local socket. Calls wait for an agent that is being restarted, up to ``DEADLINE``."""

    def __init__(self) -> None:
        options = [
            ("grpc.max_receive_message_length", 128 << 20),
            ("grpc.max_send_message_length", 128 << 20),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.min_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 200),
        ]
        self._channel = grpc.insecure_channel(SOCKET, options)
        self.jobs = stubs.JobServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self.agent = stubs.AgentServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self.networks = stubs.NetworkServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self.volumes = stubs.VolumeServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self.runtimes = stubs.RuntimeServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        self._channel.close()

    def run(self, command: str, *args: str, **fields: Any) -> str:
        """Run a job and return its id."""
        request = pb.RunJobRequest(command=command, args=list(args), **fields)
        return str(self.jobs.RunJob(request, timeout=DEADLINE, wait_for_ready=True).job_uuid)

    def status(self, job_id: str) -> pb.GetJobStatusResponse:
        reply: pb.GetJobStatusResponse = persist(
            lambda: self.jobs.GetJobStatus(
                pb.GetJobStatusRequest(uuid=job_id), timeout=DEADLINE, wait_for_ready=True
            )
        )
        return reply

    def ended(self, job_id: str, within: float = DEADLINE) -> pb.GetJobStatusResponse:
        """Return the status once the job has ended."""
        return eventually(lambda: self.status(job_id), lambda status: status.status in ENDED, within)

    def log(self, job_id: str) -> bytes:
        """Return the log as it is now."""
        return persist(lambda: b"".join(self._chunks(job_id)))

    def _chunks(self, job_id: str) -> Iterator[bytes]:
        request = pb.GetJobLogsRequest(uuid=job_id, no_follow=True)
        for chunk in self.jobs.GetJobLogs(request, timeout=DEADLINE, wait_for_ready=True):
            yield chunk.payload

    def follow(self, job_id: str) -> bytes:
        """Follow the log to the job's end, continuing at the offset reached whenever the agent is gone."""
        received = bytearray()

        def rest() -> bytes:
            request = pb.GetJobLogsRequest(uuid=job_id, offset=len(received))
            for chunk in self.jobs.GetJobLogs(request, timeout=300, wait_for_ready=True):
                assert not chunk.payload or chunk.offset == len(received)
                received.extend(chunk.payload)
            return bytes(received)

        return persist(rest)

    def by_name(self, name: str) -> list[pb.Job]:
        reply = persist(
            lambda: self.agent.QueryJobs(
                pb.QueryJobsRequest(name=name), timeout=DEADLINE, wait_for_ready=True
            )
        )
        return list(reply.jobs)


def persist(call: Callable[[], T], within: float = 60.0) -> T:
    """Repeat a call that fails because the agent is away; for calls that change nothing."""
    deadline = time.monotonic() + within
    while True:
        try:
            return call()
        except grpc.RpcError as error:
            gone = error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
            if not gone or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def eventually(read: Callable[[], T], fits: Callable[[T], bool], within: float = DEADLINE) -> T:
    """Read until it fits; fail with the last reading."""
    deadline = time.monotonic() + within
    pause = 0.01
    while True:
        value = read()
        if fits(value):
            return value
        assert time.monotonic() < deadline, f"not within {within} s: {value}"
        time.sleep(pause)
        pause = min(pause * 1.3, 0.1)  # who reads all the time takes time from what it waits for


def command(*words: str, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command of the machine."""
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        words, check=check, capture_output=True, text=True, timeout=120, **options
    )


def main_pid(unit: str = "joblet-agent.service") -> int:
    return int(command("systemctl", "show", "-P", "MainPID", unit).stdout)


def kill_agent() -> None:
    """kill -9, without waiting for anything; systemd starts it again."""
    command("systemctl", "kill", "--signal=KILL", "joblet-agent.service", check=False)


def wait_for_agent(client: Client) -> None:
    persist(
        lambda: client.agent.QueryJobs(
            pb.QueryJobsRequest(page_size=1), timeout=DEADLINE, wait_for_ready=True
        )
    )


def units() -> list[str]:
    """Names of the job units that systemd knows, failed ones included."""
    listing = command("systemctl", "list-units", "--all", "--plain", "--no-legend", "joblet-job-*").stdout
    return [line.split()[0] for line in listing.splitlines()]


def timers() -> list[str]:
    """Names of the timers of scheduled jobs and of recurring schedules that systemd knows."""
    words = ("systemctl", "list-units", "--all", "--plain", "--no-legend")
    listing = command(
        *words, "joblet-job@*.timer", "joblet-schedule@*.timer", "joblet-workflow@*.timer"
    ).stdout
    return [line.split()[0] for line in listing.splitlines()]


def running_units() -> list[str]:
    """Names of the job units in which something runs."""
    words = ("systemctl", "list-units", "--state=running", "--plain", "--no-legend", "joblet-job-*")
    return [line.split()[0] for line in command(*words).stdout.splitlines()]


@contextmanager
def agent_stopped() -> Iterator[None]:
    """Keep the agent stopped within the block."""
    command("systemctl", "stop", "joblet-agent.service")
    try:
        yield
    finally:
        command("systemctl", "start", "joblet-agent.service")
