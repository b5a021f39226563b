"""A workflow on a live agent, as systemd shows it: one slice, from its first job to its last."""

from pathlib import Path

import pytest

from tests.e2e.agent import (
    Client,
    agent_stopped,
    command,
    eventually,
    kill_agent,
    running_units,
    units,
    wait_for_agent,
)
from tests.e2e.host import rnx_json, said, shown

pytestmark = pytest.mark.systemd

_TWO_THEN_ONE = """
name: nightly figures
jobs:
  left: {command: sleep, args: ["1000"]}
  right: {command: sleep, args: ["1000"]}
  after: {command: "true", requires: left}
"""


def slices() -> list[str]:
    """Names of workflows' slices that systemd knows."""
    words = ("systemctl", "list-units", "--all", "--plain", "--no-legend", "joblet-jobs-*.slice")
    return [line.split()[0] for line in command(*words).stdout.splitlines()]


def started(directory: Path) -> tuple[str, str]:
    """Run the workflow until two of its jobs run; return its id and its slice."""
    file = directory / "nightly.yml"
    file.write_text(_TWO_THEN_ONE)
    workflow = said(0, "workflow", "run", "--quiet", str(file)).strip()
    eventually(running_units, lambda names: len(names) == 2)
    return workflow, f"joblet-jobs-{workflow.replace('-', '')}.slice"


def status(workflow: str) -> str:
    (found,) = [each for each in rnx_json("workflow", "list") if each["uuid"] == workflow]
    return str(found["status"])


def forgotten(workflow: str) -> None:
    """See that it ends, with its slice, and leave nothing of it."""
    eventually(lambda: status(workflow), lambda text: text == "STOPPED")
    eventually(slices, lambda names: not names)
    said(0, "workflow", "delete", workflow)


def test_its_slice_lists_its_jobs_until_it_has_ended(client: Client, tmp_path: Path) -> None:
    workflow, name = started(tmp_path)
    told = command("systemctl", "status", "--no-pager", name).stdout
    assert f"{name} - Joblet workflow nightly figures" in told
    jobs = running_units()
    for unit in jobs:
        assert unit in told
        assert shown(unit)["Slice"] == name
    job = jobs[0].removeprefix("joblet-job-").removesuffix(".service")
    joined = said(0, "exec", job, "--", "cat", "/proc/self/cgroup")
    assert f"/joblet.slice/joblet-jobs.slice/{name}/{jobs[0]}" in joined
    said(0, "workflow", "stop", workflow)
    forgotten(workflow)


def test_an_administrator_ends_it_by_its_slice(client: Client, tmp_path: Path) -> None:
    workflow, name = started(tmp_path)
    command("systemctl", "stop", name)
    eventually(units, lambda names: not names)
    forgotten(workflow)


def test_an_agent_that_starts_takes_away_what_one_before_has_left(client: Client, tmp_path: Path) -> None:
    workflow, name = started(tmp_path)
    jobs = running_units()
    left = f"joblet-jobs-{'7f3a' * 8}.slice"
    with agent_stopped():
        command("systemctl", "start", left)
    wait_for_agent(client)
    eventually(slices, lambda names: left not in names)
    kill_agent()
    wait_for_agent(client)
    assert slices() == [name]
    assert running_units() == jobs
    said(0, "workflow", "stop", workflow)
    forgotten(workflow)
