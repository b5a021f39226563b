"""Published clients run workflows, by stubs and by their own helpers.

2.1.1 is the newest that has them. Its get_workflow_status() and list_workflows() read a field that its own
definition does not have, so they fail on the client's side, after a call that went well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.compat.client import CallFailed, Message, PublishedClient
from tests.e2e.agent import ENDED, eventually
from tests.testbed import Machine

pytestmark = pytest.mark.compat

VERSION = "2.1.1"

DIAMOND = """\
jobs:
  build:
    command: sh
    args: ["-c", "cat parts/list"]
    uploads:
      files: [parts/list]
    environment:
      PLAIN: visible
    secret_environment:
      KEY: s3cr3t
  left:
    command: "true"
    requires:
      - build: COMPLETED
  right:
    command: "true"
    requires:
      - build: COMPLETED
  publish:
    command: "true"
    requires:
      - left: COMPLETED
      - right: COMPLETED
"""
FAILING = """\
jobs:
  build:
    command: sh
    args: ["-c", "exit 7"]
  test:
    command: "true"
    requires:
      - build: COMPLETED
  repair:
    command: "true"
    when: failure
    requires: [build]
  praise:
    command: "true"
    when: failure
    requires: [repair]
"""
WAITING = """\
jobs:
  build:
    command: sleep
    args: ["1000"]
  test:
    command: "true"
    requires:
      - build: COMPLETED
