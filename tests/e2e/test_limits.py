"""Limits as far as a container without cgroup controllers shows them; see also tests/vm/test_limits.py."""

from pathlib import Path

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import Client, command
from tests.e2e.host import configured, rnx, rnx_json

pytestmark = [pytest.mark.systemd, pytest.mark.both]

HAS_CONTROLLERS = "memory" in Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()
ACCEPT = "limits:\n  unenforced: accept\n"


def shown(job_id: str, *names: str) -> list[str]:
    words = [f"--property={name}" for name in names]
    return sorted(command("systemctl", "show", f"joblet-job-{job_id}.service", *words).stdout.split())


def update(client: Client, job_id: str, **limits: object) -> pb.UpdateJobResponse:
    request = pb.UpdateJobRequest(uuid=job_id, **limits)  # type: ignore[arg-type]
    reply: pb.UpdateJobResponse = client.agent.UpdateJob(request, timeout=30)
    return reply


@pytest.mark.parametrize("trap", ["", "trap 'exit 0' TERM; "])
def test_r9_a_job_over_its_time_limit_is_stopped_and_says_so(client: Client, trap: str) -> None:
    done = client.ended(client.run("sh", "-c", f"{trap}while :; do sleep 0.1; done", timeout="1s"))
    assert (done.status, done.reason, done.message) == ("FAILED", "timeout", "timed out after 1s")
    assert done.timeout == "1s"


def test_a_job_within_its_time_limit_does_not_notice(client: Client) -> None:
    done = client.ended(client.run("true", timeout="1h"))
    assert (done.status, done.reason, done.timeout) == ("COMPLETED", "", "1h")


def test_a_job_is_nice(client: Client) -> None:
    job = client.run("sh", "-c", "nice", nice=7)
    client.ended(job)
    assert client.log(job) == b"7\n"


@pytest.mark.skipif(HAS_CONTROLLERS, reason="this machine enforces limits")
def test_a_limit_without_effect_is_refused_by_name(client: Client) -> None:
    for fields, option in (({"max_cpu": 50}, "--max-cpu"), ({"max_memory": 64}, "--max-memory")):
        with pytest.raises(grpc.RpcError) as caught:
            client.run("true", **fields)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert f"{option} would have no effect: this host has no cgroup controller" in str(
            caught.value.details()
        )
    assert "--max-memory" in rnx_json("monitor", "status")["unenforced"]


def test_limits_are_properties_of_the_unit_and_change_with_it(client: Client) -> None:
    with configured(ACCEPT):
        job = client.run(
            "sleep", "1000", max_cpu=50, max_memory=64, cpu_cores="0", max_tasks=50, cpu_weight=7
        )
        names = ("CPUQuotaPerSecUSec", "MemoryMax", "MemorySwapMax", "AllowedCPUs", "TasksMax", "CPUWeight")
        assert shown(job, *names) == [
            "AllowedCPUs=0",
            "CPUQuotaPerSecUSec=500ms",
            "CPUWeight=7",
            "MemoryMax=67108864",
            "MemorySwapMax=0",
            "TasksMax=50",
        ]
        reply = update(client, job, max_cpu=100, max_memory=0, cpu_cores="", max_tasks=0, cpu_weight=0)
        assert reply.limits == pb.Limits(max_cpu=100, max_tasks=4096)
        assert shown(job, *names) == [
            "AllowedCPUs=",
            "CPUQuotaPerSecUSec=1s",
            "CPUWeight=[not",
            "MemoryMax=infinity",
            "MemorySwapMax=infinity",
            "TasksMax=4096",
            "set]",
        ]
        status = client.status(job)
        assert (status.max_cpu, status.max_memory, status.max_tasks) == (100, 0, 4096)
        with pytest.raises(grpc.RpcError) as caught:
            update(client, job, timeout="5s")
        assert "--timeout cannot change once the job runs" in str(caught.value.details())
        client.jobs.StopJob(pb.StopJobRequest(uuid=job, force=True))


def test_limits_of_a_job_that_waits_can_change_and_are_kept(client: Client) -> None:
    with configured("jobs:\n  max_concurrent: 1\n"):
        first = client.run("sleep", "1000")
        second = client.run("sh", "-c", "nice; sleep 1000", nice=3)
        assert client.status(second).queue_position == 1
        update(client, second, nice=5, timeout="1s")
        client.jobs.StopJob(pb.StopJobRequest(uuid=first, force=True))
        done = client.ended(second)
        assert (done.reason, done.message, client.log(second)) == ("timeout", "timed out after 1s", b"5\n")


def test_maxima_of_a_role_bind_its_jobs(client: Client) -> None:
    with configured("limits:\n  admin:\n    timeout: 1m\n  default:\n    timeout: 1h\n"):
        done = rnx("run", "--timeout=2m", "true")
        assert done.returncode == 1
        assert b"--timeout is 2m, the maximum of role admin is 1m (limits.admin.timeout)" in done.stderr
        assert client.ended(client.run("true")).timeout == "1m"


def test_the_node_tells_its_limits(client: Client) -> None:
    command("systemctl", "set-property", "--runtime", "joblet-jobs.slice", "TasksMax=5000")
    try:
        node = rnx_json("monitor", "status")
        assert node["ceilings"] == {"TasksMax": "5000"}
        assert node["jobs"]["running"] == 0
        assert node["defaults"] == {"maxTasks": 4096}
    finally:
        command("systemctl", "revert", "joblet-jobs.slice")
