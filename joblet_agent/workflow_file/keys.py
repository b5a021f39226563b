"""Every key that a workflow file may have: what it takes and what it means.

The one list of them: reading, the JSON Schema and the manual page are made from it.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from posixpath import normpath

from joblet_agent.amounts import AmountError, parse_cpu, parse_megabytes, parse_rate
from joblet_agent.cpu_list import parse_cpu_list
from joblet_agent.units import parse_duration, parse_timeout
from joblet_agent.workflow_file.raw import JobSection
from joblet_agent.workflow_file.requires import Requires
from joblet_agent.workflow_file.values import When
from joblet_agent.yaml_file.kinds import Key, ListOf, MapOf, Scalar, Schema, SectionOf
from joblet_agent.yaml_file.problems import near, shown

MOST_RETRIES = 100
MOST_PARALLEL = 10_000
MOST_LABEL = 100
"""Characters of a workflow's name."""
JOB_NAME = re.compile(r"\.?[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
"""Of jobs and workflows. One with a dot first is a template."""

_TEXT: Schema = {"type": ["string", "number", "boolean"]}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _text(text: str) -> str:
    if not text:
        raise ValueError("expected a text, not nothing")
    return text


def _path(text: str) -> str:
    return _below(normpath(_text(text)), "the directory of this file")


def _output_path(text: str) -> str:
    return _below(normpath(_text(text)).removeprefix("/work/"), "/work")


def _below(path: str, what: str) -> str:
    if path.startswith("/") or path.split("/", maxsplit=1)[0] in {".", ".."}:
        raise ValueError(f"expected a path below {what}")
    return path


def _label(text: str) -> str:
    if len(text) > MOST_LABEL or not _text(text).isprintable():
        raise ValueError(f"expected at most {MOST_LABEL} characters, all of them printable")
    return text


def _number(low: int, high: int) -> Scalar:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or not low <= int(text[:12]) <= high:
            raise ValueError(f"expected a whole number from {low} to {high}")
        return int(text)

    return Scalar(parse, {"type": "integer", "minimum": low, "maximum": high})


def _factor(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 1 <= value <= 10:  # noqa: PLR2004 - said in the next line
        raise ValueError("expected a number from 1 to 10, such as 2 or 1.5")
    return value


def _amount(parse: Callable[[str], int]) -> Scalar:
    @lru_cache(100)  # jobs of one file ask for the same
    def read(text: str) -> int:
        try:
            return parse(text)
        except AmountError as error:
            hint = f"; {error.hint}" if error.hint else ""
            raise ValueError(f"{error}{hint}, not {shown(text)}") from error

    return Scalar(read, _TEXT)


def _cores(text: str) -> str:
    parse_cpu_list(text)
    return text


def _timeout(text: str) -> str:
    parse_timeout(text)
    return text


def _when(text: str) -> When:
    try:
        return When(text)
    except ValueError:
        known = [each.value for each in When]
        raise ValueError(f"expected {', '.join(known)}, not {shown(text)}{near(text, known)}") from None


_ANY = Scalar()
_SOME = Scalar(_text, _TEXT)
_TEXTS = ListOf(_SOME)
_PATHS = ListOf(Scalar(_path, _TEXT))
_DURATION = Scalar(parse_duration, {"type": "string"})
_RETRIES = _number(0, MOST_RETRIES)
_VARIABLES = MapOf(_ANY, _VARIABLE, "a variable (letters, digits and _, no digit first)")
_GPU_MEMORY = "not offered; ask for a number of GPUs (gpu_count)"
_MOST_GPUS = 1024

RESOURCES = SectionOf(
    (
        Key("max_cpu", _amount(parse_cpu), "Percent of one core (150), or cores (1.5)."),
        Key("max_memory", _amount(parse_megabytes), "MB (512), or with a unit (512M, 2G)."),
        Key(
            "max_io_bps",
            _amount(parse_rate),
            "Bytes per second, of reads and of writes, or with a unit (10M).",
        ),
        Key("max_iobps", _amount(parse_rate), "Another spelling of max_io_bps."),
        Key("cpu_cores", Scalar(_cores, _TEXT), "CPUs: 0-3, 0,2,4 or 0-1,6."),
        Key("max_tasks", _number(0, 2**31 - 1), "Processes and threads."),
        Key("gpu_count", _number(0, _MOST_GPUS), "GPUs of the host, for this job alone."),
        Key("gpu_memory_mb", _ANY, "", refused=_GPU_MEMORY),
    )
)
UPLOADS = SectionOf(
    (
        Key("files", _PATHS, "Files beside this one; they are in /work under the path as it is written."),
        Key("directories", _PATHS, "Directories beside this file, with everything in them."),
    )
)
RETRIES = SectionOf(
    (
        Key("count", _RETRIES, "How often a job that failed is started again."),
        Key("delay", _DURATION, "Pause before the first retry, such as 10s."),
        Key(
            "backoff",
            Scalar(_factor, {"type": "number"}),
            "Each pause is the one before times this (1 to 10).",
        ),
        Key("max_delay", _DURATION, "No pause is longer."),
    ),
    alone=_RETRIES,
)
OUTPUTS = SectionOf(
    (
        Key(
            "files",
            ListOf(Scalar(_output_path, _TEXT)),
            "Paths in /work; jobs that wait for this one find them in /work/inputs/JOB.",
        ),
    )
)
JOB_KEYS = (
    Key("command", _SOME, "The program, or with its arguments in args."),
    Key("args", ListOf(_ANY), "Arguments of the command."),
    Key("description", _ANY, "For people."),
    Key("extends", _TEXTS, "Jobs of this file whose keys this one takes over; its own win."),
    Key("runtime", _SOME, "Runtime, as rnx run --runtime."),
    Key("network", _SOME, "Network, as rnx run --network."),
    Key("volumes", _TEXTS, "Volumes, as rnx run --volume: NAME[:/PATH][:ro]."),
    Key("uploads", UPLOADS, "Files that the job finds in /work."),
    Key("requires", Requires(), "What it waits for; all of it must hold."),
    Key(
        "when",
        Scalar(_when, {"enum": [each.value for each in When]}),
        "For jobs that requires names without a status, or for all others: success, always, failure.",
    ),
    Key("resources", RESOURCES, "Limits."),
    Key("environment", _VARIABLES, "Variables; ${NAME} is the value of another one."),
    Key("secret_environment", _VARIABLES, "Variables whose values nobody sees later."),
    Key("workdir", _SOME, "Directory in the job to start in (/work)."),
    Key("retries", RETRIES, "How often a job that failed is started again: a number, or a section."),
    Key("timeout", Scalar(_timeout, {"type": "string"}), "Longest time of one try, such as 30m."),
    Key("max_wait", _DURATION, "Longest wait for what it requires; then it is canceled."),
    Key(
        "matrix",
        MapOf(ListOf(_SOME), _VARIABLE, "a name"),
        "One job for each combination; ${matrix.NAME} is its value.",
    ),
    Key("outputs", OUTPUTS, "What other jobs get of this one."),
    Key("schedule", _ANY, "", refused="a schedule is the whole workflow's; write it beside jobs"),
    Key("conditions", _ANY, "", refused="not offered; use requires with an expression, or when"),
)
JOB = JobSection(SectionOf(JOB_KEYS))
_JOBS = MapOf(JOB, JOB_NAME, "a name of letters, digits, _, - and ., 63 characters at most")
WORKFLOW_KEYS = (
    Key("name", Scalar(_label, {**_TEXT, "maxLength": MOST_LABEL}), "For people."),
    Key("description", _ANY, "For people."),
    Key("environment", _VARIABLES, "Variables of all jobs."),
    Key("secret_environment", _VARIABLES, "Secret variables of all jobs."),
    Key("defaults", JOB, "Keys that all jobs have which do not set them."),
    Key("max_parallel", _number(1, MOST_PARALLEL), "Jobs that run at once."),
    Key("schedule", _SOME, "When to start: a time, or a calendar expression of systemd.time(7)."),
    Key("jobs", _JOBS, "The jobs, by their names."),
)
WORKFLOW = SectionOf(WORKFLOW_KEYS)
FILE = SectionOf(
    (
        *WORKFLOW_KEYS,
        Key("version", _ANY, "Of the file; not used."),
        Key(
            "workflows",
            MapOf(WORKFLOW, JOB_NAME, "a name of letters, digits, _, - and ."),
            "Several workflows, by their names: FILE:NAME is one of them.",
        ),
    )
)
