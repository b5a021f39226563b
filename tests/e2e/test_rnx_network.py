"""rnx network with the agent behind it: what people see."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.agent import Client
from tests.e2e.host import rnx, rnx_json, running, said

pytestmark = pytest.mark.systemd


@contextmanager
def network(name: str, *flags: str) -> Iterator[None]:
    """A network that is removed after the block."""
    said(0, "network", "create", name, *flags)
    try:
        yield
    finally:
        said(0, "network", "remove", name)


def test_a_network_from_its_making_to_its_end(client: Client) -> None:
    with network("rnx-test", "--cidr=10.66.0.0/24", "--bandwidth=100mbit", "--mtu=1400"):
        fields = {"name": "web", "network": "rnx-test"}
        with running(client, "echo ready; sleep 1000", **fields) as job_id:
            (found,) = (row for row in rnx_json("network", "list")["networks"] if row["name"] == "rnx-test")
            assert (found["cidr"], found["builtin"], found["job_count"]) == ("10.66.0.0/24", False, 1)
            assert (found["mtu"], found["bandwidth"]) == (1400, 100_000_000)
            (member,) = rnx_json("network", "inspect", "rnx-test")["members"]
            status = rnx_json("status", job_id)
            assert (member["job_uuid"], member["job_name"]) == (job_id, "web")
            assert member["addresses"] == status["addresses"]
            assert status["addresses"][0] == "10.66.0.2"
            drawn = said(0, "network", "graph")
            assert f"web ({job_id[:8]})  {', '.join(status['addresses'])}" in drawn
            assert f'"job {job_id}"' in said(0, "network", "graph", "--dot")
            assert "Failed to remove network: " in said(1, "network", "remove", "rnx-test")
        assert "rnx-test" in said(0, "network", "list")
    assert "rnx-test" not in said(0, "network", "list")
    assert "rnx-test" in said(1, "network", "inspect", "rnx-test")


def test_a_published_port_is_told_everywhere(client: Client) -> None:
    done = rnx(
        "run", "-d", "--network=bridge", "--publish=127.0.0.1:8066:80", "--bandwidth=10mbit", "sleep", "1000"
    )
    assert done.returncode == 0, done.stderr
    job_id = done.stdout.decode().strip()
    port = {"address": "127.0.0.1", "hostPort": 8066, "jobPort": 80, "transport": "tcp"}
    status = rnx_json("status", job_id)
    assert (status["network"], status["ports"], status["bandwidth"]) == ("bridge", [port], 10_000_000)
    assert "Published Ports: 127.0.0.1:8066->80/tcp" in said(0, "status", job_id)
    assert "127.0.0.1:8066->80/tcp" in said(0, "network", "inspect", "bridge")
    refused = said(1, "run", "--network=bridge", "--publish=8066:80", "true")
    assert "8066" in refused
    assert "hint: " in refused
    said(0, "stop", "--force", job_id)
