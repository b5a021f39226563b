"""Whatever is in the state directory, and however full its disk: attack cases R4, R5 and R12."""

import asyncio
import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from joblet_agent.model.job import JobRecord, JobSpec, JobState, Outcome, Reason, new_job_id
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.store import SqliteJobStore
from tests.e2e.agent import Client, agent_stopped, command, eventually, units, wait_for_agent
from tests.e2e.host import AGENT, STATE, configured, in_parallel, journal, refusal, rnx_json
from tests.sizes import size

pytestmark = pytest.mark.systemd

COPIES = 4
OLD, FAILURES = 10_000, size(100, 1000)
# The agent's unit may write nowhere else than below its state directory.
SCRATCH = STATE / "scratch"


@contextmanager
def _scratch(text: str = "") -> Iterator[Path]:
    """Let the agent run on a state directory of its own."""
    SCRATCH.mkdir(mode=0o700)
    try:
        with configured(f"state_dir: {SCRATCH}\n{text}"):
            yield SCRATCH
    finally:
        shutil.rmtree(SCRATCH)


def _restart(client: Client) -> None:
    command("systemctl", "restart", AGENT)
    wait_for_agent(client)


def _works(client: Client) -> None:
    wait_for_agent(client)
    job_id = client.run("sh", "-c", "echo works; exit 5")
    assert client.ended(job_id).exit_code == 5
    assert client.log(job_id) == b"works\n"


def test_r4_a_copy_of_the_state_of_any_moment_is_good_to_start_from(client: Client) -> None:
    copies = [STATE / f"copy-{number}" for number in range(COPIES)]
    try:
        jobs = [f"seq 1 {number}; sleep 0.{number % 4}; exit {number % 3}" for number in range(48)]
        ids = []
        for number, script in enumerate(jobs):
            ids.append(client.run("sh", "-c", script))
            if number % 12 == 11:
                time.sleep(random.random() * 0.1)
                # What a power cut leaves: files as they are at that moment, one later than the other.
                shutil.copytree(
                    STATE, copies[number // 12], ignore=shutil.ignore_patterns("copy-*", "work", "trash")
                )
        for job_id in ids:
            client.ended(job_id)
        with _scratch():
            for copy in copies:
                with agent_stopped():
                    shutil.rmtree(SCRATCH)
                    copy.rename(SCRATCH)
                _works(client)
                eventually(lambda: _unfinished(client), lambda jobs: not jobs)
    finally:
        for copy in copies:
            shutil.rmtree(copy, ignore_errors=True)


def _unfinished(client: Client) -> list[str]:
    states = ["PENDING", "INITIALIZING", "RUNNING", "STOPPING"]
    return [job.uuid for job in client.agent.QueryJobs(pb.QueryJobsRequest(states=states), timeout=30).jobs]


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "text": lambda _: b"this is no database\n" * 500,
    "cut": lambda content: content[: 4096 * 2 + 100],
    "holes": lambda content: content[:100] + bytes(len(content) - 100),
}


@pytest.mark.parametrize("how", BROKEN)
def test_r4_a_broken_database_is_set_aside(client: Client, how: str) -> None:
    with _scratch() as state:
        _works(client)
        with agent_stopped():
            broken = BROKEN[how]((state / "state.db").read_bytes())
            (state / "state.db").write_bytes(broken)
        wait_for_agent(client)
        assert rnx_json("list") == []
        _works(client)
        (aside,) = state.glob("state.db.broken-*Z")
        assert aside.read_bytes() == broken
        told = [record["MESSAGE"] for record in journal("-u", AGENT, "--since=-1min", "--priority=err")]
        assert any(str(aside) in text and "is broken" in text for text in told)


def test_r4_one_broken_record_does_not_hide_the_others(client: Client) -> None:
    with _scratch() as state:
        _works(client)
        broken = client.run("true")
        client.ended(broken)
        with agent_stopped(), closing(sqlite3.connect(state / "state.db")) as database, database:
            database.execute("UPDATE jobs SET record = ? WHERE id = ?", (b"{not json", broken))
        wait_for_agent(client)
        assert [job["status"] for job in rnx_json("list")] == ["FAILED"]
        assert refusal(lambda: client.status(broken)) == ("NOT_FOUND", "JOB_NOT_FOUND")


