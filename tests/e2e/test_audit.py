"""Who did what, as the journal tells it afterwards."""

import json
import time
import uuid
from datetime import UTC, datetime, timedelta

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import DEADLINE, Client, command, eventually
from tests.e2e.execs import STDIN_END, execute, stdin

pytestmark = pytest.mark.systemd

Record = dict[str, str]


@pytest.fixture(name="since")
def _since() -> int:
    """Now, in microseconds. No cursor: with matches, ``--after-cursor`` passes over the first of them."""
    return time.time_ns() // 1000


def audited(since: int, *matches: str) -> list[Record]:
    """Return the audit records of the agent, and of nobody else, from then on."""
    command("journalctl", "--sync")
    words = (
        "journalctl",
        "-o",
        "json",
        f"--since=@{since // 1_000_000}",
        "_SYSTEMD_UNIT=joblet-agent.service",
    )
    told = command(*words, "JOBLET_EVENT=audit", *matches, check=False).stdout
    records: list[Record] = [json.loads(line) for line in told.splitlines()]
    return [record for record in records if int(record["__REALTIME_TIMESTAMP"]) >= since]


def results(records: list[Record]) -> list[tuple[str | None, ...]]:
    return [tuple(one.get(f"JOBLET_{name}") for name in ("RPC", "RESULT", "REASON")) for one in records]


def test_the_life_of_a_job_is_in_the_trail_and_no_secret_is(client: Client, since: int) -> None:
    secret = uuid.uuid4().hex
    job_id = client.run(
        "sh",
        "-c",
        f": {secret}; exec sleep 1000",
        secret_environment={"TOKEN": secret},
        name="quiet",
    )
    client.jobs.StopJob(pb.StopJobRequest(uuid=job_id, force=True), timeout=DEADLINE)
    client.jobs.DeleteJob(pb.DeleteJobRequest(uuid=job_id), timeout=DEADLINE)
    records = audited(since, f"JOBLET_JOB_ID={job_id}")
    assert results(records) == [
        ("JobService/RunJob", "done", None),
        ("JobService/StopJob", "done", None),
        ("JobService/DeleteJob", "done", None),
    ]
    for record in records:
        assert (record["JOBLET_CALLER"], record["JOBLET_ROLE"]) == ("local", "admin")
        assert record["JOBLET_ADDRESS"].startswith("unix")
        assert secret not in json.dumps(record)
    assert records[0]["JOBLET_COMMAND"] == "sh"
    assert f'JobService/RunJob: done, job "{job_id}"' in records[0]["MESSAGE"]
    assert records[0]["MESSAGE"] in command("journalctl", "-o", "cat", "-u", f"joblet-job-{job_id}").stdout


def test_hostile_texts_of_a_request_forge_nothing(client: Client, since: int) -> None:
    hostile = "7f3a\nJOBLET_CALLER=root\nMESSAGE=all is well\x1b[2J\u202e"
    with pytest.raises(grpc.RpcError):
        client.jobs.StopJob(pb.StopJobRequest(uuid=hostile), timeout=DEADLINE)
    (record,) = audited(since)
    assert (record["JOBLET_CALLER"], record["JOBLET_RESULT"]) == ("local", "failed")
    assert record["MESSAGE"].startswith('audit: "local"')
    assert record["JOBLET_JOB_ID"] == "7f3a\\nJOBLET_CALLER=root\\nMESSAGE=all is well\\x1b[2J\\u202e"


def test_an_exec_is_recorded_when_it_begins_and_when_it_ends(client: Client, since: int) -> None:
    job_id = client.run("sleep", "1000")
    execute(client, job_id, "true", given=(stdin(b"a-secret-input"), STDIN_END), stdin=True)
    records = audited(since, f"JOBLET_JOB_ID={job_id}", "JOBLET_RPC=AgentService/ExecInJob")
    assert [record["JOBLET_RESULT"] for record in records] == ["begun", "done"]
    assert "a-secret-input" not in json.dumps(records)
    client.jobs.StopJob(pb.StopJobRequest(uuid=job_id, force=True), timeout=DEADLINE)


def test_a_scheduled_start_names_who_asked_for_it(client: Client, since: int) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1)
    job_id = client.run("true", schedule=soon.isoformat())
    client.ended(job_id)
    records = audited(since, f"JOBLET_JOB_ID={job_id}")
    assert results(records) == [("JobService/RunJob", "done", None), ("timer", "done", None)]
    assert records[1]["JOBLET_CALLER"] == "local"


def test_a_journal_that_stands_still_fails_and_delays_no_call(client: Client, since: int) -> None:
    journald = "systemd-journald.service"
    command("systemctl", "kill", "--signal=STOP", "--kill-whom=main", journald)
    try:
        for _ in range(600):  # more than its socket takes
            with pytest.raises(grpc.RpcError) as error:
                client.jobs.StopJob(pb.StopJobRequest(uuid="0" * 8), timeout=DEADLINE)
            assert error.value.code() is grpc.StatusCode.NOT_FOUND
    finally:
        command("systemctl", "kill", "--signal=CONT", "--kill-whom=main", journald)
    eventually(lambda: len(audited(since)), lambda count: count == 600)


def test_the_output_of_jobs_takes_no_record_away(client: Client, since: int) -> None:
    settings = command(
        "systemctl", "show", "joblet-agent", "-P", "LogRateLimitIntervalUSec", "-P", "LogRateLimitBurst"
    )
    assert settings.stdout.split() == ["1s", "1000000"]
    floods = [client.run("sh", "-c", "yes | head -n 3000") for _ in range(8)]  # journald's own limit: 10000
    for job_id in floods:
        client.ended(job_id)

    def copied() -> int:
        words = ("journalctl", "-q", "-o", "cat", "-g", "^y$", f"--since=@{since // 1_000_000}")
        return command(*words, "_SYSTEMD_UNIT=joblet-agent.service").stdout.count("\n")

    eventually(copied, lambda count: count > 12_000)
    client.jobs.DeleteJob(pb.DeleteJobRequest(uuid=floods[0]), timeout=DEADLINE)
    # Behind the lines that are still on their way.
    eventually(lambda: audited(since, "JOBLET_RPC=JobService/DeleteJob"), lambda records: len(records) == 1)
