"""Output and end of a command in a job, from the pipes that a launcher would write to."""

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from joblet_agent.jobs.exec_session import ExecSession, exec_outcome
from joblet_agent.jobs.paths import ExecPaths
from joblet_agent.model.execution import ExecOutput
from joblet_agent.model.job import JobId, JobSpec, Outcome, Reason

JOB = JobId("7f3a0000-0000-4000-8000-000000000001")
SPEC = JobSpec("prog", work_dir="/work")
LAUNCHED = "0 launched\n"


@pytest.fixture(autouse=True)
def _files_stay_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "chown", lambda *_arguments, **_options: None)


def read_all(home: Path, write: Callable[[ExecPaths], None]) -> tuple[bytes, bytes, Outcome]:
    """Let ``write`` play launcher and command in a thread."""
    paths = ExecPaths(home / "exec")
    session = ExecSession(paths, SPEC, 0)
    got = {ExecOutput.STDOUT: b"", ExecOutput.STDERR: b""}
    ends: list[Outcome] = []

    async def main() -> None:
        async for event in session.events(JOB):
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
        (LAUNCHED + "2 cannot enter the working directory: No\nended 32000\n", Reason.START_FAILED, -1, 0),
        ("", Reason.START_FAILED, -1, 0),
    ],
)
def test_the_launchers_report(report: str, reason: Reason, exit_code: int, number: int) -> None:
    end = exec_outcome(JOB, report, SPEC)
    assert (end.reason, end.exit_code, end.signal) == (reason, exit_code, number)
