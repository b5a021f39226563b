"""Installation of runtimes on the wire: the published methods, and what registries offer."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

from joblet_agent.errors import HostUnavailable, InvalidRequest, JobletError, NotOffered
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.audit import tell_failure
from joblet_agent.rpc.handlers import Context
from joblet_agent.rpc.runtime_rows import pinned_to_proto
from joblet_agent.rpc.runtime_services import RuntimeInstalls, Runtimes
from joblet_agent.runtimes.install_events import Installed, InstallEvent, InstallLog, InstallStep
from joblet_agent.runtimes.installer import LocalFile

_INSTALLED = "installed"
_PRESENT = "already-installed"


class RuntimeInstallServicer:
    """The published methods. Those that stream tell of a failure by their result, and succeed themselves."""

    def __init__(self, installs: RuntimeInstalls, runtimes: Runtimes) -> None:
        self._installs = installs
        self._runtimes = runtimes

    async def InstallRuntimeFromGithub(
        self, request: pb.InstallRuntimeRequest, context: Context
    ) -> pb.InstallRuntimeResponse:
        """Install a runtime that a registry offers."""
        return await self._answer(self._from_registry(request), request.repository)

    async def InstallRuntimeFromLocal(
        self, request: pb.InstallRuntimeFromLocalRequest, context: Context
    ) -> pb.InstallRuntimeResponse:
        """Install a runtime from files in the request."""
        return await self._answer(self._from_files(request), "")

    async def StreamingInstallRuntimeFromGithub(
        self, request: pb.InstallRuntimeRequest, context: Context
    ) -> None:
        """Install a runtime that a registry offers, and tell how it goes."""
        await self._send(self._from_registry(request), request.runtime_spec, context)

    async def StreamingInstallRuntimeFromLocal(
        self, request: pb.InstallRuntimeFromLocalRequest, context: Context
    ) -> None:
        """Install a runtime from files in the request, and tell how it goes."""
        await self._send(self._from_files(request), request.runtime_spec, context)

    async def _from_registry(self, request: pb.InstallRuntimeRequest) -> AsyncIterator[InstallEvent]:
        url = registry_of(request)
        events = self._installs.install(request.runtime_spec, url=url, force=request.force_reinstall)
        async with aclosing(cast(Any, events)):
            async for event in events:
                yield event

    async def _from_files(self, request: pb.InstallRuntimeFromLocalRequest) -> AsyncIterator[InstallEvent]:
        files = [LocalFile(each.path, each.content) for each in request.files]
        events = self._installs.install_files(request.runtime_spec, files, force=request.force_reinstall)
        async with aclosing(cast(Any, events)):
            async for event in events:
                yield event

    async def _answer(
        self, events: AsyncIterator[InstallEvent], repository: str
    ) -> pb.InstallRuntimeResponse:
        async with aclosing(cast(Any, events)):
            async for event in events:
                if isinstance(event, Installed):
                    return pb.InstallRuntimeResponse(
                        runtime_spec=str(event.runtime.facts),
                        status=_PRESENT if event.was_there else _INSTALLED,
                        message=_message(event),
                        repository=repository,
                        resolved_path=self._runtimes.path(event.runtime),
                        runtime=pinned_to_proto(event.runtime),
                    )
        raise HostUnavailable("cannot install: it ended without a result", reason="AGENT_ENDS")

    async def _send(self, events: AsyncIterator[InstallEvent], spec: str, context: Context) -> None:
        try:
            async with aclosing(cast(Any, events)):
                async for event in events:
                    await context.write(self._chunk(event))
        except JobletError as error:
            tell_failure()
            result = pb.RuntimeInstallationResult(
                message=str(error), runtime_spec=spec, reason=error.reason, hint=error.hint or ""
            )
            await context.write(pb.RuntimeInstallationChunk(result=result))

    def _chunk(self, event: InstallEvent) -> pb.RuntimeInstallationChunk:
        match event:
            case InstallStep():
                progress = pb.RuntimeInstallationProgress(
                    message=event.message, step=event.number, total_steps=event.total
                )
                return pb.RuntimeInstallationChunk(progress=progress)
            case InstallLog():
                log = pb.RuntimeInstallationLog(data=f"{event.text}\n".encode())
                return pb.RuntimeInstallationChunk(log=log)
            case Installed():
                result = pb.RuntimeInstallationResult(
                    success=True,
                    message=_message(event),
                    runtime_spec=str(event.runtime.facts),
                    install_path=self._runtimes.path(event.runtime),
                    runtime=pinned_to_proto(event.runtime),
                )
                return pb.RuntimeInstallationChunk(result=result)


class OfferServicer:
    """The method of AgentService that asks a registry."""

    def __init__(self, installs: RuntimeInstalls) -> None:
        self._installs = installs

    async def GetOfferedRuntimes(
        self, request: pb.GetOfferedRuntimesRequest, context: Context
    ) -> pb.GetOfferedRuntimesResponse:
        """Return what a registry offers."""
        loaded = await self._installs.offered(request.registry_url)
        offered = [
            pb.OfferedRuntime(
                name=each.name,
                versions=each.versions,
                platforms=each.platforms,
                description=each.description,
            )
            for each in loaded.offered()
        ]
        return pb.GetOfferedRuntimesResponse(runtimes=offered, registry_url=loaded.address)


def registry_of(request: pb.InstallRuntimeRequest) -> str:
    """Return the registry that is meant; empty for the node's own. Raises InvalidRequest, NotOffered."""
    for name in ("branch", "path"):
        if getattr(request, name):
            raise NotOffered(
                f"cannot install runtime: this agent takes no {name} of a repository",
                reason="OPTION_NOT_OFFERED",
                hint="name the address of the registry: registry_url",
            )
    if request.registry_url and request.repository:
        raise InvalidRequest(
            "cannot install runtime: there are two registries, repository and registry_url",
            reason="TWO_REGISTRIES",
            hint="name one of them",
        )
    return request.registry_url or request.repository


def _message(event: Installed) -> str:
    name, digest = str(event.runtime.facts), event.runtime.digest
    return f"{name} was there already" if event.was_there else f"{name} is installed, digest {digest}"
