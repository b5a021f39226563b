"""What jobs of a workflow get, and what they leave to one another; also hostile ones."""

import json
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import DEADLINE, ENDED, Client, agent_stopped, eventually, persist
from tests.e2e.host import said
from tests.sizes import size

pytestmark = pytest.mark.systemd

STATE = Path("/var/lib/joblet")
WORKFLOWS = STATE / "workflows"
SECRET = f"s3cret-{uuid.uuid4()}"


def status_of(client: Client, workflow_id: str) -> pb.GetWorkflowStatusResponse:
    request = pb.GetWorkflowStatusRequest(workflow_uuid=workflow_id)
    reply: pb.GetWorkflowStatusResponse = persist(
        lambda: client.jobs.GetWorkflowStatus(request, timeout=DEADLINE, wait_for_ready=True)
    )
    return reply


def ended(client: Client, workflow_id: str) -> dict[str, pb.WorkflowJob]:
    """Return the jobs by their names once the workflow has ended."""
    reply = eventually(
        lambda: status_of(client, workflow_id), lambda reply: reply.workflow.status in ENDED, within=60
    )
    return {job.job_name: job for job in reply.jobs}


def in_files(text: str, *places: Path) -> list[str]:
    """Return the files below that have the text in them."""
    found = subprocess.run(["grep", "-rlaF", text, *places], check=False, capture_output=True, text=True)
    return found.stdout.splitlines()


@contextmanager
def workflow(client: Client, text: str, **files: bytes) -> Iterator[str]:
    """Run a workflow; delete it behind, of which nothing stays."""
    request = pb.RunWorkflowRequest(
        workflow="test.yml",
        yaml_content=text,
        workflow_files=[pb.FileUpload(path=path, content=content) for path, content in files.items()],
    )
    workflow_id = client.jobs.RunWorkflow(request, timeout=DEADLINE).workflow_uuid
    yield workflow_id
    said(0, "workflow", "delete", workflow_id)
    assert not (WORKFLOWS / workflow_id).exists()


PASSED_ON = """
secret_environment: {TOKEN: %(secret)s}
jobs:
  make:
    command: sh
    args:
      - -c
      - |
        set -e
        [ ${#TOKEN} = %(length)d ]
        mkdir -p out/deep
        tr a-z A-Z <input > out/deep/file
        ln -s file out/deep/link
        echo ROWS=12 > $JOBLET_OUTPUT
        echo "NAME=$JOBLET_WORKFLOW_JOB of $JOBLET_WORKFLOW_ID" >> $JOBLET_OUTPUT
    uploads: {files: [input]}
    outputs: {files: [out]}
  use:
    command: sh
    args:
      - -c
      - cat inputs/make/out/deep/file; ls -A inputs/make/out/deep; echo $1 $ROWS; ls
      - sh
      - ${jobs.make.ROWS}
    environment: {ROWS: "<${jobs.make.ROWS}>"}
    requires: [{make: COMPLETED}]
"""


def test_a_job_has_files_and_secrets_and_leaves_files_and_values_to_the_next(client: Client) -> None:
    with workflow(
        client, PASSED_ON % {"secret": SECRET, "length": len(SECRET)}, input=b"sent along\n"
    ) as workflow_id:
        jobs = ended(client, workflow_id)
        make, use = jobs["make"], jobs["use"]
        assert (make.status, use.status) == ("COMPLETED", "COMPLETED"), jobs
        assert make.outputs == {"ROWS": "12", "NAME": f"make of {workflow_id}"}
        assert make.message == "'out/deep/link' is left out: a symbolic link"
        assert client.log(use.job_uuid) == b"SENT ALONG\nfile\n12 <12>\ninputs\n"
        assert '{TOKEN: "***"}' in status_of(client, workflow_id).workflow.yaml_content
        eventually(lambda: in_files(SECRET, STATE, Path("/run/joblet")), lambda found: not found)


