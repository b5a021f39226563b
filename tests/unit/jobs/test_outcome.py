"""The whole table of ends: spec, Outcome, and R9."""

import errno
import os
import signal
from dataclasses import replace
from datetime import timedelta

import pytest

from joblet_agent.jobs.outcome import outcome_of, signal_name
from joblet_agent.model.job import JobId, JobSpec, JobState, Outcome, Reason
from joblet_agent.model.resources import NOTHING, Resources
from joblet_agent.ports import UnitPhase, UnitStatus

JOB = JobId("7f3a0000-0000-4000-8000-000000000001")
SPEC = JobSpec("cmd")
LAUNCHED = "0 launched\n"
SIGNALS = sorted({*range(1, 32), *range(signal.SIGRTMIN, signal.SIGRTMAX + 1)} - {0})


def outcome(
    kind: str,
    number: int,
    result: str = "success",
    *,
    report: str = LAUNCHED,
    stop: bool = False,
    resources: Resources = NOTHING,
    spec: JobSpec = SPEC,
) -> Outcome:
    status = UnitStatus(
        JOB, UnitPhase.ENDED, invocation_id="a" * 32, exit_kind=kind, exit_status=number, result=result
    )
    return outcome_of(
        status, stop_requested=stop, launch_report=report, spec=replace(spec, resources=resources)
    )


def test_success() -> None:
    assert outcome("exited", 0) == Outcome(JobState.COMPLETED)


@pytest.mark.parametrize("number", range(1, 256))
def test_every_exit_status_of_a_command_that_was_launched_is_its_own(number: int) -> None:
    assert outcome("exited", number, "exit-code") == Outcome(
        JobState.FAILED, Reason.EXIT_CODE, number, 0, f"exited with status {number}"
    )


@pytest.mark.parametrize("number", range(200, 246))
def test_the_same_status_without_a_report_is_a_failed_start(number: int) -> None:
    found = outcome("exited", number, "exit-code", report="")
    assert (found.state, found.reason, found.exit_code) == (JobState.FAILED, Reason.START_FAILED, -1)
    assert found.message.startswith("could not start: ")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (203, "launcher"),
        (209, "log file"),
        (225, "network namespace"),
        (226, "file system namespace"),
        (228, "system call filter"),
        (231, "set-up step 231"),
    ],
)
def test_a_failed_start_names_the_step(number: int, words: str) -> None:
    assert words in outcome("exited", number, "exit-code", report="").message


@pytest.mark.parametrize("number", [1, 127, 199, 246, 255])
def test_other_statuses_without_a_report_are_the_launchers_end(number: int) -> None:
    assert outcome("exited", number, "exit-code", report="").exit_code == number


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("kind", ["killed", "dumped"])
@pytest.mark.parametrize("result", ["success", "signal", "core-dump"])
def test_every_signal_is_a_failure_even_where_systemd_calls_it_success(
    number: int, kind: str, result: str
) -> None:
    assert outcome(kind, number, result) == Outcome(
        JobState.FAILED, Reason.SIGNAL, -1, number, _killed_by(number)
    )


def _killed_by(number: int) -> str:
    try:
        return f"killed by signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"killed by signal {number}"


@pytest.mark.parametrize(
    ("number", "name"), [(15, "SIGTERM"), (9, "SIGKILL"), (35, "signal 35"), (0, "signal 0")]
)
def test_signal_names(number: int, name: str) -> None:
    assert signal_name(number) == name


def test_out_of_memory() -> None:
    assert outcome("killed", 9, "oom-kill") == Outcome(
        JobState.FAILED, Reason.OOM_KILL, -1, 9, "out of memory"
    )


def test_out_of_memory_tells_the_limit() -> None:
    found = outcome("killed", 9, "oom-kill", resources=Resources(max_memory=64 << 20))
    assert found.message == "out of memory, limit 64 MiB"


@pytest.mark.parametrize(("kind", "number"), [("killed", 15), ("killed", 9), ("exited", 0), ("exited", 3)])
def test_time_limit(kind: str, number: int) -> None:
    found = outcome(kind, number, "timeout", resources=Resources(timeout=timedelta(seconds=90)))
    assert (found.state, found.reason, found.message) == (
        JobState.FAILED,
        Reason.TIMEOUT,
        "timed out after 1m30s",
    )


@pytest.mark.parametrize(
    ("kind", "number", "result", "exit_code", "signal_number"),
    [
        ("killed", 15, "success", -1, 15),
        ("killed", 9, "timeout", -1, 9),
        ("killed", 9, "oom-kill", -1, 9),
        ("exited", 0, "success", 0, 0),
        ("exited", 143, "exit-code", 143, 0),
        ("", 0, "success", -1, 0),
    ],
)
def test_any_end_after_a_stop_is_stopped(
    kind: str, number: int, result: str, exit_code: int, signal_number: int
) -> None:
    found = outcome(kind, number, result, stop=True)
    assert (found.state, found.reason) == (JobState.STOPPED, Reason.STOPPED)
    assert (found.exit_code, found.signal) == (exit_code, signal_number)


