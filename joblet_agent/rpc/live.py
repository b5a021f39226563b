"""AgentService on the wire: control of running jobs."""

from contextlib import closing

from joblet_agent.model.execution import ExecOutput, ExecSpec
from joblet_agent.model.job import Outcome
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.auth import caller
from joblet_agent.rpc.handlers import Context
from joblet_agent.rpc.services import Execs, Live


class LiveServicer:
    """The methods of AgentService about jobs while they run."""

    def __init__(self, live: Live, execs: Execs) -> None:
        self._live = live
        self._execs = execs

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

    async def ExecInJob(self, request: pb.ExecInJobRequest, context: Context) -> None:
        """Run a command inside a job, send its output as it comes, then its end.

        Waits for the reader before it takes the next piece, and so does the command.
        """
        spec = ExecSpec(request.command, tuple(request.args), dict(request.environment), request.work_dir)
        with closing(await self._execs.start(request.uuid, spec, caller())) as running:
            await context.send_initial_metadata(())
            async for event in running:
                await context.write(exec_event_to_proto(event))


def exec_event_to_proto(event: tuple[ExecOutput, bytes] | Outcome) -> pb.ExecInJobResponse:
    """Return a piece of output, or the end."""
    match event:
        case Outcome():
            end = pb.ExecEnd(
                exit_code=event.exit_code,
                signal=event.signal,
                reason=event.reason.value,
                message=event.message,
            )
            return pb.ExecInJobResponse(end=end)
        case ExecOutput.STDOUT, piece:
            return pb.ExecInJobResponse(stdout=piece)
        case _, piece:
            return pb.ExecInJobResponse(stderr=piece)
