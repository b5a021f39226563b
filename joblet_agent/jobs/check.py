"""What can be said about a request without looking at the host.

Pure. Everything here raises InvalidRequest with a text that names the thing and, for a limit, the limit.
"""

import re
from collections.abc import Iterator, Mapping

from joblet_agent.errors import InvalidRequest
from joblet_agent.model.job import JobSpec
from joblet_agent.model.workspace import LEAST_WORK, MOST_WORK

MOST_STRING = 131071
"""Bytes of one argument or variable: the kernel's MAX_ARG_STRLEN (execve(2)) without the final NUL."""
MOST_TOTAL = 3 * 512 * 1024
"""Bytes of all arguments and variables; the kernel takes 2 MiB (a quarter of the default stack limit)."""
MOST_VALUE = 32768
"""Bytes of a variable's value: the limit that every published client knows."""
MOST_NAME = 64
"""Characters of a job's name."""
MOST_PATH = 4095
"""Bytes of a path: PATH_MAX without the final NUL."""

_POINTER = 8
_WORD_PREFIX = len("JOBLET_ARG_100000=")
_LAUNCHER_PREFIX = len("JOBLET_ENV_")  # variables reach units/joblet-launch with it
_MOST_SHOWN = 40
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What is no text to systemd, wherever it reads any (unichar_is_valid() in its basic/utf8.c).
_NONCHARACTER = re.compile(
    "[\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | 0xFFFE) + chr(plane << 16 | 0xFFFF) for plane in range(17))
    + "]"
)


def check_spec(spec: JobSpec) -> None:
    """Raise InvalidRequest if the spec can never run. Its network is another's to check (networks/)."""
    check_command(spec)
    _check_name(spec.name)
    _check_work_size(spec.resources.work_size)
    if spec.skip_missed and not spec.schedule:
        raise InvalidRequest(
            "cannot run job: --skip-missed is about a start that was scheduled, and none is",
            reason="SKIP_WITHOUT_SCHEDULE",
            hint="leave it out, or say when the job is to start: --schedule",
        )


def check_command(spec: JobSpec) -> None:
    """Raise InvalidRequest if the command with its directory and its variables can never run."""
    if not spec.command:
        raise InvalidRequest("cannot run job: command is required", reason="COMMAND_REQUIRED")
    for what, text in _texts(spec):
        check_text(what, text)
    for name, value in spec.environment.items():
        check_variable(name, value)
    check_total(spec, spec.environment)
    _check_work_dir(spec.work_dir)


def quoted(text: str) -> str:
    """Return somebody's text fit for an error: in quotes, on one line, and short."""
    return repr(text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 3] + "...")


def _texts(spec: JobSpec) -> Iterator[tuple[str, str]]:
    yield "command", spec.command
    yield "name", spec.name
    yield "network", spec.network
    yield "working directory", spec.work_dir
    for number, argument in enumerate(spec.args, start=1):
        yield f"argument {number}", argument
    for name, value in spec.environment.items():
        yield f"name of variable {quoted(name)}", name
        yield f"variable {quoted(name)}", value


def check_text(what: str, text: str) -> None:
    """Raise InvalidRequest for text that cannot arrive in a job. The error shows nothing of the text."""
    if "\0" in text:
        raise InvalidRequest(f"cannot run job: {what} contains a NUL byte", reason="NUL_BYTE")
    if _NONCHARACTER.search(text):
        raise InvalidRequest(
            f"cannot run job: {what} contains a code point which Unicode reserves as no character",
            reason="NONCHARACTER",
        )
    if _size(what, text) > MOST_STRING:
        raise InvalidRequest(
            f"cannot run job: {what} has {_size(what, text)} bytes, at most {MOST_STRING} are possible",
            reason="ARGUMENT_TOO_LONG",
            hint="let the command read large data from a file",
        )


def _size(what: str, text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise InvalidRequest(f"cannot run job: {what} is not UTF-8 text", reason="NOT_UTF8") from None


def _check_name(name: str) -> None:
    if len(name) > MOST_NAME:
        raise InvalidRequest(
            f"cannot run job: its name has {len(name)} characters, at most {MOST_NAME} are allowed",
            reason="BAD_JOB_NAME",
        )
    if not name.isprintable() or name != name.strip():
        raise InvalidRequest(
            f"cannot run job: name {quoted(name)} has control characters, or blanks around it",
            reason="BAD_JOB_NAME",
        )


def check_variable(name: str, value: str) -> None:
    """Raise InvalidRequest for what cannot be a variable. The error shows nothing of the value."""
    if not _VARIABLE.fullmatch(name):
        raise InvalidRequest(
            f"cannot run job: {quoted(name)} cannot be the name of a variable",
            reason="BAD_VARIABLE_NAME",
            hint="use letters, digits and underscores, and no digit first",
        )
    size = len(value.encode())
    if size > MOST_VALUE:
        raise InvalidRequest(
            f"cannot run job: variable {quoted(name)} has {size} bytes, at most {MOST_VALUE} are allowed",
            reason="VARIABLE_TOO_LONG",
            hint="let the command read large data from a file",
        )
    if _LAUNCHER_PREFIX + len(name) + 1 + size > MOST_STRING:
        raise InvalidRequest(
            f"cannot run job: name of variable {quoted(name)} is too long", reason="BAD_VARIABLE_NAME"
        )


def check_total(spec: JobSpec, variables: Mapping[str, str]) -> None:
    """Raise InvalidRequest if it is too much for execve(2), which counts strings with NUL and pointer."""
    words = (spec.command, *spec.args)
    arguments = sum(_WORD_PREFIX + len(text.encode()) + 1 + _POINTER for text in words)
    total = arguments + sum(
        _LAUNCHER_PREFIX + len(name) + 1 + len(value.encode()) + 1 + _POINTER
        for name, value in variables.items()
    )
    if total > MOST_TOTAL:
        raise InvalidRequest(
            f"cannot run job: arguments and variables take {total} bytes together, "
            f"at most {MOST_TOTAL} are possible",
            reason="ARGUMENTS_TOO_LONG",
            hint="let the command read large data from a file",
        )


def _check_work_dir(work_dir: str) -> None:
    if not work_dir:
        return
    parts = [part for part in work_dir.split("/") if part not in {"", "."}]
    if not work_dir.startswith("/"):
        problem = "must be absolute"
    elif ".." in parts:
        problem = "must not contain .."
    elif parts[:1] == ["proc"] or parts[:2] == ["dev", "fd"]:
        problem = "must not be below /proc"  # /proc/self/fd/N would be a directory of whoever starts the job
    elif not work_dir.isprintable():
        problem = "must not contain control characters"
    elif len(work_dir.encode()) > MOST_PATH:
        problem = f"must not be longer than {MOST_PATH} bytes"
    else:
        return
    raise InvalidRequest(
        f"cannot run job: working directory {quoted(work_dir)} {problem}", reason="BAD_WORK_DIR"
    )


def _check_work_size(size: int) -> None:
    if size and not LEAST_WORK <= size <= MOST_WORK:
        raise InvalidRequest(
            f"cannot run job: work size must be from {LEAST_WORK} to {MOST_WORK} bytes, not {size}",
            reason="BAD_WORK_SIZE",
        )
