import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.unit.rnx.conftest import Rnx
from tests.unit.rnx.fake_agent import FakeAgent, failure

ONE = "11111111-2222-4333-8444-555555555555"
TWO = "22222222-2222-4333-8444-555555555555"
TIME = "2026-01-31T10:00:00.000001Z"
GONE = failure(grpc.StatusCode.FAILED_PRECONDITION, "the events are not kept", "EVENTS_GONE", "list the jobs")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnx.commands.watch.show_time", lambda text: text)


def answer(number: int, status: str = "", uuid: str = ONE, **more: Any) -> pb.WatchJobsResponse:
    event = pb.JobEvent(time=TIME, uuid=uuid, status=status, **more) if status else None
    return pb.WatchJobsResponse(number=number, event=event)


def stands(status: str, uuid: str = ONE, **more: Any) -> pb.WatchJobsResponse:
    return answer(0, status, uuid, **more)


def answering(agent: FakeAgent, *lives: list[Any]) -> list[pb.WatchJobsRequest]:
    """Let each call of the watch give the next list: messages, then perhaps how it fails."""
    left = list(lives)

    def watch(_request: Any, context: Any) -> Iterator[Any]:
        for each in left.pop(0):
            if isinstance(each, pb.WatchJobsResponse):
                yield each
            elif callable(each):
                each(context)
            else:
                context.set_trailing_metadata(each.trailer)
                context.abort(each.code, each.text)

    agent.answers["WatchJobs"] = watch
    return agent.asked("WatchJobs")


def lost(context: Any) -> None:
    context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")


def test_watch_prints_a_line_for_each_change(agent: FakeAgent, rnx: Rnx) -> None:
    answering(
        agent,
        [
            answer(40),
            answer(41, "RUNNING", name="a\x1b"),
            answer(42, "FAILED", reason="oom-kill", exit_code=-1, signal=9, message="out of memory"),
            answer(1042),
            answer(1043, "DELETED"),
        ],
    )
    result = rnx("job", "watch", "--name=n", "--state=failed", "--state", "DELETED")
    assert (result.status, result.err) == (0, "")
    assert result.out.splitlines() == [
        f"{TIME} {ONE} a\\x1b RUNNING -",
        f"{TIME} {ONE} - FAILED oom-kill",
        f"{TIME} {ONE} - DELETED -",
    ]
    assert agent.asked("WatchJobs") == [pb.WatchJobsRequest(name="n", states=["FAILED", "DELETED"])]


def test_watch_in_json_is_an_object_a_line_with_the_number_to_go_on_from(agent: FakeAgent, rnx: Rnx) -> None:
    answering(agent, [answer(41, "FAILED", reason="signal", exit_code=-1, signal=9, message="m")])
    lines = rnx("job", "watch", "--json", "--after=40").out.splitlines()
    assert [json.loads(line) for line in lines] == [
        {
            "number": 41,
            "time": TIME,
            "id": ONE,
            "status": "FAILED",
            "exit_code": -1,
            "reason": "signal",
            "signal": 9,
            "message": "m",
        }
    ]
    assert agent.asked("WatchJobs") == [pb.WatchJobsRequest(after=40)]


def test_watch_goes_on_where_it_was_when_the_agent_comes_back(agent: FakeAgent, rnx: Rnx) -> None:
    answering(
        agent,
        [answer(40), answer(41, "PENDING"), lost],
        [lost],
        [answer(41), answer(42, "RUNNING"), lost],
        [answer(42), answer(43, "COMPLETED")],
    )
    words = [line.split()[3] for line in rnx("job", "watch").out.splitlines()]
    assert words == ["PENDING", "RUNNING", "COMPLETED"]
    assert [request.after for request in agent.asked("WatchJobs")] == [0, 41, 41, 42]


def test_watch_of_ids_begins_with_where_they_stand_and_goes_on_with_full_ids(
    agent: FakeAgent, rnx: Rnx
) -> None:
    answering(agent, [stands("RUNNING"), answer(7), lost], [answer(7), answer(8, "DELETED")])
    words = [line.split()[3] for line in rnx("job", "watch", "1111").out.splitlines()]
    assert words == ["RUNNING", "DELETED"]
    assert agent.asked("WatchJobs") == [
        pb.WatchJobsRequest(uuids=["1111"], snapshot=True),
        pb.WatchJobsRequest(uuids=[ONE], after=7),
    ]


