"""``rnx exec``: what it sends, what it passes on, what it leaves of the terminal."""

import os
import pty
import signal
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.unit.rnx.conftest import Rnx
from tests.unit.rnx.fake_agent import FakeAgent, failure


def output(*events: pb.ExecInJobResponse) -> Any:
    def answer(requests: Any, _context: Any) -> Any:
        next(requests)
        yield from events

    return answer


def end(**fields: Any) -> pb.ExecInJobResponse:
    return pb.ExecInJobResponse(end=pb.ExecEnd(**fields))


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, 0),
        ({"exit_code": 7, "reason": "exit-code"}, 7),
        ({"exit_code": -1, "signal": 9, "reason": "signal"}, 137),
        ({"exit_code": 127, "reason": "program-not-found", "message": "program not found: 'x'"}, 127),
        ({"exit_code": 126, "reason": "program-not-executable", "message": "no"}, 126),
        ({"exit_code": -1, "reason": "start-failed", "message": "no"}, 125),
        ({"exit_code": -1, "reason": "lost", "message": "nobody knows"}, 125),
    ],
)
def test_the_status_of_a_command_is_passed_on(
    agent: FakeAgent, rnx: Rnx, fields: dict[str, Any], status: int
) -> None:
    agent.answers["ExecInJob"] = output(
        pb.ExecInJobResponse(stdout=b"out\xff"), pb.ExecInJobResponse(stderr=b"err\n"), end(**fields)
    )
    done = rnx("exec", "1111", "--", "ls", "-l")
    assert done.status == status
    assert done.err.startswith("err\n")
    assert ("rnx: " in done.err) is ("message" in fields)


@pytest.mark.parametrize("form", [["exec"], ["job", "exec"]])
def test_what_a_command_is_asked_for(agent: FakeAgent, rnx: Rnx, form: list[str]) -> None:
    agent.answers["ExecInJob"] = output(end())
    flags = ("--env=A=b", "-e", "C=d", "--workdir", "/tmp")
    assert rnx(*form, *flags, "1111", "--", "ls", "--env=X", "--", "-h").status == 0
    assert rnx(*form, "1111", "ls", "--help").status == 0
    first, second = (request.start for request in agent.asked("ExecInJob") if request.HasField("start"))
    assert (first.uuid, first.command, list(first.args)) == ("1111", "ls", ["--env=X", "--", "-h"])
    assert (dict(first.environment), first.work_dir) == ({"A": "b", "C": "d"}, "/tmp")
    assert list(second.args) == ["--help"]


def test_a_command_that_is_lost_or_refused(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["ExecInJob"] = failure(grpc.StatusCode.UNAVAILABLE, "gone")
    lost = rnx("exec", "1111", "ls")
    assert (lost.status, "the command is lost" in lost.err) == (125, True)
    agent.answers["ExecInJob"] = failure(grpc.StatusCode.FAILED_PRECONDITION, "it is paused", "JOB_PAUSED")
    refused = rnx("exec", "1111", "ls")
    assert (refused.status, "it is paused" in refused.err) == (125, True)
    agent.answers["ExecInJob"] = output(pb.ExecInJobResponse(stdout=b"x"))
    assert rnx("exec", "1111", "ls").status == 125


def test_an_exec_that_cannot_be_read(rnx: Rnx) -> None:
    assert rnx("exec", "1111").status == 2
    assert rnx("exec", "--json", "1111", "ls").status == 2
    assert rnx("exec", "--env=X", "1111", "ls").status == 2
    assert rnx("exec", "--nope", "1111", "ls").status == 2


def echo(requests: Any, _context: Any) -> Any:
    start = next(requests).start
    for request in requests if start.stdin else ():
        if request.HasField("stdin_end"):
            break
        yield pb.ExecInJobResponse(stdout=request.stdin)
    yield end()


@contextmanager
def standard_input(fd: int) -> Iterator[None]:
    before = os.dup(0)
    os.dup2(fd, 0)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)


def test_input_is_passed_on_whole(agent: FakeAgent, rnx: Rnx, tmp_path: Path) -> None:
    agent.answers["ExecInJob"] = echo
    text = "".join(f"{number}\n" for number in range(100_000))
    (tmp_path / "input").write_text(text)
    with (tmp_path / "input").open() as file, standard_input(file.fileno()):
        done = rnx("exec", "1111", "cat")
    assert (done.status, done.out == text, done.err) == (0, True, "")


def test_input_from_a_terminal_wants_a_flag(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["ExecInJob"] = echo
    keyboard, terminal = pty.openpty()
    with standard_input(terminal):
        assert rnx("exec", "1111", "cat").out == ""
        os.write(keyboard, b"typed\n\x04")
        assert rnx("exec", "-i", "1111", "cat").out == "typed\n"
    assert not agent.asked("ExecInJob")[0].start.HasField("terminal")


def test_input_that_cannot_be_read_ends_the_command(agent: FakeAgent, rnx: Rnx, tmp_path: Path) -> None:
    agent.answers["ExecInJob"] = echo
    with standard_input(os.open(tmp_path, os.O_RDONLY)):
        done = rnx("exec", "1111", "cat")
    assert (done.status, "cannot read standard input" in done.err) == (125, True)


def test_a_terminal_is_wanted_without_one(rnx: Rnx) -> None:
    done = rnx("exec", "-t", "1111", "sh")
    assert (done.status, "--tty" in done.err) == (2, True)


def test_keys_and_the_window_are_passed_on_and_modes_come_back(
    agent: FakeAgent, rnx: Rnx, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.answers["ExecInJob"] = echo
    monkeypatch.setenv("TERM", "vt220")
    keyboard, terminal = pty.openpty()
    termios.tcsetwinsize(keyboard, (33, 77))
    before = termios.tcgetattr(terminal)

    def echo_of_keys(requests: Any, _context: Any) -> Any:
        start = next(requests).start
        yield pb.ExecInJobResponse(stdout=f"{start.terminal.term} {start.terminal.size.rows} ".encode())
        assert not termios.tcgetattr(terminal)[3] & termios.ICANON
        os.write(keyboard, b"\x03")
        yield pb.ExecInJobResponse(stdout=next(requests).stdin)
        os.kill(os.getpid(), signal.SIGWINCH)
        size = next(requests).terminal_size
        yield pb.ExecInJobResponse(stdout=f" {size.rows} {size.columns}".encode())
        yield end(exit_code=3, reason="exit-code")

    agent.answers["ExecInJob"] = echo_of_keys
    with standard_input(terminal):
        done = rnx("exec", "-t", "1111", "sh")
    assert (done.status, done.out, done.err) == (3, "vt220 33 \x03 33 77", "")
    assert termios.tcgetattr(terminal) == before
