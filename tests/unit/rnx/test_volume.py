"""rnx volume: one call each, for people and for programs."""

import json
import re

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.unit.rnx.conftest import Rnx
from tests.unit.rnx.fake_agent import UUID, FakeAgent, failure

DATA = pb.Volume(
    name="data",
    size="1GB",
    type="filesystem",
    path="/var/lib/joblet/volumes/data",
    created_time="2026-01-31T10:00:00Z",
    job_count=2,
    size_bytes=1 << 30,
    used_bytes=256 << 20,
    backing="image",
    unit="var-lib-joblet-volumes-data.mount",
    job_uuids=[UUID],
    snapshots=[pb.VolumeSnapshot(name="before", created_time="2026-02-01T10:00:00Z")],
)
CACHE = pb.Volume(
    name="cache",
    size="64MB",
    type="memory",
    path="/run/joblet/volumes/cache",
    created_time="2026-01-31T10:00:00Z",
    size_bytes=64 << 20,
    used_bytes=-1,
    warning="its files were lost when the host restarted",
)


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnx.volumes.show_time", lambda text, empty="N/A", zone=False: text or empty)


def test_create_prints_what_scripts_read(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["CreateVolume"] = lambda request, _: pb.CreateVolumeResponse(
        name=request.name, size=request.size, type=request.type, path="/v/data"
    )
    assert rnx("volume", "create", "data", "--size=1.1GB").out == (
        "Volume created successfully:\nName: data\nSize: 1.1GB\nType: filesystem\nPath: /v/data\n"
        "Use it: rnx run --volume=data COMMAND\n"
    )
    assert rnx("volume", "create", "m", "--type=memory", "--size", "64MB").status == 0
    assert agent.asked("CreateVolume") == [
        pb.CreateVolumeRequest(name="data", size="1.1GB", type="filesystem"),
        pb.CreateVolumeRequest(name="m", size="64MB", type="memory"),
    ]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["create", "v"], "Missing option '--size'"),
        (["create", "v", "--size=much"], "cannot read --size=much: not a size"),
        (["create", "v", "--size=-1GB"], "cannot read --size=-1GB: not a size"),
        (["create", "v", "--size=0GB"], "cannot read --size=0GB: not a size above 0"),
        (["create", "v", "--size=1GB/s"], "cannot read --size=1GB/s: not a size above 0"),
        (["create", "v", "--size=1GB", "--type=disk"], "Invalid value for '--type'"),
        (["grow", "v"], "Missing option '--size'"),
        (["grow", "v", "--size="], "cannot read --size=: not a size"),
        (["inspect", ""], "the name of the volume is empty"),
        (["snapshots", ""], "the name of the volume is empty"),
        (["snapshot", "v", "--remove"], "cannot remove a snapshot without its name"),
        (["restore", "v"], "Missing argument 'SNAPSHOT'"),
        (["cp", "a", "b"], "neither SRC nor DST is in a volume"),
        (["cp", "a:b", "c:d"], "cannot copy from volume to volume"),
        (["cp", "v:../x", "."], "cannot copy v:../x: the path leads out of the volume with .."),
        (["cp", "x", "v:a/../../x"], "the path leads out of the volume with .."),
    ],
)
def test_a_wrong_line_is_refused_before_sending(
    agent: FakeAgent, rnx: Rnx, words: list[str], text: str
) -> None:
    result = rnx("volume", *words)
    assert (result.status, result.out) == (2, "")
    assert text in result.err
    assert agent.requests == []


