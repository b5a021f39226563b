import asyncio
from typing import Any

import grpc
import pytest

from joblet_agent.config import JobsConfig, Visibility
from joblet_agent.errors import HostUnavailable, NotFound, WrongState
from joblet_agent.model.files import FilePiece
from joblet_agent.model.identity import Role
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.auth import local_identity
from tests.unit.rpc.serving import ID, FakeFiles, FakeJobs, FakeVolumes, reason_of, serving


def ask(method: str, request: Any, volumes: FakeVolumes | None = None, **more: Any) -> Any:
    async def main() -> Any:
        async with serving(FakeJobs(), volumes=volumes, **more) as caller:
            return await caller.unary(method, request)

    return asyncio.run(main())


def test_a_volume_is_made() -> None:
    volumes = FakeVolumes()
    reply = ask("VolumeService/CreateVolume", pb.CreateVolumeRequest(name="data", size="1GB"), volumes)
    assert (reply.name, reply.size, reply.type, reply.path) == ("data", "1GB", "filesystem", "/path")
    assert volumes.calls == [("create", "data", "1GB", "")]


def test_volumes_are_told_with_all_that_is_known() -> None:
    (told,) = ask("AgentService/GetVolumes", pb.GetVolumesRequest()).volumes
    assert (told.name, told.size_bytes, told.used_bytes, told.backing) == ("data", 2**30, 4096, "image")
    assert (told.job_count, list(told.job_uuids), told.unit) == (1, [ID], "a.mount")
    assert (told.created_time, told.snapshots[0].name) == ("2026-01-31T12:00:00Z", "first")
    volumes = FakeVolumes()
    ask("AgentService/GetVolumes", pb.GetVolumesRequest(name="data"), volumes)
    assert volumes.calls == [("get", "data")]
    (listed,) = ask("VolumeService/ListVolumes", pb.EmptyRequest()).volumes
    assert (listed.name, len(listed.snapshots)) == ("data", 0)


@pytest.mark.parametrize("error", [NotFound, WrongState])
def test_a_removal_that_is_refused_is_an_answer(error: Any) -> None:
    volumes = FakeVolumes(error=error("cannot remove volume data: why", reason="WHY", hint="do this"))
    reply = ask("VolumeService/RemoveVolume", pb.RemoveVolumeRequest(name="data"), volumes)
    assert not reply.success
    assert "why" in reply.message


def test_a_removal_that_fails_is_an_error() -> None:
    volumes = FakeVolumes(error=HostUnavailable("cannot remove volume data: why", reason="WHY"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        ask("VolumeService/RemoveVolume", pb.RemoveVolumeRequest(name="data"), volumes)
    assert (caught.value.code(), reason_of(caught.value)) == (grpc.StatusCode.UNAVAILABLE, "WHY")
    assert ask("VolumeService/RemoveVolume", pb.RemoveVolumeRequest(name="data")).success


def test_what_else_can_be_done_arrives() -> None:
    volumes = FakeVolumes()
    ask("AgentService/GrowVolume", pb.GrowVolumeRequest(name="data", size="2GB"), volumes)
    request = pb.PutVolumeFilesRequest(name="data", path="p", upload_id="u")
    put = ask("AgentService/PutVolumeFiles", request, volumes)
    assert (put.file_count, put.total_bytes) == (2, 3)
    made = ask("AgentService/SnapshotVolume", pb.SnapshotVolumeRequest(name="data"), volumes).snapshot
    assert (made.name, made.created_time) == ("now", "2026-01-31T12:00:00Z")
    ask("AgentService/RestoreVolume", pb.RestoreVolumeRequest(name="data", snapshot="s"), volumes)
    ask(
        "AgentService/RemoveVolumeSnapshot",
        pb.RemoveVolumeSnapshotRequest(name="data", snapshot="s"),
        volumes,
    )
    assert [call[0] for call in volumes.calls] == ["grow", "put", "snapshot", "restore", "remove_snapshot"]


def test_a_download_is_closed() -> None:
    volumes = FakeVolumes(files=FakeFiles(pieces=[FilePiece(offset=3, content=b"content")]))
    request = pb.DownloadVolumeFileRequest(name="data", path="p")
    assert ask("AgentService/DownloadVolumeFile", request, volumes).content == b"content"
    assert volumes.files.closed == 1


def test_operators_that_see_their_own_jobs_see_no_others_in_volumes() -> None:
    (told,) = ask(
        "AgentService/GetVolumes",
        pb.GetVolumesRequest(),
        authenticate=lambda _context: local_identity(Role.OPERATOR),
        jobs_config=JobsConfig(visibility=Visibility.OWN),
    ).volumes
    assert (told.job_count, list(told.job_uuids)) == (1, [])