def test_r5_the_database_of_a_newer_agent_is_refused_and_kept(client: Client) -> None:
    with _scratch() as state:
        _works(client)
        command("systemctl", "stop", AGENT)
        with closing(sqlite3.connect(state / "state.db")) as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            database.execute("PRAGMA user_version = 999")
        kept = (state / "state.db").read_bytes()
        refused = command("joblet-agent", check=False)
        assert refused.returncode == 78  # systemd does not try it again
        assert "joblet-agent: cannot open the state database" in refused.stderr
        assert "newer" in refused.stderr
        assert (state / "state.db").read_bytes() == kept
        assert list(state.glob("*.broken-*")) == []
        with closing(sqlite3.connect(state / "state.db")) as database:
            database.execute(f"PRAGMA user_version = {version}")
        _restart(client)
        assert [job["exit_code"] for job in rnx_json("list")] == [5]


def _ended_jobs(count: int) -> list[JobRecord]:
    now = datetime.now(UTC) - timedelta(hours=1)
    first = JobRecord(
        id=new_job_id(),
        spec=JobSpec("false"),
        state=JobState.FAILED,
        created_at=now,
        started_at=now,
        ended_at=now,
        outcome=Outcome(JobState.FAILED, Reason.EXIT_CODE, 1, 0, "exited with status 1"),
    )
    times = [now + timedelta(milliseconds=number) for number in range(count)]
    return [replace(first, id=new_job_id(), created_at=t, started_at=t, ended_at=t) for t in times]


async def _insert(database: Path, records: list[JobRecord]) -> None:
    store = await SqliteJobStore.open(database)
    await store.save(*records)
    await store.close()


@pytest.mark.soak
def test_r12_ten_thousand_ended_jobs_and_failures_beside_them(client: Client) -> None:
    beyond = 50  # so few that they may stay until the next start
    with _scratch(f"retention:\n  keep_ended: {OLD + FAILURES - beyond}\n") as state:
        old = _ended_jobs(OLD)
        with agent_stopped():
            asyncio.run(_insert(state / "state.db", old))
        codes = [number % 255 + 1 for number in range(FAILURES)]
        new = in_parallel(lambda code: client.run("sh", "-c", f"exit {code}"), codes)
        assert [client.ended(job_id).exit_code for job_id in new] == codes
        eventually(units, lambda names: not names)
        assert len(rnx_json("list")) == OLD + FAILURES
        assert client.status(old[7777].id).exit_code == 1
        _restart(client)
        listed = {job["id"] for job in rnx_json("list")}
        assert listed == set(new) | {record.id for record in old[beyond:]}
        _works(client)


def test_r11_a_full_disk_refuses_jobs_and_ends_none(client: Client) -> None:
    SCRATCH.mkdir(mode=0o700)
    command("mount", "-t", "tmpfs", "-o", "size=8M,mode=0700", "joblet-test", str(SCRATCH))
    try:
        with configured(f"state_dir: {SCRATCH}\n"):
            _fill_and_free(client)
    finally:
        command("umount", str(SCRATCH))
        SCRATCH.rmdir()


def _fill_and_free(client: Client) -> None:
    job_id = client.run("sh", "-c", "echo before; while [ ! -e go ]; do sleep 0.02; done; echo lost; exit 9")
    eventually(lambda: client.log(job_id), lambda log: log == b"before\n")
    ballast = SCRATCH / "ballast"
    command("dd", "if=/dev/zero", f"of={ballast}", "bs=4096", check=False)
    accepted, refused = _until_refused(client)
    assert refused == ("INTERNAL", "STORE_FULL")
    assert client.status(job_id).status == "RUNNING"
    before = client.log(job_id)
    (SCRATCH / "jobs" / job_id / "work" / "go").touch()
    eventually(units, lambda names: len(names) <= 1)
    ballast.unlink()
    status = client.ended(job_id)
    assert (status.status, status.reason, status.exit_code) == ("FAILED", "exit-code", 9)
    assert client.log(job_id).startswith(before)
    assert {client.ended(each).exit_code for each in accepted} <= {0}
    _works(client)
    assert len(rnx_json("list")) == len(accepted) + 2


def _until_refused(client: Client) -> tuple[list[str], tuple[str, str]]:
    """Run jobs until one is refused; also return those that still found room in the database's files."""
    accepted: list[str] = []
    for _ in range(50):
        try:
            return accepted, refusal(lambda: accepted.append(client.run("true")))
        except AssertionError:
            continue
    raise AssertionError("a full disk refuses nothing")
