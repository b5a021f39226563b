"""AgentService on the wire: commands inside running jobs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing

from joblet_agent.errors import InvalidRequest
from joblet_agent.model.execution import ExecOutput, ExecSpec, ExecTerminal, TerminalSize
from joblet_agent.model.job import Outcome
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.auth import caller
from joblet_agent.rpc.decode import start_of
from joblet_agent.rpc.handlers import Context
from joblet_agent.rpc.services import Execs, RunningExec


class ExecServicer:
    """The method of AgentService that runs a command inside a job."""

    def __init__(self, execs: Execs) -> None:
        self._execs = execs

    async def ExecInJob(self, requests: AsyncIterator[pb.ExecInJobRequest], context: Context) -> None:
        """Run a command inside a job, give it input and send its output as either comes, then its end.

        One piece of each is in memory: the next piece of input is taken when the command has taken this
        one, the next piece of output when the reader has.
        """
        start: pb.ExecStart = await start_of(requests)
        with closing(await self._execs.start(start.uuid, _spec_from_proto(start), caller())) as running:
            await context.send_initial_metadata(())
            try:
                async with asyncio.TaskGroup() as group:
                    feeding = group.create_task(_feed(running, requests))
                    async for event in running:
                        await context.write(exec_event_to_proto(event))
                    feeding.cancel()
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None


async def _feed(running: RunningExec, requests: AsyncIterator[pb.ExecInJobRequest]) -> None:
    """Pass on what follows the first message.

    Their end says nothing: a client that is killed in the middle of its input leaves it, too.
    """
    await anext(requests)
    async for request in requests:
        match request.WhichOneof("event"):
            case "stdin":
                await running.write(request.stdin)
            case "stdin_end":
                await running.end_input()
            case "terminal_size":
                await running.resize(_size_from_proto(request.terminal_size))
            case "signal":
                running.signal(request.signal)
            case "start":
                raise InvalidRequest("cannot run a second command in one call", reason="SECOND_START")
            case _:
                raise InvalidRequest(
                    "cannot give input to a command: a message has no event that this agent knows",
                    reason="UNKNOWN_EVENT",
                )


def _spec_from_proto(start: pb.ExecStart) -> ExecSpec:
    terminal = ExecTerminal(_size_from_proto(start.terminal.size), start.terminal.term)
    return ExecSpec(
        start.command,
        tuple(start.args),
        dict(start.environment),
        start.work_dir,
        stdin=start.stdin,
        terminal=terminal if start.HasField("terminal") else None,
    )


def _size_from_proto(size: pb.TerminalSize) -> TerminalSize:
    return TerminalSize(size.rows, size.columns)


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
