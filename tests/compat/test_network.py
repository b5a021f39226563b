"""The whole published client over the network; `joblet-agent pki` issues its configuration."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from tests.compat.client import CallFailed, PublishedClient
from tests.compat.test_live import OLDER, WAITING, read_until
from tests.testbed import Machine

pytestmark = pytest.mark.compat

As = Callable[[str], AbstractContextManager[PublishedClient]]
"""Connects as the client of this name."""


@pytest.fixture(scope="module")
def certified(machine: Machine) -> Iterator[Machine]:
    """The machine with a CA, and an agent that listens."""
    machine.run("joblet-agent", "pki", "init")
    yield machine
    machine.run("rm", "-r", "/etc/joblet/pki")
    machine.run("systemctl", "restart", "joblet-agent")


@pytest.fixture
def connect(certified: Machine, tmp_path: Path) -> Iterator[As]:
    """Issues certificates: the name of a client is its role."""

    def home_of(role: str) -> Path:
        file = tmp_path / role / ".rnx" / "rnx-config.yml"
        if not file.exists():
            words = ("issue", role, "--role", role, "-o", "-", "--connect", "127.0.0.1")
            file.parent.mkdir(parents=True)
            file.write_text(certified.run("joblet-agent", "pki", *words).stdout)
        return tmp_path / role

    network = ("nsenter", f"--net=/proc/{certified.leader_pid}/ns/net")
    yield lambda role: PublishedClient(OLDER, home=home_of(role), within=network)
    for role in (path.name for path in tmp_path.iterdir()):
        certified.run("joblet-agent", "pki", "revoke", role)


def test_an_operator_runs_follows_stops_lists_and_deletes(connect: As) -> None:
    with connect("operator") as client, connect("operator") as follower:
        started = client.helper("run_job", command="sh", args=WAITING, name="over the network")
        job_id = started["job_uuid"]
        assert (started["status"], started["command"], started["args"]) == ("RUNNING", "sh", WAITING)
        read_until(chunks := follower.iterate("get_job_logs", job_uuid=job_id), "out\nerr\n")
        (row,) = [row for row in client.helper("list_jobs") if row["uuid"] == job_id]
        assert (row["status"], row["name"]) == ("RUNNING", "over the network")
        stopped = client.helper("stop_job", job_uuid=job_id)
        assert (stopped["status"], stopped["exit_code"]) == ("STOPPED", -1)
        assert list(chunks) == []
        assert client.helper("get_job_status", job_uuid=job_id)["status"] == "STOPPED"
        assert client.helper("delete_job", job_uuid=job_id)["success"] is True
        with pytest.raises(CallFailed, match=f"no job with id {job_id}"):
            client.helper("get_job_status", job_uuid=job_id)
        ended = client.helper("run_job", command="true")["job_uuid"]
        assert list(client.iterate("get_job_logs", job_uuid=ended)) == []
        assert client.helper("delete_all_jobs")["success"] is True
        assert [row for row in client.helper("list_jobs") if row["uuid"] == ended] == []


def test_c1_a_viewer_sees_the_same_and_changes_nothing(connect: As) -> None:
    with connect("operator") as operator, connect("viewer") as viewer:
        job_id = operator.helper("run_job", command="sh", args=WAITING)["job_uuid"]
        assert job_id in [row["uuid"] for row in viewer.helper("list_jobs")]
        assert viewer.helper("get_job_status", job_uuid=job_id)["status"] == "RUNNING"
        one = partial(viewer.helper, job_uuid=job_id)
        for call in (
            partial(viewer.helper, "run_job", command="true"),
            partial(one, "stop_job"),
            partial(one, "cancel_job"),
            partial(one, "delete_job"),
            partial(viewer.helper, "delete_all_jobs"),
        ):
            with pytest.raises(CallFailed, match="role viewer has no permission to run"):
                call()
        assert operator.helper("get_job_status", job_uuid=job_id)["status"] == "RUNNING"
        operator.helper("stop_job", job_uuid=job_id)
        assert "".join(viewer.iterate("get_job_logs", job_uuid=job_id)) == "out\nerr\n"
        operator.helper("delete_job", job_uuid=job_id)


def test_r14_a_connection_outlives_renewals_and_ends_with_a_revocation(
    connect: As, certified: Machine
) -> None:
    with connect("operator") as client:
        job_id = client.helper("run_job", command="sh", args=WAITING)["job_uuid"]
        read_until(chunks := client.iterate("get_job_logs", job_uuid=job_id), "out\nerr\n")
        certified.run("joblet-agent", "pki", "renew", "server")
        certified.run("joblet-agent", "pki", "renew", "ca")
        with connect("operator") as another:  # the same configuration, a new connection
            assert another.helper("get_job_status", job_uuid=job_id)["status"] == "RUNNING"
        certified.run("joblet-agent", "pki", "revoke", "operator")
        with pytest.raises(CallFailed, match="it has been revoked"):
            list(chunks)
    status = json.loads(certified.run("rnx", "status", job_id, "-o", "json").stdout)
    assert status["status"] == "RUNNING"
    certified.run("rnx", "stop", job_id)
