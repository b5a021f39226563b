"""How a job ended: the unit's result in the words of jobs. Pure."""

import errno
import signal
from dataclasses import replace

from joblet_agent.jobs.plan import search_path
from joblet_agent.model.job import JobSpec, JobState, Outcome, Reason
from joblet_agent.model.resources import Resources
from joblet_agent.model.runtime import PinnedRuntime
from joblet_agent.ports import UnitStatus
from joblet_agent.units import format_duration, readable_bytes

# systemd.exec(5), "Process Exit Codes": set-up steps that failed before the launcher ran.
_SETUP_STEPS = {
    203: "the launcher is missing: is the package installed completely?",
    209: "its log file could not be opened",
    214: "its scheduling could not be set",
    219: "its control group could not be set up",
    225: "its network namespace could not be set up",
    226: "its file system namespace could not be set up",
    227: "new privileges could not be switched off",
    228: "its system call filter could not be installed",
    243: "its credentials could not be set up",
}
WORK_DIR = "/work"
_FIRST_SETUP_STATUS, _LAST_SETUP_STATUS = 200, 245
_LAUNCHED = "0 launched"
_NOT_FOUND = {errno.ENOENT, errno.ENOTDIR}
_NOT_FOUND_STATUS, _CANNOT_INVOKE_STATUS = 127, 126
_NO_WORK_DIR = "cannot enter the working directory"
_NO_ENTRY = {
    errno.ENOENT: "is missing",
    errno.ENOTDIR: "is no directory",
    errno.EACCES: "is closed to the job's user",
}
_MISSING_INTERPRETER = "missing interpreter: "
_MOST_SHOWN = 200


def outcome_of(  # noqa: PLR0911 - one return for each row of the table
    status: UnitStatus,
    *,
    stop_requested: bool,
    launch_report: str,
    spec: JobSpec,
    runtime: PinnedRuntime | None = None,
) -> Outcome:
    """Say how the job ended, and of each failure why in one line.

    ``launch_report`` is what the launcher wrote (units/joblet-launch); empty if it never ran.
    """
    failure = _launch_failure(status, launch_report, spec, runtime)
    if failure is not None and not (stop_requested and not status.exit_kind):
        return failure
    if stop_requested:
        return _ended(status, JobState.STOPPED, Reason.STOPPED)
    match status.result, status.exit_kind, status.exit_status:
        case "oom-kill", _, _:
            return _ended(status, JobState.FAILED, Reason.OOM_KILL, _out_of_memory(spec.resources))
        case "timeout", _, _:
            return _ended(status, JobState.FAILED, Reason.TIMEOUT, _timed_out(spec.resources))
        case _, "killed" | "dumped", number:
            return _ended(status, JobState.FAILED, Reason.SIGNAL, f"killed by {_signal(number)}")
        case _, "", _:  # never a success: systemd answers with zeros for what it does not know
            return _ended(status, JobState.FAILED, Reason.LOST, "its command ran, nobody knows how it ended")
        case _, _, 0:
            return Outcome(JobState.COMPLETED)
    return _ended(status, JobState.FAILED, Reason.EXIT_CODE, f"exited with status {status.exit_status}")


def _out_of_memory(resources: Resources) -> str:
    limit = f", limit {readable_bytes(resources.max_memory)}" if resources.max_memory else ""
    return f"out of memory{limit}"


def _timed_out(resources: Resources) -> str:
    return f"timed out after {format_duration(resources.timeout)}" if resources.timeout else "timed out"


def _ended(status: UnitStatus, state: JobState, reason: Reason, message: str = "") -> Outcome:
    exit_code = status.exit_status if status.exit_kind == "exited" else -1
    signal_number = status.exit_status if status.exit_kind in {"killed", "dumped"} else 0
    return Outcome(state, reason, exit_code, signal_number, message)


