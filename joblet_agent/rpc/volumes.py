"""Volumes on the wire: the published methods, and those of AgentService."""

from joblet_agent.errors import NotFound, WrongState
from joblet_agent.model.volume import VolumeSnapshot
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.auth import caller
from joblet_agent.rpc.convert import rfc3339
from joblet_agent.rpc.files import piece_to_proto
from joblet_agent.rpc.handlers import Context
from joblet_agent.rpc.services import VolumeCopies, Volumes, VolumeSnapshots
from joblet_agent.rpc.visibility import owner
from joblet_agent.volumes.views import VolumeView


class VolumeServicer:
    """The published methods: proto to model, one service call, model to proto."""

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes

    async def CreateVolume(
        self, request: pb.CreateVolumeRequest, context: Context
    ) -> pb.CreateVolumeResponse:
        """Make a volume."""
        view = await self._volumes.create(request.name, request.size, request.type)
        return pb.CreateVolumeResponse(
            name=view.volume.name, size=view.volume.size_text, type=view.volume.type.value, path=view.path
        )

    async def ListVolumes(self, request: pb.EmptyRequest, context: Context) -> pb.Volumes:
        """Return all volumes."""
        return pb.Volumes(volumes=map(volume_to_proto, await self._volumes.all()))

    async def RemoveVolume(
        self, request: pb.RemoveVolumeRequest, context: Context
    ) -> pb.RemoveVolumeResponse:
        """Remove a volume. As published, the answer tells of one that is not there, or in use."""
        try:
            await self._volumes.remove(request.name)
        except (NotFound, WrongState) as error:
            hint = f"; {error.hint}" if error.hint else ""
            return pb.RemoveVolumeResponse(success=False, message=f"{error}{hint}")
        return pb.RemoveVolumeResponse(success=True, message=f"volume {request.name} is removed")


class AgentVolumeServicer:
    """The methods of AgentService that are about volumes."""

    def __init__(self, volumes: Volumes, copies: VolumeCopies, snapshots: VolumeSnapshots) -> None:
        self._volumes = volumes
        self._copies = copies
        self._snapshots = snapshots

    async def GetVolumes(self, request: pb.GetVolumesRequest, context: Context) -> pb.GetVolumesResponse:
        """Return all volumes, or one."""
        views = [await self._volumes.get(request.name)] if request.name else await self._volumes.all()
        return pb.GetVolumesResponse(volumes=[volume_to_proto(view, whole=True) for view in views])

    async def GrowVolume(self, request: pb.GrowVolumeRequest, context: Context) -> pb.GrowVolumeResponse:
        """Give a volume more room."""
        view = await self._volumes.grow(request.name, request.size)
        return pb.GrowVolumeResponse(volume=volume_to_proto(view, whole=True))

    async def PutVolumeFiles(
        self, request: pb.PutVolumeFilesRequest, context: Context
    ) -> pb.PutVolumeFilesResponse:
        """Copy files that were sent before into a volume."""
        count, size = await self._copies.put(request.name, request.path, request.upload_id, caller())
        return pb.PutVolumeFilesResponse(file_count=count, total_bytes=size)

    async def DownloadVolumeFile(self, request: pb.DownloadVolumeFileRequest, context: Context) -> None:
        """Send a file of a volume, or a directory with all that is below it."""
        pieces = await self._copies.download(request.name, request.path)
        try:
            async for piece in pieces:
                await context.write(piece_to_proto(piece))
        finally:
            await pieces.aclose()

    async def SnapshotVolume(
        self, request: pb.SnapshotVolumeRequest, context: Context
    ) -> pb.SnapshotVolumeResponse:
        """Keep a copy of what is in a volume."""
        made = await self._snapshots.make(request.name, request.snapshot)
        return pb.SnapshotVolumeResponse(snapshot=_snapshot_to_proto(made))

    async def RestoreVolume(
        self, request: pb.RestoreVolumeRequest, context: Context
    ) -> pb.RestoreVolumeResponse:
        """Replace what is in a volume by a snapshot of it."""
        await self._snapshots.restore(request.name, request.snapshot)
        return pb.RestoreVolumeResponse()

    async def RemoveVolumeSnapshot(
        self, request: pb.RemoveVolumeSnapshotRequest, context: Context
    ) -> pb.RemoveVolumeSnapshotResponse:
        """Remove a snapshot."""
        await self._snapshots.remove(request.name, request.snapshot)
        return pb.RemoveVolumeSnapshotResponse()


def volume_to_proto(view: VolumeView, *, whole: bool = False) -> pb.Volume:
    """Return a volume; with its snapshots if it is wanted ``whole``."""
    volume = view.volume
    return pb.Volume(
        name=volume.name,
        size=volume.size_text,
        type=volume.type.value,
        path=view.path,
        created_time=rfc3339(volume.created_at),
        job_count=len(view.jobs),
        size_bytes=volume.size,
        used_bytes=view.used,
        backing=volume.backing.value,
        unit=view.unit,
        warning=view.warning,
        job_uuids=[record.id for record in view.jobs if owner() in {"", record.started_by}],
        snapshots=map(_snapshot_to_proto, volume.snapshots if whole else ()),
    )


def _snapshot_to_proto(snapshot: VolumeSnapshot) -> pb.VolumeSnapshot:
    return pb.VolumeSnapshot(name=snapshot.name, created_time=rfc3339(snapshot.created_at))
