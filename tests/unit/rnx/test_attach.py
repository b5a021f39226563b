import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.pb import joblet_pb2 as pb
from rnx import attach
from rnx.entry import run_program
from rnx.exits import Unreachable
from tests.unit.rnx.conftest import Rnx
from tests.unit.rnx.fake_agent import UUID, FakeAgent, failure

CHECKOUT = Path(__file__).parents[3]
LIMIT = 60


def ended(**more: Any) -> pb.GetJobStatusResponse:
    return pb.GetJobStatusResponse(**{"uuid": UUID, "status": "FAILED", "reason": "exit-code", **more})


def chunks(content: bytes, offset: int, size: int) -> Iterator[pb.DataChunk]:
    for start in range(offset, len(content), size):
        yield pb.DataChunk(payload=content[start : start + size], offset=start)


@pytest.fixture(autouse=True)
def accepts(agent: FakeAgent) -> None:
    agent.answers["RunJob"] = pb.RunJobResponse(job_uuid=UUID, status="RUNNING")
    agent.answers["GetJobLogs"] = pb.DataChunk(payload=b"out\n")
    agent.answers["GetJobStatus"] = ended(status="COMPLETED")


@pytest.mark.parametrize("form", [["run", "--attach"], ["job", "run", "-a"]])
def test_output_and_status_are_the_jobs(agent: FakeAgent, rnx: Rnx, form: list[str]) -> None:
    agent.answers["GetJobStatus"] = ended(exit_code=7)
    result = rnx(*form, "sh", "-c", "exit 7")
    assert (result.status, result.out, result.err) == (7, "out\n", "")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (ended(status="COMPLETED"), 0),
        (ended(exit_code=255), 255),
        (ended(exit_code=-1, signal=9, reason="signal"), 137),
        (ended(status="STOPPED", exit_code=-1, signal=15, reason="stopped"), 143),
        (ended(status="STOPPED", exit_code=3, reason="stopped"), 3),
        (ended(exit_code=-1, reason="program-not-found"), 127),
        (ended(exit_code=-1, reason="program-not-executable"), 126),
        (ended(exit_code=-1, reason="start-failed"), 125),
        (ended(exit_code=-1, reason="host-rebooted", signal=9), 125),
        (ended(exit_code=-1, reason="lost"), 125),
        (ended(exit_code=-1, reason=""), 125),
        (ended(status="CANCELED", reason="canceled"), 125),
    ],
)
def test_the_end_of_a_job_is_an_exit_status(status: pb.GetJobStatusResponse, expected: int) -> None:
    assert attach.exit_status(status) == expected


