"""Watching jobs on a real host: no gap and no duplicate, whatever becomes of agent and watcher."""

import json
import os
import pty
import select
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import Client, eventually, kill_agent, main_pid, persist, wait_for_agent
from tests.e2e.host import DATABASE, in_parallel, refusal, rnx, rnx_json, running

pytestmark = pytest.mark.systemd


class Watcher:
    """Collects the events of a watch in a thread; comes back after the number reached when it is lost."""

    def __init__(self, client: Client, **fields: Any) -> None:
        self.events: list[tuple[int, str, str]] = []
        self._client = client
        self._request = pb.WatchJobsRequest(**fields)
        self._call: Any = None
        self._is_closed = False
        self.began = threading.Event()
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        assert self.began.wait(30)

    def close(self) -> None:
        self._is_closed = True
        self._call.cancel()
        self._thread.join(30)
        assert self.failure is None, self.failure

    def _watch(self) -> None:
        try:
            persist(self._read, within=120)
        except grpc.RpcError as error:
            if not self._is_closed:
                self.failure = error

    def _read(self) -> None:
        if self._is_closed:
            return
        self._call = self._client.agent.WatchJobs(self._request, wait_for_ready=True)
        for answer in self._call:
            if answer.HasField("event"):
                self.events.append((answer.number, answer.event.uuid, answer.event.status))
            if answer.number:
                self._request.after, self._request.snapshot = answer.number, False
                self.began.set()


@contextmanager
def watching(client: Client, **fields: Any) -> Iterator[Watcher]:
    watcher = Watcher(client, **fields)
    try:
        yield watcher
    finally:
        watcher.close()


def newest_number() -> int:
    with closing(sqlite3.connect(f"file:{DATABASE}?mode=ro", uri=True)) as database:
        found = database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'job_events'").fetchone()
    return int(found[0])


def states_of(watcher: Watcher, job_id: str) -> list[str]:
    return [state for _, uuid, state in watcher.events if uuid == job_id]


def test_a_watch_tells_the_life_of_a_job(client: Client) -> None:
    with watching(client) as watcher:
        job_id = client.run("sh", "-c", "sleep 0.3; exit 3", name="watched")
        client.ended(job_id)
        client.jobs.DeleteJob(pb.DeleteJobRequest(uuid=job_id), timeout=30)
        eventually(lambda: states_of(watcher, job_id), lambda states: "DELETED" in states)
    assert states_of(watcher, job_id) == ["INITIALIZING", "RUNNING", "FAILED", "DELETED"]
    lines = rnx("job", "watch", "--json", f"--after={watcher.events[0][0]}", job_id).stdout.splitlines()
    told = [json.loads(line) for line in lines]
    assert [each["status"] for each in told] == ["RUNNING", "FAILED", "DELETED"]
    failed = told[1]
    wanted = {"id": job_id, "name": "watched", "reason": "exit-code", "exit_code": 3}
    assert wanted.items() <= failed.items()
    assert failed["message"] == "exited with status 3"


def test_watches_lose_and_double_nothing_across_kills_of_the_agent(client: Client) -> None:
    """Two watchers, one of which is slow, jobs all the time, and the agent is killed again and again."""
    begin = newest_number()
    with watching(client) as one, watching(client, states=["COMPLETED"]) as other:
        for _ in range(5):
            in_parallel(lambda number: _run_across_kills(client, f"kill-{number}"), list(range(8)))
            kill_agent()
            wait_for_agent(client)
        eventually(lambda: [job.status for job in client.by_name("kill-1")], _all_ended)
        eventually(newest_number, lambda number: number == one.events[-1][0])
        ended = [event for event in one.events if event[2] == "COMPLETED"]
        eventually(lambda: other.events, lambda events: len(events) >= len(ended))
    assert [number for number, _, _ in one.events] == list(range(begin + 1, one.events[-1][0] + 1))
    assert other.events == ended
    for job_id in {uuid for _, uuid, _ in one.events}:
        assert len(states_of(one, job_id)) == len(set(states_of(one, job_id)))


def _all_ended(states: list[str]) -> bool:
    return bool(states) and set(states) <= {"COMPLETED", "FAILED"}


def _run_across_kills(client: Client, name: str) -> None:
    try:
        client.run("true", name=name)
    except grpc.RpcError:  # the agent was killed meanwhile: perhaps it runs, perhaps not
        wait_for_agent(client)


def test_a_watcher_that_does_not_read_holds_nobody_up(client: Client) -> None:
    asleep = client.agent.WatchJobs(pb.WatchJobsRequest(), wait_for_ready=True)
    next(iter(asleep))
    before = _resident(main_pid())
    with watching(client) as watcher:
        ids = in_parallel(lambda number: client.run("true", name=f"n{number}"), list(range(200)))
        for job_id in ids:
            client.ended(job_id)
        eventually(lambda: {uuid for _, uuid, _ in watcher.events}, lambda seen: seen >= set(ids))
    assert _resident(main_pid()) - before < 20 << 20
    seen: set[str] = set()
    for answer in asleep:
        seen.add(answer.event.uuid)
        if seen >= set(ids):
            break
    asleep.cancel()


