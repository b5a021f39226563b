"""What is done to workflows that have ended: run again, forgotten."""

import asyncio
from dataclasses import replace
from weakref import WeakValueDictionary

from joblet_agent.errors import HostUnavailable, StoreFailed, WrongState
from joblet_agent.jobs.ids import not_found
from joblet_agent.jobs.retention import Retention
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.model.workflow import Member, Wish, Workflow, WorkflowId, WorkflowState
from joblet_agent.workflows.belongings import secrets_gone
from joblet_agent.workflows.driver import Means
from joblet_agent.workflows.drivers import Drivers
from joblet_agent.workflows.run import again

_LET_GO = 35.0


class Afterwards:
    """Acts on ended workflows, one act on each at a time; whoever asked may go away."""

    def __init__(self, means: Means, drivers: Drivers, retention: Retention) -> None:
        self._means = means
        self._store = means.store
        self._belongings = means.belongings
        self._drivers = drivers
        self._retention = retention
        self._locks: WeakValueDictionary[WorkflowId, asyncio.Lock] = WeakValueDictionary()
        self._tasks = Tasks()

    async def close(self) -> None:
        """Do nothing more."""
        await self._tasks.close()

    async def retry(self, workflow_id: WorkflowId, *, failed_only: bool) -> Workflow:
        """See WorkflowService."""
        return await asyncio.shield(
            self._tasks.start(self._retry(workflow_id, failed_only=failed_only), f"retry-{workflow_id}")
        )

    async def delete(self, workflow_id: WorkflowId) -> int:
        """Forget it with its jobs; return how many these were."""
        return await asyncio.shield(self._tasks.start(self._delete(workflow_id), f"delete-{workflow_id}"))

    async def _retry(self, workflow_id: WorkflowId, *, failed_only: bool) -> Workflow:
        async with self._lock(workflow_id):
            workflow = await self._ended(workflow_id, "retry")
            members = await self._store.members(workflow_id)
            progress = again(members, failed_only=failed_only)
            if not progress:
                raise WrongState(
                    f"cannot retry workflow {workflow_id[:8]}: all its jobs have completed",
                    reason="NOTHING_TO_RETRY",
                    hint="run them all again: rnx workflow retry without --failed",
                )
            templates = await self._store.templates(workflow_id, progress)
            if any(template.has_secrets for template in templates.values()):
                raise secrets_gone(workflow_id)
            workflow = replace(
                workflow,
                state=WorkflowState.PENDING,
                started_at=self._means.clock.now(),
                ended_at=None,
                wish=Wish.NONE,
            )
            await self._store.save(workflow, progress)
            members = [Member(each.plan, progress.get(each.plan.number, each.progress)) for each in members]
            return self._drivers.go_on(workflow, members).workflow

    async def _delete(self, workflow_id: WorkflowId) -> int:
        async with self._lock(workflow_id):
            if await self._is_broken(workflow_id):
                await self._require_jobs_ended(workflow_id)
            else:
                await self._ended(workflow_id, "delete")
            ids = await self._store.jobs_of(workflow_id)
            await self._retention.delete(ids)
            await self._store.delete(workflow_id)
            await self._belongings.discard(workflow_id)
        return len(ids)

    async def _is_broken(self, workflow_id: WorkflowId) -> bool:
        """Say whether it is stored but cannot be read, so that nobody will ever drive it to an end."""
        if self._drivers.get(workflow_id) is not None:
            return False
        workflow = await self._store.get(workflow_id)
        if workflow is None:
            return workflow_id in await self._store.find(workflow_id, most=1)
        if workflow.state.has_ended:
            return False
        try:
            await self._store.members(workflow_id)
        except StoreFailed as error:
            return error.reason == "WORKFLOW_BROKEN"
        return False

    async def _require_jobs_ended(self, workflow_id: WorkflowId) -> None:
        for job in await self._means.jobs.unfinished():
            if job.workflow_id == workflow_id:
                raise WrongState(
                    f"cannot delete workflow {workflow_id[:8]}: its job {job.id[:8]} is {job.state}",
                    reason="WORKFLOW_NOT_ENDED",
                    hint=f"stop that first: rnx stop {job.id[:8]}",
                )

    async def _ended(self, workflow_id: WorkflowId, verb: str) -> Workflow:
        """Return the workflow, which nothing is left to do for; raise WrongState while it has not ended."""
        workflow = await self._workflow(workflow_id)
        if not workflow.state.has_ended:
            raise WrongState(
                f"cannot {verb} workflow {workflow_id[:8]}: it is {workflow.state}",
                reason="WORKFLOW_NOT_ENDED",
                hint="stop it first: rnx workflow stop",
            )
        driver = self._drivers.get(workflow_id)
        if driver is not None:
            try:
                async with asyncio.timeout(_LET_GO):
                    await driver.done.wait()
            except TimeoutError as error:
                raise HostUnavailable(
                    f"cannot {verb} workflow {workflow_id[:8]}: systemd has not let go of its jobs yet",
                    reason="WORKFLOW_LEAVING",
                    hint="try again",
                ) from error
        return await self._workflow(workflow_id)

    async def _workflow(self, workflow_id: WorkflowId) -> Workflow:
        workflow = await self._store.get(workflow_id)
        if workflow is None:
            raise not_found(workflow_id, "workflow")
        return self._drivers.newest(workflow)

    def _lock(self, workflow_id: WorkflowId) -> asyncio.Lock:
        return self._locks.setdefault(workflow_id, asyncio.Lock())
