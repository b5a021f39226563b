from dataclasses import replace
from pathlib import Path

import pytest

from joblet_agent.jobs.paths import AgentPaths
from joblet_agent.jobs.plan import launch_plan, search_path
from joblet_agent.model.gpu import GpuNode, HeldGpus
from joblet_agent.model.job import JobSpec
from joblet_agent.model.runtime import PinnedRuntime
from tests.contract.job_records import record

PATHS = AgentPaths(Path("/var/lib/joblet"), Path("/run/joblet"))
ROOT = Path("/run/joblet/root")


def test_the_same_record_gives_the_same_plan() -> None:
    made = replace(record(1), uid=100_001)
    assert launch_plan(made, PATHS, ROOT) == launch_plan(made, PATHS, ROOT)


def test_everything_of_a_job_is_named_by_its_id() -> None:
    made = replace(record(1), uid=100_001)
    plan = launch_plan(made, PATHS, ROOT)
    assert (plan.uid, plan.root, plan.spec) == (100_001, ROOT, made.spec)
    own = (plan.work, plan.log, plan.launch_report, plan.environment_file)
    assert all(made.id in path.parts for path in own)
    assert len(set(own)) == len(own)


def test_a_job_of_a_workflow_is_in_its_slice() -> None:
    assert launch_plan(record(1), PATHS, ROOT).workflow_id == ""
    made = replace(record(1), workflow_id="7f3a0000-0000-4000-8000-00000000000b")
    assert launch_plan(made, PATHS, ROOT).workflow_id == made.workflow_id


def test_a_clean_environment_which_the_request_may_change() -> None:
    spec = JobSpec("env", environment={"PATH": "/work/bin", "X": "1", "HOME": ""})
    environment = launch_plan(replace(record(1), spec=spec), PATHS, ROOT).environment
    assert environment == {
        "PATH": "/work/bin",
        "HOME": "",
        "USER": "job",
        "LOGNAME": "job",
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
        "JOBLET_JOB_ID": record(1).id,
        "X": "1",
    }


def test_nothing_of_the_agents_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.setenv("PATH", "/agents")
    environment = launch_plan(replace(record(1), spec=JobSpec("env")), PATHS, ROOT).environment
    assert "NOTIFY_SOCKET" not in environment
    assert "/agents" not in environment.values()


GPUS = HeldGpus(
    (0, 3),
    (GpuNode("/dev/nvidia0", "/dev/nvidia0"), GpuNode("/dev/nvidia3", "/dev/nvidia3")),
    (("/usr/lib/a/libcuda.so.535", "libcuda.so.1"), ("/usr/lib/a/libcuda.so.535", "libcuda.so.535")),
)


def test_a_job_with_gpus_counts_its_own_from_0_and_finds_the_drivers_libraries() -> None:
    made = replace(record(1), spec=JobSpec("x", gpus=2, environment={"LD_LIBRARY_PATH": "/work"}), gpus=GPUS)
    environment = launch_plan(made, PATHS, ROOT).environment
    assert environment["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert environment["NVIDIA_VISIBLE_DEVICES"] == "0,3"
    assert environment["JOBLET_GPU_COUNT"] == environment["JOBLET_GPU_ALLOCATED_COUNT"] == "2"
    assert environment["LD_LIBRARY_PATH"] == "/usr/lib/a:/work"
    runtime = PinnedRuntime("cuda", "1.0.0", "d" * 64, {"LD_LIBRARY_PATH": "/opt/runtime/lib"})
    made = replace(made, spec=JobSpec("x", gpus=2), runtime=runtime)
    told = launch_plan(made, PATHS, ROOT).environment["LD_LIBRARY_PATH"]
    assert told == "/usr/local/nvidia/lib:/opt/runtime/lib"


RUNTIME = PinnedRuntime(
    "tools",
    "1.0.0",
    "ab" * 32,
    {"PATH": "/opt/bin:/bin", "PATH_PREPEND": "/opt/runtime/bin", "A": "1", "B": "1", "JOBLET_JOB_ID": "x"},
)


def test_a_runtime_is_the_root_and_its_environment_comes_before_the_requests() -> None:
    spec = JobSpec("env", environment={"B": "2"}, runtime="tools")
    plan = launch_plan(replace(record(1), spec=spec, runtime=RUNTIME), PATHS, ROOT)
    assert plan.root == Path("/var/lib/joblet/runtimes/trees") / RUNTIME.digest
    assert plan.disks[0] == plan.root
    environment = plan.environment
    assert (environment["A"], environment["B"], environment["HOME"]) == ("1", "2", "/work")
    assert environment["PATH"] == "/opt/runtime/bin:/opt/bin:/bin"
    assert (environment["JOBLET_RUNTIME"], environment["JOBLET_JOB_ID"]) == ("tools@1.0.0", record(1).id)
    assert "PATH_PREPEND" not in environment


@pytest.mark.parametrize(
    ("of_runtime", "of_request", "path"),
    [
        ({}, {"PATH": "/a"}, "/a"),
        ({"PATH": "/r"}, {"PATH": "/a"}, "/a"),
        ({"PATH_PREPEND": "/p"}, {"PATH": "/a"}, "/p:/a"),
        ({"PATH_PREPEND": "/p", "PATH": "/r"}, {}, "/p:/r"),
        ({"PATH_PREPEND": "/p", "PATH": "/r"}, {"PATH_PREPEND": "/q"}, "/q:/r"),
        ({"PATH_PREPEND": "/p", "PATH": "/r"}, {"PATH_PREPEND": ""}, "/r"),
    ],
)
def test_a_command_is_looked_for_where_the_job_looks(
    of_runtime: dict[str, str], of_request: dict[str, str], path: str
) -> None:
    runtime = PinnedRuntime("tools", "1.0.0", "ab" * 32, of_runtime)
    made = replace(record(1), spec=JobSpec("env", environment=of_request), runtime=runtime)
    assert launch_plan(made, PATHS, ROOT).environment["PATH"] == path
    assert search_path(made.spec, runtime) == path
