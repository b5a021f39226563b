"""From a workflow file to members that can be stored: checked as a whole, all that is wrong told at once."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from joblet_agent.errors import InvalidRequest
from joblet_agent.jobs.check import quoted
from joblet_agent.jobs.service import NO_PINS
from joblet_agent.jobs.when import check_distance, read_when
from joblet_agent.model.identity import Identity
from joblet_agent.model.job import Explanation, JobRecord
from joblet_agent.model.runtime import PinnedRuntime
from joblet_agent.model.secrets import Secrets
from joblet_agent.model.workflow import (
    Counts,
    MemberPlan,
    NewMember,
    Workflow,
    WorkflowState,
    new_workflow_id,
)
from joblet_agent.ports import Clock
from joblet_agent.schedules.service import Accept
from joblet_agent.workflow_file import FileInvalid, Mark, load
from joblet_agent.workflow_file import Workflow as WrittenWorkflow
from joblet_agent.workflow_file.expression import Condition, to_text
from joblet_agent.workflows.arrived import Arrived
from joblet_agent.workflows.member_check import AcceptLike, MemberCheck, problem_of
from joblet_agent.workflows.plans import plans_of, steps
from joblet_agent.workflows.specs import secrets_of
from joblet_agent.workflows.turns import Turns
from joblet_agent.workflows.wanted import Planned, WantedWorkflow, WorkflowRefused

MOST_FILE_NAME = 255
"""Characters of the name of a workflow's file."""
MOST_REQUIRES = 1000
"""Characters that are told of a condition: one that names all jobs may be every job's."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A workflow that may run; nothing is stored and no upload taken yet."""

    workflow: Workflow
    """SCHEDULED if its time is ahead."""
    members: Sequence[NewMember]
    """In the order of the file."""
    secrets: Mapping[int, Secrets] = field(repr=False)
    """Of those members that have any, by their number."""
    schedule: str
    """Calendar expression of a workflow that is to start again and again, else empty. Only systemd can tell
    whether it is one."""
    text: str
    """Of the file, as people may see it."""


class WorkflowAccept:
    """Checks workflows by what single jobs are checked by."""

    def __init__(
        self,
        *,
        accept: Accept,
        accept_like: AcceptLike,
        explain: Callable[[JobRecord], Explanation],
        networks: Callable[[], Iterable[str]],
        volumes: Callable[[], Iterable[str]],
        mask: Callable[[str], str],
        clock: Clock,
    ) -> None:
        """``networks`` and ``volumes`` return the names of those that there are.

        ``mask`` returns a file's text without its secrets; blocking.
        """
        self._accept = accept
        self._accept_like = accept_like
        self._explain = explain
        self._networks = networks
        self._volumes = volumes
        self._mask = mask
        self._clock = clock

    async def accepted(
        self,
        wanted: WantedWorkflow,
        caller: Identity,
        paths: Collection[str],
        pins: Mapping[str, PinnedRuntime] = NO_PINS,
    ) -> Accepted:
        """Check the workflow, which comes with files of these paths, for the caller.

        ``pins`` are runtimes that were found before, by what the file asks for.

        Raises WorkflowRefused with everything that is wrong, and HostUnavailable if that cannot be told.
        """
        _check_file_name(wanted.file)
        try:
            written, plans, text = await asyncio.to_thread(self._read, wanted)
        except FileInvalid as error:
            raise WorkflowRefused(error.problems) from error
        workflow, calendar = self._workflow(written, wanted, caller)
        check = MemberCheck(
            written,
            workflow_id=workflow.id,
            accept=partial(self._accept, caller=caller, token=None, pins=pins),
            accept_like=self._accept_like,
            arrived=Arrived(paths),
            networks=self._networks,
            volumes=self._volumes,
        )
        members = await check.members(plans)
        if check.problems:
            raise WorkflowRefused(check.sorted())
        secrets = {
            plan.number: secrets_of(job)
            for plan, job in zip(plans, written.jobs.values(), strict=True)
            if job.secret_environment
        }
        workflow = replace(workflow, has_files=bool(paths or secrets))
        return Accepted(workflow, members, secrets, calendar, text)

    async def planned(self, accepted: Accepted, *, explain: bool) -> Sequence[Planned]:
        """Tell how the jobs would run, in the order in which they can start; with ``explain`` their units."""
        plans = [member.plan for member in accepted.members]
        step_of = await asyncio.to_thread(steps, plans, accepted.workflow.groups)
        turns = Turns()
        texts = _Texts()
        found = []
        for member in sorted(accepted.members, key=lambda each: (step_of[each.plan.name], each.plan.number)):
            await turns.give()
            name, requires = member.plan.name, texts.of(member.plan.requires)
            explanation = self._explain(member.template) if explain else None
            found.append(Planned(name, step_of[name], requires, explanation))
        return found

    def _read(self, wanted: WantedWorkflow) -> tuple[WrittenWorkflow, list[MemberPlan], str]:
        written = load(wanted.text).select(wanted.name)
        return written, plans_of(written), self._mask(wanted.text)

    def _workflow(
        self, written: WrittenWorkflow, wanted: WantedWorkflow, caller: Identity
    ) -> tuple[Workflow, str]:
        now = self._clock.now()
        workflow = Workflow(
            id=new_workflow_id(),
            created_at=now,
            name=written.name or wanted.name,
            file=wanted.file,
            description=written.description,
            started_by=caller.name,
            role=caller.role.value,
            counts=Counts(total=len(written.jobs)),
            max_parallel=written.max_parallel,
            groups=written.groups,
        )
        if not written.schedule:
            return workflow, ""
        mark = written.marks.get("schedule", Mark())
        try:
            when = read_when(written.schedule)
            if isinstance(when, datetime):
                check_distance(when, now)
        except InvalidRequest as error:
            raise WorkflowRefused([problem_of(error, mark, f"{written.key}schedule")]) from error
        if not isinstance(when, datetime):
            return workflow, when
        state = WorkflowState.SCHEDULED if when > now else WorkflowState.PENDING
        return replace(workflow, scheduled_at=when, state=state), ""


class _Texts:
    """Conditions as text. Many jobs may have the same one, and it may be long."""

    def __init__(self) -> None:
        self._found: dict[int, str] = {}

    def of(self, requires: Condition) -> str:
        """Return the text; the condition outlives this."""
        if id(requires) not in self._found:
            text = to_text(requires)
            self._found[id(requires)] = text if len(text) <= MOST_REQUIRES else f"{text[:MOST_REQUIRES]}..."
        return self._found[id(requires)]


def _check_file_name(name: str) -> None:
    if len(name) > MOST_FILE_NAME or not name.isprintable():
        raise InvalidRequest(
            f"cannot run workflow: {quoted(name)} cannot be the name of its file",
            reason="BAD_FILE_NAME",
            hint=f"at most {MOST_FILE_NAME} characters, and no control characters",
        )
