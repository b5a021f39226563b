"""Interceptor: with ``jobs.visibility: own`` operators see and control nothing but what they have started.

The jobs of others are not there: an id of theirs is answered like one that nobody has. What a request names
is resolved here, checked, and replaced by the whole id, so that what was checked is what is acted on.
"""

from contextvars import ContextVar
from enum import Enum

from google.protobuf.message import Message

from joblet_agent.config import JobsConfig, Visibility
from joblet_agent.errors import NotPermitted
from joblet_agent.model.identity import Role
from joblet_agent.rpc.auth import caller
from joblet_agent.rpc.decode import subject_of
from joblet_agent.rpc.handlers import Context, Handler, Interceptor, behaviour_of, with_behaviour
from joblet_agent.rpc.own import Own


class Scope(Enum):
    """How a method is held to what the caller has started."""

    JOBS = "its request names jobs, which are checked here; named none, its servicer asks owner()"
    SCHEDULE = "its request names a schedule, which is checked here"
    WORKFLOW = "its request names a workflow, which is checked here"
    LIST = "its servicer asks owner()"
    NOTHING = "it shows and changes no job of anybody else"


SCOPES = {
    "JobService/RunJob": Scope.NOTHING,
    "JobService/GetJobStatus": Scope.JOBS,
    "JobService/StopJob": Scope.JOBS,
    "JobService/CancelJob": Scope.JOBS,
    "JobService/DeleteJob": Scope.JOBS,
    "JobService/DeleteAllJobs": Scope.LIST,
    "JobService/GetJobLogs": Scope.JOBS,
    "JobService/ListJobs": Scope.LIST,
    "JobService/StreamJobMetrics": Scope.JOBS,
    "JobService/GetJobMetrics": Scope.JOBS,
    "AgentService/ExplainJob": Scope.JOBS,
    "AgentService/UpdateJob": Scope.JOBS,
    "AgentService/GetNode": Scope.NOTHING,
    "AgentService/QueryJobs": Scope.LIST,
    "AgentService/WatchJobs": Scope.JOBS,
    "AgentService/UploadFiles": Scope.NOTHING,
    "AgentService/ListJobFiles": Scope.JOBS,
    "AgentService/DownloadJobFile": Scope.JOBS,
    "AgentService/ListSchedules": Scope.LIST,
    "AgentService/GetSchedule": Scope.SCHEDULE,
    "AgentService/RemoveSchedule": Scope.SCHEDULE,
    "AgentService/PauseSchedule": Scope.SCHEDULE,
    "AgentService/ResumeSchedule": Scope.SCHEDULE,
    "AgentService/GetRunningMetrics": Scope.JOBS,
    "AgentService/PauseJob": Scope.JOBS,
    "AgentService/ResumeJob": Scope.JOBS,
    "AgentService/KillJob": Scope.JOBS,
    "AgentService/ExecInJob": Scope.JOBS,
    "AgentService/GetNetworks": Scope.LIST,
    "JobService/RunWorkflow": Scope.NOTHING,
    "JobService/GetWorkflowStatus": Scope.WORKFLOW,
    "JobService/ListWorkflows": Scope.LIST,
    "JobService/GetWorkflowJobs": Scope.WORKFLOW,
    "AgentService/CheckWorkflow": Scope.NOTHING,
    "AgentService/WatchWorkflow": Scope.WORKFLOW,
    "AgentService/StopWorkflow": Scope.WORKFLOW,
    "AgentService/CancelWorkflow": Scope.WORKFLOW,
    "AgentService/PauseWorkflow": Scope.WORKFLOW,
    "AgentService/ResumeWorkflow": Scope.WORKFLOW,
    "AgentService/RetryWorkflow": Scope.WORKFLOW,
    "AgentService/DeleteWorkflow": Scope.WORKFLOW,
    "NetworkService/ListNetworks": Scope.LIST,
    "VolumeService/CreateVolume": Scope.LIST,
    "VolumeService/ListVolumes": Scope.LIST,
    "VolumeService/RemoveVolume": Scope.LIST,
    "AgentService/GetVolumes": Scope.LIST,
    "AgentService/GrowVolume": Scope.LIST,
    "AgentService/PutVolumeFiles": Scope.NOTHING,
    "AgentService/DownloadVolumeFile": Scope.NOTHING,
    "AgentService/SnapshotVolume": Scope.NOTHING,
    "AgentService/RestoreVolume": Scope.NOTHING,
    "AgentService/RemoveVolumeSnapshot": Scope.NOTHING,
    "RuntimeService/ListRuntimes": Scope.NOTHING,
    "RuntimeService/GetRuntimeInfo": Scope.LIST,
    "RuntimeService/TestRuntime": Scope.NOTHING,
    "RuntimeService/ValidateRuntimeYAML": Scope.NOTHING,
    "RuntimeService/ValidateRuntimeSpec": Scope.NOTHING,
    "AgentService/GetRuntimeBuilds": Scope.NOTHING,
    "AgentService/FollowRuntimeBuild": Scope.NOTHING,
    "AgentService/VerifyRuntime": Scope.NOTHING,
    "AgentService/ExportRuntime": Scope.NOTHING,
    "grpc.health.v1.Health/Check": Scope.NOTHING,
    "grpc.health.v1.Health/Watch": Scope.NOTHING,
}
"""Methods that are not here are denied to whoever sees only what is their own."""

_SINGLE, _SEVERAL = ("uuid", "job_uuid"), ("uuids", "job_uuids")
_WORKFLOW = "workflow_uuid"

_OWNER: ContextVar[str] = ContextVar("owner", default="")


def owner() -> str:
    """Return whose jobs the RPC that is being handled may be about; empty for everybody's."""
    return _OWNER.get()


class VisibilityInterceptor(Interceptor):
    """Hold operators to what they have started. Comes where requests are messages."""

    def __init__(self, config: JobsConfig, own: Own) -> None:
        self._config = config
        self._own = own

    def wrapped(self, handler: Handler, method: str) -> Handler:
        """Return the handler behind the check."""
        inner = behaviour_of(handler)

        async def behaviour(request: object, context: Context) -> object:
            if self._config.visibility is Visibility.OWN and caller().role is Role.OPERATOR:
                _OWNER.set(caller().name)  # never reset: see auth.py
                await self._check(method, await subject_of(request))
            return await inner(request, context)

        return with_behaviour(handler, behaviour, deserializer=handler.request_deserializer)

    async def _check(self, method: str, request: object) -> None:
        match SCOPES.get(method):
            case Scope.JOBS:
                assert isinstance(request, Message)
                await self._own_jobs(request)
            case Scope.SCHEDULE:
                assert isinstance(request, Message)
                for field in _SINGLE:
                    if field in request.DESCRIPTOR.fields_by_name:
                        setattr(request, field, self._own.schedule(getattr(request, field), owner()))
            case None:
                raise NotPermitted(
                    f"cannot call {method}: it may show jobs of others (jobs.visibility: own)",
                    reason="METHOD_NOT_SCOPED",
                )
            case Scope.WORKFLOW:
                assert isinstance(request, Message)
                given = getattr(request, _WORKFLOW)
                setattr(request, _WORKFLOW, await self._own.workflow(given, owner()))
            case Scope.LIST | Scope.NOTHING:
                pass

    async def _own_jobs(self, request: Message) -> None:
        fields = request.DESCRIPTOR.fields_by_name
        for field in _SINGLE:
            if field in fields:
                setattr(request, field, await self._own.job(getattr(request, field), owner()))
        for field in _SEVERAL:
            if field in fields:
                named = getattr(request, field)
                named[:] = [await self._own.job(given, owner()) for given in named]
