"""Tests of runtimes are jobs: what they run, what comes of them, and that nothing is left of them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest

from joblet_agent.errors import InvalidRequest, LaunchFailed, WrongState
from joblet_agent.jobs.logs import LogChunk
from joblet_agent.model.identity import Identity, Role
from joblet_agent.model.job import (
    JobFilter,
    JobId,
    JobPage,
    JobRecord,
    JobSpec,
    JobState,
    LogQuery,
    Outcome,
    Reason,
)
from joblet_agent.model.runtime import Runtime, RuntimeFacts
from joblet_agent.runtimes import trial as module
from joblet_agent.runtimes.trial import RuntimeTrial, TrialEnd, command_of

NOW = datetime(2026, 1, 31, tzinfo=UTC)
ALICE = Identity("alice", Role.OPERATOR)
DONE = Outcome(JobState.COMPLETED)


def runtime(**facts: str) -> Runtime:
    return Runtime(RuntimeFacts("go-1.24", "1.0.0", **facts), "ab" * 32, 1, 1, NOW)  # type: ignore[arg-type]


@dataclass
class FakeJobs:
    """One job that prints and ends as it was told."""

    output: list[bytes] = field(default_factory=list)
    outcome: Outcome = DONE
    hangs: bool = False
    refused: Exception | None = None
    failed: Exception | None = None
    spec: JobSpec | None = None
    record: JobRecord | None = None
    calls: list[str] = field(default_factory=list)
    follows: asyncio.Event = field(default_factory=asyncio.Event)
    forgotten: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, spec: JobSpec, caller: Identity) -> JobRecord:
        self.spec = spec
        assert caller == ALICE
        if self.refused is not None:
            raise self.refused
        self.record = JobRecord(JobId("1" * 36), spec, JobState.RUNNING, NOW)
        if self.failed is not None:
            self._end(Outcome(JobState.FAILED, Reason.START_FAILED, -1))
            raise self.failed
        return self.record

    async def get(self, given: str) -> JobRecord:
        assert self.record is not None
        return self.record

    async def logs(self, given: str, query: LogQuery) -> AsyncIterator[LogChunk]:
        async def chunks() -> AsyncIterator[LogChunk]:
            for piece in self.output:
                yield LogChunk(0, piece)
            self.follows.set()
            if self.hangs:
                await asyncio.Event().wait()
            self._end(self.outcome)

        return chunks()

    async def stop(self, given: str, *, force: bool) -> JobRecord:
        self.calls.append(f"stop {force}")
        self._end(Outcome(JobState.STOPPED, Reason.STOPPED, -1))
        return await self.get(given)

    async def delete(self, given: str) -> JobId:
        self.calls.append("delete")
        assert self.record is not None
        if not self.record.has_ended:
            raise WrongState("it runs", reason="JOB_NOT_ENDED")
        job_id, self.record = self.record.id, None
        self.forgotten.set()
        return job_id

    async def page(self, wanted: JobFilter, *, size: int, token: str) -> JobPage:
        named = self.record is not None and self.record.spec.name == wanted.name
        return JobPage((self.record,) if named and self.record else ())

    def _end(self, outcome: Outcome) -> None:
        assert self.record is not None
        self.record = replace(self.record, state=outcome.state, outcome=outcome)


def tried(jobs: FakeJobs, tested: Runtime | None = None) -> TrialEnd:
    async def run() -> TrialEnd:
        trial = RuntimeTrial(jobs)
        try:
            return await trial.run(tested or runtime(), ALICE)
        finally:
            await trial.close()

    return asyncio.run(run())


def test_a_test_is_a_job_with_the_runtime_that_is_deleted_afterwards() -> None:
    jobs = FakeJobs([b"go works", b"\n\xff"])
    end = tried(jobs, runtime(test="go version"))
    assert (end.is_success, end.output, end.error, end.exit_code) == (True, "go works\n\ufffd", "", 0)
    spec = jobs.spec
    assert spec is not None
    assert (spec.command, spec.args, spec.runtime, spec.network) == (
        "/bin/sh",
        ("-c", "go version"),
        "go-1.24@1.0.0",
        "none",
    )
    assert (jobs.calls, jobs.record) == (["delete"], None)


@pytest.mark.parametrize(
    ("outcome", "error", "code"),
    [
        (Outcome(JobState.FAILED, Reason.EXIT_CODE, 3, 0, "exited with status 3"), "exited with status 3", 3),
        (Outcome(JobState.FAILED, Reason.EXIT_CODE, 3), "exited with status 3", 3),
        (Outcome(JobState.FAILED, Reason.SIGNAL, 0, 9, "killed by signal 9"), "killed by signal 9", -1),
    ],
)
def test_a_test_that_fails_says_why(outcome: Outcome, error: str, code: int) -> None:
    end = tried(FakeJobs([b"x"], outcome))
    assert (end.is_success, end.output, end.error, end.exit_code) == (False, "x", error, code)


def test_of_a_long_output_the_end_is_kept() -> None:
    jobs = FakeJobs([b"a" * module.MOST_OUTPUT, b"b" * 1000, b"c" * (module.MOST_OUTPUT - 500)])
    end = tried(jobs)
    assert end.output == "b" * 500 + "c" * (module.MOST_OUTPUT - 500)


def test_a_job_that_cannot_start_fails_the_test_and_is_deleted() -> None:
    jobs = FakeJobs(failed=LaunchFailed("could not start: the runtime is damaged", reason="RUNTIME_DAMAGED"))
    end = tried(jobs)
    assert (end.is_success, end.error, end.exit_code) == (
        False,
        "could not start: the runtime is damaged",
        -1,
    )
    assert (jobs.calls, jobs.record) == (["delete"], None)


def test_a_job_that_there_is_not_is_an_error() -> None:
    jobs = FakeJobs(refused=InvalidRequest("no network", reason="X"))
    with pytest.raises(InvalidRequest, match="no network"):
        tried(jobs)
    assert jobs.calls == []


def test_a_caller_that_goes_away_takes_the_job_along() -> None:
    async def run() -> FakeJobs:
        jobs = FakeJobs(hangs=True)
        trial = RuntimeTrial(jobs)
        task = asyncio.create_task(trial.run(runtime(), ALICE))
        await jobs.follows.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(20):
            await jobs.forgotten.wait()
        await trial.close()
        return jobs

    assert asyncio.run(run()).calls == ["stop True", "delete"]


def test_a_test_that_does_not_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_WAIT", module.LONGEST * 0)
    jobs = FakeJobs(hangs=True)
    end = tried(jobs)
    assert (end.is_success, end.exit_code) == (False, -1)
    assert end.error.startswith("it did not end within")
    assert jobs.record is None


def test_what_has_no_test_has_that_of_its_language() -> None:
    assert command_of(runtime(test="mine", language="go", language_version="1.24")) == "mine"
    assert "go run" in command_of(runtime(language="go", language_version="1.24"))
    assert command_of(runtime(language="cobol", language_version="1")) == "exit 0"
