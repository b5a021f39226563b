"""Published clients install, list, check, try and remove runtimes, and read a build to its result."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat.client import CallFailed, Message, PublishedClient
from tests.compat.test_live import NEWEST, OLDER, run
from tests.e2e.runtimes import archive
from tests.testbed import Machine

pytestmark = pytest.mark.compat

DEFINITION = """schema_version: "1.0"
name: published-build
version: 1.0.0
base: {language: python, version: "3.11"}
pip: [numpy]
"""
SPEC = "published-ml@1.0.0"


@pytest.fixture
def target(machine: Machine) -> str:
    return f"unix:/proc/{machine.leader_pid}/root/run/joblet/agent.sock"


@pytest.fixture(params=[NEWEST, OLDER])
def client(request: pytest.FixtureRequest, target: str) -> Iterator[PublishedClient]:
    with PublishedClient(request.param, target) as client:
        yield client


@pytest.fixture
def older(target: str) -> Iterator[PublishedClient]:
    """The client that still knows installation and specs."""
    with PublishedClient(OLDER, target) as client:
        yield client


@pytest.fixture
def content(machine: Machine, tmp_path: Path) -> bytes:
    """An archive with the static busybox of the machine."""
    busybox = Path(f"/proc/{machine.leader_pid}/root/bin/busybox")
    labels = {"test": "echo it works", "language": "busybox", "description": "for a test"}
    return archive(tmp_path / "published.tar", labels=labels, busybox=busybox).read_bytes()


@pytest.fixture
def installed(older: PublishedClient, content: bytes) -> Iterator[str]:
    """A runtime that was installed from files of the client."""
    files = [{"path": "published.tar", "content": content}]
    reply = older.stub("RuntimeService/InstallRuntimeFromLocal", runtimespec=SPEC, files=files)
    assert (reply["runtimespec"], reply["status"]) == (SPEC, "installed"), reply
    yield SPEC
    older.stub("RuntimeService/RemoveRuntime", runtime=SPEC)


def listed(client: PublishedClient) -> list[Message]:
    rows = client.stub("RuntimeService/ListRuntimes")["runtimes"]
    assert isinstance(rows, list)
    return rows


def test_stubs_of_runtimes(client: PublishedClient, installed: str) -> None:
    (row,) = listed(client)
    assert (row["name"], row["version"], row["language"]) == ("published-ml", "1.0.0", "busybox")
    assert (row["description"], row["available"]) == ("for a test", True)
    assert row["sizebytes"] > 1 << 20

    info = client.stub("RuntimeService/GetRuntimeInfo", runtime="published:ml")
    assert (info["found"], info["runtime"]["name"]) == (True, "published-ml")
    assert client.stub("RuntimeService/GetRuntimeInfo", runtime="nothing")["found"] is False
    with pytest.raises(CallFailed, match="INVALID_ARGUMENT"):
        client.stub("RuntimeService/GetRuntimeInfo", runtime="")

    tried = client.stub("RuntimeService/TestRuntime", runtime=installed)
    assert (tried["success"], tried["output"], tried["exitcode"]) == (True, "it works\n", 0)
    assert client.stub("RuntimeService/TestRuntime", runtime="nothing")["success"] is False

    job_id = run(client, "cat", "/bin/none", runtime="published-ml")
    list(client.stream("JobService/GetJobLogs", uuid=job_id))
    status = client.stub("JobService/GetJobStatus", uuid=job_id)
    assert (status["status"], status["runtime"]) == ("FAILED", "published-ml")
    with pytest.raises(CallFailed, match="INVALID_ARGUMENT: cannot use runtime 'nothing'"):
        run(client, "true", runtime="nothing")


def test_stubs_remove_a_runtime_that_nothing_uses(client: PublishedClient, installed: str) -> None:
    job_id = run(client, "sleep", "1000", runtime=installed)
    refused = client.stub("RuntimeService/RemoveRuntime", runtime=installed)
    assert (refused["success"], job_id[:8] in refused["message"]) == (False, True)
    client.stub("JobService/StopJob", uuid=job_id)
    removed = client.stub("RuntimeService/RemoveRuntime", runtime=installed)
    assert (removed["success"], removed["freedspacebytes"] > 1 << 20) == (True, True), removed
    assert listed(client) == []
    assert client.stub("RuntimeService/RemoveRuntime", runtime=installed)["success"] is False


def test_stubs_install_step_by_step_and_check_specs(older: PublishedClient, content: bytes) -> None:
    """The newest definition has dropped these methods."""
    files = [{"path": "published.tar", "content": content}]
    method = "RuntimeService/StreamingInstallRuntimeFromLocal"
    *steps, end = older.stream(method, runtimespec=SPEC, files=files)
    assert (end["result"]["success"], end["result"]["runtimespec"]) == (True, SPEC)
    numbers = [step["progress"]["step"] for step in steps if step["progress"]["message"]]
    assert numbers == sorted(numbers)

    spec = older.stub("RuntimeService/ValidateRuntimeSpec", runtimespec="published:ml")
    assert (spec["valid"], spec["normalizedspec"]) == (True, "published-ml")
    assert (spec["specinfo"]["language"], spec["specinfo"]["version"]) == ("published", "ml")
    assert older.stub("RuntimeService/ValidateRuntimeSpec", runtimespec="../../etc")["valid"] is False
    assert older.stub("RuntimeService/RemoveRuntime", runtime="published-ml")["success"] is True

    *_, failed = older.stream(
        "RuntimeService/StreamingInstallRuntimeFromGithub", runtimespec="published-ml", repository="o/r"
    )
    assert (failed["result"]["success"], "registry" in failed["result"]["message"]) == (False, True)


def test_stubs_build_what_can_be_built_without_packages(target: str) -> None:
    with PublishedClient(NEWEST, target) as client:
        checked = client.stub("RuntimeService/ValidateRuntimeYAML", yamlcontent=DEFINITION)
        assert (checked["valid"], checked["errors"]) == (True, [])
        assert (checked["specinfo"]["name"], checked["specinfo"]["pippackages"]) == (
            "published-build",
            ["numpy"],
        )
        wrong = client.stub("RuntimeService/ValidateRuntimeYAML", yamlcontent="name: X!\npipp: []\n")
        assert (wrong["valid"], len(wrong["errors"]) > 1) == (False, True)

        *events, end = client.stream("RuntimeService/BuildRuntime", yamlcontent=DEFINITION, dryrun=True)
        phases = [event["phase"] for event in events if event["phase"]["phasenumber"]]
        assert [phase["phasenumber"] for phase in phases] == list(range(1, 15))
        assert {phase["totalphases"] for phase in phases} == {14}
        assert (end["result"]["success"], end["result"]["runtimename"]) == (True, "published-build")

        *_, end = client.stream("RuntimeService/BuildRuntime", yamlcontent="name: X!\n")
        assert (end["result"]["success"], end["result"]["message"] != "") == (False, True)
        assert listed(client) == []
