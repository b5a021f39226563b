"""Output and end of a command in a job, from the pipes that a launcher would write to."""

import asyncio
import os
import pty
import socket
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from joblet_agent.errors import InvalidRequest, LimitReached
from joblet_agent.jobs.exec_session import MOST_PIECE, ExecSession, exec_outcome
from joblet_agent.jobs.paths import ExecPaths
from joblet_agent.model.execution import ExecOutput, TerminalSize
from joblet_agent.model.job import JobId, JobSpec, Outcome, Reason
from joblet_agent.ports import ExecPlan
from tests.unit.systemd.plans import plan

JOB = JobId("7f3a0000-0000-4000-8000-000000000001")
SPEC = JobSpec("prog", work_dir="/work")
LAUNCHED = "0 launched\n"


@pytest.fixture(autouse=True)
def _files_stay_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "chown", lambda *_arguments, **_options: None)


def exec_plan(paths: ExecPaths, *, stdin: bool = False, terminal: TerminalSize | None = None) -> ExecPlan:
    return ExecPlan(
        "id",
        replace(plan(), spec=SPEC, uid=0),
        paths.output,
        paths.errors,
        paths.report,
        paths.orders,
        input=paths.input if stdin or terminal else None,
        terminal=terminal,
    )


def send(paths: ExecPaths, fd: int) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(str(paths.input))
        socket.send_fds(sender, [b"."], [fd])


Feed = Callable[[ExecSession], Awaitable[None]]


async def _nothing(session: ExecSession) -> None:
    pass


def read_all(
    home: Path, write: Callable[[ExecPaths], None], feed: Feed = _nothing, **fields: Any
) -> tuple[bytes, bytes, Outcome]:
    """Let ``write`` play launcher and command in a thread, and ``feed`` the caller."""
    paths = ExecPaths(home / "exec")
    session = ExecSession(paths, exec_plan(paths, **fields))
    got = {ExecOutput.STDOUT: b"", ExecOutput.STDERR: b""}
    ends: list[Outcome] = []

    async def main() -> None:
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            group.create_task(feed(session))  # type: ignore[arg-type]
            async for event in session.events():
                if isinstance(event, Outcome):
                    ends.append(event)
                else:
                    got[event[0]] += event[1]

    thread = threading.Thread(target=write, args=(paths,))
    thread.start()
    try:
        asyncio.run(main())
    finally:
        thread.join()
        session.close()
        session.remove()
    assert session.has_ended
    assert not paths.home.exists()
    (end,) = ends
    return got[ExecOutput.STDOUT], got[ExecOutput.STDERR], end


def test_all_output_comes_before_the_end(tmp_path: Path) -> None:
    def write(paths: ExecPaths) -> None:
        with (
            open(paths.report, "w") as report,
            open(paths.output, "wb") as out,
            open(paths.errors, "wb") as err,
        ):
            report.write(LAUNCHED)
            report.flush()
            out.write(b"x" * 300_000)
            err.write(b"problem")
            out.flush()
            err.flush()
            report.write("ended 768\n")

    out, err, end = read_all(tmp_path, write)
    assert (len(out), err) == (300_000, b"problem")
    assert (end.exit_code, end.reason) == (3, Reason.EXIT_CODE)


def test_output_that_is_closed_early_and_a_launcher_that_is_killed(tmp_path: Path) -> None:
    def write(paths: ExecPaths) -> None:
        with open(paths.report, "w") as report:
            with open(paths.output, "wb") as out:
                out.write(b"early")
            report.write(LAUNCHED)

    out, _, end = read_all(tmp_path, write)
    assert out == b"early"
    assert (end.reason, end.exit_code) == (Reason.LOST, -1)


def test_input_is_given_whole_and_ends(tmp_path: Path) -> None:
    def write(paths: ExecPaths) -> None:
        with open(paths.orders, "rb") as orders, open(paths.report, "w") as report:
            report.write(LAUNCHED)
            report.flush()
            command, ours = os.pipe()
            send(paths, ours)
            with open(command, "rb") as given, open(paths.output, "wb") as out:
                out.write(given.read(500_000))
                assert orders.read(1) == b"\0"  # the end comes with this, and not with the agent's
                os.close(ours)
                assert given.read() == b""
            report.write("ended 0\n")

    async def feed(session: ExecSession) -> None:
        for _ in range(5):
            await session.write(b"y" * 100_000)
        await session.end_input()
        with pytest.raises(InvalidRequest, match="has ended"):
            await session.write(b"more")

    out, _, end = read_all(tmp_path, write, feed, stdin=True)
    assert (out, end.exit_code) == (b"y" * 500_000, 0)