def test_watch_that_missed_something_says_so(agent: FakeAgent, rnx: Rnx) -> None:
    answering(agent, [GONE])
    result = rnx("job", "watch", "--after=1")
    assert (result.status, result.out) == (1, "")
    assert result.err == "rnx: the events are not kept\nhint: list the jobs\n"


@pytest.mark.parametrize(
    ("events", "status"),
    [
        ([stands("COMPLETED"), answer(5)], 0),
        ([stands("RUNNING"), answer(5), answer(6, "FAILED", exit_code=7, reason="exit-code")], 7),
        ([stands("RUNNING"), answer(5), answer(6, "FAILED", exit_code=-1, signal=9, reason="signal")], 137),
        ([stands("PENDING"), answer(5), answer(6, "RUNNING"), answer(7, "STOPPED", signal=15)], 143),
        ([stands("PENDING"), answer(5), answer(6, "CANCELED")], 125),
        ([stands("FAILED", reason="program-not-found", exit_code=127), answer(5)], 127),
        ([stands("FAILED", reason="host-rebooted", exit_code=-1), answer(5)], 125),
    ],
)
@pytest.mark.parametrize("form", [["wait"], ["job", "wait"]])
def test_wait_exits_as_the_job_and_prints_nothing(
    agent: FakeAgent, rnx: Rnx, form: list[str], events: list[Any], status: int
) -> None:
    answering(agent, events)
    result = rnx(*form, "1111")
    assert (result.status, result.out, result.err) == (status, "", "")
    assert agent.asked("WatchJobs") == [pb.WatchJobsRequest(uuids=["1111"], snapshot=True)]


def test_wait_for_several_exits_as_the_first_in_order_that_is_not_0(agent: FakeAgent, rnx: Rnx) -> None:
    answering(
        agent,
        [
            stands("RUNNING", TWO),
            stands("RUNNING", ONE),
            answer(5),
            answer(6, "FAILED", ONE, exit_code=3, reason="exit-code", message="exited with status 3"),
            answer(7, "DELETED", ONE),
            answer(8, "FAILED", TWO, exit_code=4, reason="exit-code", message="exited with status 4"),
        ],
    )
    result = rnx("wait", "-v", "2", "1")
    assert result.status == 4
    assert result.out.splitlines() == [
        f"{ONE} FAILED exited with status 3",
        f"{TWO} FAILED exited with status 4",
    ]


def test_wait_in_json_prints_how_they_ended(agent: FakeAgent, rnx: Rnx) -> None:
    answering(agent, [stands("COMPLETED", TWO), stands("FAILED", exit_code=3), answer(5)])
    result = rnx("wait", "--json", "2", "1")
    assert result.status == 3
    assert json.loads(result.out) == [
        {"time": TIME, "id": TWO, "status": "COMPLETED"},
        {"time": TIME, "id": ONE, "status": "FAILED", "exit_code": 3},
    ]


def test_wait_survives_restarts_and_a_history_that_was_lost(agent: FakeAgent, rnx: Rnx) -> None:
    answering(
        agent,
        [stands("RUNNING"), answer(5), lost],
        [lost],
        [GONE],
        [stands("RUNNING"), answer(100), answer(101, "FAILED", exit_code=9)],
    )
    assert rnx("wait", "1111").status == 9
    assert [(each.after, each.snapshot) for each in agent.asked("WatchJobs")] == [
        (0, True),
        (5, False),
        (5, False),
        (0, True),
    ]


def test_wait_gives_up_when_the_time_is_over(agent: FakeAgent, rnx: Rnx) -> None:
    over = threading.Event()

    def watch(_request: Any, context: Any) -> Iterator[Any]:
        context.add_callback(over.set)
        yield stands("RUNNING")
        yield answer(5)
        over.wait(60)

    agent.answers["WatchJobs"] = watch
    result = rnx("wait", "--timeout=1s", "1111")
    assert (result.status, result.out) == (124, "")
    assert result.err == "rnx: 1 of 1 jobs have not ended within 1s\nhint: they go on\n"