def test_what_the_status_cannot_tell_is_said(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["GetJobStatus"] = ended(
        exit_code=-1, signal=9, reason="oom-kill", message="out of memory\x1b", log_truncated=True
    )
    result = rnx("run", "-a", "x")
    assert result.status == 137
    assert result.err == (
        "rnx: the output was larger than the agent's limit and was cut\nrnx: out of memory\\x1b\n"
    )


def test_a_refused_job_is_our_failure(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["RunJob"] = failure(grpc.StatusCode.INVALID_ARGUMENT, "command is required")
    result = rnx("run", "-a", "x")
    assert (result.status, result.err) == (125, "rnx: command is required\n")


def test_a_stream_that_ends_before_the_job_is_taken_up_again(agent: FakeAgent, rnx: Rnx) -> None:
    content = b"first second"
    states = iter([pb.GetJobStatusResponse(uuid=UUID, status="RUNNING"), ended(exit_code=4)])

    def log(request: Any, _: Any) -> Iterator[pb.DataChunk]:
        yield from list(chunks(content, request.offset, 6))[:1]

    agent.answers["GetJobLogs"] = log
    agent.answers["GetJobStatus"] = lambda *_: next(states)
    result = rnx("run", "-a", "x")
    assert (result.status, result.out) == (4, "first second")
    assert [request.offset for request in agent.asked("GetJobLogs")] == [0, 6]


@pytest.mark.parametrize("knows_offsets", [True, False])
def test_a_restart_of_the_agent_costs_no_byte(
    agent: FakeAgent, capfdbinary: pytest.CaptureFixture[bytes], knows_offsets: bool
) -> None:
    content = os.urandom(1_000_000)
    half_sent, broken = threading.Event(), threading.Event()

    def log(request: Any, context: Any) -> Iterator[pb.DataChunk]:
        again = half_sent.is_set()
        for chunk in chunks(content, request.offset if knows_offsets else 0, 7919):
            yield chunk if knows_offsets else pb.DataChunk(payload=chunk.payload)
            if not again and chunk.offset > 500_000:
                context.add_callback(broken.set)
                half_sent.set()
                broken.wait(LIMIT)
                return

    agent.answers["GetJobLogs"] = log
    agent.answers["GetJobStatus"] = ended(exit_code=9)

    def restart() -> None:
        assert half_sent.wait(LIMIT)
        agent.restart()

    thread = threading.Thread(target=restart)
    thread.start()
    status = run_program(["run", "--attach", "x"])
    thread.join()
    assert status == 9
    assert capfdbinary.readouterr().out == content
    assert len(agent.asked("GetJobLogs")) == 2


def test_an_agent_that_stays_away_is_given_up(
    agent: FakeAgent, rnx: Rnx, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attach, "PATIENCE", timedelta(0))
    agent.answers["GetJobLogs"] = failure(grpc.StatusCode.UNAVAILABLE, "systemd does not answer", "X", "wait")
    result = rnx("run", "-a", "x")
    assert result.status == 125
    assert result.err == f"rnx: systemd does not answer; job {UUID} goes on\nhint: wait\n"


class BrokenClient:
    """Serves a log in pieces of any size and loses the connection at any place."""

    def __init__(self, content: bytes, sizes: list[int], knows_offsets: bool) -> None:
        self.content = content
        self.sizes = sizes
        self.knows_offsets = knows_offsets
        self.jobs = pb.GetJobLogsRequest()
        self.jobs = type("Stub", (), {"GetJobLogs": None})()

    def stream(self, _method: object, request: Any) -> Iterator[Any]:
        position = request.offset if self.knows_offsets else 0
        while position < len(self.content):
            size = self.sizes.pop() if self.sizes else len(self.content)
            if size < 0:
                raise Unreachable("lost")
            payload = self.content[position : position + size]
            yield pb.DataChunk(payload=payload, offset=position if self.knows_offsets else 0)
            position += len(payload)


@given(content=st.binary(max_size=200), sizes=st.lists(st.integers(-2, 40)), knows_offsets=st.booleans())
def test_any_loss_at_any_place_costs_no_byte(content: bytes, sizes: list[int], knows_offsets: bool) -> None:
    client: Any = BrokenClient(content, sizes, knows_offsets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attach.Patience, "wait", lambda *_: None)
        follower = attach.LogFollower(client, pb.GetJobLogsRequest(uuid=UUID))
        assert b"".join(follower.pieces()) == content


def start_attached(agent: FakeAgent) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "RNX_ADDRESS": agent.address}
    command = [sys.executable, "-m", "rnx", "run", "--attach", "x"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


@pytest.mark.parametrize(("presses", "expected"), [(1, 143), (2, 137)])
def test_ctrl_c_stops_and_once_more_kills(agent: FakeAgent, presses: int, expected: int) -> None:
    asked_once, over = threading.Event(), threading.Event()

    def log(_request: Any, _context: Any) -> Iterator[pb.DataChunk]:
        yield pb.DataChunk(payload=b"ready\n")
        over.wait(LIMIT)

    def stop(request: Any, _: Any) -> pb.StopJobResponse:
        asked_once.set()
        if request.force or presses == 1:
            over.set()
        over.wait(LIMIT)
        return pb.StopJobResponse(uuid=UUID, status="STOPPED")

    agent.answers["GetJobLogs"] = log
    agent.answers["StopJob"] = stop
    agent.answers["GetJobStatus"] = ended(
        status="STOPPED", exit_code=-1, signal=expected - 128, reason="stopped"
    )
    with start_attached(agent) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        for _ in range(presses):
            process.send_signal(signal.SIGINT)
            assert asked_once.wait(LIMIT)
        out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == expected
    assert out == b""
    assert [(each.uuid, each.force) for each in agent.asked("StopJob")] == [(UUID, False), (UUID, True)][
        :presses
    ]
    assert b"stopping the job; Ctrl-C once more kills it" in err


def test_a_reader_that_leaves_is_no_status_of_the_job(agent: FakeAgent) -> None:
    go_on = threading.Event()

    def log(_request: Any, _context: Any) -> Iterator[pb.DataChunk]:
        yield pb.DataChunk(payload=b"ready\n")
        go_on.wait(LIMIT)
        yield pb.DataChunk(payload=b"more\n", offset=6)

    agent.answers["GetJobLogs"] = log
    with start_attached(agent) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.stdout.close()
        go_on.set()
        assert process.wait(LIMIT) == 125
        assert process.stderr is not None
        assert process.stderr.read() == b""
