"""Which runtime a job gets, and for how long it stays: from the acceptance of whoever uses it to its end."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import DEADLINE, JOBS, Client, command, eventually, kill_agent, units, wait_for_agent
from tests.e2e.host import configured, refusal, rnx, running, said, unit_of
from tests.e2e.runtimes import digest_of, imported, trees
from tests.e2e.workflows import ended, forget_all, members, sh, text_of
from tests.e2e.workflows import run as run_workflow

pytestmark = pytest.mark.systemd

QUIET = "echo ready; exec sleep 1000"
WHO = ("cat", "/etc/who")


@pytest.fixture(scope="module")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with imported(tmp_path_factory.mktemp("runtimes")) as runtime:
        yield runtime


@pytest.fixture(autouse=True)
def _no_workflows(client: Client) -> Iterator[None]:
    yield
    forget_all(client)


@pytest.mark.usefixtures("busybox")
@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ("busybux", "RUNTIME_UNKNOWN"),
        ("busybox@9.0.0", "RUNTIME_UNKNOWN"),
        ("no:such:one", "RUNTIME_SPEC_INVALID"),
    ],
)
def test_an_unknown_runtime_is_refused_before_there_is_anything(
    client: Client, asked: str, reason: str
) -> None:
    before = set(JOBS.iterdir())
    assert refusal(lambda: client.run("true", runtime=asked)) == ("INVALID_ARGUMENT", reason)
    assert refusal(lambda: client.run("true", runtime=asked, schedule="*:*:0/2")) == (
        "INVALID_ARGUMENT",
        reason,
    )
    assert set(JOBS.iterdir()) == before
    assert b"No schedules" in rnx("schedule", "list").stdout


@pytest.mark.usefixtures("client", "busybox")
def test_the_nearest_name_is_told() -> None:
    done = rnx("run", "--runtime=busybux", "true")
    assert done.returncode == 1
    assert b"did you mean busybox?" in done.stderr


@pytest.mark.usefixtures("busybox")
def test_a_workflow_tells_all_runtimes_that_are_missing(client: Client) -> None:
    jobs = {
        "a": sh("true", runtime="busybox"),
        "b": sh("true", runtime="nix"),
        "c": sh("true", runtime="bsybox"),
    }
    request = pb.RunWorkflowRequest(workflow="w.yml", yaml_content=text_of(jobs))
    with pytest.raises(grpc.RpcError) as caught:
        client.jobs.RunWorkflow(request, timeout=DEADLINE)
    text = str(caught.value.details())
    assert "jobs.b.runtime: runtime validation failed: missing runtimes: [nix]" in text
    assert "(and 1 more)" in text


def test_jobs_of_a_workflow_run_in_their_runtimes(client: Client, busybox: str) -> None:
    jobs = {
        "first": sh("cat /etc/who", runtime="busybox"),
        "second": sh("echo $JOBLET_RUNTIME", runtime=busybox, requires=["first"]),
    }
    workflow_id = run_workflow(client, jobs)
    assert ended(client, workflow_id)[0].status == "COMPLETED"
    found = members(client, workflow_id)
    assert client.log(found["first"].job_uuid) == b"busybox 1.0.0\n"
    assert client.log(found["second"].job_uuid) == b"busybox@1.0.0\n"
    for job in found.values():
        assert client.status(job.job_uuid).pinned_runtime.digest == digest_of(busybox)


def test_who_waits_keeps_the_runtime_it_was_accepted_with(client: Client, tmp_path: Path) -> None:
    """A newer version comes, and the name of the older one goes; only then do they start."""
    with configured("jobs:\n  max_concurrent: 1\n"), imported(tmp_path, "moving", "1.0.0") as old:
        digest = digest_of(old)
        with running(client, QUIET) as first:
            queued = client.run(*WHO, runtime="moving")
            later = client.run(*WHO, runtime="moving", schedule="2034-01-01T00:00:00Z")
            b = sh("cat /etc/who", runtime="moving", requires=["a"])
            workflow_id = run_workflow(client, {"a": sh("true"), "b": b})
            refused = rnx("runtime", "remove", old).stderr.decode()
            for user in (
                f"queued job {queued[:8]}",
                f"scheduled job {later[:8]}",
                f"workflow {workflow_id[:8]}",
            ):
                assert user in refused
            with imported(tmp_path, "moving", "2.0.0"):
                said(0, "runtime", "remove", "--force", old)
                said(0, "runtime", "gc")
                command("systemctl", "kill", "--signal=KILL", unit_of(first))
                assert client.ended(queued).status == "COMPLETED"
                assert ended(client, workflow_id)[0].status == "COMPLETED"
            assert client.status(queued).pinned_runtime.version == "1.0.0"
            for job_id in (queued, members(client, workflow_id)["b"].job_uuid):
                assert client.log(job_id) == b"moving 1.0.0\n"
        said(0, "runtime", "gc")
        assert digest in trees()
        client.jobs.CancelJob(pb.CancelJobRequest(uuid=later), timeout=DEADLINE)
        said(0, "runtime", "gc")
        assert digest not in trees()


def test_a_running_job_keeps_its_runtime(client: Client, tmp_path: Path) -> None:
    with imported(tmp_path, "in-use") as runtime:
        digest = digest_of(runtime)
        script = "echo ready; while ! test -e /work/go; do sleep 0.1; done; cat /etc/who"
        with running(client, script, runtime=runtime, name="user") as job_id:
            done = rnx("runtime", "remove", runtime)
            assert done.returncode == 1
            assert f"running job {job_id[:8]} (user)" in done.stderr.decode()
            assert rnx("run", f"--runtime={runtime}", "true").returncode == 0
            said(0, "runtime", "remove", "--force", runtime)
            said(0, "runtime", "gc")
            assert digest in trees()
            (JOBS / job_id / "work/go").touch()
            assert client.ended(job_id).status == "COMPLETED"
            assert client.log(job_id) == b"ready\nin-use 1.0.0\n"
        said(0, "runtime", "gc")
        assert digest not in trees()


def test_schedules_keep_the_runtimes_they_were_accepted_with(client: Client, tmp_path: Path) -> None:
    with imported(tmp_path, "regular") as runtime:
        digest = digest_of(runtime)
        of_jobs = client.jobs.RunJob(
            pb.RunJobRequest(
                command="sh",
                args=["-c", "cat /etc/who"],
                name="of-jobs",
                runtime="regular",
                schedule="*:*:0/2",
            ),
            timeout=DEADLINE,
        ).schedule_uuid
        jobs = {"of-workflows": sh("cat /etc/who", runtime="regular")}
        request = pb.RunWorkflowRequest(workflow="w.yml", yaml_content=text_of(jobs, schedule="*:*:1/2"))
        of_workflows = client.jobs.RunWorkflow(request, timeout=DEADLINE).schedule_uuid
        try:
            refused = rnx("runtime", "remove", runtime).stderr.decode()
            assert f"schedule {of_jobs[:8]} (of-jobs)" in refused
            assert f"schedule {of_workflows[:8]}" in refused
            said(0, "runtime", "remove", "--force", runtime)
            kill_agent()
            wait_for_agent(client)
            said(0, "runtime", "gc")
            for name in ("of-jobs", "of-workflows"):
                before = _ids(client, name)
                new = eventually(partial(_ids, client, name), before.__lt__)
                for job_id in new - before:
                    assert client.ended(job_id).status == "COMPLETED"
                    assert client.log(job_id) == b"regular 1.0.0\n"
        finally:
            said(0, "schedule", "remove", of_jobs)
            said(0, "schedule", "remove", of_workflows)
        eventually(units, lambda names: not names)
        said(0, "runtime", "gc")
        assert digest not in trees()


def _ids(client: Client, name: str) -> set[str]:
    return {job.uuid for job in client.by_name(name)}