def test_a_stop_before_anything_ran() -> None:
    assert outcome("", 0, report="", stop=True).state is JobState.STOPPED


def test_a_launcher_that_was_killed_before_it_spoke() -> None:
    assert outcome("killed", 9, "signal", report="").reason is Reason.SIGNAL


@pytest.mark.parametrize("result", ["resources", "protocol", "exec-condition", "start-limit-hit"])
def test_no_process_at_all(result: str) -> None:
    found = outcome("", 0, result, report="")
    assert (found.state, found.reason) == (JobState.FAILED, Reason.START_FAILED)
    assert result in found.message


@pytest.mark.parametrize("result", ["", "success", "resources"])
def test_a_command_whose_end_nobody_knows_has_not_succeeded(result: str) -> None:
    found = outcome("", 0, result)
    assert (found.state, found.reason, found.exit_code) == (JobState.FAILED, Reason.LOST, -1)


@pytest.mark.parametrize(
    ("line", "reason", "exit_code"),
    [
        ("2 No such file or directory", Reason.NOT_FOUND, 127),
        ("20 Not a directory", Reason.NOT_FOUND, 127),
        ("13 Permission denied", Reason.CANNOT_INVOKE, 126),
        ("8 Exec format error", Reason.CANNOT_INVOKE, 126),
        ("7 Argument list too long", Reason.CANNOT_INVOKE, 126),
        ("12 Cannot allocate memory", Reason.CANNOT_INVOKE, 126),
    ],
)
def test_commands_that_cannot_be_executed(line: str, reason: Reason, exit_code: int) -> None:
    found = outcome("exited", 127, "exit-code", report=f"{LAUNCHED}{line}\n")
    assert (found.state, found.reason, found.exit_code) == (JobState.FAILED, reason, exit_code)
    assert "'cmd'" in found.message


MISSING = "2 No such file or directory"
LONG = "x" * 1000


@pytest.mark.parametrize(
    ("spec", "line", "message"),
    [
        (JobSpec("/no/such"), MISSING, "program not found: '/no/such'"),
        (
            JobSpec("nope"),
            MISSING,
            "program not found: 'nope' in PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ),
        (JobSpec("nope", environment={"PATH": "/a:/b"}), MISSING, "program not found: 'nope' in PATH=/a:/b"),
        (JobSpec("bin/x"), MISSING, "program not found: 'bin/x' in /work"),
        (JobSpec("./x", work_dir="/tmp/y"), MISSING, "program not found: './x' in /tmp/y"),
        (JobSpec("/etc/passwd/x"), "20 Not a directory", "program not found: '/etc/passwd/x'"),
        (
            JobSpec("./run"),
            "2 missing interpreter: /usr/bin/python9",
            "program not found: './run' needs /usr/bin/python9, which is missing",
        ),
        (JobSpec("a\nb", environment={"PATH": ""}), MISSING, "program not found: 'a\\nb' in PATH="),
        (JobSpec("/" + LONG), MISSING, f"program not found: '/{LONG[:196]}...'"),
        (JobSpec("/usr"), "13 Permission denied", "program cannot be executed: '/usr': Permission denied"),
        (JobSpec("x"), "8 Exec format error", "program cannot be executed: 'x': Exec format error"),
    ],
)
def test_what_cannot_be_executed_says_what_and_where_it_was_looked_for(
    spec: JobSpec, line: str, message: str
) -> None:
    assert outcome("exited", 127, "exit-code", report=f"{LAUNCHED}{line}\n", spec=spec).message == message


@pytest.mark.parametrize(
    ("work_dir", "number", "told"),
    [
        ("/no/such", errno.ENOENT, "'/no/such' is missing"),
        ("/etc/passwd", errno.ENOTDIR, "'/etc/passwd' is no directory"),
        ("", errno.EACCES, "'/work' is closed to the job's user"),
        ("/loop", errno.ELOOP, "'/loop' cannot be entered: Too many levels of symbolic links"),
    ],
)
def test_a_directory_that_cannot_be_entered_is_named(work_dir: str, number: int, told: str) -> None:
    report = f"{LAUNCHED}{number} cannot enter the working directory: {os.strerror(number)}\n"
    found = outcome("exited", 200, "exit-code", report=report, spec=JobSpec("cmd", work_dir=work_dir))
    text = f"could not start: the working directory {told}"
    assert (found.reason, found.message) == (Reason.START_FAILED, text)


@pytest.mark.parametrize("before", ["", LAUNCHED])
def test_a_launcher_that_failed_says_what_it_could_not_do(before: str) -> None:
    found = outcome(
        "exited", 125, "exit-code", report=f"{before}1 cannot mount /proc: Operation not permitted\n"
    )
    assert (found.reason, found.exit_code) == (Reason.START_FAILED, -1)
    assert found.message == "could not start: cannot mount /proc: Operation not permitted"


@pytest.mark.parametrize("report", ["\ufffd", "x", "999999999999999999999 x", "-1 x", "\n\n", "²"])
def test_a_report_that_makes_no_sense_is_no_bug(report: str) -> None:
    assert outcome("exited", 127, "exit-code", report=report).state is JobState.FAILED
