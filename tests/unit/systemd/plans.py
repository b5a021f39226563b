"""Plans and settings for the tests of this directory."""

from collections.abc import Mapping
from pathlib import Path

from joblet_agent.config import AgentConfig
from joblet_agent.model.job import JobId, JobSpec
from joblet_agent.ports import LaunchPlan
from joblet_agent.systemd.properties import UnitSettings

JOB = JobId("7f3a0000-0000-4000-8000-000000000001")
WORKFLOW = "7f3a0000-0000-4000-8000-00000000000b"
WORKFLOW_SLICE = "joblet-jobs-7f3a000000004000800000000000000b.slice"
RELEASES = (252, 255, 257)


def plan(command: str = "true", *args: str, environment: Mapping[str, str] | None = None) -> LaunchPlan:
    return LaunchPlan(
        job_id=JOB,
        spec=JobSpec(command, args, name="a job", environment=environment or {}),
        uid=100_001,
        work=Path("/var/lib/joblet/jobs/x/work"),
        log=Path("/var/lib/joblet/jobs/x/output.log"),
        launch_report=Path("/run/joblet/launch/x"),
        environment_file=Path("/run/joblet/env/x"),
        root=Path("/run/joblet/root"),
        environment=environment or {},
    )


def settings(version: int) -> UnitSettings:
    return UnitSettings(AgentConfig(), version, has_user_records=True)
