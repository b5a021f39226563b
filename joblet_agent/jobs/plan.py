"""From a job's record to its place on the host. Pure."""

from collections.abc import Mapping
from pathlib import Path

from joblet_agent.jobs.paths import AgentPaths
from joblet_agent.model.gpu import LIBRARIES, HeldGpus
from joblet_agent.model.job import JobRecord, JobSpec
from joblet_agent.model.profile import Profile
from joblet_agent.model.runtime import PinnedRuntime
from joblet_agent.networks.place import NO_PLACE, Place
from joblet_agent.ports import CREDENTIALS_DIRECTORY, LaunchPlan, PlacedVolume

PROGRAMS = Path("/usr")
"""The host's directory that every job sees."""
_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_FIRST_PATH = "PATH_PREPEND"
"""Variable of a runtime: directories in front of those of PATH, whoever says what that is."""

_OWN = "JOBLET_"
"""Begins the variables that the agent alone sets; a request may."""
_HIDDEN = "***"

OUTPUT_NAME = ".joblet-output"
"""File in ``/work`` whose lines ``KEY=VALUE`` are what a job of a workflow tells the others."""
OUTPUT_FILE = f"/work/{OUTPUT_NAME}"


def launch_plan(
    record: JobRecord,
    paths: AgentPaths,
    root: Path,
    secrets: Mapping[str, str] | None = None,
    place: Place = NO_PLACE,
) -> LaunchPlan:
    """Return everything that starts the job; the same record gives the same plan.

    ``secrets`` are the values of its secret variables; with None the plan is for showing. ``place`` is on its
    network.
    """
    own = paths.job(record.id)
    runtime = record.runtime
    if runtime is not None:
        root = paths.runtime_tree(runtime.digest)
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
        disks=(PROGRAMS if runtime is None else root, own.work, *_devices(record, paths)),
        profile=Profile(record.spec.profile or Profile.DEFAULT),
        environment=_environment(record, secrets),
        credentials=own.credentials if record.spec.secret_files else None,
        namespace=place.namespace,
        resolver=place.resolver,
        volumes=tuple(
            PlacedVolume(paths.volume(mount.volume).contents, mount.target, mount.is_read_only)
            for mount in record.spec.volumes
        ),
        groups=tuple(sorted({held.number for held in record.volumes} - {record.uid})) if record.uid else (),
        workflow_id=record.workflow_id,
        runtime=runtime,
        gpus=record.gpus,
        kit=paths.launch_kit if runtime is not None else None,
    )


def _devices(record: JobRecord, paths: AgentPaths) -> list[Path]:
    return [paths.volume(held.volume).contents for held in record.volumes if held.is_device]


def search_path(spec: JobSpec, runtime: PinnedRuntime | None = None) -> str:
    """Return where a command without a slash is looked for: the PATH that the job gets."""
    of_runtime = {} if runtime is None else runtime.environment
    return with_first_path({"PATH": _SEARCH_PATH, **of_runtime, **spec.environment}, runtime)["PATH"]


def with_first_path(environment: Mapping[str, str], runtime: PinnedRuntime | None) -> dict[str, str]:
    """Return the variables with what a runtime wants in front of PATH there."""
    variables = dict(environment)
    if runtime is not None and _FIRST_PATH in runtime.environment:
        first = variables.pop(_FIRST_PATH)
        variables["PATH"] = f"{first}:{variables['PATH']}" if first else variables["PATH"]
    return variables


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
    if record.workflow_id:
        base["JOBLET_WORKFLOW_ID"] = record.workflow_id
        base["JOBLET_WORKFLOW_JOB"] = record.spec.name
        base["JOBLET_OUTPUT"] = OUTPUT_FILE
    if record.spec.secret_files:
        base["CREDENTIALS_DIRECTORY"] = CREDENTIALS_DIRECTORY
    if record.gpus is not None:
        base |= _gpu_variables(record.gpus)
    runtime = record.runtime
    if runtime is not None:
        own = {name: text for name, text in runtime.environment.items() if not name.startswith(_OWN)}
        base |= {**own, "JOBLET_RUNTIME": str(runtime)}
    variables = {**base, **record.spec.environment, **secrets}
    if record.gpus is not None:
        variables["LD_LIBRARY_PATH"] = _library_path(record, variables.get("LD_LIBRARY_PATH", ""))
    return with_first_path(variables, runtime)


def _gpu_variables(gpus: HeldGpus) -> dict[str, str]:
    count = str(len(gpus.indices))
    return {
        # CUDA counts what it can open, and that are the job's own: from 0, whatever they are on the host.
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, range(len(gpus.indices)))),
        "NVIDIA_VISIBLE_DEVICES": ",".join(map(str, gpus.indices)),
        "JOBLET_GPU_COUNT": count,
        "JOBLET_GPU_ALLOCATED_COUNT": count,
    }


def _library_path(record: JobRecord, others: str) -> str:
    """Return the driver's libraries in front of others: those in a runtime, or where the host has them."""
    assert record.gpus is not None
    if record.runtime is not None:
        own = [LIBRARIES]
    else:
        own = list(dict.fromkeys(str(Path(host).parent) for host, _name in record.gpus.libraries))
    return ":".join([*own, *([others] if others else [])])