"""


@pytest.fixture
def client(machine: Machine) -> Iterator[PublishedClient]:
    target = f"unix:/proc/{machine.leader_pid}/root/run/joblet/agent.sock"
    with PublishedClient(VERSION, target) as client:
        yield client


def status_of(client: PublishedClient, workflow_id: str) -> Message:
    return client.stub("JobService/GetWorkflowStatus", workflowuuid=workflow_id)


def ended(client: PublishedClient, workflow_id: str) -> Message:
    """Return the status of the workflow once it has ended."""
    return until(client, workflow_id, lambda status: status["workflow"]["status"] in ENDED)


def until(client: PublishedClient, workflow_id: str, fits: Callable[[Message], bool]) -> Message:
    return eventually(lambda: status_of(client, workflow_id), fits, within=60)


def jobs_of(status: Message) -> dict[str, Message]:
    return {job["jobname"]: job for job in status["jobs"]}


def test_stubs_run_a_workflow_to_its_end(client: PublishedClient) -> None:
    started = client.stub(
        "JobService/RunWorkflow",
        workflow="diamond.yml",
        totaljobs=4,
        joborder=["build", "left", "right", "publish"],
        yamlcontent=DIAMOND,
        workflowfiles=[{"path": "parts/list", "content": b"one part\n", "mode": 0o644}],
    )
    assert started["status"] == "STARTED"
    workflow_id = started["workflowuuid"]

    status = ended(client, workflow_id)
    info, jobs = status["workflow"], jobs_of(status)
    assert (info["uuid"], info["status"]) == (workflow_id, "COMPLETED")
    assert [info[name] for name in ("totaljobs", "completedjobs", "failedjobs", "canceledjobs")] == [
        4,
        4,
        0,
        0,
    ]
    times = [info[name]["seconds"] for name in ("createdat", "startedat", "completedat")]
    assert times == sorted(times)
    assert times[0] > 1_700_000_000
    assert "PLAIN: visible" in info["yamlcontent"]
    assert "s3cr3t" not in info["yamlcontent"]
    assert list(jobs) == ["build", "left", "right", "publish"]
    assert {job["status"] for job in jobs.values()} == {"COMPLETED"}
    assert jobs["publish"]["dependencies"] == ["left", "right"]
    assert jobs["build"]["endtime"]["seconds"] <= jobs["publish"]["starttime"]["seconds"]
    assert client.stub("JobService/GetWorkflowJobs", workflowuuid=workflow_id[:13])["jobs"] == status["jobs"]

    build = client.stub("JobService/GetJobStatus", uuid=jobs["build"]["jobuuid"])
    assert (build["name"], build["workflowuuid"]) == ("build", workflow_id)
    assert build["secretenvironment"] == {"KEY": "***"}
    log = client.stream("JobService/GetJobLogs", uuid=build["uuid"])
    assert "".join(chunk["payload"] for chunk in log) == "one part\n"
    publish = client.stub("JobService/GetJobStatus", uuid=jobs["publish"]["jobuuid"])
    assert publish["dependencies"] == ["left", "right"]


def test_stubs_list_workflows_with_and_without_those_that_have_ended(client: PublishedClient) -> None:
    def listed(**request: object) -> dict[str, Message]:
        rows = client.stub("JobService/ListWorkflows", **request)["workflows"]
        return {row["uuid"]: row for row in rows}

    workflow_id = client.stub("JobService/RunWorkflow", yamlcontent=WAITING)["workflowuuid"]
    status = until(client, workflow_id, lambda status: jobs_of(status)["build"]["status"] == "RUNNING")
    waiting = jobs_of(status)["test"]
    assert (waiting["jobuuid"], waiting["status"], waiting["dependencies"]) == ("0", "WAITING", ["build"])
    row = listed()[workflow_id]
    assert (row["status"], row["totaljobs"], row["yamlcontent"]) == ("RUNNING", 2, "")

    client.stub("JobService/StopJob", uuid=jobs_of(status)["build"]["jobuuid"])
    jobs = jobs_of(ended(client, workflow_id))
    assert (jobs["build"]["status"], jobs["test"]["status"]) == ("STOPPED", "CANCELED")
    assert workflow_id not in listed()
    assert listed(includecompleted=True)[workflow_id]["status"] in ENDED


def test_helpers_run_a_workflow_and_read_words_that_they_do_not_know(client: PublishedClient) -> None:
    started = client.helper("run_workflow", workflow="failing.yml", yaml_content=FAILING)
    assert started["status"] == "STARTED"
    info = ended(client, started["workflow_uuid"])["workflow"]
    assert (info["status"], info["totaljobs"], info["failedjobs"]) == ("FAILED", 4, 1)
    jobs = {
        job["job_name"]: job
        for job in client.helper("get_workflow_jobs", workflow_uuid=started["workflow_uuid"])
    }
    assert {name: job["status"] for name, job in jobs.items()} == {
        "build": "FAILED",
        "test": "CANCELED",
        "repair": "COMPLETED",
        "praise": "SKIPPED",
    }
    assert (jobs["build"]["exit_code"], jobs["test"]["dependencies"]) == (7, ["build"])
    assert jobs["build"]["start_time"] <= jobs["build"]["end_time"] <= jobs["repair"]["start_time"]
    assert (jobs["praise"]["job_uuid"], jobs["praise"]["start_time"]) == ("0", None)


def test_helpers_of_status_and_lists_fail_on_their_own_side(client: PublishedClient) -> None:
    workflow_id = client.helper("run_workflow", workflow="failing.yml", yaml_content=FAILING)["workflow_uuid"]
    with pytest.raises(CallFailed, match="AttributeError: workflow"):
        client.helper("get_workflow_status", workflow_uuid=workflow_id)
    ended(client, workflow_id)
    with pytest.raises(CallFailed, match="AttributeError: workflow"):
        client.helper("list_workflows", include_completed=True)


CYCLE = """\
jobs:
  a: {command: "true", requires: [{b: COMPLETED}]}
  b: {command: "true", requires: [{a: COMPLETED}]}
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("", "cannot run workflow: the text of its file is missing", id="no text"),
        pytest.param(CYCLE, "workflow validation failed: ", id="cycle"),
        pytest.param("jobs: {a: {}}", "workflow validation failed: ", id="no command"),
        pytest.param(
            "jobs: {a: {command: 'true', volumes: [nowhere]}}", "workflow validation failed: ", id="volume"
        ),
    ],
)
def test_what_cannot_run_is_refused_and_leaves_nothing(client: PublishedClient, text: str, said: str) -> None:
    def ids() -> set[str]:
        rows = client.stub("JobService/ListWorkflows", includecompleted=True)["workflows"]
        return {row["uuid"] for row in rows}

    before = ids()
    with pytest.raises(CallFailed) as refused:
        client.stub("JobService/RunWorkflow", yamlcontent=text)
    assert refused.value.end == "INVALID_ARGUMENT"
    assert said in refused.value.text
    with pytest.raises(CallFailed, match=r"(?s)WorkflowNotFoundError: Failed to run workflow: .*" + said):
        client.helper("run_workflow", workflow="x.yml", yaml_content=text)
    assert ids() == before


def test_a_workflow_that_nobody_has_is_not_found(client: PublishedClient) -> None:
    nobody = "00000000-0000-4000-8000-000000000000"
    for method in ("GetWorkflowStatus", "GetWorkflowJobs"):
        with pytest.raises(CallFailed, match=f"NOT_FOUND: .*{nobody}"):
            client.stub(f"JobService/{method}", workflowuuid=nobody)
    with pytest.raises(CallFailed, match=f"WorkflowNotFoundError: .*{nobody}"):
        client.helper("get_workflow_jobs", workflow_uuid=nobody)
