"""Workflows on the wire: the published methods, and those of AgentService.

Texts of workflow files pass through unread: reading one of 10,000 jobs takes a second, which is the service's
to spend off the event loop.
"""

from contextlib import aclosing

from joblet_agent.errors import InvalidRequest
from joblet_agent.model.workflow import Workflow, WorkflowFilter, WorkflowId
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.auth import caller
from joblet_agent.rpc.convert import uploads_from_proto
from joblet_agent.rpc.handlers import Context
from joblet_agent.rpc.long_answer import PAGE, LongAnswer, pages
from joblet_agent.rpc.services import Workflows
from joblet_agent.rpc.tokens import workflow_token_from_proto
from joblet_agent.rpc.visibility import owner
from joblet_agent.rpc.workflow_rows import (
    accepted_to_proto,
    change_to_proto,
    member_to_proto,
    planned_to_proto,
    problems_to_proto,
    workflow_to_proto,
)
from joblet_agent.workflows.wanted import WantedWorkflow, WorkflowRefused

ANY_WORKFLOW = WorkflowId("*")
"""In place of an id that is not made yet."""
_EXPLAINED_PAGE = PAGE // 10
"""A unit takes as long to convert as ten rows."""


class WorkflowServicer:
    """The published methods, which are JobService's: proto to model, one service call, model to proto."""

    def __init__(self, workflows: Workflows, *, most_message: int) -> None:
        self._workflows = workflows
        self._most_message = most_message

    async def RunWorkflow(self, request: pb.RunWorkflowRequest, context: Context) -> pb.RunWorkflowResponse:
        """Accept a workflow, or a recurring schedule of workflows."""
        _check_text(request.yaml_content, "run workflow")
        made = await self._workflows.run(
            WantedWorkflow(text=request.yaml_content, name=request.name, file=request.workflow),
            caller(),
            uploads_from_proto(request.workflow_files, request.upload_id),
            workflow_token_from_proto(request),
        )
        return accepted_to_proto(made)

    async def GetWorkflowStatus(self, request: pb.GetWorkflowStatusRequest, context: Context) -> bytes:
        """Return one workflow with its jobs: the serialized message."""
        workflow = await self._workflows.get(request.workflow_uuid)
        answer = self._jobs_answer()
        info = _info(self._workflows, workflow, text=await self._workflows.text(workflow))
        await answer.add(pb.GetWorkflowStatusResponse(workflow=info))
        for page in pages(await self._workflows.members(workflow)):
            rows = [await member_to_proto(member, self._workflows.job) for member in page]
            await answer.add(pb.GetWorkflowStatusResponse(jobs=rows))
        return answer.whole()

    async def GetWorkflowJobs(self, request: pb.GetWorkflowJobsRequest, context: Context) -> bytes:
        """Return the jobs of one workflow: the serialized message."""
        workflow = await self._workflows.get(request.workflow_uuid)
        answer = self._jobs_answer()
        for page in pages(await self._workflows.members(workflow)):
            rows = [await member_to_proto(member, self._workflows.job) for member in page]
            await answer.add(pb.GetWorkflowJobsResponse(jobs=rows))
        return answer.whole()

    async def ListWorkflows(self, request: pb.ListWorkflowsRequest, context: Context) -> bytes:
        """Return the workflows without their texts: the serialized message."""
        wanted = WorkflowFilter(include_ended=request.include_completed, started_by=owner())
        answer = LongAnswer(
            self._most_message, "list workflows", "leave out those that have ended, or delete some"
        )
        for page in pages(await self._workflows.all(wanted)):
            rows = [_info(self._workflows, workflow) for workflow in page]
            await answer.add(pb.ListWorkflowsResponse(workflows=rows))
        return answer.whole()

    def _jobs_answer(self) -> LongAnswer:
        return LongAnswer(
            self._most_message,
            "show workflow",
            "AgentService.WatchWorkflow sends its jobs in messages of any number",
        )


