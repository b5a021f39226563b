"""AgentService on the wire: control of running jobs."""

from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.handlers import Context
from joblet_agent.rpc.services import Live


class LiveServicer:
    """The methods of AgentService about jobs while they run."""

    def __init__(self, live: Live) -> None:
        self._live = live

    async def PauseJob(self, request: pb.PauseJobRequest, context: Context) -> pb.PauseJobResponse:
        """Let a job's processes stand still."""
        record = await self._live.pause(request.uuid)
        return pb.PauseJobResponse(uuid=record.id, status=record.state.value)

    async def ResumeJob(self, request: pb.ResumeJobRequest, context: Context) -> pb.ResumeJobResponse:
        """Let a paused job go on."""
        record = await self._live.resume(request.uuid)
        return pb.ResumeJobResponse(uuid=record.id, status=record.state.value)

    async def KillJob(self, request: pb.KillJobRequest, context: Context) -> pb.KillJobResponse:
        """Send a signal to all processes of a job."""
        record, number = await self._live.kill(request.uuid, request.signal)
        return pb.KillJobResponse(uuid=record.id, status=record.state.value, signal=number)
