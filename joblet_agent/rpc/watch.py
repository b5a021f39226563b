"""Watches on the wire: proto to model and back, without logic."""

from joblet_agent.model.event import JobEvent, Sighting, WatchQuery
from joblet_agent.model.job import JobState, Outcome
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.convert import published_code, rfc3339

_NOT_ENDED = Outcome(JobState.RUNNING)


def watch_query_from_proto(request: pb.WatchJobsRequest) -> WatchQuery:
    """Return which events are wanted."""
    return WatchQuery(
        after=request.after,
        with_standing=request.snapshot,
        given=tuple(request.uuids),
        name=request.name,
        words=frozenset(request.states),
    )


def sighting_to_proto(sighting: Sighting) -> pb.WatchJobsResponse:
    """Return one answer of a watch."""
    event = _event_to_proto(sighting.event) if sighting.event is not None else None
    return pb.WatchJobsResponse(number=sighting.number, event=event)


def _event_to_proto(event: JobEvent) -> pb.JobEvent:
    outcome = event.outcome or _NOT_ENDED
    return pb.JobEvent(
        time=rfc3339(event.time, timespec="microseconds"),
        uuid=event.job_id,
        name=event.name,
        status=event.word,
        exit_code=published_code(event.outcome),
        reason=outcome.reason.value,
        signal=outcome.signal,
        message=outcome.message,
    )
