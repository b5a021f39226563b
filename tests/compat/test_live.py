"""Published clients run jobs on a live agent, over its local socket.

The agent is the installed package in a machine of each release; a client is a process of this host, which
reaches the machine's socket through /proc. The clients' own way to connect (`JobletClient`) knows TCP with
certificates only, see test_network.py; their helper classes take any channel.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.compat.client import CallFailed, PublishedClient
from tests.testbed import Machine

pytestmark = pytest.mark.compat

NEWEST, OLDER = "2.5.2", "2.2.0"
WAITING = ["-c", "echo out; echo err >&2; sleep 1000"]


@pytest.fixture
def target(machine: Machine) -> str:
    """The gRPC target of the machine's agent."""
    return f"unix:/proc/{machine.leader_pid}/root/run/joblet/agent.sock"


@pytest.fixture(params=[NEWEST, OLDER])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(version: str, target: str) -> Iterator[PublishedClient]:
    with PublishedClient(version, target) as client:
        yield client


@pytest.fixture
def follower(version: str, target: str) -> Iterator[PublishedClient]:
    """A second connection, as one follows a log while doing something else."""
    with PublishedClient(version, target) as client:
        yield client


def run(client: PublishedClient, command: str, *args: str, **fields: object) -> str:
    """Run a job through the stubs, and return its id."""
    reply = client.stub("JobService/RunJob", command=command, args=args, **fields)
    assert reply["status"] in {"RUNNING", "COMPLETED", "FAILED"}
    return str(reply["jobuuid"])


def read_until(payloads: Iterator[str], expected: str) -> None:
    """Take chunks until they make up the text, wherever it was cut."""
    received = ""
    while received != expected:
        received += next(payloads)
        assert expected.startswith(received)


def test_stubs_follow_and_stop_a_running_job(client: PublishedClient, follower: PublishedClient) -> None:
    job_id = run(client, "sh", *WAITING)
    chunks = (chunk["payload"] for chunk in follower.stream("JobService/GetJobLogs", uuid=job_id))
    read_until(chunks, "out\nerr\n")
    assert client.stub("JobService/GetJobStatus", uuid=job_id)["status"] == "RUNNING"

    stopped = client.stub("JobService/StopJob", uuid=job_id)
    assert (stopped["uuid"], stopped["status"], stopped["exitcode"]) == (job_id, "STOPPED", -1)
    assert stopped["endtime"].endswith("Z")
    assert list(chunks) == []  # and the stream has ended, well


def test_stubs_read_results(client: PublishedClient) -> None:
    job_id = run(client, "sh", "-c", 'printf %s "$GREETING"; exit 7', environment={"GREETING": "héllo\n"})
    payload = "".join(chunk["payload"] for chunk in client.stream("JobService/GetJobLogs", uuid=job_id))
    assert payload.encode("latin-1").decode() == "héllo\n"

    status = client.stub("JobService/GetJobStatus", uuid=job_id)
    assert (status["uuid"], status["status"], status["exitcode"]) == (job_id, "FAILED", 7)
    assert (status["command"], status["environment"]) == ("sh", {"GREETING": "héllo\n"})
    assert (status["network"], status["workdir"]) == ("bridge", "/work")
    assert status["starttime"] <= status["endtime"]
    assert client.stub("JobService/GetJobStatus", uuid=job_id[:13])["uuid"] == job_id

    (row,) = [row for row in client.stub("JobService/ListJobs")["jobs"] if row["uuid"] == job_id]
    assert (row["status"], row["exitcode"], row["endtime"]) == ("FAILED", 7, status["endtime"])


def test_stubs_delete(client: PublishedClient) -> None:
    job_id = run(client, "sh", *WAITING)
    with pytest.raises(CallFailed, match=r"FAILED_PRECONDITION: cannot delete job .*: it is RUNNING"):
        client.stub("JobService/DeleteJob", uuid=job_id)
    client.stub("JobService/StopJob", uuid=job_id)
    assert client.stub("JobService/DeleteJob", uuid=job_id)["success"] is True
    with pytest.raises(CallFailed, match=f"NOT_FOUND: no job with id {job_id}"):
        client.stub("JobService/GetJobStatus", uuid=job_id)
    with pytest.raises(CallFailed, match=f"NOT_FOUND: no job with id {job_id}"):
        list(client.stream("JobService/GetJobLogs", uuid=job_id))


