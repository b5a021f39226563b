"""Interceptor: who is calling, and may they call this.

Who it is depends on the listener. The file permissions of a local socket have already decided, and everybody
who could open it has its role; over the network the certificate says it (certificates.py).
What a method needs is in the one table below; what is not in it, nobody may call.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from contextvars import ContextVar
from functools import partial

from joblet_agent.config import ViewerConfig
from joblet_agent.errors import NotAuthenticated, NotPermitted
from joblet_agent.model.identity import Identity, Permission, Role, allows
from joblet_agent.rpc.handlers import Context, Handler, Interceptor, guarded

Authenticator = Callable[[Context], Identity]
"""Names the caller of an RPC, or raises NotAuthenticated."""

Attend = Callable[[Context, Callable[[NotAuthenticated], None]], AbstractContextManager[None]]
"""Within the block, tells (once or more) when the caller of a stream has stopped being who it was."""

ACCESS = {
    "JobService/RunJob": Permission.RUN,
    "JobService/GetJobStatus": Permission.READ,
    "JobService/StopJob": Permission.RUN,
    "JobService/CancelJob": Permission.RUN,
    "JobService/DeleteJob": Permission.RUN,
    "JobService/DeleteAllJobs": Permission.RUN,
    "JobService/GetJobLogs": Permission.READ,
    "JobService/ListJobs": Permission.READ,
    "JobService/StreamJobMetrics": Permission.READ,
    "JobService/GetJobMetrics": Permission.READ,
    "JobService/StreamJobTelematics": Permission.READ,
    "JobService/GetJobTelematics": Permission.READ,
    "JobService/RunWorkflow": Permission.RUN,
    "JobService/GetWorkflowStatus": Permission.READ,
    "JobService/ListWorkflows": Permission.READ,
    "JobService/GetWorkflowJobs": Permission.READ,
    "NetworkService/CreateNetwork": Permission.MANAGE,
    "NetworkService/ListNetworks": Permission.READ,
    "NetworkService/RemoveNetwork": Permission.MANAGE,
    "VolumeService/CreateVolume": Permission.MANAGE,
    "VolumeService/ListVolumes": Permission.READ,
    "VolumeService/RemoveVolume": Permission.MANAGE,
    "MonitoringService/GetSystemStatus": Permission.READ,
    "MonitoringService/StreamSystemMetrics": Permission.READ,
    "RuntimeService/ListRuntimes": Permission.READ,
    "RuntimeService/GetRuntimeInfo": Permission.READ,
    "RuntimeService/TestRuntime": Permission.RUN,
    "RuntimeService/RemoveRuntime": Permission.MANAGE,
    "RuntimeService/BuildRuntime": Permission.MANAGE,
    "RuntimeService/ValidateRuntimeYAML": Permission.READ,
    "RuntimeService/InstallRuntimeFromGithub": Permission.MANAGE,
    "RuntimeService/InstallRuntimeFromLocal": Permission.MANAGE,
    "RuntimeService/StreamingInstallRuntimeFromGithub": Permission.MANAGE,
    "RuntimeService/StreamingInstallRuntimeFromLocal": Permission.MANAGE,
    "RuntimeService/ValidateRuntimeSpec": Permission.READ,
    "AgentService/ExplainJob": Permission.READ,
    "AgentService/UpdateJob": Permission.RUN,
    "AgentService/GetNode": Permission.READ,
    "AgentService/QueryJobs": Permission.READ,
    "AgentService/WatchJobs": Permission.READ,
    "AgentService/UploadFiles": Permission.RUN,
    "AgentService/ListJobFiles": Permission.READ,
    "AgentService/DownloadJobFile": Permission.FILES,
    "AgentService/ListSchedules": Permission.READ,
    "AgentService/GetSchedule": Permission.READ,
    "AgentService/RemoveSchedule": Permission.RUN,
    "AgentService/PauseSchedule": Permission.RUN,
    "AgentService/ResumeSchedule": Permission.RUN,
    "AgentService/GetRunningMetrics": Permission.READ,
    "AgentService/PauseJob": Permission.RUN,
    "AgentService/ResumeJob": Permission.RUN,
    "AgentService/KillJob": Permission.RUN,
    "AgentService/ExecInJob": Permission.RUN,
    "AgentService/GetNetworks": Permission.READ,
    "AgentService/GetVolumes": Permission.READ,
    "AgentService/GrowVolume": Permission.MANAGE,
    "AgentService/PutVolumeFiles": Permission.RUN,
    "AgentService/DownloadVolumeFile": Permission.FILES,
    "AgentService/SnapshotVolume": Permission.MANAGE,
    "AgentService/RestoreVolume": Permission.MANAGE,
    "AgentService/RemoveVolumeSnapshot": Permission.MANAGE,
    # Changes nothing, but tells whether its caller could run the workflow, and costs the agent as much.
    "AgentService/CheckWorkflow": Permission.RUN,
    "AgentService/WatchWorkflow": Permission.READ,
    "AgentService/StopWorkflow": Permission.RUN,
    "AgentService/CancelWorkflow": Permission.RUN,
    "AgentService/PauseWorkflow": Permission.RUN,
    "AgentService/ResumeWorkflow": Permission.RUN,
    "AgentService/RetryWorkflow": Permission.RUN,
    "AgentService/DeleteWorkflow": Permission.RUN,
    # Asks package archives, or a registry at an address that the caller gives.
    "AgentService/LockRuntime": Permission.MANAGE,
    "AgentService/GetOfferedRuntimes": Permission.MANAGE,
    "AgentService/GetRuntimeBuilds": Permission.READ,
    "AgentService/FollowRuntimeBuild": Permission.READ,
    "AgentService/CancelRuntimeBuild": Permission.MANAGE,
    # Changes nothing, but reads gigabytes.
    "AgentService/VerifyRuntime": Permission.RUN,
    "AgentService/GcRuntimes": Permission.MANAGE,
    "AgentService/ExportRuntime": Permission.FILES,
    "AgentService/ImportRuntime": Permission.MANAGE,
    "grpc.health.v1.Health/Check": Permission.READ,
    "grpc.health.v1.Health/Watch": Permission.READ,
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo": Permission.INSPECT,
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Permission.INSPECT,
}

LOCAL_ADMIN = Identity("local", Role.ADMIN)

_CALLER: ContextVar[Identity] = ContextVar("caller")


def caller() -> Identity:
    """Return who made the RPC that is being handled."""
    return _CALLER.get()


def known_caller() -> Identity | None:
    """Return who makes the RPC; None before the caller is authenticated, and if that fails."""
    return _CALLER.get(None)


def local_caller(context: Context) -> Identity:
    """Authenticate callers on the local socket, and nobody else."""
    return socket_caller(LOCAL_ADMIN, context)


def local_identity(role: Role) -> Identity:
    """Return who comes over the local socket of the role. No certificate can have such a name."""
    return LOCAL_ADMIN if role is Role.ADMIN else Identity(f"local:{role}", role)


def socket_caller(identity: Identity, context: Context) -> Identity:
    """Authenticate callers on a local socket, whose permissions have let them in, as this one."""
    if context.peer().startswith("unix:"):
        return identity
    raise no_certificate()


def no_certificate() -> NotAuthenticated:
    """Return the error for a caller that nothing tells of."""
    return NotAuthenticated("cannot authenticate the caller: no client certificate", reason="NO_CERTIFICATE")


class AuthInterceptor(Interceptor):
    """Let a method see a request only when its caller may call it. Comes before the request is decoded."""

    def __init__(
        self, config: ViewerConfig, authenticate: Authenticator, attend: Attend | None = None
    ) -> None:
        self._config = config
        self._authenticate = authenticate
        self._attend = attend

    def wrapped(self, handler: Handler, method: str) -> Handler:
        """Return the handler behind the check; a stream also ends when its caller's certificate does."""
        is_stream = handler.request_streaming or handler.response_streaming
        if is_stream and self._attend is not None:
            return guarded(handler, partial(self._attended, method, self._attend))
        return guarded(handler, partial(self._admitted, method))

    @asynccontextmanager
    async def _admitted(self, method: str, context: Context) -> AsyncIterator[None]:
        identity = self._authenticate(context)
        _CALLER.set(identity)  # never reset: grpc runs each RPC in a task, and so a context, of its own
        authorise(identity, method, viewer_files=self._config.files)
        yield

    @asynccontextmanager
    async def _attended(self, method: str, attend: Attend, context: Context) -> AsyncIterator[None]:
        why: list[NotAuthenticated] = []
        stream = asyncio.timeout(None)

        def end(error: NotAuthenticated) -> None:
            if not why:
                why.append(error)
                stream.reschedule(asyncio.get_running_loop().time())

        async with self._admitted(method, context):
            try:
                async with stream:
                    with attend(context, end):
                        yield
            except TimeoutError:
                if not stream.expired() or not why:
                    raise
                raise why[0] from None


def authorise(identity: Identity, method: str, *, viewer_files: bool = False) -> None:
    """Raise NotPermitted unless the table gives the caller's role this method (``Service/Method``)."""
    needed = ACCESS.get(method)
    if needed is None:
        raise NotPermitted(
            f"cannot call {method}: nobody is permitted to, it is not in the access table",
            reason="METHOD_NOT_LISTED",
        )
    if not allows(identity.role, needed, viewer_files=viewer_files):
        raise NotPermitted(
            f"cannot call {method}: role {identity.role} has no permission to {needed}",
            reason="ROLE_NOT_PERMITTED",
            hint=f"use an identity whose role has the permission to {needed}",
        )