class AgentWorkflowServicer:
    """The methods of AgentService that are about workflows."""

    def __init__(self, workflows: Workflows, *, most_message: int) -> None:
        self._workflows = workflows
        self._most_message = most_message

    async def CheckWorkflow(self, request: pb.CheckWorkflowRequest, context: Context) -> bytes:
        """Tell everything that is wrong with a workflow, or how it would run: the serialized message."""
        _check_text(request.yaml_content, "check workflow")
        wanted = WantedWorkflow(text=request.yaml_content, name=request.name)
        answer = LongAnswer(self._most_message, "check workflow", "ask without explain")
        try:
            planned = await self._workflows.check(
                wanted, caller(), frozenset(request.file_paths), explain=request.explain
            )
        except WorkflowRefused as error:
            await answer.add(pb.CheckWorkflowResponse(problems=problems_to_proto(error.problems)))
            return answer.whole()
        slice_name = self._workflows.slice_name(ANY_WORKFLOW)
        for page in pages(planned, _EXPLAINED_PAGE if request.explain else PAGE):
            rows = [planned_to_proto(job, slice_name=slice_name) for job in page]
            await answer.add(pb.CheckWorkflowResponse(jobs=rows))
        return answer.whole()

    async def WatchWorkflow(self, request: pb.WatchWorkflowRequest, context: Context) -> None:
        """Send a workflow and its changes until it ends; waits for the watcher before it takes the next."""
        changes = await self._workflows.watch(request.workflow_uuid)
        try:
            async for change in changes:
                slice_name = self._workflows.slice_name(change.workflow.id)
                told = change_to_proto(change, slice_name=slice_name, job_of=self._workflows.job)
                async with aclosing(told) as replies:
                    async for reply in replies:
                        await context.write(reply)
        finally:  # at once, not when the collector finds it
            await changes.aclose()

    async def StopWorkflow(
        self, request: pb.StopWorkflowRequest, context: Context
    ) -> pb.StopWorkflowResponse:
        """Stop what runs of a workflow, cancel what waits."""
        return pb.StopWorkflowResponse(workflow=self._info(await self._workflows.stop(request.workflow_uuid)))

    async def CancelWorkflow(
        self, request: pb.CancelWorkflowRequest, context: Context
    ) -> pb.CancelWorkflowResponse:
        """Cancel what waits of a workflow."""
        workflow = await self._workflows.cancel(request.workflow_uuid)
        return pb.CancelWorkflowResponse(workflow=self._info(workflow))

    async def PauseWorkflow(
        self, request: pb.PauseWorkflowRequest, context: Context
    ) -> pb.PauseWorkflowResponse:
        """Let a workflow stand still."""
        workflow = await self._workflows.pause(request.workflow_uuid)
        return pb.PauseWorkflowResponse(workflow=self._info(workflow))

    async def ResumeWorkflow(
        self, request: pb.ResumeWorkflowRequest, context: Context
    ) -> pb.ResumeWorkflowResponse:
        """Let a paused workflow go on."""
        workflow = await self._workflows.resume(request.workflow_uuid)
        return pb.ResumeWorkflowResponse(workflow=self._info(workflow))

    async def RetryWorkflow(
        self, request: pb.RetryWorkflowRequest, context: Context
    ) -> pb.RetryWorkflowResponse:
        """Run an ended workflow again."""
        workflow = await self._workflows.retry(request.workflow_uuid, failed_only=request.failed_only)
        return pb.RetryWorkflowResponse(workflow=self._info(workflow))

    async def DeleteWorkflow(
        self, request: pb.DeleteWorkflowRequest, context: Context
    ) -> pb.DeleteWorkflowResponse:
        """Forget an ended workflow with its jobs."""
        workflow_id, jobs = await self._workflows.delete(request.workflow_uuid)
        return pb.DeleteWorkflowResponse(workflow_uuid=workflow_id, deleted_jobs=jobs)

    def _info(self, workflow: Workflow) -> pb.WorkflowInfo:
        return _info(self._workflows, workflow)


def _info(workflows: Workflows, workflow: Workflow, text: str = "") -> pb.WorkflowInfo:
    return workflow_to_proto(workflow, slice_name=workflows.slice_name(workflow.id), text=text)


def _check_text(text: str, task: str) -> None:
    if not text.strip():
        raise InvalidRequest(
            f"cannot {task}: the text of its file is missing",
            reason="WORKFLOW_TEXT_MISSING",
            hint="send the text as yaml_content; the agent reads no files of its host",
        )
