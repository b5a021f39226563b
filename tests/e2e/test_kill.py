"""The agent is killed at random moments under a mixed load: attack cases R1, R2, R3."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import (
    DEADLINE,
    ENDED,
    JOBS,
    Client,
    agent_stopped,
    eventually,
    kill_agent,
    persist,
    running_units,
    timers,
    units,
    wait_for_agent,
)
from tests.e2e.host import in_parallel
from tests.sizes import size

pytestmark = pytest.mark.systemd

KILLS = size(50, 500)
"""A hundred in a run of ``make test``, which is on both releases."""
PARALLEL = 8
SECRET_PLACES = [
    Path("/var/lib/joblet/secrets"),
    *map(Path("/run/joblet").joinpath, ("secrets", "credentials", "env")),
]


READ_SECRETS = 'echo "$KEY$(cat $CREDENTIALS_DIRECTORY/key)"; exit 5'
SECRETS: dict[str, Any] = {"secret_environment": {"KEY": "s3cr3t"}, "secret_files": {"key": b"s3cr3t"}}


@dataclass(frozen=True)
class Kind:
    """A job whose end is known beforehand."""

    script: str
    state: str
    reason: str
    exit_code: int
    signal: int
    output: bytes
    followed: bool = False
    stopped: bool = False
    paused: bool = False
    scheduled: bool = False
    secret: bool = False
    repeated: bool = False


def _numbers(count: int) -> bytes:
    return b"".join(b"%d\n" % number for number in range(1, count + 1))


KINDS = [
    Kind("exit 0", "COMPLETED", "", 0, 0, b""),
    Kind("printf last-line-without-end; exit 7", "FAILED", "exit-code", 7, 0, b"last-line-without-end"),
    Kind("exit 203", "FAILED", "exit-code", 203, 0, b""),
    Kind("sleep 0.4; echo late; exit 143", "FAILED", "exit-code", 143, 0, b"late\n"),
    Kind("echo dying; kill -SEGV $$", "FAILED", "signal", -1, 11, b"dying\n"),
    Kind("kill -KILL $$", "FAILED", "signal", -1, 9, b""),
    Kind("seq 1 20000", "COMPLETED", "", 0, 0, _numbers(20000), followed=True),
    Kind(
        "for i in $(seq 1 60); do echo $i; sleep 0.02; done; exit 3",
        "FAILED",
        "exit-code",
        3,
        0,
        _numbers(60),
        followed=True,
    ),
    Kind("echo begun; exec sleep 1000", "STOPPED", "stopped", -1, 15, b"begun\n", stopped=True),
    Kind(
        "echo begun; sleep 0.3; echo over; exit 4", "FAILED", "exit-code", 4, 0, b"begun\nover\n", paused=True
    ),
    Kind("echo due; exit 4", "FAILED", "exit-code", 4, 0, b"due\n", scheduled=True),
    Kind(READ_SECRETS, "FAILED", "exit-code", 5, 0, b"s3cr3ts3cr3t\n", secret=True),
    Kind(READ_SECRETS, "FAILED", "exit-code", 5, 0, b"s3cr3ts3cr3t\n", secret=True, scheduled=True),
    Kind(READ_SECRETS, "FAILED", "exit-code", 5, 0, b"s3cr3ts3cr3t\n", secret=True, repeated=True),
]


@dataclass
class Load:
    """Submits jobs of all kinds until told to stop, and remembers what has to come out."""

    rng: random.Random
    over: threading.Event = field(default_factory=threading.Event)
    jobs: dict[str, Kind] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    submitted: int = 0
    unanswered: int = 0

    def work(self) -> None:
        client = Client()
        try:
            while not self.over.is_set():
                self._one(client, self.rng.choice(KINDS))
        except Exception as error:
            self.faults.append(f"client: {error!r}")
        finally:
            client.close()

    def _one(self, client: Client, kind: Kind) -> None:
        self.submitted += 1
        name = f"load-{self.submitted}-{self.rng.getrandbits(48):x}"
        self.jobs[name] = kind
        due = datetime.now(UTC) + timedelta(seconds=self.rng.uniform(0.5, 2))
        fields: dict[str, Any] = {"schedule": due.isoformat()} if kind.scheduled else {}
        if kind.secret:
            fields |= SECRETS
        try:
            if kind.repeated:
                job_id = persist(
                    lambda: client.run("sh", "-c", kind.script, name=name, token=name, **fields), within=300
                )
            else:
                job_id = client.run("sh", "-c", kind.script, name=name, **fields)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                self.faults.append(f"{name}: {error.code()} {error.details()}")
            self.unanswered += 1
            time.sleep(0.01)
            return
        if kind.stopped:
            self._stop(client, job_id)
        if kind.paused:
            persist(lambda: _unless_refused(client.agent.PauseJob, pb.PauseJobRequest(uuid=job_id)))
            persist(lambda: _unless_refused(client.agent.ResumeJob, pb.ResumeJobRequest(uuid=job_id)))
        if kind.followed:
            got = client.follow(job_id)
            if got != kind.output:
                self.faults.append(f"{name}: follower got {len(got)} of {len(kind.output)} bytes")

    def _stop(self, client: Client, job_id: str) -> None:
        eventually(lambda: client.log(job_id), lambda log: log == b"begun\n")

        persist(lambda: _unless_refused(client.jobs.StopJob, pb.StopJobRequest(uuid=job_id)))


def _unless_refused(method: Callable[..., object], request: object) -> None:
    """Call a method that the try before may have called already, or the job may have ended."""
    try:
        method(request, timeout=30, wait_for_ready=True)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
            raise


@pytest.mark.soak
def test_r3_random_kills_under_a_mixed_load(client: Client) -> None:
    # Jobs of other tests may have left files in /work, which are kept.
    client.jobs.DeleteAllJobs(pb.DeleteAllJobsRequest(), timeout=DEADLINE)
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    load = Load(random.Random(seed))
    rng = random.Random(seed + 1)
    threads = [threading.Thread(target=load.work) for _ in range(PARALLEL)]
    for thread in threads:
        thread.start()
    for _ in range(KILLS):
        if rng.random() < 0.7:  # the rest is killed while it starts and recovers
            wait_for_agent(client)
        time.sleep(rng.random() * 0.4)
        kill_agent()
    wait_for_agent(client)
    load.over.set()
    for thread in threads:
        thread.join(timeout=120)
        assert not thread.is_alive()
    print(f"{KILLS} kills, {load.submitted} jobs submitted, {load.unanswered} without an answer")
    assert load.submitted > KILLS
    assert load.faults == []
    _check_all(client, load)


def _check_all(client: Client, load: Load) -> None:
    faults = []
    for name, kind in load.jobs.items():
        found = client.by_name(name)
        if len(found) > 1 or (kind.repeated and not found):
            faults.append(f"{name} exists {len(found)} times")
        for job in found:
            faults += _check(client, job.uuid, kind, load)
    assert faults == []
    eventually(units, lambda names: not names)
    eventually(timers, lambda names: not names)
    for place in SECRET_PLACES:
        assert list(place.iterdir()) == []
    for home in JOBS.iterdir():
        left = {entry.name for entry in home.iterdir()} - {"metrics", "output.log", "output.times"}
        assert left == set(), f"{home.name} left {left}"


def _check(client: Client, job_id: str, kind: Kind, load: Load) -> list[str]:
    if kind.stopped:
        _end_by_force(client, job_id)
    status = client.ended(job_id)
    log = client.log(job_id)
    # Submitted while the agent died: it must not have run at all. What waited for its time always runs.
    waited = kind.scheduled and status.created_time[:19] < status.scheduled_time[:19]
    if status.reason == "start-failed" and not waited and not kind.repeated:
        return [f"{job_id} start-failed, but it wrote {log[:40]!r}"] if log else []
    if kind.stopped and status.status == "STOPPED":
        return [] if log in {b"begun\n", b""} else [f"{job_id} log {log[:40]!r}"]
    got = (status.status, status.reason, status.exit_code, status.signal)
    wanted = (kind.state, kind.reason, kind.exit_code, kind.signal)
    faults = [] if got == wanted else [f"{job_id} {kind.script!r}: {got}, not {wanted}: {status.message}"]
    if log != kind.output:
        faults.append(f"{job_id} {kind.script!r}: {len(log)} bytes of log, not {len(kind.output)}")
    return faults


def _end_by_force(client: Client, job_id: str) -> None:
    """End a job whose submission got no answer, so that nobody stopped it."""
    if client.status(job_id).status not in ENDED:
        try:
            client.jobs.StopJob(pb.StopJobRequest(uuid=job_id), timeout=30)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:  # it has ended by itself
                raise


def _start_many(client: Client, count: int, make: Callable[[int], str]) -> list[str]:
    return in_parallel(lambda number: client.run("sh", "-c", make(number)), list(range(count)))


def test_r1_a_hundred_running_jobs_do_not_notice_the_kill(client: Client) -> None:
    until_told = "i=0; until [ -e /work/go ]; do echo $((i += 1)); sleep 0.4; done; echo over $i; exit"
    ids = _start_many(client, 100, lambda number: f"{until_told} {number}")
    before = {job_id: client.status(job_id).main_pid for job_id in ids}
    kill_agent()
    wait_for_agent(client)
    for job_id in ids:
        status = client.status(job_id)
        assert (status.status, status.main_pid) == ("RUNNING", before[job_id])
    for job_id in ids:
        Path(f"/var/lib/joblet/jobs/{job_id}/work/go").touch()
    for number, job_id in enumerate(ids):
        status = client.ended(job_id, within=60)
        assert status.exit_code == number
        log = client.log(job_id)
        count = int(log.split()[-1])
        assert count > 0
        assert log == _numbers(count) + b"over %d\n" % count


def test_r2_jobs_that_end_while_the_agent_is_down_keep_their_result(client: Client) -> None:
    ids = _start_many(client, 30, lambda number: f"sleep 1; echo {number}; exit {number}")
    with agent_stopped():
        eventually(running_units, lambda names: not names)
    for number, job_id in enumerate(ids):
        status = client.ended(job_id)
        assert status.status == ("FAILED" if number else "COMPLETED")
        assert status.exit_code == number
        assert client.log(job_id) == b"%d\n" % number
