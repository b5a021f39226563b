"""After whatever happened to the agent, the bus or systemd, jobs are as they were: R1, R2, R6, R8."""

import itertools
import random
import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from tests.e2e.agent import (
    JOBS,
    Client,
    agent_stopped,
    command,
    eventually,
    kill_agent,
    main_pid,
    persist,
    units,
    wait_for_agent,
)
from tests.e2e.host import AGENT, changed_record, configured, journal, refusal, running, shown, unit_of
from tests.sizes import size

pytestmark = pytest.mark.systemd

WAIT = "while [ ! -e go ]; do sleep 0.02; done"
BUS = ("dbus.socket", "dbus.service")
FIELD_FILES = Path("/run/systemd/units")
UPSETS = [
    ("systemctl", "daemon-reload"),
    ("systemctl", "daemon-reexec"),
    ("systemctl", "restart", "dbus.service"),
    ("systemctl", "restart", "systemd-journald.service"),
]
ROUNDS = size(32, 1000)


def _go(job_id: str) -> None:
    (JOBS / job_id / "work" / "go").touch()


def test_jobs_run_on_while_the_agent_is_stopped(client: Client) -> None:
    with running(client, f"echo ready; {WAIT}; echo done; exit 4") as job_id:
        pid = client.status(job_id).main_pid
        with agent_stopped():
            assert shown(unit_of(job_id))["MainPID"] == str(pid)
            _go(job_id)
            eventually(lambda: shown(unit_of(job_id))["SubState"], lambda state: state == "failed")
        status = client.ended(job_id)
        assert (status.status, status.exit_code) == ("FAILED", 4)
        assert client.log(job_id) == b"ready\ndone\n"


def test_r6_a_unit_that_is_not_the_records_is_not_touched(client: Client) -> None:
    with running(client, "echo ready; exec sleep 1000") as job_id:
        before = shown(unit_of(job_id))
        with agent_stopped():
            changed_record(job_id, invocation_id=uuid.uuid4().hex)
        status = client.ended(job_id)
        assert (status.status, status.reason, status.exit_code) == ("FAILED", "lost", -1)
        after = shown(unit_of(job_id))
        for key in ("ActiveState", "SubState", "MainPID", "InvocationID"):
            assert after[key] == before[key]
        with agent_stopped():
            pass
        assert shown(unit_of(job_id))["MainPID"] == before["MainPID"]
        command("systemctl", "stop", unit_of(job_id))


def test_r6_a_unit_without_a_record_is_stopped(client: Client) -> None:
    unit = unit_of(str(uuid.uuid4()))
    with agent_stopped():
        command("systemd-run", "--quiet", f"--unit={unit}", "--slice=joblet-jobs.slice", "sleep", "1000")
    wait_for_agent(client)
    eventually(units, lambda names: unit not in names)
    told = journal("-u", AGENT, "--since=-1min")
    assert any(f"stopping unit of job {unit[11:47]}: there is no record" in r["MESSAGE"] for r in told)


@dataclass
class _Load:
    """Runs jobs until told to stop; every one has a name and an end of its own."""

    over: threading.Event = field(default_factory=threading.Event)
    ends: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def work(self, worker: int) -> None:
        with closing(Client()) as client:
            for number in itertools.count():
                if self.over.is_set():
                    return
                self._one(client, f"upset-{worker}-{number}-{uuid.uuid4().hex[:8]}", number % 200)

    def _one(self, client: Client, name: str, code: int) -> None:
        self.ends[name] = code
        try:
            client.ended(
                client.run("sh", "-c", f"seq 1 20; sleep 0.0{code % 10}; printf end; exit {code}", name=name)
            )
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                self.faults.append(f"{name}: {error.code()} {error.details()}")