def test_the_list_for_people(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["ListVolumes"] = pb.Volumes(volumes=[DATA, CACHE])
    result = rnx("volume", "list")
    header, line, *rows = result.out.splitlines()
    assert re.match(r"NAME {18}SIZE {6}TYPE {10}CREATED", header)
    assert set(line) == {"-"}
    assert [row.split() for row in rows] == [
        ["cache", "64MB", "memory", "2026-01-31T10:00:00Z", "unknown", "0"],
        ["data", "1GB", "filesystem", "2026-01-31T10:00:00Z", "256.0", "MiB", "2"],
    ]
    assert result.err == "rnx: warning: volume cache: its files were lost when the host restarted\n"


def test_the_list_for_programs_has_the_given_keys_first(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["ListVolumes"] = pb.Volumes(volumes=[DATA, CACHE])
    result = rnx("--json", "volume", "list")
    cache, data = json.loads(result.out)["volumes"]
    assert list(data)[:4] == ["name", "size", "type", "created_time"]
    assert data == {
        "name": "data",
        "size": "1GB",
        "type": "filesystem",
        "created_time": "2026-01-31T10:00:00Z",
        "path": "/var/lib/joblet/volumes/data",
        "job_count": 2,
        "size_bytes": 1 << 30,
        "used_bytes": 256 << 20,
        "backing": "image",
        "unit": "var-lib-joblet-volumes-data.mount",
    }
    assert (cache["used_bytes"], cache["warning"], result.err) == (None, CACHE.warning, "")
    agent.answers["ListVolumes"] = pb.Volumes()
    assert json.loads(rnx("--json", "volume", "list").out) == []
    assert rnx("volume", "list").out == "No volumes found\n"


def test_inspect(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["GetVolumes"] = pb.GetVolumesResponse(volumes=[DATA])
    assert rnx("volume", "inspect", "data").out.splitlines() == [
        "Name: data",
        "Type: filesystem",
        f"Size: 1GB ({1 << 30} bytes)",
        "Used: 256.0 MiB of 1.0 GiB (25 %)",
        "Held By: image",
        "Path: /var/lib/joblet/volumes/data",
        "Unit: var-lib-joblet-volumes-data.mount",
        "Created: 2026-01-31T10:00:00Z",
        "Jobs:",
        f"- {UUID}",
        "- 1 that you may not see",
        "Snapshots:",
        "- before, 2026-02-01T10:00:00Z",
    ]
    assert agent.asked("GetVolumes") == [pb.GetVolumesRequest(name="data")]
    data = json.loads(rnx("--json", "volume", "inspect", "data").out)
    assert data["job_uuids"] == [UUID]
    assert data["snapshots"] == [{"name": "before", "created_time": "2026-02-01T10:00:00Z"}]
    agent.answers["GetVolumes"] = pb.GetVolumesResponse(volumes=[CACHE])
    text = rnx("volume", "inspect", "cache").out
    assert "Used: unknown\n" in text
    assert text.endswith("Warning: its files were lost when the host restarted\nJobs: 0\n")


def test_a_volume_that_is_not_there(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["GetVolumes"] = pb.GetVolumesResponse()
    result = rnx("volume", "inspect", "x")
    assert (result.status, result.err) == (1, "rnx: no volume with the name x\nhint: see: rnx volume list\n")


def test_grow(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["GrowVolume"] = pb.GrowVolumeResponse(volume=DATA)
    assert rnx("volume", "grow", "data", "--size=1GB").out.startswith(
        "Volume grown successfully:\nName: data\n"
    )
    assert agent.asked("GrowVolume") == [pb.GrowVolumeRequest(name="data", size="1GB")]
    assert json.loads(rnx("--json", "volume", "grow", "data", "--size=1GB").out)["size_bytes"] == 1 << 30


@pytest.mark.parametrize("word", ["remove", "delete"])
def test_remove_by_both_names(agent: FakeAgent, rnx: Rnx, word: str) -> None:
    agent.answers["RemoveVolume"] = pb.RemoveVolumeResponse(success=True)
    assert rnx("volume", word, "data").out == "Volume 'data' removed successfully\n"
    agent.answers["RemoveVolume"] = pb.RemoveVolumeResponse(
        message="cannot remove volume data: there is none"
    )
    result = rnx("volume", word, "data")
    assert (result.status, result.err) == (1, "rnx: Failed to remove volume: there is none\n")
    agent.answers["RemoveVolume"] = failure(
        grpc.StatusCode.FAILED_PRECONDITION, "cannot remove volume: in use", "VOLUME_IN_USE", "stop the jobs"
    )
    result = rnx("volume", word, "data")
    assert (result.status, result.err) == (1, "rnx: cannot remove volume: in use\nhint: stop the jobs\n")


def test_snapshots_are_made_listed_restored_and_removed(agent: FakeAgent, rnx: Rnx) -> None:
    made = pb.VolumeSnapshot(name="20260201", created_time="2026-02-01T10:00:00Z")
    agent.answers["SnapshotVolume"] = pb.SnapshotVolumeResponse(snapshot=made)
    agent.answers["GetVolumes"] = pb.GetVolumesResponse(volumes=[DATA])
    agent.answers["RestoreVolume"] = pb.RestoreVolumeResponse()
    agent.answers["RemoveVolumeSnapshot"] = pb.RemoveVolumeSnapshotResponse()
    assert rnx("volume", "snapshot", "data").out == "Snapshot '20260201' of volume 'data' made\n"
    listed = rnx("volume", "snapshots", "data").out.splitlines()
    assert listed[2].split() == ["before", "2026-02-01T10:00:00Z"]
    assert rnx("volume", "restore", "data", "before").out == "Volume 'data' is as in snapshot 'before'\n"
    result = rnx("volume", "snapshot", "data", "before", "--remove")
    assert result.out == "Snapshot 'before' of volume 'data' removed successfully\n"
    assert agent.asked("SnapshotVolume") == [pb.SnapshotVolumeRequest(name="data")]
    assert agent.asked("RestoreVolume") == [pb.RestoreVolumeRequest(name="data", snapshot="before")]
    assert agent.asked("RemoveVolumeSnapshot") == [
        pb.RemoveVolumeSnapshotRequest(name="data", snapshot="before")
    ]
    agent.answers["GetVolumes"] = pb.GetVolumesResponse(volumes=[CACHE])
    assert rnx("volume", "snapshots", "cache").out == "No snapshots\n"
