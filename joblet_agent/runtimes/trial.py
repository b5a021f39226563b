"""Tests of runtimes: a real job, in the sandbox that every job has, that tells whether a runtime works.

The job belongs to the test: it is deleted when it has ended, or when the caller is gone. After a kill -9 of
the agent it stays as what it is, an ordinary job.
"""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

from joblet_agent.errors import JobletError, WrongState
from joblet_agent.jobs.logs import LogChunk
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.model.identity import Identity
from joblet_agent.model.job import JobFilter, JobId, JobPage, JobRecord, JobSpec, LogQuery, Outcome
from joblet_agent.model.network import BuiltIn
from joblet_agent.model.resources import Resources
from joblet_agent.model.runtime import Runtime
from joblet_agent.runtime_file.languages import LANGUAGES

__all__ = ["RuntimeTrial", "TrialEnd", "TrialJobs"]

LONGEST: Final = timedelta(minutes=5)
"""For the test itself."""
LONGEST_WAIT: Final = timedelta(minutes=14)
"""With its time in the queue of jobs; callers wait 15 minutes."""
MOST_OUTPUT: Final = 256 * 1024
"""Bytes; of a longer output the end is kept."""
_ANYTHING: Final = "exit 0"
"""For a runtime that has no test and no language: that its shell starts is all there is to see."""
_COULD_NOT: Final = -1

_log = logging.getLogger(__name__)


class TrialJobs(Protocol):
    """What tests need of jobs; JobService is it."""

    async def run(self, spec: JobSpec, caller: Identity) -> JobRecord:
        """Start the job, or let it wait."""

    async def get(self, given: str) -> JobRecord:
        """Return the job."""

    async def logs(self, given: str, query: LogQuery) -> AsyncIterator[LogChunk]:
        """Return its output as it comes, to its end."""

    async def stop(self, given: str, *, force: bool) -> JobRecord:
        """End it."""

    async def delete(self, given: str) -> JobId:
        """Forget it."""

    async def page(self, wanted: JobFilter, *, size: int, token: str) -> JobPage:
        """Return jobs."""


@dataclass(frozen=True, slots=True)
class TrialEnd:
    """How a test ended."""

    runtime: Runtime
    is_success: bool
    output: str = ""
    error: str = ""
    """Why it failed, for people."""
    exit_code: int = 0
    """-1 if it was ended by a signal, or could not start."""


class RuntimeTrial:
    """Runs tests of runtimes."""

    def __init__(self, jobs: TrialJobs) -> None:
        self._jobs = jobs
        self._tasks = Tasks()

    async def close(self) -> None:
        """End the tests; their jobs are stopped and deleted if there is time for that."""
        await self._tasks.close()

    async def run(self, runtime: Runtime, caller: Identity) -> TrialEnd:
        """Run the test, and return how it ended. Raises what JobService.run does when there is no job.

        When the caller is cancelled, the job is stopped and deleted behind its back.
        """
        task = self._tasks.start(self._run(runtime, caller), f"test-{runtime.facts}")
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()
            raise

    async def _run(self, runtime: Runtime, caller: Identity) -> TrialEnd:
        # By its name a job is found whose start fails after it was recorded.
        name = f"runtime-test-{secrets.token_hex(8)}"
        try:
            async with asyncio.timeout(LONGEST_WAIT.total_seconds()):
                return await self._result(runtime, caller, name)
        except TimeoutError:
            why = f"it did not end within {LONGEST_WAIT.total_seconds() / 60:.0f} minutes, waiting included"
            return TrialEnd(runtime, False, error=why, exit_code=_COULD_NOT)
        finally:
            await self._clear_up(name)

    async def _result(self, runtime: Runtime, caller: Identity, name: str) -> TrialEnd:
        try:
            record = await self._jobs.run(_spec(runtime, name), caller)
        except JobletError as error:
            if not await self._of_name(name):
                raise
            return TrialEnd(runtime, False, error=str(error), exit_code=_COULD_NOT)
        output = await self._output(record.id)
        outcome = (await self._jobs.get(record.id)).outcome
        assert outcome is not None  # the log ends with the job
        if not outcome.exit_code and not outcome.signal:
            return TrialEnd(runtime, True, output)
        return TrialEnd(
            runtime, False, output, _why(outcome), _COULD_NOT if outcome.signal else outcome.exit_code
        )

    async def _output(self, job_id: JobId) -> str:
        pieces: deque[bytes] = deque()
        size = 0
        async for chunk in await self._jobs.logs(job_id, LogQuery()):
            pieces.append(chunk.payload)
            size += len(chunk.payload)
            while size - len(pieces[0]) > MOST_OUTPUT:
                size -= len(pieces.popleft())
        return b"".join(pieces)[-MOST_OUTPUT:].decode(errors="replace")

    async def _clear_up(self, name: str) -> None:
        for record in await self._of_name(name):
            try:
                if not record.has_ended:
                    await self._jobs.stop(record.id, force=True)
                await self._jobs.delete(record.id)
            except WrongState as error:  # it ended meanwhile, or does not end
                _log.warning("cannot clear up after the test of a runtime: %s", error)

    async def _of_name(self, name: str) -> tuple[JobRecord, ...]:
        return (await self._jobs.page(JobFilter(name=name), size=1, token="")).jobs


def _spec(runtime: Runtime, name: str) -> JobSpec:
    return JobSpec(
        command="/bin/sh",
        args=("-c", command_of(runtime)),
        name=name,
        runtime=str(runtime.facts),
        gpus=1 if runtime.facts.needs_gpu else 0,
        network=BuiltIn.NONE,
        resources=Resources(timeout=LONGEST),
    )


def command_of(runtime: Runtime) -> str:
    """Return the shell command that tells whether the runtime works."""
    facts = runtime.facts
    language = LANGUAGES.get((facts.language, facts.language_version))
    return facts.test or (language.test if language is not None else _ANYTHING)


def _why(outcome: Outcome) -> str:
    return outcome.message or f"exited with status {outcome.exit_code}"