def test_input_that_is_not_read_is_lost_and_holds_up_nothing(tmp_path: Path) -> None:
    def write(paths: ExecPaths) -> None:
        with open(paths.report, "w") as report:
            report.write(LAUNCHED)
            report.flush()
            command, ours = os.pipe()
            send(paths, ours)
            os.close(ours)
            with open(paths.orders, "rb") as orders:
                assert orders.read(1) == b"\x0a"
            os.close(command)
            report.write("ended 0\n")

    async def feed(session: ExecSession) -> None:
        session.signal("USR1")
        await session.write(b"y" * 500_000)  # more than the pipe holds

    _, _, end = read_all(tmp_path, write, feed, stdin=True)
    assert end.exit_code == 0


def test_a_terminal_comes_from_the_launcher(tmp_path: Path) -> None:
    def write(paths: ExecPaths) -> None:
        ours, command = pty.openpty()
        with open(paths.report, "w") as report:
            report.write(LAUNCHED)
            report.flush()
            send(paths, ours)
            os.close(ours)
            assert os.read(command, 100) == b"typed\n"
            assert os.read(command, 100) == b""  # Ctrl-D
            assert os.get_terminal_size(command) == (80, 25)
            os.write(command, b"x" * 3000)
            os.close(command)
            report.write("ended 0\n")

    async def feed(session: ExecSession) -> None:
        await session.resize(TerminalSize(25, 80))
        await session.write(b"typed\n")
        await session.end_input()

    out, err, end = read_all(tmp_path, write, feed, terminal=TerminalSize(1, 1))
    assert (out, err, end.exit_code) == (b"typed\r\n" + b"x" * 3000, b"", 0)


def test_a_launcher_that_fails_before_it_sends_a_terminal(tmp_path: Path) -> None:
    def write(paths: ExecPaths) -> None:
        paths.report.write_text(LAUNCHED + "0 cannot join the job: it has ended\n")

    _, _, end = read_all(tmp_path, write, terminal=TerminalSize())
    assert end.reason is Reason.START_FAILED


@pytest.mark.parametrize(
    ("fields", "feed", "reason"),
    [
        ({}, lambda session: session.write(b"x"), "STDIN_NOT_WANTED"),
        ({}, lambda session: session.end_input(), "STDIN_NOT_WANTED"),
        ({"stdin": True}, lambda session: session.write(b"x" * (MOST_PIECE + 1)), "STDIN_TOO_LARGE"),
        ({"stdin": True}, lambda session: session.resize(TerminalSize(1, 1)), "NO_TERMINAL"),
    ],
)
def test_input_that_does_not_fit_is_refused(
    tmp_path: Path, fields: dict[str, Any], feed: Feed, reason: str
) -> None:
    paths = ExecPaths(tmp_path / "exec")
    session = ExecSession(paths, exec_plan(paths, **fields))
    with pytest.raises(InvalidRequest) as caught:
        asyncio.run(feed(session))  # type: ignore[arg-type]
    assert caught.value.reason == reason
    session.close()
    session.remove()


def test_more_signals_than_a_pipe_holds_are_refused(tmp_path: Path) -> None:
    paths = ExecPaths(tmp_path / "exec")
    session = ExecSession(paths, exec_plan(paths))
    for _ in range(65536):
        session.signal("USR1")
    with pytest.raises(LimitReached):
        session.signal("USR1")
    session.close()
    session.remove()


@pytest.mark.parametrize(
    ("report", "reason", "exit_code", "number"),
    [
        (LAUNCHED + "ended 0\n", Reason.NONE, 0, 0),
        (LAUNCHED + "ended 65280\n", Reason.EXIT_CODE, 255, 0),
        (LAUNCHED + "ended 9\n", Reason.SIGNAL, -1, 9),
        (LAUNCHED + "ended 139\n", Reason.SIGNAL, -1, 11),
        (LAUNCHED + "2 No such file or directory\n", Reason.NOT_FOUND, 127, 0),
        (LAUNCHED + "13 Permission denied\n", Reason.CANNOT_INVOKE, 126, 0),
        (LAUNCHED + "0 cannot join the job: it has ended\n", Reason.START_FAILED, -1, 0),
        (LAUNCHED + "2 cannot enter the working directory: No\n", Reason.START_FAILED, -1, 0),
        ("", Reason.START_FAILED, -1, 0),
    ],
)
def test_the_launchers_report(report: str, reason: Reason, exit_code: int, number: int) -> None:
    end = exec_outcome(JOB, report, SPEC)
    assert (end.reason, end.exit_code, end.signal) == (reason, exit_code, number)
