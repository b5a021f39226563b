"""Workflows as a fake agent tells them."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc

from joblet_agent.pb import joblet_pb2 as pb
from tests.unit.rnx.fake_agent import UUID, FakeAgent

NOON = 1_769_860_800  # 2026-01-31 12:00:00 UTC
ENDED = ("COMPLETED", "FAILED", "STOPPED")


def at(seconds: int) -> pb.Timestamp:
    return pb.Timestamp(seconds=NOON + seconds)


def info(status: str = "RUNNING", **more: Any) -> pb.WorkflowInfo:
    fields: dict[str, Any] = {"uuid": UUID, "status": status, "workflow": "w.yml", "created_at": at(0)}
    return pb.WorkflowInfo(**{**fields, **more})


def job_id(number: int) -> str:
    return f"{number:08}-2222-4333-8444-555555555555"


def job(name: str, status: str = "WAITING", number: int = 0, **more: Any) -> pb.WorkflowJob:
    """A job; ``number`` makes its id and the second at which it was started, 0 for one that was not."""
    fields: dict[str, Any] = {"job_name": name, "status": status, "job_uuid": "0"}
    if number:
        fields |= {"job_uuid": job_id(number), "start_time": at(number), "tries": 1, "most_tries": 1}
        if status in ENDED:
            fields["end_time"] = at(number + 1)
    return pb.WorkflowJob(**{**fields, **more})


def status_of(workflow: pb.WorkflowInfo, *jobs: pb.WorkflowJob) -> pb.GetWorkflowStatusResponse:
    return pb.GetWorkflowStatusResponse(workflow=workflow, jobs=jobs)


def change(workflow: pb.WorkflowInfo, *jobs: pb.WorkflowJob) -> pb.WatchWorkflowResponse:
    return pb.WatchWorkflowResponse(workflow=workflow, jobs=jobs)


def lost(context: Any) -> None:
    context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")


def watching(agent: FakeAgent, *lives: list[Any]) -> None:
    """Let each watch give the next list: messages, and functions of the call's context."""
    left = list(lives)

    def watch(_: Any, context: Any) -> Iterator[Any]:
        for each in left.pop(0):
            if isinstance(each, pb.WatchWorkflowResponse):
                yield each
            else:
                each(context)

    agent.answers["WatchWorkflow"] = watch


def writing(agent: FakeAgent, output: dict[int, bytes]) -> None:
    """Let jobs have output, by their numbers, and have ended."""
    written = {job_id(number): content for number, content in output.items()}

    def log(request: Any, _: Any) -> Iterator[pb.DataChunk]:
        content = written[request.uuid]
        time = NOON * 10**9 if request.timestamps else 0
        for start in range(request.offset, len(content), 7):
            yield pb.DataChunk(payload=content[start : start + 7], offset=start, time_unix_ns=time)

    agent.answers["GetJobLogs"] = log
    agent.answers["GetJobStatus"] = lambda request, _: pb.GetJobStatusResponse(
        uuid=request.uuid, status="COMPLETED"
    )


Answer = Callable[[Any, Any], Any]