def test_stubs_delete_all(client: PublishedClient) -> None:
    running, ended = run(client, "sh", *WAITING), run(client, "true")
    assert list(client.stream("JobService/GetJobLogs", uuid=ended)) == []
    reply = client.stub("JobService/DeleteAllJobs")
    assert (reply["success"], reply["skippedcount"]) == (True, 1)
    assert reply["deletedcount"] >= 1
    assert [row["uuid"] for row in client.stub("JobService/ListJobs")["jobs"]] == [running]
    client.stub("JobService/StopJob", uuid=running)


@pytest.mark.parametrize(
    ("request_fields", "end", "text"),
    [
        pytest.param({}, "INVALID_ARGUMENT", "cannot run job: command is required", id="no command"),
        pytest.param(
            {"command": "true", "network": "nowhere"},
            "INVALID_ARGUMENT",
            "cannot run job: there is no network 'nowhere'",
            id="network",
        ),
        pytest.param(
            {"command": "true", "maxmemory": 64},
            "UNIMPLEMENTED",
            "--max-memory would have no effect: this host has no cgroup controller memory",
            id="limit",
        ),
    ],
)
def test_stubs_are_refused_what_cannot_be_done(
    client: PublishedClient, request_fields: dict[str, object], end: str, text: str
) -> None:
    with pytest.raises(CallFailed) as refused:
        client.stub("JobService/RunJob", **request_fields)
    assert refused.value.end == end
    assert text in refused.value.text


def test_stubs_of_other_services_are_refused(client: PublishedClient) -> None:
    with pytest.raises(CallFailed, match=r"UNIMPLEMENTED: .* this agent does not offer monitoring yet"):
        client.stub("MonitoringService/GetSystemStatus")


def test_helpers_of_older_client(target: str) -> None:
    with PublishedClient(OLDER, target) as client, PublishedClient(OLDER, target) as follower:
        started = client.helper("run_job", command="sh", args=WAITING, name="named")
        job_id = started["job_uuid"]
        assert (started["status"], started["command"], started["args"]) == ("RUNNING", "sh", WAITING)
        assert (started["start_time"][-1:], started["end_time"], started["exit_code"]) == ("Z", "", 0)
        read_until(chunks := follower.iterate("get_job_logs", job_uuid=job_id), "out\nerr\n")
        (row,) = [row for row in client.helper("list_jobs") if row["uuid"] == job_id]
        assert (row["status"], row["name"], row["command"]) == ("RUNNING", "named", "sh")

        stopped = client.helper("stop_job", job_uuid=job_id)
        assert (stopped["status"], stopped["exit_code"]) == ("STOPPED", -1)
        assert list(chunks) == []
        status = client.helper("get_job_status", job_uuid=job_id)
        assert (status["status"], status["end_time"]) == ("STOPPED", stopped["end_time"])
        assert (status["name"], status["args"]) == ("named", WAITING)

        with pytest.raises(CallFailed, match=r"JobNotFoundError: .*: it is STOPPED, not waiting"):
            client.helper("cancel_job", job_uuid=job_id)
        assert client.helper("delete_job", job_uuid=job_id)["success"] is True
        with pytest.raises(CallFailed, match=f"JobNotFoundError: .*no job with id {job_id}"):
            client.helper("get_job_status", job_uuid=job_id)
        assert client.helper("delete_all_jobs")["success"] is True


def test_helpers_of_newest_client(target: str) -> None:
    """Those that read what its own definition has.

    Its run_job(), get_job_status() and list_jobs() read fields that the definition dropped, so they fail on
    the client's side, after a call that went well.
    """
    with PublishedClient(NEWEST, target) as client:
        with pytest.raises(CallFailed, match="AttributeError"):
            client.helper("run_job", command="sh", args=WAITING)
        jobs = client.stub("JobService/ListJobs")["jobs"]
        (job_id,) = [row["uuid"] for row in jobs if row["status"] == "RUNNING"]
        read_until(client.iterate("get_job_logs", job_uuid=job_id), "out\nerr\n")
    with PublishedClient(NEWEST, target) as client:  # the last one is still following
        assert client.helper("stop_job", job_uuid=job_id)["status"] == "STOPPED"
        assert "".join(client.iterate("get_job_logs", job_uuid=job_id)) == "out\nerr\n"
        assert client.helper("delete_job", job_uuid=job_id)["success"] is True
        with pytest.raises(CallFailed, match=f"no job with id {job_id}"):
            client.helper("stop_job", job_uuid=job_id)
        assert client.helper("delete_all_jobs")["success"] is True
