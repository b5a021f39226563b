"""Workflows as tests run them, and what is left of them on the host."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import DEADLINE, ENDED, Client, command, eventually, persist
from tests.e2e.volumes import made

FILES = Path("/var/lib/joblet/workflows")

Job = Mapping[str, Any]
Members = dict[str, pb.WorkflowJob]


def sh(script: str, **keys: Any) -> Job:
    """Return a job that runs the script."""
    return {"args": ["-c", script], **keys}


def text_of(jobs: Mapping[str, Job], **keys: Any) -> str:
    """Return a file (YAML has all of JSON) with these jobs, which end at once if they say nothing else."""
    defaults = {"command": "sh", "network": "none", **keys.pop("defaults", {})}
    return json.dumps({"defaults": defaults, **keys, "jobs": jobs})


def run(client: Client, jobs: Mapping[str, Job], **keys: Any) -> str:
    """Run a workflow and return its id; ``keys`` are those of the file beside the jobs."""
    request = pb.RunWorkflowRequest(workflow="test.yml", yaml_content=text_of(jobs, **keys))
    reply = client.jobs.RunWorkflow(request, timeout=DEADLINE, wait_for_ready=True)
    assert reply.status == "STARTED"
    return str(reply.workflow_uuid)


def status(client: Client, workflow_id: str) -> pb.GetWorkflowStatusResponse:
    request = pb.GetWorkflowStatusRequest(workflow_uuid=workflow_id)
    reply: pb.GetWorkflowStatusResponse = persist(
        lambda: client.jobs.GetWorkflowStatus(request, timeout=DEADLINE, wait_for_ready=True)
    )
    return reply


def members(client: Client, workflow_id: str) -> Members:
    """Return its jobs by name."""
    return {job.job_name: job for job in status(client, workflow_id).jobs}


def ended(client: Client, workflow_id: str, within: float = DEADLINE) -> tuple[pb.WorkflowInfo, Members]:
    """Return the workflow and its jobs by name, once it has ended."""
    found = eventually(
        lambda: status(client, workflow_id), lambda found: found.workflow.status in ENDED, within
    )
    return found.workflow, {job.job_name: job for job in found.jobs}


def states(found: Members) -> dict[str, str]:
    return {name: job.status for name, job in found.items()}


def tries(found: Members) -> dict[str, int]:
    return {name: job.tries for name, job in found.items()}


def until(client: Client, workflow_id: str, name: str, state: str = "RUNNING") -> pb.WorkflowJob:
    """Return the job of that name once it is in that state."""
    return eventually(lambda: members(client, workflow_id)[name], lambda job: job.status == state)


def delete(client: Client, workflow_id: str) -> int:
    """Delete it and return how many jobs that were."""
    request = pb.DeleteWorkflowRequest(workflow_uuid=workflow_id)
    reply = client.agent.DeleteWorkflow(request, timeout=DEADLINE)
    assert reply.workflow_uuid == workflow_id
    return int(reply.deleted_jobs)


def forget_all(client: Client) -> None:
    """Delete every workflow: then nothing is left of them."""
    request = pb.ListWorkflowsRequest(include_completed=True)
    for workflow in client.jobs.ListWorkflows(request, timeout=DEADLINE).workflows:
        delete(client, workflow.uuid)
    eventually(leftovers, lambda left: left == [])


def slice_of(workflow_id: str) -> str:
    return f"joblet-jobs-{workflow_id.replace('-', '')}.slice"


def leftovers() -> list[str]:
    """What workflows have on the host: files, and slices that systemd knows."""
    words = ("systemctl", "list-units", "--all", "--plain", "--no-legend", "joblet-jobs-*.slice")
    slices = [line.split()[0] for line in command(*words).stdout.splitlines()]
    return slices + (os.listdir(FILES) if FILES.exists() else [])


@contextmanager
def notes(client: Client) -> Iterator[Callable[[], list[str]]]:
    """Have the volume ``notes`` in the block; yield what returns the words that jobs have noted in it."""
    with made(client, "notes") as directory:
        yield lambda: "".join(path.read_text(encoding="utf-8") for path in directory.glob("notes")).split()


def note(word: str) -> str:
    """Return the command with which a job that has the volume notes a word."""
    return f"echo {word} >> /volumes/notes/notes"
