"""Builds of runtimes on the wire: the published method, and those of AgentService."""

from contextlib import aclosing

from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.audit import tell_failure, tell_subject
from joblet_agent.rpc.auth import caller
from joblet_agent.rpc.handlers import Context
from joblet_agent.rpc.runtime_rows import build_to_proto, event_to_proto
from joblet_agent.rpc.runtime_services import Runtimes
from joblet_agent.runtimes.build.callers import BuildHandle, RuntimeBuilds
from joblet_agent.runtimes.build.events import BuildDone
from joblet_agent.runtimes.build.records import BuildOptions


class RuntimeBuildServicer:
    """The published method. A build that fails is told by its result, the call itself succeeds."""

    def __init__(self, builds: RuntimeBuilds, runtimes: Runtimes) -> None:
        self._builds = builds
        self._sending = _Sending(builds, runtimes)

    async def BuildRuntime(self, request: pb.BuildRuntimeRequest, context: Context) -> None:
        """Build a runtime, or say what a build would do; send everything to its end."""
        options = BuildOptions(
            force=request.force_rebuild,
            locked=request.locked,
            lock=request.lock,
            detach=request.detach,
            dry_run=request.dry_run,
        )
        handle = await self._builds.build(request.yaml_content, options, caller=caller().name)
        await self._sending.send(handle, context, verbose=request.verbose)


class AgentRuntimeBuildServicer:
    """The methods of AgentService about builds."""

    def __init__(self, builds: RuntimeBuilds, runtimes: Runtimes) -> None:
        self._builds = builds
        self._sending = _Sending(builds, runtimes)

    async def LockRuntime(self, request: pb.LockRuntimeRequest, context: Context) -> None:
        """Find the exact versions that a build would take."""
        options = BuildOptions(only_lock=True)
        handle = await self._builds.build(request.yaml_content, options, caller=caller().name)
        await self._sending.send(handle, context, verbose=True)

    async def GetRuntimeBuilds(
        self, request: pb.GetRuntimeBuildsRequest, context: Context
    ) -> pb.GetRuntimeBuildsResponse:
        """Return the builds that wait or run."""
        running = [each for each in self._builds.all() if not each.ended]
        return pb.GetRuntimeBuildsResponse(builds=map(build_to_proto, running))

    async def FollowRuntimeBuild(self, request: pb.FollowRuntimeBuildRequest, context: Context) -> None:
        """Send everything of a build, from its beginning to its end."""
        handle = await self._builds.attach(request.build)
        await self._sending.send(handle, context, verbose=request.verbose)

    async def CancelRuntimeBuild(
        self, request: pb.CancelRuntimeBuildRequest, context: Context
    ) -> pb.CancelRuntimeBuildResponse:
        """End a build."""
        return pb.CancelRuntimeBuildResponse(build=build_to_proto(await self._builds.cancel(request.build)))


class _Sending:
    """Sends the events of builds."""

    def __init__(self, builds: RuntimeBuilds, runtimes: Runtimes) -> None:
        self._builds = builds
        self._runtimes = runtimes

    async def send(self, handle: BuildHandle, context: Context, *, verbose: bool) -> None:
        """Send everything to the end; the record of the call tells whether it failed."""
        name = ""
        # A follower that is not closed would be one still, and its build never left alone.
        async with aclosing(handle.follow(verbose=verbose)) as events:
            async for event in events:
                if not name:
                    name = self._name(handle.id)
                    tell_subject(name)
                path = ""
                if isinstance(event, BuildDone):
                    if event.runtime is not None:
                        path = self._runtimes.path(event.runtime)
                    if event.error is not None:
                        tell_failure()
                await context.write(
                    event_to_proto(event, handle.id, joined=handle.is_shared, name=name, path=path)
                )

    def _name(self, build_id: str) -> str:
        return next((each.runtime for each in self._builds.all() if each.id == build_id), "")