def with_full_work(outcome: Outcome, resources: Resources) -> Outcome:
    """Return the outcome with a hint at the most likely cause."""
    limit = readable_bytes(resources.work_size)
    return replace(outcome, message=f"{outcome.message}; its /work was full, limit {limit}")


def start_failed(message: str) -> Outcome:
    """Return the outcome of a job whose command never ran."""
    return Outcome(JobState.FAILED, Reason.START_FAILED, -1, 0, message)


def stopped_before_start() -> Outcome:
    """Return the outcome of a job that was stopped and had not begun."""
    return Outcome(JobState.STOPPED, Reason.STOPPED, -1, 0, "stopped before its command ran")


def stopped_meanwhile() -> Outcome:
    """Return the outcome of a job that was to be stopped, and whose end nobody has seen."""
    return Outcome(JobState.STOPPED, Reason.STOPPED, -1, 0, "stopped while the agent was not running")


def lost() -> Outcome:
    """Return the outcome of a job whose end nobody has seen."""
    return Outcome(
        JobState.FAILED, Reason.LOST, -1, 0, "its unit ended while the agent was away, nobody knows how"
    )


def host_rebooted() -> Outcome:
    """Return the outcome of a job of an earlier boot."""
    return Outcome(JobState.FAILED, Reason.HOST_REBOOTED, -1, 0, "the host was rebooted or lost power")


def signal_name(number: int) -> str:
    """Return SIGTERM for 15, and ``signal N`` for numbers without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _signal(number: int) -> str:
    name = signal_name(number)
    return name if name == f"signal {number}" else f"signal {number} ({name})"


def _launch_failure(
    status: UnitStatus, launch_report: str, spec: JobSpec, runtime: PinnedRuntime | None
) -> Outcome | None:
    lines = launch_report.splitlines()
    if not lines:
        return _setup_failure(status)
    if lines[-1] == _LAUNCHED:
        return None
    number, _, text = lines[-1].partition(" ")
    cause = int(number) if number.isascii() and number.isdigit() else 0
    if text.startswith(_NO_WORK_DIR):
        shown = _shown(spec.work_dir or WORK_DIR)
        why = _NO_ENTRY.get(cause) or f"cannot be entered{text.removeprefix(_NO_WORK_DIR)}"
        return start_failed(f"could not start: the working directory {shown} {why}")
    if "cannot " in text:
        return start_failed(f"could not start: {text}")
    if cause in _NOT_FOUND:
        why = f"program not found: {_shown(spec.command)}{_where(spec, text, runtime)}"
        return Outcome(JobState.FAILED, Reason.NOT_FOUND, _NOT_FOUND_STATUS, 0, why)
    why = f"program cannot be executed: {_shown(spec.command)}: {text}"
    return Outcome(JobState.FAILED, Reason.CANNOT_INVOKE, _CANNOT_INVOKE_STATUS, 0, why)


def _where(spec: JobSpec, text: str, runtime: PinnedRuntime | None) -> str:
    """Say where a program was looked for, or what else is missing (execvp(3))."""
    if text.startswith(_MISSING_INTERPRETER):
        return f" needs {text.removeprefix(_MISSING_INTERPRETER)}, which is missing"
    if spec.command.startswith("/"):
        return ""
    if "/" in spec.command:
        return f" in {spec.work_dir or WORK_DIR}"
    whose = f" of runtime {runtime}" if runtime else ""
    return f" in PATH={_cut(search_path(spec, runtime))}{whose}"


def _shown(text: str) -> str:
    return repr(_cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 3] + "..."


def _setup_failure(status: UnitStatus) -> Outcome | None:
    if not status.exit_kind:
        word = "nothing ran" if status.result in {"", "success"} else status.result
        return start_failed(f"could not start: systemd says: {word}")
    if status.exit_kind == "exited" and _FIRST_SETUP_STATUS <= status.exit_status <= _LAST_SETUP_STATUS:
        step = _SETUP_STEPS.get(status.exit_status, f"set-up step {status.exit_status} failed")
        return start_failed(f"could not start: {step}")
    return None
