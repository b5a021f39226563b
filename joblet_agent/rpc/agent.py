"""AgentService on the wire: what this agent offers beyond the published definition."""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from joblet_agent import __version__
from joblet_agent.errors import InvalidRequest
from joblet_agent.model.certificate import CertificateLife
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.auth import caller
from joblet_agent.rpc.convert import explanation_to_proto, filter_from_proto, job_to_proto, rfc3339
from joblet_agent.rpc.files import FileServicer
from joblet_agent.rpc.handlers import Context
from joblet_agent.rpc.limits import all_limit_fields, changes_from_proto, node_to_proto
from joblet_agent.rpc.lives import lives_to_proto
from joblet_agent.rpc.metrics import running_to_proto
from joblet_agent.rpc.services import Files, Jobs, Nodes, Watches
from joblet_agent.rpc.visibility import owner
from joblet_agent.rpc.watch import sighting_to_proto, watch_query_from_proto

DEFAULT_PAGE = 1000
MOST_PAGE = 10_000


class AgentServicer(FileServicer):
    """The methods of AgentService."""

    def __init__(
        self,
        jobs: Jobs,
        watches: Watches,
        node: Nodes,
        files: Files,
        lives: Callable[[], Sequence[CertificateLife]],
    ) -> None:
        super().__init__(files)
        self._jobs = jobs
        self._watches = watches
        self._node = node
        self._lives = lives

    async def ExplainJob(self, request: pb.ExplainJobRequest, context: Context) -> pb.ExplainJobResponse:
        """Tell which unit a job is, and why."""
        record = await self._jobs.get(request.uuid)  # for its full id
        return explanation_to_proto(record.id, await self._jobs.explain(record.id))

    async def UpdateJob(self, request: pb.UpdateJobRequest, context: Context) -> pb.UpdateJobResponse:
        """Change limits of a job."""
        record = await self._jobs.update(request.uuid, changes_from_proto(request), caller())
        return pb.UpdateJobResponse(
            uuid=record.id,
            status=record.state.value,
            limits=pb.Limits(**all_limit_fields(record.spec.resources)),
        )

    async def GetNode(self, request: pb.GetNodeRequest, context: Context) -> pb.GetNodeResponse:
        """Tell what the node has and allows, and who asks."""
        reply = node_to_proto(await self._node.describe())
        reply.version = __version__
        reply.time = rfc3339(datetime.now(UTC), timespec="microseconds")
        reply.caller_name, reply.caller_role = caller().name, caller().role.value
        reply.certificates.extend(lives_to_proto(self._lives(), datetime.now(UTC)))
        return reply

    async def QueryJobs(self, request: pb.QueryJobsRequest, context: Context) -> pb.QueryJobsResponse:
        """Return one page of the jobs that fit."""
        page = await self._jobs.page(
            replace(filter_from_proto(request), started_by=owner()),
            size=_page_size(request.page_size),
            token=request.page_token,
        )
        return pb.QueryJobsResponse(
            jobs=[
                job_to_proto(record, queue_position=self._jobs.queue_position(record.id))
                for record in page.jobs
            ],
            next_page_token=page.next_token,
        )

    async def GetRunningMetrics(
        self, request: pb.GetRunningMetricsRequest, context: Context
    ) -> pb.GetRunningMetricsResponse:
        """Return what running jobs use now."""
        readings = await self._jobs.readings(request.job_uuids)
        return pb.GetRunningMetricsResponse(
            jobs=[
                running_to_proto(record, reading)
                for record, reading in readings
                if owner() in {"", record.started_by}
            ],
            interval_seconds=self._jobs.metrics_interval.total_seconds(),
        )

    async def WatchJobs(self, request: pb.WatchJobsRequest, context: Context) -> None:
        """Send changes of jobs as they come; waits for the watcher before it takes the next one."""
        sightings = await self._watches.watch(replace(watch_query_from_proto(request), started_by=owner()))
        try:
            async for sighting in sightings:
                await context.write(sighting_to_proto(sighting))
        finally:  # at once, not when the collector finds it
            if isinstance(sightings, AsyncGenerator):
                await sightings.aclose()


def _page_size(wanted: int) -> int:
    if not 0 <= wanted <= MOST_PAGE:
        raise InvalidRequest(
            f"cannot list jobs: page_size must be from 0 to {MOST_PAGE}, not {wanted}", reason="BAD_PAGE_SIZE"
        )
    return wanted or DEFAULT_PAGE
