from dataclasses import replace
from pathlib import Path

import pytest

from joblet_agent.jobs.paths import AgentPaths
from joblet_agent.jobs.plan import launch_plan
from joblet_agent.model.job import JobSpec
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
