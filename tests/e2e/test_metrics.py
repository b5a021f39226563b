"""What jobs use: sampled, followed, kept, and summed up however they end."""

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import DEADLINE, JOBS, Client, agent_stopped, eventually, kill_agent, persist
from tests.e2e.host import configured, journal, refusal, rnx, rnx_json, running
from tests.e2e.inside import probe

pytestmark = pytest.mark.systemd

BUSY = "echo ready; while :; do :; done"
IDLE = "echo ready; exec sleep 1000"


@pytest.fixture(scope="module", autouse=True)
def sampled_each_second() -> Iterator[None]:
    with configured("metrics:\n  interval: 1s\n"):
        yield


def samples(client: Client, job_id: str, **query: Any) -> list[pb.JobMetricsEvent]:
    request = pb.GetJobMetricsRequest(job_uuid=job_id, **query)
    return persist(lambda: list(client.jobs.GetJobMetrics(request, timeout=60, wait_for_ready=True)))


def test_a_busy_job_is_sampled_until_it_ends(client: Client) -> None:
    with running(client, BUSY) as job_id:
        stream = client.jobs.StreamJobMetrics(pb.StreamJobMetricsRequest(job_uuid=job_id[:8]), timeout=60)
        live = [next(stream), next(stream)]
        client.jobs.StopJob(pb.StopJobRequest(uuid=job_id), timeout=DEADLINE)
        live += list(stream)
    stored = samples(client, job_id)
    assert stored[-len(live) :] == live
    times = [event.timestamp for event in stored]
    assert times == sorted(set(times))
    assert {event.job_uuid for event in stored} == {job_id}
    assert live[1].cpu_percent > 0
    assert live[1].cpu_usec > live[0].cpu_usec
    usage = client.status(job_id).usage
    assert (usage.cpu_usec, usage.partial) == (stored[-1].cpu_usec, False)
    assert samples(client, job_id, start_time=times[1], limit=1) == stored[1:2]
    assert samples(client, job_id, follow=True) == stored
    assert list(client.jobs.StreamJobMetrics(pb.StreamJobMetricsRequest(job_uuid=job_id), timeout=60)) == []


def test_the_status_of_a_running_job_tells_what_it_uses_now(client: Client) -> None:
    with configured("metrics:\n  enabled: false\n"), running(client, BUSY) as job_id:
        before = client.status(job_id)
        assert not before.HasField("usage")
        later = eventually(
            lambda: client.status(job_id).metrics, lambda now: now.cpu_usec > before.metrics.cpu_usec
        )
        assert later.job_uuid == job_id
        assert later.cpu_percent > 0
        assert rnx_json("status", job_id, "--json")["metrics"]["cpuUsec"] >= later.cpu_usec
        assert b"Resource Usage:\n  CPU Time: " in rnx("status", job_id).stdout
        client.jobs.StopJob(pb.StopJobRequest(uuid=job_id), timeout=DEADLINE)
    ended = client.ended(job_id)
    assert (ended.HasField("metrics"), ended.HasField("usage")) == (False, True)


ENDS: dict[str, Callable[[Client], str]] = {
    "at once": lambda client: client.run("true"),
    "with a status": lambda client: client.run("sh", "-c", "exit 3"),
    "by a signal": lambda client: client.run("sh", "-c", "kill -9 $$"),
    "not found": lambda client: client.run("no-such-program"),
    "after its children": lambda client: client.run("sh", "-c", "sleep 1000 & exit 0"),
}


@pytest.mark.parametrize("end", ENDS)
def test_final_figures_are_there_however_a_job_ends(client: Client, end: str) -> None:
    job_id = ENDS[end](client)
    status = client.ended(job_id)
    assert status.usage.cpu_usec > 0
    assert not status.usage.partial
    (record,) = eventually(lambda: journal("JOBLET_EVENT=ended", f"JOBLET_JOB_ID={job_id}"), bool)
    assert int(record["JOBLET_CPU_USEC"]) == status.usage.cpu_usec


def test_a_stopped_job_has_final_figures(client: Client) -> None:
    with running(client, IDLE) as job_id:
        client.jobs.StopJob(pb.StopJobRequest(uuid=job_id), timeout=DEADLINE)
    status = client.ended(job_id)
    assert (status.status, status.usage.partial, status.usage.cpu_usec > 0) == ("STOPPED", False, True)


