"""Unit names and D-Bus object paths of jobs, of the slices they are in and of the timers that start them."""

import re
import uuid
from pathlib import Path
from string import ascii_letters, digits

from joblet_agent.model.ids import JobId, WorkflowId
from joblet_agent.ports import TimerId, TimerKind

JOBS_SLICE = "joblet-jobs.slice"
BUILDS_SLICE = "joblet-builds.slice"
AGENT_UNIT = "joblet-agent.service"
JOB_UNIT_PATTERN = "joblet-job-*.service"
WORKFLOW_SLICE_PATTERN = "joblet-jobs-*.slice"
TIMER_UNIT_PATTERNS = [f"joblet-{kind}@*.timer" for kind in TimerKind]

VOLUME_UNIT_PATTERN = "joblet-volume-*.service"
BUILD_UNIT_PATTERN = "joblet-build-*.service"
EXEC_UNIT_PATTERN = "joblet-exec-*.service"
NAME_SERVER_PATTERN = "joblet-dns@*.service"

UNIT_PATH_PREFIX = "/org/freedesktop/systemd1/unit/"
_CGROUP_ROOT = Path("/sys/fs/cgroup")
JOBS_SLICE_PATH = UNIT_PATH_PREFIX + "joblet_2djobs_2eslice"
_JOB_PATH_PREFIX = UNIT_PATH_PREFIX + "joblet_2djob_2d"
_JOB_PATH_SUFFIX = "_2eservice"
_TIMER_PATH_SUFFIX = "_2etimer"
_TIMER_PATH_PREFIXES = tuple(f"{UNIT_PATH_PREFIX}joblet_2d{kind}_40" for kind in TimerKind)
_OUR_PATH_PREFIXES = (_JOB_PATH_PREFIX, *_TIMER_PATH_PREFIXES)
_SLASH = ord("/")
_IN_PATHS = frozenset(ascii_letters + digits)
_PLAIN = _IN_PATHS | frozenset(":_.")
_NAME_SERVER_PREFIX, _SERVICE = "joblet-dns@", ".service"
_WORKFLOW_SLICE = re.compile(r"joblet-jobs-([0-9a-f]{32})\.slice")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def unit_name(job_id: JobId) -> str:
    """Return the name of the job's unit."""
    return f"joblet-job-{job_id}.service"


def exec_unit_name(exec_id: str) -> str:
    """Return the name of the unit of a command inside a job; none of the job units' names."""
    return f"joblet-exec-{exec_id}.service"


def build_unit_name(build_id: str, step: str) -> str:
    """Return the name of the unit of a build's step; ``*`` as a step makes the pattern of all."""
    return f"joblet-build-{build_id}-{step}.service"


def build_of_unit(name: str) -> str:
    """Return the build of such a unit; ids have no dashes."""
    return name.removeprefix("joblet-build-").partition("-")[0]


def name_server_unit(network: str) -> str:
    """Return the name of the unit that serves names on the network."""
    return f"{_NAME_SERVER_PREFIX}{network}{_SERVICE}"


def network_of_name_server(unit: str) -> str | None:
    """Return the network of such a unit, None if it is none."""
    if unit.startswith(_NAME_SERVER_PREFIX) and unit.endswith(_SERVICE):
        return unit[len(_NAME_SERVER_PREFIX) : -len(_SERVICE)]
    return None


def workflow_slice(workflow_id: str) -> str:
    """Return the name of the slice of the workflow's jobs. No dash in the id: each would nest a slice."""
    return f"joblet-jobs-{workflow_id.replace('-', '')}.slice"


def workflow_of_slice(name: str) -> WorkflowId | None:
    """Return the workflow of a slice's name, None if the unit is no workflow's slice."""
    found = _WORKFLOW_SLICE.fullmatch(name)
    return WorkflowId(str(uuid.UUID(found[1]))) if found else None


