"""One workflow as it changes, across restarts of the agent, until it has ended.

The agent begins each watch with the whole workflow. So a watcher that lost the connection asks again, and
only tells what is not as it was: no change that lasts is missed and none comes twice.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from rnx.attach import Patience
from rnx.client import SHORT, Client, pb
from rnx.exits import TimedOut, Unreachable
from rnx.watching import time_left

ENDED = frozenset({"COMPLETED", "FAILED", "STOPPED", "CANCELED"})
JOB_ENDED = ENDED | {"SKIPPED"}
NO_JOB = frozenset({"", "0"})
"""Ids of jobs that have not been started."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is new: the workflow as it is now, and the jobs that have changed; at first all of them."""

    workflow: Any
    jobs: list[Any]
    is_first: bool


class WorkflowWatcher:
    """Reads the changes of one workflow, and goes on after a lost connection."""

    def __init__(self, client: Client, uuid: str, *, limit: timedelta | None = None) -> None:
        """``uuid`` may be a beginning of one; ``limit`` bounds the whole watch (TimedOut)."""
        self._client = client
        self._uuid = uuid
        self._until = None if limit is None else time.monotonic() + limit.total_seconds()
        self._is_begun = False
        self.workflow: Any = None
        """As it was told last (WorkflowInfo)."""
        self.jobs: dict[str, Any] = {}
        """The newest of each job (WorkflowJob) by its name, in the order of the file."""

    def changes(self) -> Iterator[Change]:
        """Yield each change; ends when the workflow has ended."""
        patience = Patience()
        while True:
            try:
                request = pb.WatchWorkflowRequest(workflow_uuid=self._uuid)
                answers = self._client.stream(
                    self._client.agent.WatchWorkflow, request, limit=time_left(self._until)
                )
                for answer in answers:
                    patience.heard()
                    yield from self._taken_in(answer)
                yield from self._first()
                if self.workflow is not None and self.workflow.status in ENDED:
                    return
                # An agent that is closing down may end the stream in good order.
                lost = Unreachable("the agent ends the watch again and again although the workflow goes on")
            except Unreachable as error:
                lost = error
            patience.wait(lost)

    def _taken_in(self, answer: Any) -> Iterator[Change]:
        """Yield what is new in the answer. Many jobs come in several, of which the first has the workflow."""
        has_workflow = answer.HasField("workflow")
        if has_workflow and not self._is_begun and self.workflow is not None:
            yield from self._first()
        changed = [job for job in answer.jobs if self.jobs.get(job.job_name) != job]
        is_new = has_workflow and answer.workflow != self.workflow
        if has_workflow:
            self.workflow = answer.workflow
            self._uuid = answer.workflow.uuid or self._uuid
        self.jobs |= {job.job_name: job for job in changed}
        if self.workflow is None:
            return
        if not self._is_begun:
            if len(self.jobs) >= self.workflow.total_jobs:
                yield from self._first()
        elif is_new or changed:
            yield Change(self.workflow, changed, is_first=False)

    def _first(self) -> Iterator[Change]:
        """Yield the workflow with all its jobs, once."""
        if not self._is_begun and self.workflow is not None:
            self._is_begun = True
            yield Change(self.workflow, list(self.jobs.values()), is_first=True)


def get_status(client: Client, uuid: str) -> Any:
    """Return a workflow with its jobs (GetWorkflowStatusResponse)."""
    return client.call(client.jobs.GetWorkflowStatus, pb.GetWorkflowStatusRequest(workflow_uuid=uuid), SHORT)


def until_ended(client: Client, workflow: Any, limit: timedelta) -> Any:
    """Wait until a workflow (WorkflowInfo) has ended; return it as it is then. Raises TimedOut."""
    if workflow.status in ENDED:
        return workflow
    watcher = WorkflowWatcher(client, workflow.uuid, limit=limit)
    try:
        for _ in watcher.changes():
            pass
    except TimedOut:
        raise TimedOut(
            f"workflow {workflow.uuid} is ending, and has not within {limit.total_seconds():.0f} s",
            hint=f"see: rnx workflow status {workflow.uuid}",
        ) from None
    return watcher.workflow
