"""The jobs of one workflow, each checked as a single job is, and which of their keys is at fault."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from joblet_agent.errors import HostUnavailable, JobletError
from joblet_agent.jobs.upload_check import MOST_TOLD
from joblet_agent.model.files import Uploads
from joblet_agent.model.job import JobRecord, JobSpec, JobState
from joblet_agent.model.secrets import Secrets
from joblet_agent.model.workflow import MemberPlan, NewMember, WorkflowId
from joblet_agent.workflow_file import Mark, Problem, Workflow, WorkflowJob
from joblet_agent.workflows.arrived import Arrived
from joblet_agent.workflows.plans import sources, waited_for
from joblet_agent.workflows.resolve import as_written, sampled
from joblet_agent.workflows.specs import mark_of, parts_of, secrets_of, spec_of
from joblet_agent.workflows.turns import Turns
from joblet_agent.yaml_file.problems import MOST_PROBLEMS as MOST_SHOWN
from joblet_agent.yaml_file.problems import near, shown

MOST_PROBLEMS = 1000
"""That are looked for; who corrects these learns of the rest."""
MOST_TRIALS = 10_000
"""Of keys alone, to find out which is at fault; beyond them the job is told as a whole."""

_OF_VARIABLES = frozenset({"BAD_VARIABLE_NAME", "VARIABLE_TOO_LONG"})
_ACTS = ("cannot run job: ", "cannot schedule job: ", "cannot take files: ")


class AcceptJob(Protocol):
    """Checks a job of the workflow's caller (schedules.service.Accept)."""

    def __call__(self, spec: JobSpec, *, uploads: Uploads, secrets: Secrets) -> JobRecord:
        """Raise what is wrong; change nothing."""
        ...


class AcceptLike(Protocol):
    """Checks a job that wants of the host what an accepted one does (JobService.accept_like)."""

    def __call__(self, record: JobRecord, spec: JobSpec, uploads: Uploads, secrets: Secrets) -> JobRecord:
        """Raise what is wrong; change nothing."""
        ...


class MemberCheck:
    """Makes members of jobs; ``problems`` has what is in the way."""

    def __init__(
        self,
        written: Workflow,
        *,
        workflow_id: WorkflowId,
        accept: AcceptJob,
        accept_like: AcceptLike,
        arrived: Arrived,
        networks: Callable[[], Iterable[str]],
        volumes: Callable[[], Iterable[str]],
    ) -> None:
        self.problems: list[Problem] = []
        self._written = written
        self._workflow_id = workflow_id
        self._accept = accept
        self._accept_like = accept_like
        self._arrived = arrived
        self._networks = networks
        self._volumes = volumes
        self._trials_left = MOST_TRIALS
        self._like: dict[Hashable, JobRecord] = {}

    def sorted(self) -> list[Problem]:
        """Return the problems, each once, by their places."""
        return sorted(dict.fromkeys(self.problems), key=lambda problem: problem.mark)

    async def members(self, plans: Iterable[MemberPlan]) -> list[NewMember]:
        """Return the members of these plans; of no use if there are problems. Raises HostUnavailable."""
        turns = Turns()
        members = []
        for plan in plans:
            await turns.give()
            job = self._written.jobs[plan.name]
            self.problems += self._missing(job)
            try:
                members.append(NewMember(plan, self._template(job)))
            except HostUnavailable:
                raise
            except JobletError as error:
                at_fault = await self._at_fault(job, turns)
                self.problems += at_fault or [problem_of(error, job.mark, self._key(job))]
            if len(self.problems) >= MOST_PROBLEMS:
                break
        return members

    def _template(self, job: WorkflowJob) -> JobRecord:
        spec, uploads = spec_of(job), self._arrived.of(job)
        sample = sampled(spec)
        record = self._accepted(sample, uploads, secrets_of(job))
        settled = record.spec if sample is spec else as_written(record.spec, spec)
        if uploads.files:
            settled = replace(settled, uploads=tuple(file.path for file in uploads.files[:MOST_TOLD]))
        return replace(
            record,
            spec=settled,
            state=JobState.PENDING,
            workflow_id=self._workflow_id,
            dependencies=waited_for(job.requires),
        )

    def _accepted(self, spec: JobSpec, uploads: Uploads, secrets: Secrets) -> JobRecord:
        """Accept the job; what it wants of the host is looked at once for all jobs that want the same."""
        wanted = (spec.network, spec.volumes, spec.resources, spec.runtime)
        known = self._like.get(wanted)
        if known is not None:
            return self._accept_like(known, spec, uploads, secrets)
        record = self._accept(spec, uploads=uploads, secrets=secrets)
        self._like[wanted] = record
        return record

    def _missing(self, job: WorkflowJob) -> Iterator[Problem]:
        """Yield what a job alone does not show: files that did not come, outputs of nobody."""
        for key, path in self._arrived.missing(job):
            yield self._problem(
                job,
                key,
                f"file {_bare(path)} referenced in job {job.name} not found among those that came along"
                f"{self._near(path, self._arrived.paths)}",
            )
        for name in sources(job):
            if name not in self._written.jobs:
                why = f"needs an output of job {shown(name)}, which is not part of this run"
                yield self._problem(job, "", why)

    async def _at_fault(self, job: WorkflowJob, turns: Turns) -> Sequence[Problem]:
        found = []
        for key, part in parts_of(job):
            if not self._trials_left:
                break
            self._trials_left -= 1
            await turns.give()
            try:
                self._template(part)
            except HostUnavailable:
                raise
            except JobletError as error:
                if not key:
                    return ()  # even a job that asks for nothing: none of its keys is at fault
                found.append(self._problem(job, key, self._said(error, part)))
        return found

    def _said(self, error: JobletError, part: WorkflowJob) -> str:
        """Return the text, in published words where there are such."""
        if error.reason == "VOLUME_NOT_FOUND":
            name = part.volumes[0].partition(":")[0]
            meant = self._near(name, self._volumes())
            return f"volume validation failed: missing volumes: [{_bare(name)}]{meant}"
        if error.reason == "RUNTIME_UNKNOWN":
            why = str(error).removeprefix(f"cannot use runtime {part.runtime!r}: ")
            return f"runtime validation failed: missing runtimes: [{_bare(part.runtime)}]: {why}"
        if error.reason == "UNKNOWN_NETWORK":
            known = list(self._networks())
            return (
                f"network validation failed: missing networks: [{_bare(part.network)}]. "
                f"Available networks: [{', '.join(known)}]{self._near(part.network, known)}"
            )
        if error.reason in _OF_VARIABLES:
            return f"environment variable validation failed: job {part.name!r}: {text_of(error)}"
        return text_of(error)

    def _near(self, word: str, known: Iterable[str]) -> str:
        return near(word, [*known]) if len(self.problems) < MOST_SHOWN else ""

    def _problem(self, job: WorkflowJob, key: str, text: str) -> Problem:
        where = self._key(job)
        return Problem(mark_of(job, key), f"{where}.{key}" if key else where, text)

    def _key(self, job: WorkflowJob) -> str:
        return f"{self._written.key}jobs.{job.group}"


def problem_of(error: JobletError, mark: Mark, key: str) -> Problem:
    """Return the problem that the error tells."""
    return Problem(mark, key, text_of(error))


def text_of(error: JobletError) -> str:
    """Return the error's text without what was to be done, with its hint."""
    text = str(error)
    for act in _ACTS:
        text = text.removeprefix(act)
    return f"{text}; {error.hint}" if error.hint else text


def _bare(text: str) -> str:
    return shown(text)[1:-1]