def test_wait_says_125_for_what_is_not_the_jobs(agent: FakeAgent, rnx: Rnx) -> None:
    answering(agent, [failure(grpc.StatusCode.NOT_FOUND, "no job with id 9", "JOB_NOT_FOUND")])
    assert rnx("wait", "9").status == 125
    answering(agent, [stands("RUNNING"), answer(5), answer(6, "DELETED")])
    result = rnx("wait", "1111")
    assert (result.status, "was deleted" in result.err) == (125, True)
    answering(agent, [answer(5)])
    assert rnx("wait", "1111").status == 125


@pytest.mark.parametrize("words", [[], ["x", "--timeout=soon"], ["x", "--timeout=0s"], ["x", "--nope"]])
def test_wait_used_wrongly(agent: FakeAgent, rnx: Rnx, words: list[str]) -> None:
    result = rnx("wait", *words)
    assert (result.status, result.out) == (2, "")
    assert agent.requests == []


def test_list_quiet_prints_ids_alone(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["QueryJobs"] = pb.QueryJobsResponse(jobs=[pb.Job(uuid=ONE), pb.Job(uuid=TWO)])
    assert rnx("list", "-q", "--name=n").out == f"{ONE}\n{TWO}\n"
    assert agent.asked("QueryJobs")[0].name == "n"
    assert json.loads(rnx("list", "--quiet", "--json").out) == [ONE, TWO]
    agent.answers["QueryJobs"] = pb.QueryJobsResponse()
    assert rnx("list", "-q").out == ""


def test_run_quiet_prints_the_id_alone(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["RunJob"] = pb.RunJobResponse(job_uuid=ONE, status="RUNNING")
    assert rnx("run", "-q", "true").out == f"{ONE}\n"
    assert rnx("run", "--quiet", "-a", "true").status == 125


def test_list_watch_without_a_terminal_prints_where_jobs_stand_and_then_changes(
    agent: FakeAgent, rnx: Rnx
) -> None:
    answering(agent, [stands("RUNNING"), answer(5), answer(6, "COMPLETED"), GONE], [stands("PENDING", TWO)])
    lines = rnx("list", "--watch", "--state=running").out.splitlines()
    assert [line.split()[3] for line in lines] == ["RUNNING", "COMPLETED", "PENDING"]
    assert agent.asked("WatchJobs")[0] == pb.WatchJobsRequest(snapshot=True, states=["RUNNING"])
    assert rnx("list", "--watch", "--limit=3").status == 2
    assert rnx("list", "--watch", "-q").status == 2


def test_list_watch_on_a_terminal_draws_the_list_again(agent: FakeAgent) -> None:
    states = ["RUNNING", "COMPLETED"]
    drawn, over = threading.Event(), threading.Event()

    def watch(_request: Any, context: Any) -> Iterator[Any]:
        context.add_callback(over.set)
        yield answer(5)
        drawn.wait(60)
        yield answer(6, "COMPLETED")
        over.wait(60)

    def query(_request: Any, _context: Any) -> pb.QueryJobsResponse:
        return pb.QueryJobsResponse(jobs=[pb.Job(uuid=ONE, command="true", status=states[0])])

    agent.answers |= {"WatchJobs": watch, "QueryJobs": query}
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "rnx", "list", "--watch"],
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "NO_COLOR": "1"},
    )
    os.close(theirs)
    shown = b""
    for state in (b"RUNNING", b"COMPLETED"):
        while state not in shown:
            shown += os.read(ours, 4096)
        states.pop(0) if len(states) > 1 else None
        drawn.set()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    os.close(ours)
    assert (process.returncode, errors) == (0, b"")
    screens = shown.decode().split("\x1b[H")[1:]
    assert all(re.match(r"ID +NAME", screen) for screen in screens)
    assert agent.asked("QueryJobs")[0].page_size > 0