def test_r3_what_a_job_leaves_while_no_agent_is_there_is_found(client: Client) -> None:
    text = """
jobs:
  make:
    command: sh
    args: [-c, "echo ready; sleep 1; echo A=1 > $JOBLET_OUTPUT; echo left > file"]
    outputs: {files: [file]}
  use: {command: cat, args: [inputs/make/file, "/work/${jobs.make.A}"], requires: [{make: COMPLETED}]}
"""
    with workflow(client, text) as workflow_id:
        make = eventually(
            lambda: next(job for job in status_of(client, workflow_id).jobs if job.job_name == "make"),
            lambda job: job.status == "RUNNING" and client.log(job.job_uuid) == b"ready\n",
        )
        with agent_stopped():
            file = STATE / "jobs" / make.job_uuid / "work/file"
            eventually(file.exists, bool)
            eventually(lambda: unit_has_ended(make.job_uuid), bool)
        jobs = ended(client, workflow_id)
        assert jobs["make"].outputs == {"A": "1"}
        assert client.log(jobs["use"].job_uuid).startswith(b"left\ncat: /work/1: ")


def unit_has_ended(job_id: str) -> bool:
    shown = subprocess.run(
        ["systemctl", "show", "-P", "SubState", f"joblet-job-{job_id}.service"],
        check=True,
        capture_output=True,
        text=True,
    )
    return shown.stdout.strip() not in {"running", "start"}


HOSTILE = {
    "link": ("ln -s /etc/shadow out", "leads through a symbolic link"),
    "up": ("ln -s ../../../../../etc out", "leads through a symbolic link"),
    "pipe": ("mkfifo out", "neither a file nor a directory"),
    "socket": (
        "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"out\")'",
        "neither a file nor a directory",
    ),
    "huge": ("head -c 120M /dev/zero > out", "more than 100MiB (workflows.max_outputs); none is kept"),
    "hole": ("truncate -s 1T out", "more than 100MiB (workflows.max_outputs); none is kept"),
    "many": (
        "mkdir out; cd out; seq 20000 | xargs touch",
        "more than 10000 output files; none is kept",
    ),
    "deep": (
        "mkdir out; (cd out; for i in $(seq 300); do mkdir d; cd d; done; touch file)",
        "deeper than 128 directories",
    ),
    "values": (
        f"yes KEY=VALUE | head -c {size(100, 1000)}M > $JOBLET_OUTPUT; touch out",
        "more than 64 KiB; nothing",
    ),
    "values-link": ("ln -s /etc/shadow $JOBLET_OUTPUT; touch out", "leads through a symbolic link"),
    "values-pipe": ("mkfifo $JOBLET_OUTPUT; touch out", "neither a file nor a directory"),
    "nothing": ("true", "there is no 'out'"),
}


@pytest.mark.soak
def test_a3_hostile_jobs_leave_nothing_of_the_hosts_and_not_too_much(client: Client) -> None:
    lines = ["jobs:"]
    for name, (script, _) in HOSTILE.items():
        lines += [
            f"  {name}:",
            "    command: sh",
            f"    args: [-c, {json.dumps(script)}]",
            "    outputs: {files: [out]}",
            f"  after-{name}:",
            "    command: find",
            f"    args: [inputs, -type, f]\n    requires: [{{{name}: COMPLETED}}]",
        ]
    with workflow(client, "\n".join(lines)) as workflow_id:
        jobs = ended(client, workflow_id)
        for name, (_, problem) in HOSTILE.items():
            assert (jobs[name].status, jobs[f"after-{name}"].status) == ("COMPLETED", "COMPLETED"), name
            assert problem in jobs[name].message, name
            assert jobs[name].outputs == {}
            found = client.log(jobs[f"after-{name}"].job_uuid)
            kept = b"inputs/%s/out\n" % name.encode() if name.startswith("values") else b""
            assert found == kept, name
        taken = subprocess.run(
            ["du", "-sb", WORKFLOWS / workflow_id], check=True, capture_output=True, text=True
        )
        assert int(taken.stdout.split()[0]) < 2 << 20
        assert not in_files(Path("/etc/shadow").read_text().splitlines()[0], WORKFLOWS)
