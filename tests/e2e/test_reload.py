"""Drop-in files, ``systemctl reload joblet-agent``, and what it says."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.pb import joblet_pb2_grpc as stubs
from tests.e2e.agent import DEADLINE, Client, command, eventually, kill_agent, main_pid, wait_for_agent
from tests.e2e.host import AGENT, configured, journal, refusal, rnx, rnx_json, running, shown, unit_of

pytestmark = pytest.mark.systemd

DROP_INS = Path("/etc/joblet/agent.d")
SOCKETS = """
sockets:
  operator: {path: /run/joblet/operator.sock}
  viewer: {path: /run/joblet/viewer.sock}
"""
RELOAD = ("systemctl", "reload", AGENT)


@contextmanager
def drop_in(text: str, name: str = "50-test.yml") -> Iterator[Path]:
    """Have a drop-in within the block; the agent is not told of it, but when it goes."""
    path = DROP_INS / name
    path.write_text(text, encoding="utf-8")
    try:
        yield path
    finally:
        path.unlink()
        command(*RELOAD)


def status() -> str:
    return command("systemctl", "show", "-P", "StatusText", AGENT).stdout.strip()


def told() -> list[str]:
    """What the agent has said in this life."""
    return [str(line["MESSAGE"]) for line in journal(f"_PID={main_pid()}", f"--unit={AGENT}")]


def lines_of(job_id: str) -> list[object]:
    """What the journal has of a job."""
    return [line["MESSAGE"] for line in journal(f"JOBLET_JOB_ID={job_id}")]


@contextmanager
def as_role(role: str) -> Iterator[stubs.AgentServiceStub]:
    with grpc.insecure_channel(f"unix:/run/joblet/{role}.sock") as channel:
        yield stubs.AgentServiceStub(channel)  # type: ignore[no-untyped-call]


CHANGES = """
jobs: {stop_grace: 7s, default_profile: strict, default_network: none, visibility: own}
limits: {admin: {timeout: 90s}, default: {max_tasks: 77}}
profiles: {default: false}
logs: {max_size: 4KiB, journal: false}
metrics: {interval: 1s}
networks: {publish: false, custom: false, host: admin}
uploads: {max_entries: 1}
schedules: {max_jobs: 0, max_recurring: 0}
volumes: {most: 0}
hooks: {on_failure: systemd-tmpfiles-clean.service}
viewer: {files: yes}
"""
SCRIPT = "echo ready; until [ -e /work/go ]; do sleep 0.1; done; echo more"


def test_what_a_drop_in_changes_counts_from_the_reload_on_and_what_runs_goes_on(client: Client) -> None:
    with configured(SOCKETS), running(client, SCRIPT) as goes_on, as_role("viewer") as viewer:
        agent, following = main_pid(), client.jobs.GetJobLogs(pb.GetJobLogsRequest(uuid=goes_on))
        assert next(following).payload == b"ready\n"
        eventually(lambda: lines_of(goes_on), lambda lines: "ready" in lines)
        with as_role("operator") as operator, drop_in(CHANGES):
            files, of_all = pb.DownloadJobFileRequest(uuid=goes_on), pb.QueryJobsRequest()
            assert refusal(lambda: list(viewer.DownloadJobFile(files)))[0] == "PERMISSION_DENIED"
            assert refusal(lambda: client.run("true", network="host"))[1] == "NETWORK_NOT_PERMITTED"
            assert goes_on in {job.uuid for job in operator.QueryJobs(of_all).jobs}
            command(*RELOAD)
            assert list(viewer.DownloadJobFile(files))
            assert goes_on not in {job.uuid for job in operator.QueryJobs(of_all).jobs}
            assert client.ended(client.run("true", network="host")).status == "COMPLETED"
            _new_jobs_get_the_new_values(client)
            assert _refusals(client) == [
                "PROFILE_NOT_OFFERED",
                "PUBLISH_SWITCHED_OFF",
                "NETWORKS_SWITCHED_OFF",
                "TOO_MANY_SCHEDULED",
                "TOO_MANY_SCHEDULES",
                "TOO_MANY_VOLUMES",
                "TOO_MANY_FILES",
            ]
        assert refusal(lambda: list(viewer.DownloadJobFile(files)))[0] == "PERMISSION_DENIED"
        Path(f"/var/lib/joblet/jobs/{goes_on}/work/go").touch()
        assert b"".join(chunk.payload for chunk in following) == b"more\n"
        assert client.ended(goes_on).status == "COMPLETED"
        assert main_pid() == agent


def _new_jobs_get_the_new_values(client: Client) -> None:
    with running(client, "echo ready; head -c 100000 /dev/zero; sleep 1000") as job_id:
        unit = shown(unit_of(job_id))
        assert (unit["TimeoutStopUSec"], unit["RuntimeMaxUSec"]) == ("7s", "1min 30s")
        assert unit["TasksMax"] == "77"
        assert unit["OnFailure"] == "systemd-tmpfiles-clean.service"
        job = rnx_json("status", job_id)
        assert (job["profile"], job["network"]) == ("strict", "none")
        eventually(lambda: len(client.log(job_id)), lambda size: size == 4096)
        samples = client.jobs.StreamJobMetrics(pb.StreamJobMetricsRequest(job_uuid=job_id), timeout=DEADLINE)
        assert [next(samples) for _ in range(2)]
        samples.cancel()
        assert "ready" not in lines_of(job_id)


def _refusals(client: Client) -> list[str]:
    """Why each of these is refused: reasons."""
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    entries = [pb.FileUpload(path=name, content=b"") for name in "ab"]
    calls: list[Callable[[], object]] = [
        lambda: client.run("true", profile="default"),
        lambda: client.run("true", network="bridge", ports=[pb.PublishedPort(host_port=18099)]),
        lambda: client.networks.CreateNetwork(pb.CreateNetworkRequest(name="n", cidr="10.77.0.0/24")),
        lambda: client.run("true", schedule=later),
        lambda: client.run("true", schedule="hourly"),
        lambda: client.volumes.CreateVolume(pb.CreateVolumeRequest(name="v", size="1MB", type="filesystem")),
        lambda: client.run("true", uploads=entries),
    ]
    return [refusal(call)[1] for call in calls]


def test_more_jobs_run_and_older_ones_go_as_soon_as_the_configuration_lets_them(client: Client) -> None:
    with configured("jobs: {max_concurrent: 1}\n"), running(client, "echo ready; sleep 1000"):
        waits, gone = client.run("sleep", "1000"), client.run("true")
        assert client.status(waits).status == "PENDING"
        with drop_in("jobs: {max_waiting: 1}\n"):
            command(*RELOAD)
            assert refusal(lambda: client.run("true"))[1] == "QUEUE_FULL"
        with drop_in("jobs: {max_concurrent: 3}\nretention: {keep_ended: 0}\n"):
            command(*RELOAD)
            eventually(lambda: client.status(waits).status, lambda status: status == "RUNNING")
            eventually(lambda: rnx("status", gone).returncode, lambda status: status == 1)
        client.jobs.StopJob(pb.StopJobRequest(uuid=waits), timeout=DEADLINE)
        client.ended(waits)


def test_a_wrong_drop_in_fails_the_reload_names_all_that_is_wrong_and_changes_nothing(client: Client) -> None:
    agent = main_pid()
    with (
        drop_in("jobs: {max_waiting: 0}\nlog_level: loud\n") as path,
        drop_in("listener: {prt: 7}\n", "60-test.yml") as other,
    ):
        assert command(*RELOAD, check=False).returncode == 1
        words = "\n".join(told())
        assert f"{path}:2: log_level: expected one of" in words
        assert f"{other}:1: listener.prt: unknown key, did you mean port?" in words
        assert status().endswith("the configuration cannot be used, the one before it counts")
        assert command("joblet-agent", "config", "validate", check=False).returncode == 78
        path.write_text("")
        other.write_text("")
    assert status() == "serving on /run/joblet/agent.sock"
    assert (client.ended(client.run("true")).status, main_pid()) == ("COMPLETED", agent)


def test_what_needs_a_restart_is_named_until_there_is_one(client: Client) -> None:
    wanted = "jobs: {start_parallelism: 7}\nlog_level: debug\nhooks: {on_failure: nothere.service}\n"
    with drop_in(wanted) as path:
        command(*RELOAD)
        assert "needs a restart (systemctl restart joblet-agent): jobs.start_parallelism: 24 → 7" in told()
        assert any("systemd has no usable unit nothere.service" in line for line in told())
        assert status() == "serving on /run/joblet/agent.sock; needs a restart: jobs.start_parallelism"
        told_of = command("joblet-agent", "config", "show", "--origin").stdout
        assert f"  start_parallelism: 7  # {path}:1\n" in told_of
        path.write_text("jobs: {start_parallelism: 7}\nlog_level: error\n")
        os.kill(main_pid(), signal.SIGHUP)
        eventually(told, lambda lines: any("log_level: debug → error" in line for line in lines))
        lines = len(told())
        command(*RELOAD)
        assert told()[lines:] == []  # nothing of it is an error
        command("systemctl", "restart", AGENT)
        assert status() == "serving on /run/joblet/agent.sock"


def test_an_agent_that_is_killed_during_a_reload_comes_back_with_the_new_configuration(
    client: Client,
) -> None:
    with running(client, "echo ready; sleep 1000") as job_id, drop_in("jobs: {stop_grace: 7s}\n"):
        agent = main_pid()
        os.kill(agent, signal.SIGSTOP)
        reload = subprocess.Popen(RELOAD, stderr=subprocess.DEVNULL)
        eventually(lambda: shown(AGENT)["ActiveState"], lambda state: state == "reloading")
        kill_agent()
        assert reload.wait(DEADLINE) == 1
        wait_for_agent(client)
        assert main_pid() != agent
        assert client.status(job_id).status == "RUNNING"
        with running(client, "echo ready; sleep 1000") as later:
            assert shown(unit_of(later))["TimeoutStopUSec"] == "7s"
