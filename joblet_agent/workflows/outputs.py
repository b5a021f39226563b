"""What a job of a workflow leaves to others: results as ``KEY=VALUE``, and files of its ``/work``.

Taken when the job has ended and before its files are settled (jobs/tracker.py), and kept below the
workflow's directory: with one rename, so it is there as a whole or not at all. After a crash the job ends
again, and what was kept of it stays. A later job of the same member takes its place.
"""

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from joblet_agent.config import WorkflowsConfig
from joblet_agent.durable import sync_directory
from joblet_agent.errors import JobletError, NotFound
from joblet_agent.jobs.paths import AgentPaths
from joblet_agent.jobs.plan import OUTPUT_NAME
from joblet_agent.jobs.removal import remove_tree
from joblet_agent.jobs.tree import sync_tree
from joblet_agent.jobs.work_files import read_start
from joblet_agent.model.job import JobId, JobRecord
from joblet_agent.model.workflow import WorkflowId
from joblet_agent.workflows.output_files import OutputFiles
from joblet_agent.workflows.output_lines import MOST_OUTPUT, read_lines

_AT_ONCE = 4
"""Jobs of which files are taken: all threads that there are would keep other jobs from starting."""
_RESULT = "result"
_MOST_TOLD = 3

_log = logging.getLogger(__name__)


class Result(NamedTuple):
    """What was taken of a job."""

    outputs: Mapping[str, str] = {}
    problem: str = ""
    """What could not be taken and why, for people; empty if everything was."""


_NOTHING = Result()


@dataclass(frozen=True, slots=True)
class _Expected:
    workflow_id: WorkflowId
    number: int
    files: tuple[str, ...]


class OutputCollector:
    """Takes the outputs of those jobs that it was told of."""

    def __init__(self, paths: AgentPaths, config: WorkflowsConfig) -> None:
        self._paths = paths
        self._config = config
        self._expected: dict[JobId, _Expected] = {}
        self._taken: dict[JobId, Result] = {}
        """Results that nobody has asked for."""
        self._places = asyncio.Semaphore(_AT_ONCE)

    def expect(
        self, job_id: JobId, workflow_id: WorkflowId, number: int, output_files: tuple[str, ...]
    ) -> None:
        """Take the outputs of this job of the member, once it ends.

        Call it before the job is queued, and at the start of the agent before jobs are recovered.
        """
        self._expected[job_id] = _Expected(workflow_id, number, output_files)

    async def collect(self, record: JobRecord) -> None:
        """Take what an expected job has left. Call before its files are settled; does not fail."""
        wanted = self._expected.get(record.id)
        if wanted is None:
            return
        async with self._places:
            try:
                self._taken[record.id] = await asyncio.to_thread(self._collect, record, wanted)
            except OSError as error:
                _log.error("outputs of job %s cannot be kept: %s", record.id, error)
                self._taken[record.id] = Result({}, f"its outputs cannot be kept: {error.strerror}")

    async def result(self, workflow_id: WorkflowId, number: int, job_id: JobId) -> Result:
        """Return what was taken of the member's job, which has ended: nothing if it never ran.

        The job is not expected any more.
        """
        self._expected.pop(job_id, None)
        taken = self._taken.pop(job_id, None)
        if taken is not None:
            return taken
        return (
            await asyncio.to_thread(_kept, self._paths.workflow(workflow_id).output(number), job_id)
            or _NOTHING
        )

    def _collect(self, record: JobRecord, wanted: _Expected) -> Result:
        own = self._paths.workflow(wanted.workflow_id)
        kept = _kept(own.output(wanted.number), record.id)
        if kept is not None:
            return kept  # from before a crash
        work = self._paths.job(record.id).work
        values, problems = _values(work)
        if not (wanted.files or values or problems):
            return _NOTHING  # as most jobs: they should not wait for the disk
        fresh = own.outputs / f"{wanted.number}.new"
        _make(own.home)
        _make(own.outputs)
        _remove(fresh)
        fresh.mkdir(mode=0o700)
        if wanted.files and record.spec.work_in_memory:
            problems.append("no output files: with a work size its /work is memory of its own here")
        elif wanted.files:
            problems += OutputFiles(fresh / "files", self._config.max_outputs).take(work, wanted.files)
        result = Result(values, _told(problems))
        content = {"job": record.id, "outputs": result.outputs, "problem": result.problem}
        (fresh / _RESULT).write_text(json.dumps(content))
        sync_tree(fresh)
        _remove(own.output(wanted.number))
        fresh.rename(own.output(wanted.number))
        sync_directory(own.outputs)
        return result


def _values(work: Path) -> tuple[dict[str, str], list[str]]:
    try:
        content = read_start(work, (OUTPUT_NAME,), MOST_OUTPUT + 1)
    except NotFound:
        return {}, []
    except JobletError as error:
        return {}, [str(error)]
    return read_lines(content)


def _told(problems: list[str]) -> str:
    more = len(problems) - _MOST_TOLD
    return "; ".join(problems[:_MOST_TOLD]) + (f"; and {more} more" if more > 0 else "")


def _kept(output: Path, job_id: JobId) -> Result | None:
    """Return what is kept of this job; None if nothing is, or of another one."""
    try:
        content = json.loads((output / _RESULT).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        _log.error("cannot read %s: %s", output / _RESULT, error)
        return None
    return Result(content["outputs"], content["problem"]) if content["job"] == job_id else None


def _make(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        return
    sync_directory(directory.parent)


def _remove(directory: Path) -> None:
    failures = remove_tree(directory)
    if failures:
        raise OSError(0, f"cannot remove {directory.name}: {failures[0]}")
