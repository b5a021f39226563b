"""Runtimes on the wire: the published methods, and those of AgentService."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from joblet_agent.errors import InvalidRequest, NotFound, WrongState
from joblet_agent.model.runtime import Runtime
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.auth import caller
from joblet_agent.rpc.decode import start_of
from joblet_agent.rpc.handlers import Context
from joblet_agent.rpc.runtime_rows import (
    invalid_to_proto,
    pinned_to_proto,
    runtime_to_proto,
    understood_to_proto,
    valid_to_proto,
    verdict_to_proto,
)
from joblet_agent.rpc.runtime_services import RuntimeArchives, Runtimes
from joblet_agent.rpc.visibility import owner
from joblet_agent.runtime_file import Definition, FileInvalid, From, load
from joblet_agent.runtimes.service import RuntimeInUse
from joblet_agent.runtimes.transfer import ArchivePiece, ImportWanted

_UNREADABLE = frozenset({"RUNTIME_SPEC_INVALID"})


class RuntimeServicer:
    """The published methods about runtimes that are there, and about texts."""

    def __init__(self, runtimes: Runtimes) -> None:
        self._runtimes = runtimes

    async def ListRuntimes(self, request: pb.EmptyRequest, context: Context) -> pb.ListRuntimesResponse:
        """Return all runtimes, by name and version."""
        rows = [_row(self._runtimes, each, whole=False) for each in self._runtimes.all()]
        return pb.ListRuntimesResponse(runtimes=rows)

    async def GetRuntimeInfo(
        self, request: pb.GetRuntimeInfoRequest, context: Context
    ) -> pb.GetRuntimeInfoResponse:
        """Return one runtime. As published, one that nobody knows is no error; a name that is empty is."""
        try:
            runtime = self._runtimes.get(request.runtime)
        except NotFound:
            return pb.GetRuntimeInfoResponse(found=False)
        except InvalidRequest as error:
            if error.reason in _UNREADABLE and request.runtime:
                return pb.GetRuntimeInfoResponse(found=False)
            raise
        users = () if owner() else await self._runtimes.users(runtime)
        info = _row(self._runtimes, runtime, users=users)
        return pb.GetRuntimeInfoResponse(runtime=info, found=True)

    async def TestRuntime(self, request: pb.TestRuntimeRequest, context: Context) -> pb.TestRuntimeResponse:
        """Run the test of a runtime. As published, the answer tells of one that nobody knows."""
        try:
            end = await self._runtimes.test(request.runtime, caller())
        except NotFound as error:
            return pb.TestRuntimeResponse(success=False, error=_with_hint(error), exit_code=-1)
        return pb.TestRuntimeResponse(
            success=end.is_success,
            output=end.output,
            error=end.error,
            exit_code=end.exit_code,
            runtime=pinned_to_proto(end.runtime),
        )

    async def RemoveRuntime(
        self, request: pb.RemoveRuntimeRequest, context: Context
    ) -> pb.RemoveRuntimeResponse:
        """Remove a runtime. As published, the answer tells of one that is not there, or in use."""
        try:
            removal = await self._runtimes.remove(request.runtime, force=request.force)
        except RuntimeInUse as error:
            return pb.RemoveRuntimeResponse(success=False, message=_with_hint(error), users=error.users)
        except (NotFound, WrongState) as error:
            return pb.RemoveRuntimeResponse(success=False, message=_with_hint(error))
        names = [str(each.facts) for each in removal.runtimes]
        message = f"removed {', '.join(names)}"
        if removal.users:
            message += f"; files stay until {len(removal.users)} users have ended"
        return pb.RemoveRuntimeResponse(
            success=True,
            message=message,
            freed_space_bytes=removal.freed,
            removed=names,
            users=removal.users,
        )

    async def ValidateRuntimeYAML(
        self, request: pb.ValidateRuntimeYAMLRequest, context: Context
    ) -> pb.ValidateRuntimeYAMLResponse:
        """Say all that is wrong with a definition. No text is an error of the call."""
        try:
            definition = await asyncio.to_thread(load, request.yaml_content)
        except FileInvalid as error:
            return invalid_to_proto(error.problems, error.shown("runtime.yaml"))
        return valid_to_proto(definition, [*definition.warnings, *self._missing(definition)])

    async def ValidateRuntimeSpec(
        self, request: pb.ValidateRuntimeSpecRequest, context: Context
    ) -> pb.ValidateRuntimeSpecResponse:
        """Say whether a spec can be read, and what it means here now. No text is an error of the call."""
        try:
            return understood_to_proto(self._runtimes.understand(request.runtime_spec))
        except InvalidRequest as error:
            return pb.ValidateRuntimeSpecResponse(valid=False, message=_with_hint(error))

    def _missing(self, definition: Definition) -> list[str]:
        """Return what a build would not find on this node."""
        if not isinstance(definition.base, From):
            return []
        try:
            self._runtimes.get(str(definition.base))
        except (NotFound, InvalidRequest) as error:
            return [f"runtime.yaml: from: {error}"]
        return []


class AgentRuntimeServicer:
    """The methods of AgentService about runtimes that are there, and their archives."""

    def __init__(self, runtimes: Runtimes, archives: RuntimeArchives) -> None:
        self._runtimes = runtimes
        self._archives = archives

    async def VerifyRuntime(self, request: pb.VerifyRuntimeRequest, context: Context) -> None:
        """Send what came of verifying one runtime, or each of them."""
        async for verdict in await self._runtimes.verify(request.runtime):
            await context.write(verdict_to_proto(verdict))

    async def GcRuntimes(self, request: pb.GcRuntimesRequest, context: Context) -> pb.GcRuntimesResponse:
        """Remove what nothing names or uses any more."""
        freed = await self._runtimes.gc()
        return pb.GcRuntimesResponse(trees=freed.trees, objects=freed.objects, freed_bytes=freed.bytes)

    async def ExportRuntime(self, request: pb.ExportRuntimeRequest, context: Context) -> None:
        """Send a runtime as an archive."""
        export = await self._archives.export(request.runtime)
        try:
            first = pb.ExportRuntimeResponse(runtime=pinned_to_proto(export.runtime), size_bytes=export.size)
            await context.write(first)
            async for piece in export:
                await context.write(pb.ExportRuntimeResponse(offset=piece.offset, content=piece.content))
            await context.write(pb.ExportRuntimeResponse(sha256=export.sha256))
        finally:
            await export.aclose()

    async def ImportRuntime(
        self, requests: AsyncIterator[pb.ImportRuntimeRequest], context: Context
    ) -> pb.ImportRuntimeResponse:
        """Take in a runtime from an archive."""
        start: pb.ImportRuntimeStart = await start_of(requests)
        wanted = ImportWanted(
            start.name, start.version, start.force, start.sha256.lower(), max(start.size_bytes, 0)
        )
        notes: list[str] = []
        runtime = await self._archives.take_in(wanted, _Pieces(requests), notes.append)
        return pb.ImportRuntimeResponse(runtime=_row(self._runtimes, runtime), notes=notes)


class _Pieces:
    """The pieces of an archive, each converted when it is asked for; the first message may have one, too."""

    def __init__(self, requests: AsyncIterator[pb.ImportRuntimeRequest]) -> None:
        self._requests = requests
        self._has_begun = False

    def __aiter__(self) -> "_Pieces":
        return self

    async def __anext__(self) -> ArchivePiece:
        request = await anext(self._requests)
        if self._has_begun and request.HasField("start"):
            raise InvalidRequest("cannot import two runtimes in one call", reason="SECOND_START")
        self._has_begun = True
        return ArchivePiece(request.offset, request.content)


def _row(
    runtimes: Runtimes, runtime: Runtime, *, users: Sequence[str] = (), whole: bool = True
) -> pb.RuntimeInfo:
    return runtime_to_proto(
        runtime,
        is_available=runtimes.is_available(runtime),
        is_latest=runtimes.is_latest(runtime),
        users=users,
        whole=whole,
    )


def _with_hint(error: NotFound | InvalidRequest | WrongState) -> str:
    return f"{error}; {error.hint}" if error.hint else str(error)
