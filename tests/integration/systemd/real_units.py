"""Real units: the unit manager on this machine's systemd, without the agent."""

import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from joblet_agent.config import AgentConfig, HooksConfig, JobsConfig
from joblet_agent.jobs import files
from joblet_agent.jobs.metrics.usage import split_report
from joblet_agent.jobs.outcome import outcome_of
from joblet_agent.model.job import JobSpec, Outcome
from joblet_agent.model.metrics import Usage
from joblet_agent.ports import LaunchPlan
from joblet_agent.systemd.manager import SystemdUnitManager
from joblet_agent.systemd.properties import UnitSettings
from tests.contract.unit_manager_cases import Units

GRACE = timedelta(seconds=1)


@asynccontextmanager
async def real_units(home: Path, *, grace: timedelta = GRACE, hook: str = "") -> AsyncIterator[Units]:
    """Open a unit manager; whatever the test leaves running is killed."""
    jobs = JobsConfig(stop_grace=grace, tmp_size=64 << 20)
    manager = SystemdUnitManager(UnitSettings(AgentConfig(jobs=jobs, hooks=HooksConfig(on_failure=hook))))
    await manager.open()
    units = Units(manager, manager.slices, home)
    units.prepare()
    try:
        yield units
    finally:
        await manager.close()


@dataclass(frozen=True)
class Ran:
    """A job that has ended."""

    plan: LaunchPlan
    outcome: Outcome
    output: bytes
    report: str
    usage: Usage | None = None

    @property
    def text(self) -> str:
        return self.output.decode()


async def ran(units: Units, spec: JobSpec, *, prepare: Callable[[LaunchPlan], None] | None = None) -> Ran:
    """Run the job to its end and release its unit."""
    plan = units.plan(spec)
    if prepare is not None:
        prepare(plan)
    await units.manager.start(plan)
    return await result_of(units, plan)


async def result_of(units: Units, plan: LaunchPlan, *, stop_requested: bool = False) -> Ran:
    status = await units.ended(plan.job_id)
    report, usage = split_report(files.read_report(units.paths.job(plan.job_id)))
    outcome = outcome_of(status, stop_requested=stop_requested, launch_report=report, spec=plan.spec)
    output = plan.log.read_bytes()
    await units.manager.release(plan.job_id)
    return Ran(plan, outcome, output, report, usage)


def shell(script: str, *args: str, environment: dict[str, str] | None = None) -> JobSpec:
    return JobSpec("sh", ("-c", script, "sh", *args), environment=environment or {})


def processes_of(uid: int) -> Sequence[str]:
    """Return the command lines of a user's processes."""
    listed = subprocess.run(
        ["ps", "-U", str(uid), "-o", "args="], check=False, capture_output=True, text=True
    )
    return listed.stdout.splitlines()
