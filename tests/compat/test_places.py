"""Published clients make, list and remove networks and volumes, by stubs and by their own helpers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.compat.client import CallFailed, Message, PublishedClient
from tests.compat.test_live import NEWEST, OLDER, WAITING, run
from tests.testbed import Machine

pytestmark = pytest.mark.compat


@pytest.fixture(params=[NEWEST, OLDER])
def client(request: pytest.FixtureRequest, machine: Machine) -> Iterator[PublishedClient]:
    target = f"unix:/proc/{machine.leader_pid}/root/run/joblet/agent.sock"
    with PublishedClient(request.param, target) as client:
        yield client


def named(rows: list[Message], name: str) -> list[Message]:
    return [row for row in rows if row["name"] == name]


def test_stubs_of_networks(client: PublishedClient) -> None:
    made = client.stub("NetworkService/CreateNetwork", name="published", cidr="10.77.0.0/24")
    assert made == {"name": "published", "cidr": "10.77.0.0/24", "bridge": made["bridge"]}
    assert made["bridge"].startswith("joblet-")
    rows = client.stub("NetworkService/ListNetworks")["networks"]
    assert {"none", "isolated", "bridge"} < {row["name"] for row in rows}
    assert named(rows, "published") == [{**made, "jobcount": 0}]

    job_id = run(client, "sh", *WAITING, network="published")
    assert client.stub("JobService/GetJobStatus", uuid=job_id)["network"] == "published"
    rows = client.stub("NetworkService/ListNetworks")["networks"]
    assert named(rows, "published") == [{**made, "jobcount": 1}]
    refused = client.stub("NetworkService/RemoveNetwork", name="published")
    assert (refused["success"], job_id[:8] in refused["message"]) == (False, True)
    client.stub("JobService/StopJob", uuid=job_id)
    assert client.stub("NetworkService/RemoveNetwork", name="published")["success"] is True
    assert named(client.stub("NetworkService/ListNetworks")["networks"], "published") == []


def test_helpers_of_networks(client: PublishedClient) -> None:
    made = client.helper("networks.create_network", name="helped", cidr="10.78.0.0/24")
    assert (made["name"], made["cidr"]) == ("helped", "10.78.0.0/24")
    rows = client.helper("networks.list_networks")
    assert named(rows, "helped") == [{**made, "job_count": 0}]
    with pytest.raises(CallFailed, match="helped"):
        client.helper("networks.create_network", name="helped", cidr="10.79.0.0/24")
    with pytest.raises(CallFailed, match=r"10\.78\.0\.0/16"):
        client.helper("networks.create_network", name="another", cidr="10.78.0.0/16")
    assert client.helper("networks.remove_network", name="helped")["success"] is True
    assert named(client.helper("networks.list_networks"), "helped") == []


def test_stubs_of_volumes(client: PublishedClient) -> None:
    made = client.stub("VolumeService/CreateVolume", name="published", size="16MB", type="memory")
    assert (made["name"], made["size"], made["type"]) == ("published", "16MB", "memory")
    assert "/published/" in made["path"]
    (row,) = named(client.stub("VolumeService/ListVolumes")["volumes"], "published")
    assert row == {**made, "createdtime": row["createdtime"], "jobcount": 0}
    assert row["createdtime"].endswith("Z")

    run_to_end(client, "sh", "-c", "echo kept > /volumes/published/file", volumes=["published"])
    assert run_to_end(client, "cat", "/volumes/published/file", volumes=["published"]) == "kept\n"
    job_id = run(client, "sh", *WAITING, volumes=["published"])
    (row,) = named(client.stub("VolumeService/ListVolumes")["volumes"], "published")
    assert row["jobcount"] == 1
    refused = client.stub("VolumeService/RemoveVolume", name="published")
    assert (refused["success"], job_id[:8] in refused["message"]) == (False, True)
    client.stub("JobService/StopJob", uuid=job_id)
    assert client.stub("VolumeService/RemoveVolume", name="published")["success"] is True
    assert client.stub("VolumeService/RemoveVolume", name="published")["success"] is False
    assert named(client.stub("VolumeService/ListVolumes")["volumes"], "published") == []


def test_helpers_of_volumes(client: PublishedClient) -> None:
    made = client.helper("volumes.create_volume", name="helped", size="16MB")
    assert (made["name"], made["size"], made["type"]) == ("helped", "16MB", "filesystem")
    (row,) = named(client.helper("volumes.list_volumes"), "helped")
    assert (row["path"], row["job_count"]) == (made["path"], 0)
    with pytest.raises(CallFailed, match="helped"):
        client.helper("volumes.create_volume", name="helped", size="16MB")
    assert client.helper("volumes.remove_volume", name="helped")["success"] is True
    assert named(client.helper("volumes.list_volumes"), "helped") == []


def run_to_end(client: PublishedClient, command: str, *args: str, **fields: object) -> str:
    """Return the output of a job that has to end well."""
    job_id = run(client, command, *args, **fields)
    output = "".join(chunk["payload"] for chunk in client.stream("JobService/GetJobLogs", uuid=job_id))
    assert client.stub("JobService/GetJobStatus", uuid=job_id)["status"] == "COMPLETED", output
    return output