def slice_of(workflow_id: str) -> str:
    """Return the slice of a job: its workflow's, or that of all jobs where it has none."""
    return workflow_slice(workflow_id) if workflow_id else JOBS_SLICE


def control_group(job_id: JobId, root: str = "", workflow_id: str = "") -> Path:
    """Return the directory of the job's control group; ``root`` is the Manager's ControlGroup property."""
    # A dash in the name of a slice nests it: systemd.slice(5).
    jobs = _CGROUP_ROOT / root.strip("/") / "joblet.slice" / JOBS_SLICE
    return (jobs / workflow_slice(workflow_id) if workflow_id else jobs) / unit_name(job_id)


def unit_path(job_id: JobId) -> str:
    """Return the object path of the job's unit (sd_bus_path_encode(3))."""
    return _JOB_PATH_PREFIX + job_id.replace("-", "_2d") + _JOB_PATH_SUFFIX


def job_of_unit(name: str) -> JobId | None:
    """Return the job of a unit name, None if the unit is no job's."""
    if not (name.startswith("joblet-job-") and name.endswith(".service")):
        return None
    return _job_id(name[len("joblet-job-") : -len(".service")])


def is_our_path(path: str) -> bool:
    """Say whether the object path looks like a unit of ours; cheap, for every signal of every unit."""
    return path.startswith(_OUR_PATH_PREFIXES)


def job_of_path(path: str) -> JobId | None:
    """Return the job of a unit's object path, None if it is no job's.

    Runs for every signal of every unit of the host, so it looks at the prefix first.
    """
    if not (path.startswith(_JOB_PATH_PREFIX) and path.endswith(_JOB_PATH_SUFFIX)):
        return None
    return _job_id(path[len(_JOB_PATH_PREFIX) : -len(_JOB_PATH_SUFFIX)].replace("_2d", "-"))


def timer_unit_name(timer: TimerId) -> str:
    """Return the name of the timer's unit: an instance, so that what it triggers is a static unit."""
    return f"joblet-{timer.kind}@{timer.id}.timer"


def timer_path(timer: TimerId) -> str:
    """Return the object path of the timer's unit."""
    return f"{UNIT_PATH_PREFIX}joblet_2d{timer.kind}_40{timer.id.replace('-', '_2d')}{_TIMER_PATH_SUFFIX}"


def timer_of_unit(name: str) -> TimerId | None:
    """Return the timer of a unit name, None if it is none of ours."""
    for kind in TimerKind:
        if name.startswith(f"joblet-{kind}@") and name.endswith(".timer"):
            text = name[len(f"joblet-{kind}@") : -len(".timer")]
            return TimerId(kind, text) if _UUID.fullmatch(text) else None
    return None


def timer_of_path(path: str) -> TimerId | None:
    """Return the timer of a unit's object path, None if it is none of ours."""
    if not (path.startswith(_TIMER_PATH_PREFIXES) and path.endswith(_TIMER_PATH_SUFFIX)):
        return None
    return timer_of_unit(
        path[len(UNIT_PATH_PREFIX) :].replace("_2d", "-").replace("_40", "@").replace("_2e", ".")
    )


def mount_unit_name(where: Path) -> str:
    """Return the name of the unit of a mount point: systemd.unit(5), "String escaping"."""
    text = str(where).strip("/")
    escaped = "".join(
        "-" if byte == _SLASH else chr(byte) if chr(byte) in _PLAIN else f"\\x{byte:02x}"
        for byte in text.encode()
    )
    return ("\\x2e" + escaped[1:] if escaped.startswith(".") else escaped) + ".mount"


def any_unit_path(name: str) -> str:
    """Return the object path of a unit by its name (sd_bus_path_encode(3))."""
    return UNIT_PATH_PREFIX + "".join(
        chr(byte) if chr(byte) in _IN_PATHS else f"_{byte:02x}" for byte in name.encode()
    )


def _job_id(text: str) -> JobId | None:
    return JobId(text) if _UUID.fullmatch(text) else None
