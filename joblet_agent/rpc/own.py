"""What is somebody's own: an id that was given becomes the whole one, or that of nothing."""

from joblet_agent.errors import AmbiguousId
from joblet_agent.jobs.check import quoted
from joblet_agent.jobs.ids import id_prefix, not_found
from joblet_agent.model.ids import JobId, WorkflowId
from joblet_agent.model.job import JobFilter
from joblet_agent.model.schedule import ScheduleId
from joblet_agent.model.workflow import WorkflowFilter
from joblet_agent.rpc.services import Jobs, Schedules, Workflows


class Own:
    """Finds what ``owner`` has started by its id, or by a prefix that fits one of theirs.

    Methods raise NotFound for what others have started, and AmbiguousId.
    """

    def __init__(self, jobs: Jobs, schedules: Schedules, workflows: Workflows) -> None:
        self._jobs = jobs
        self._schedules = schedules
        self._workflows = workflows

    async def job(self, given: str, owner: str) -> JobId:
        """Return the whole id of a job."""
        try:
            record = await self._jobs.get(given)
        except AmbiguousId as error:
            # Of all jobs; perhaps not of the caller's own.
            wanted = JobFilter(id_prefix=id_prefix(given, "job"), started_by=owner)
            found = (await self._jobs.page(wanted, size=2, token="")).jobs
            if len(found) > 1:
                raise
            if found:
                return found[0].id
            raise not_found(id_prefix(given, "job"), "job") from error
        if record.started_by != owner:
            raise not_found(id_prefix(given, "job"), "job")
        return record.id

    def schedule(self, given: str, owner: str) -> ScheduleId:
        """Return the whole id of a schedule."""
        try:
            schedule = self._schedules.get(given)
        except AmbiguousId as error:
            prefix = id_prefix(given, "schedule")
            own = [each for each in self._schedules.all() if each.template.started_by == owner]
            found = [each.id for each in own if each.id.startswith(prefix)]
            if len(found) > 1:
                raise
            if found:
                return found[0]
            raise not_found(quoted(given), "schedule") from error
        if schedule.template.started_by != owner:
            raise not_found(quoted(given), "schedule")
        return schedule.id

    async def workflow(self, given: str, owner: str) -> WorkflowId:
        """Return the whole id of a workflow."""
        try:
            workflow = await self._workflows.get(given)
        except AmbiguousId as error:
            wanted = WorkflowFilter(id_prefix=id_prefix(given, "workflow"), started_by=owner)
            found = await self._workflows.all(wanted)
            if len(found) > 1:
                raise
            if found:
                return found[0].id
            raise not_found(id_prefix(given, "workflow"), "workflow") from error
        if workflow.started_by != owner:
            raise not_found(id_prefix(given, "workflow"), "workflow")
        return workflow.id
