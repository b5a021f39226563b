"""From a job's record to its place on the host. Pure."""

from collections.abc import Mapping
from pathlib import Path

from joblet_agent.jobs.paths import AgentPaths
from joblet_agent.model.job import JobRecord, JobSpec
from joblet_agent.model.profile import Profile
from joblet_agent.ports import CREDENTIALS_DIRECTORY, LaunchPlan

PROGRAMS = Path("/usr")
"""The host's directory that every job sees."""
_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_HIDDEN = "***"


def launch_plan(
    record: JobRecord, paths: AgentPaths, root: Path, secrets: Mapping[str, str] | None = None
) -> LaunchPlan:
    """Return everything that starts the job; the same record gives the same plan.

    ``secrets`` are the values of its secret variables; with None the plan is for showing.
    """
    own = paths.job(record.id)
    if secrets is None:
        secrets = dict.fromkeys(record.spec.secret_environment, _HIDDEN)
    return LaunchPlan(
        job_id=record.id,
        spec=record.spec,
        uid=record.uid,
        work=own.work,
        log=own.log,
        launch_report=own.launch_report,
        environment_file=own.environment,
        root=root,
        disks=(PROGRAMS, own.work),
        profile=Profile(record.spec.profile or Profile.DEFAULT),
        environment=_environment(record, secrets),
        credentials=own.credentials if record.spec.secret_files else None,
    )


def search_path(spec: JobSpec) -> str:
    """Return where a command without a slash is looked for: the PATH that the job gets."""
    return spec.environment.get("PATH", _SEARCH_PATH)


def _environment(record: JobRecord, secrets: Mapping[str, str]) -> dict[str, str]:
    user = "root" if record.spec.profile == Profile.PRIVILEGED else "job"
    base = {
        "PATH": _SEARCH_PATH,
        "HOME": "/work",
        "USER": user,
        "LOGNAME": user,
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
        "JOBLET_JOB_ID": record.id,
    }
    if record.spec.secret_files:
        base["CREDENTIALS_DIRECTORY"] = CREDENTIALS_DIRECTORY
    return {**base, **record.spec.environment, **secrets}