def _resident(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(text.split("VmRSS:")[1].split()[0]) * 1024


def test_fifty_watchers_are_told_the_same(client: Client) -> None:
    watchers = [Watcher(client) for _ in range(50)]
    ids = in_parallel(lambda _: client.run("true"), list(range(20)))
    for job_id in ids:
        client.ended(job_id)
    last = newest_number()
    for watcher in watchers:
        eventually(partial(max, watcher.events), lambda event: event[0] >= last)
        watcher.close()
    first = [event for event in watchers[0].events if event[1] in ids]
    assert {tuple(event for event in each.events if event[1] in ids) for each in watchers} == {tuple(first)}


def test_the_snapshot_has_what_has_not_ended(client: Client) -> None:
    ended = client.run("true")
    client.ended(ended)
    with running(client, "echo ready; exec sleep 1000") as job_id:
        with watching(client, snapshot=True) as watcher:
            assert (0, job_id, "RUNNING") in watcher.events
            assert ended not in {uuid for _, uuid, _ in watcher.events}
        with watching(client, snapshot=True, uuids=[ended[:13], job_id]) as watcher:
            assert watcher.events == [(0, ended, "COMPLETED"), (0, job_id, "RUNNING")]


def test_what_cannot_be_watched_is_refused(client: Client) -> None:
    def watch(**fields: Any) -> Any:
        return list(client.agent.WatchJobs(pb.WatchJobsRequest(**fields), timeout=30))

    nobody = "00000000-0000-4000-8000-000000000000"
    assert refusal(lambda: watch(uuids=[nobody])) == ("NOT_FOUND", "JOB_NOT_FOUND")
    assert refusal(lambda: watch(after=1)) == ("FAILED_PRECONDITION", "EVENTS_GONE")
    assert refusal(lambda: watch(after=2**62)) == ("FAILED_PRECONDITION", "EVENTS_GONE")
    assert refusal(lambda: watch(states=["DONE"])) == ("INVALID_ARGUMENT", "UNKNOWN_STATE")
    assert refusal(lambda: watch(after=-1)) == ("INVALID_ARGUMENT", "BAD_WATCH")


def test_wait_exits_as_the_job(client: Client) -> None:
    seven = client.run("sh", "-c", "sleep 0.5; exit 7")
    fine, killed = client.run("true"), client.run("sh", "-c", "kill -9 $$")
    missing = client.run("no-such-program")
    done = rnx("wait", seven)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"", b"")
    assert rnx("job", "wait", fine).returncode == 0
    assert rnx("wait", killed).returncode == 137
    assert rnx("wait", missing).returncode == 127
    assert rnx("wait", fine, killed, seven).returncode == 137
    told = json.loads(rnx("wait", "--json", seven, fine).stdout)
    assert [(each["id"], each["status"]) for each in told] == [(seven, "FAILED"), (fine, "COMPLETED")]
    assert rnx("wait", "00000000-0000-4000-8000-000000000000").returncode == 125


def test_wait_survives_kills_of_the_agent(client: Client) -> None:
    job_id = client.run("sh", "-c", "sleep 3; exit 5")
    process = subprocess.Popen(["rnx", "wait", job_id], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for _ in range(2):
        time.sleep(0.7)
        kill_agent()
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, out, errors) == (5, b"", b"")
    wait_for_agent(client)


def test_wait_gives_up_in_time(client: Client) -> None:
    with running(client, "echo ready; exec sleep 1000") as job_id:
        done = rnx("wait", "--timeout=1s", job_id)
        assert (done.returncode, done.stdout) == (124, b"")
        assert b"have not ended within 1s" in done.stderr


def test_a_list_on_a_terminal_stays_true_across_a_kill_of_the_agent(client: Client) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["rnx", "list", "--watch", "--name=seen"], stdout=theirs, stderr=subprocess.PIPE
    )
    os.close(theirs)
    try:
        _read_until(ours, "No jobs found")
        first = client.run("true", name="seen")
        _read_until(ours, first)
        kill_agent()
        wait_for_agent(client)
        _read_until(ours, client.run("true", name="seen"))
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        os.close(ours)
    assert (process.returncode, errors) == (0, b"")


def _read_until(terminal: int, text: str) -> None:
    shown = b""
    while text.encode() not in shown:
        assert select.select([terminal], [], [], 30)[0], shown
        shown += os.read(terminal, 65536)


def test_ids_alone_are_for_scripts(client: Client) -> None:
    made = rnx("run", "-q", "--name=quiet", "true").stdout.decode().strip()
    client.ended(made)
    assert rnx("list", "--quiet", "--name=quiet", "--limit=1").stdout.decode() == f"{made}\n"
    assert rnx_json("list", "--name=quiet", "--limit=1")[0]["id"] == made