@contextmanager
def _load(workers: int) -> Iterator[_Load]:
    load = _Load()
    threads = [threading.Thread(target=load.work, args=(worker,)) for worker in range(workers)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.over.set()
        for thread in threads:
            thread.join(timeout=60)


@pytest.mark.soak
def test_r8_upsets_of_systemd_bus_and_journal_lose_and_double_nothing(client: Client) -> None:
    pid = main_pid()
    with _load(workers=3) as load:
        for number in range(ROUNDS):
            command(*UPSETS[number % len(UPSETS)])
            command(
                "systemctl", "reset-failed", "dbus.service", "systemd-journald.service"
            )  # so often is no fault
            client.ended(persist(lambda: client.run("true")))
    assert load.faults == []
    assert len(load.ends) > ROUNDS
    wrong = [fault for name, code in load.ends.items() for fault in _check(client, name, code)]
    assert wrong == []
    assert main_pid() == pid
    eventually(units, lambda names: not names)


def _check(client: Client, name: str, code: int) -> list[str]:
    found = client.by_name(name)
    if len(found) > 1:
        return [f"{name} exists {len(found)} times"]
    for job in found:
        status = client.ended(job.uuid)
        log = client.log(job.uuid)
        if status.reason == "start-failed":
            return [f"{name} start-failed, but it wrote {log!r}"] if log else []
        wanted = b"".join(b"%d\n" % n for n in range(1, 21)) + b"end"
        if (status.exit_code, status.signal, log) != (code, 0, wanted):
            return [f"{name}: {status.status} {status.reason} {status.exit_code}, {len(log)} bytes"]
    return []


def test_r8_without_a_bus_the_agent_says_so_and_comes_back(client: Client) -> None:
    with running(client, f"echo ready; {WAIT}; exit 6") as job_id:
        command("systemctl", "stop", AGENT)
        command("systemctl", "stop", *BUS)
        command("systemctl", "mask", "--runtime", *BUS)
        try:
            refused = command("joblet-agent", check=False)
            _go(job_id)
        finally:
            command("systemctl", "unmask", "--runtime", *BUS)
            command("systemctl", "start", BUS[0], AGENT)
        assert refused.returncode == 1
        assert re.search(r"^joblet-agent: cannot .*system bus", refused.stderr, re.MULTILINE), refused.stderr
        assert client.ended(job_id).exit_code == 6


@pytest.mark.usefixtures("client")
def test_a_second_agent_refuses_to_start() -> None:
    pid = main_pid()
    refused = command("joblet-agent", check=False)
    assert refused.returncode == 1
    assert (
        "joblet-agent: cannot start: another agent runs already and holds /run/joblet/agent.lock"
        in refused.stderr
    )
    assert "hint: see: systemctl status joblet-agent" in refused.stderr
    assert main_pid() == pid


def test_r3_waiting_jobs_run_exactly_once_across_kills(client: Client) -> None:
    with configured("jobs:\n  max_concurrent: 2\n"):
        ids = [client.run("sh", "-c", "echo once; sleep 0.1") for _ in range(30)]
        positions = [client.status(job_id).queue_position for job_id in ids[-3:]]
        assert positions == sorted(positions)
        assert positions[-1] > 0
        for _ in range(4):
            kill_agent()
            wait_for_agent(client)
            eventually(lambda: random.random() < 0.1, bool)
        ends = [client.ended(job_id, within=60) for job_id in ids]
        assert {(status.status, status.reason, status.exit_code) for status in ends} == {("COMPLETED", "", 0)}
        assert [client.log(job_id) for job_id in ids] == [b"once\n"] * 30
        starts = [status.created_time for status in ends]
        assert starts == sorted(starts)


def test_r3_a_full_queue_refuses(client: Client) -> None:
    limits = "jobs:\n  max_concurrent: 1\n  max_waiting: 2\n"
    with configured(limits), running(client, "echo ready; exec sleep 1000"):
        waiting = [client.run("true") for _ in range(2)]
        assert refusal(lambda: client.run("true")) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
        kill_agent()
        wait_for_agent(client)
        assert [client.status(job_id).queue_position for job_id in waiting] == [1, 2]
        assert refusal(lambda: client.run("true")) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")


def _field_files(job_id: str) -> list[str]:
    return [file.name for file in FIELD_FILES.glob(f"log-extra-fields:*{job_id}*")]


def test_r13_systemd_keeps_nothing_of_a_job_that_has_ended(client: Client) -> None:
    with running(client, f"echo ready; {WAIT}") as job_id:
        assert _field_files(job_id) == [f"log-extra-fields:{unit_of(job_id)}"]
        _go(job_id)
        eventually(lambda: _field_files(job_id), lambda files: not files)


def test_r13_systemd_keeps_nothing_of_a_job_that_ended_while_the_agent_was_away(client: Client) -> None:
    with running(client, f"echo ready; {WAIT}") as job_id:
        with agent_stopped():
            _go(job_id)
            eventually(lambda: shown(unit_of(job_id))["SubState"], lambda state: state != "running")
        wait_for_agent(client)
        eventually(lambda: _field_files(job_id), lambda files: not files)
