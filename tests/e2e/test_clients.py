"""Clients that disappear in the middle leave nothing behind and disturb no job."""

import os
import signal
import subprocess
from pathlib import Path

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import JOBS, SOCKET, Client, eventually, main_pid, units
from tests.e2e.inside import running

pytestmark = pytest.mark.systemd


def _open_files() -> list[str]:
    """Return what the agent has open, each with its kind only."""
    directory = Path(f"/proc/{main_pid()}/fd")
    return sorted(filter(None, map(_target, directory.iterdir())))


def _target(link: Path) -> str:
    try:
        return os.readlink(link).partition("[")[0]
    except FileNotFoundError:  # closed meanwhile
        return ""


def test_a_client_that_disappears_while_a_job_is_accepted(client: Client) -> None:
    before, homes = _open_files(), set(JOBS.iterdir())
    known = set()
    for number in range(20):
        with grpc.insecure_channel(SOCKET, [("grpc.default_authority", "localhost")]) as channel:
            grpc.channel_ready_future(channel).result(timeout=10)
            run = channel.unary_unary(
                "/joblet.JobService/RunJob", pb.RunJobRequest.SerializeToString, pb.RunJobResponse.FromString
            )
            request = pb.RunJobRequest(command="echo", args=["ran"], name=f"orphan-{number}-{os.getpid()}")
            call = run.future(request, timeout=30)
            if number % 2:
                call.cancel()  # type: ignore[no-untyped-call]
    for number in range(20):
        jobs = client.by_name(f"orphan-{number}-{os.getpid()}")
        assert len(jobs) <= 1
        for job in jobs:  # it was accepted: then it ran, once and whole
            known.add(JOBS / job.uuid)
            assert client.ended(job.uuid).status == "COMPLETED"
            assert client.log(job.uuid) == b"ran\n"
    eventually(units, lambda names: not names)
    eventually(_open_files, lambda now: len(now) <= len(before))
    assert set(JOBS.iterdir()) - homes <= known


def test_a_client_that_is_killed_while_its_job_runs(client: Client) -> None:
    name = f"attached-{os.getpid()}"
    script = "echo ready; read_on=1; while [ ! -e /work/end ]; do sleep 0.05; done; echo end"
    attached = subprocess.Popen(
        ["rnx", "run", "--attach", f"--name={name}", "sh", "-c", script], stdout=subprocess.PIPE
    )
    assert attached.stdout is not None
    with attached.stdout as output:
        assert output.readline() == b"ready\n"
        attached.send_signal(signal.SIGKILL)
        attached.wait()
    (job,) = client.by_name(name)
    assert client.status(job.uuid).status == "RUNNING"
    (JOBS / job.uuid / "work" / "end").touch()
    assert client.ended(job.uuid).status == "COMPLETED"
    assert client.log(job.uuid) == b"ready\nend\n"


def test_followers_that_disappear_leave_nothing_open(client: Client) -> None:
    script = "i=0; echo ready; while [ ! -e /work/end ]; do i=$((i+1)); echo $i; sleep 0.02; done"
    with running(client, "sh", "-c", script) as job_id:
        client.log(job_id)  # whatever the first reader opens for all
        # With the control group of the job, which the first sample of its use opens until the job ends.
        before = eventually(_open_files, lambda now: any(job_id in name for name in now))
        followers = [
            subprocess.Popen(["rnx", "log", "--follow", job_id], stdout=subprocess.PIPE) for _ in range(5)
        ]
        for follower in followers:
            assert follower.stdout is not None
            with follower.stdout as output:
                assert output.readline() == b"ready\n"
                follower.send_signal(signal.SIGKILL)
                follower.wait()
        for _ in range(20):
            with grpc.insecure_channel(SOCKET, [("grpc.default_authority", "localhost")]) as channel:
                follow = channel.unary_stream(
                    "/joblet.JobService/GetJobLogs",
                    pb.GetJobLogsRequest.SerializeToString,
                    pb.DataChunk.FromString,
                )
                chunks = follow(pb.GetJobLogsRequest(uuid=job_id), timeout=30, wait_for_ready=True)
                assert next(iter(chunks)).payload.startswith(b"ready\n")

        def open_files() -> list[str]:
            # gRPC closes the socket of the last connection that broke when its next event comes.
            assert client.status(job_id).status == "RUNNING"
            return _open_files()

        eventually(open_files, lambda now: len(now) <= len(before))
        (JOBS / job_id / "work" / "end").touch()
        assert client.ended(job_id).status == "COMPLETED"
        lines = client.log(job_id).decode().split()[1:]
        assert lines == [str(number) for number in range(1, len(lines) + 1)]