def test_of_a_killed_job_there_are_the_figures_of_systemd(client: Client) -> None:
    with running(client, IDLE) as job_id:
        client.jobs.StopJob(pb.StopJobRequest(uuid=job_id, force=True), timeout=DEADLINE)
    usage = client.ended(job_id).usage
    assert (usage.partial, usage.cpu_usec > 0) == (True, True)


def test_figures_survive_an_agent_that_was_away(client: Client) -> None:
    with running(client, IDLE) as job_id:
        first = eventually(lambda: samples(client, job_id), bool)
        kill_agent()
        both = eventually(lambda: samples(client, job_id), lambda found: len(found) > len(first))
        assert both[: len(first)] == first
        with agent_stopped():
            end_from_inside(job_id)
        status = client.ended(job_id)
    assert (status.status, status.usage.partial) == ("FAILED", False)
    assert status.usage.cpu_usec >= both[-1].cpu_usec
    client.jobs.DeleteJob(pb.DeleteJobRequest(uuid=job_id), timeout=DEADLINE)
    assert not (JOBS / job_id).exists()


def end_from_inside(job_id: str) -> None:
    """End the command alone, as if by itself, while nobody looks."""
    words = ["pkill", "-KILL", "-x", "sleep", "--cgroup"]
    group = f"/joblet.slice/joblet-jobs.slice/joblet-job-{job_id}.service"
    subprocess.run([*words, group], check=True, timeout=30)


def test_unknown_jobs_are_not_found(client: Client) -> None:
    wrong = "ffffffff-0000-4000-8000-000000000000"
    calls = [
        lambda: list(client.jobs.GetJobMetrics(pb.GetJobMetricsRequest(job_uuid=wrong), timeout=60)),
        lambda: list(client.jobs.StreamJobMetrics(pb.StreamJobMetricsRequest(job_uuid=wrong), timeout=60)),
        lambda: client.agent.GetRunningMetrics(pb.GetRunningMetricsRequest(job_uuids=[wrong]), timeout=60),
    ]
    assert {refusal(call) for call in calls} == {("NOT_FOUND", "JOB_NOT_FOUND")}


def test_the_command_line_shows_samples_and_the_table(client: Client) -> None:
    with running(client, BUSY) as job_id:
        eventually(lambda: samples(client, job_id), bool)
        (row,) = rnx_json("job", "top", job_id)
        assert row["id"] == job_id
        assert row["cpu_percent"] > 0
        assert job_id in rnx("job", "top").stdout.decode()
        shown = rnx("job", "metrics", "--no-follow", job_id).stdout.decode()
        assert shown.startswith("═══ Metrics Sample at ")
    client.ended(job_id)
    assert rnx_json("job", "top") == []
    assert rnx("job", "metrics", "--json", job_id).stdout.count(b'"timestamp"') == len(
        samples(client, job_id)
    )
    assert b"Resource Usage:\n  CPU Time: " in rnx("status", job_id).stdout
    never = client.run("true", work_dir="/work/missing")
    client.ended(never)
    nothing = rnx("job", "metrics", never)
    assert nothing.returncode == 1
    assert nothing.stderr.startswith(f"rnx: no metrics available for job {never}".encode())


MOUNTS = """
import json, os
print(json.dumps([open("/proc/self/mountinfo").read(), os.listdir("/mnt"), os.path.ismount("/mnt")]))
"""


def test_a_job_does_not_see_its_control_group(client: Client) -> None:
    """Which the launcher has below /mnt, for the final figures."""
    mounts, entries, is_mount = probe(client, MOUNTS)
    assert "cgroup" not in mounts
    assert (entries, is_mount) == ([], False)


def test_switched_off_no_samples_are_taken(client: Client) -> None:
    with configured("metrics:\n  enabled: false\n"):
        with running(client, IDLE) as job_id:
            stream = pb.StreamJobMetricsRequest(job_uuid=job_id)
            reason = refusal(lambda: list(client.jobs.StreamJobMetrics(stream, timeout=60)))
            assert reason == ("FAILED_PRECONDITION", "METRICS_DISABLED")
            client.jobs.StopJob(pb.StopJobRequest(uuid=job_id), timeout=DEADLINE)
        assert client.ended(job_id).usage.cpu_usec > 0
    assert json.loads(rnx("job", "top", "--json").stdout) == []
