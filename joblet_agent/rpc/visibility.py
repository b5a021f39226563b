"""Interceptor: with ``jobs.visibility: own`` operators see and control nothing but what they have started.

The jobs of others are not there: an id of theirs is answered like one that nobody has. What a request names
is resolved here, checked, and replaced by the whole id, so that what was checked is what is acted on.
"""

from contextvars import ContextVar
from enum import Enum

from google.protobuf.message import Message

from joblet_agent.errors import AmbiguousId, NotPermitted
from joblet_agent.jobs.check import quoted
from joblet_agent.jobs.ids import id_prefix, not_found
from joblet_agent.model.identity import Role
from joblet_agent.model.job import JobFilter, JobId
from joblet_agent.model.schedule import ScheduleId
from joblet_agent.rpc.auth import caller
from joblet_agent.rpc.handlers import Context, Handler, Interceptor, behaviour_of, with_behaviour
from joblet_agent.rpc.services import Jobs, Schedules


class Scope(Enum):
    """How a method is held to what the caller has started."""

    JOBS = "its request names jobs, which are checked here; named none, its servicer asks owner()"
    SCHEDULE = "its request names a schedule, which is checked here"
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
    "grpc.health.v1.Health/Check": Scope.NOTHING,
    "grpc.health.v1.Health/Watch": Scope.NOTHING,
}
"""Methods that are not here are denied to whoever sees only what is their own."""

_SINGLE, _SEVERAL = ("uuid", "job_uuid"), ("uuids", "job_uuids")

_OWNER: ContextVar[str] = ContextVar("owner", default="")


def owner() -> str:
    """Return whose jobs the RPC that is being handled may be about; empty for everybody's."""
    return _OWNER.get()


class VisibilityInterceptor(Interceptor):
    """Hold operators to what they have started. Comes where requests are messages."""

    def __init__(self, jobs: Jobs, schedules: Schedules) -> None:
        self._jobs = jobs
        self._schedules = schedules

    def wrapped(self, handler: Handler, method: str) -> Handler:
        """Return the handler behind the check."""
        inner = behaviour_of(handler)

        async def behaviour(request: object, context: Context) -> object:
            if caller().role is Role.OPERATOR:
                _OWNER.set(caller().name)  # never reset: see auth.py
                await self._check(method, request)
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
                        setattr(request, field, self._own_schedule(getattr(request, field)))
            case None:
                raise NotPermitted(
                    f"cannot call {method}: it may show jobs of others (jobs.visibility: own)",
                    reason="METHOD_NOT_SCOPED",
                )
            case Scope.LIST | Scope.NOTHING:
                pass

    async def _own_jobs(self, request: Message) -> None:
        fields = request.DESCRIPTOR.fields_by_name
        for field in _SINGLE:
            if field in fields:
                setattr(request, field, await self._own_job(getattr(request, field)))
        for field in _SEVERAL:
            if field in fields:
                named = getattr(request, field)
                named[:] = [await self._own_job(given) for given in named]

    async def _own_job(self, given: str) -> JobId:
        try:
            record = await self._jobs.get(given)
        except AmbiguousId as error:
            # Of all jobs; perhaps not of the caller's own.
            wanted = JobFilter(id_prefix=id_prefix(given, "job"), started_by=owner())
            found = (await self._jobs.page(wanted, size=2, token="")).jobs
            if len(found) > 1:
                raise
            if found:
                return found[0].id
            raise not_found(id_prefix(given, "job"), "job") from error
        if record.started_by != owner():
            raise not_found(id_prefix(given, "job"), "job")
        return record.id

    def _own_schedule(self, given: str) -> ScheduleId:
        try:
            schedule = self._schedules.get(given)
        except AmbiguousId as error:
            prefix = id_prefix(given, "schedule")
            own = [each for each in self._schedules.all() if each.template.started_by == owner()]
            found = [each.id for each in own if each.id.startswith(prefix)]
            if len(found) > 1:
                raise
            if found:
                return found[0]
            raise not_found(quoted(given), "schedule") from error
        if schedule.template.started_by != owner():
            raise not_found(quoted(given), "schedule")
        return schedule.id
