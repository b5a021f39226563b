import asyncio
import logging
from urllib.parse import unquote

import grpc
import grpc.aio
import pytest

from joblet_agent import errors
from joblet_agent.errors import Code, JobletError
from joblet_agent.rpc.status import MOST_TEXT, STATUS, wire_text
from tests.unit.rpc.serving import FakeJobs, hint_of, reason_of, serving

ERRORS = [
    (errors.InvalidRequest, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.InvalidConfig, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.NotOffered, grpc.StatusCode.UNIMPLEMENTED),
    (errors.NotFound, grpc.StatusCode.NOT_FOUND),
    (errors.AmbiguousId, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.WrongState, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.EventsGone, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.NotAuthenticated, grpc.StatusCode.UNAUTHENTICATED),
    (errors.NotPermitted, grpc.StatusCode.PERMISSION_DENIED),
    (errors.LimitReached, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.HostUnavailable, grpc.StatusCode.UNAVAILABLE),
    (errors.LaunchFailed, grpc.StatusCode.INTERNAL),
    (errors.StoreFailed, grpc.StatusCode.INTERNAL),
]


async def failing(method: str, error: BaseException) -> grpc.aio.AioRpcError:
    async with serving(FakeJobs(error=error)) as caller:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await caller.unary(method)
        return caught.value


@pytest.mark.parametrize("method", ["JobService/GetJobStatus", "JobService/GetJobLogs"])
@pytest.mark.parametrize(("kind", "status"), ERRORS)
def test_every_error_keeps_status_text_reason_and_hint(
    method: str, kind: type[JobletError], status: grpc.StatusCode
) -> None:
    error = asyncio.run(failing(method, kind("cannot do it: why", reason="SOME_REASON", hint="try so")))
    assert (error.code(), error.details()) == (status, "cannot do it: why")
    assert (reason_of(error), hint_of(error)) == ("SOME_REASON", "try so")


def test_every_error_is_tested_and_every_code_has_a_status() -> None:
    known = {
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, JobletError)
    }
    assert {kind for kind, _ in ERRORS} == known - {JobletError}
    assert set(STATUS) == set(Code)


def test_an_error_without_hint_sends_none() -> None:
    error = asyncio.run(failing("JobService/StopJob", errors.NotFound("no", reason="JOB_NOT_FOUND")))
    assert hint_of(error) is None


@pytest.mark.parametrize("method", ["JobService/GetJobStatus", "JobService/GetJobLogs"])
def test_a_bug_is_logged_once_and_answered_without_internals(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        error = asyncio.run(failing(method, KeyError("/secret/path")))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert reason_of(error) == "INTERNAL_ERROR"
    (logged,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert logged.exc_info is not None
    assert "/secret/path" in caplog.text
    incident = logged.getMessage().split()[1]
    assert error.details() == f"internal error (incident {incident})"
    assert "secret" not in str(error.trailing_metadata())


@pytest.mark.parametrize("text", ["100 % sicher: größer", "line\nbreak", "日本", "\x00\x7f", "plain"])
def test_hints_survive_as_percent_encoded_ascii(text: str) -> None:
    error = asyncio.run(failing("JobService/StopJob", errors.NotFound(text, reason="R", hint=text)))
    hint = hint_of(error)
    assert hint is not None
    assert hint.isascii()
    assert unquote(hint) == text
    assert error.details() == text


@pytest.mark.parametrize("character", ["a", "ä", "日", "😀", "%"])
def test_a_text_that_is_too_long_is_cut_and_still_arrives(character: str) -> None:
    long = character * 100_000
    error = asyncio.run(failing("JobService/StopJob", errors.NotFound(long, reason="R", hint=long)))
    details = error.details()
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert details is not None
    assert details.endswith("...")
    assert set(details) == {character, "."}
    assert len(details) < MOST_TEXT + 4


def test_a_text_that_is_not_unicode_is_escaped() -> None:
    assert unquote(wire_text("file \udcff")) == "file \\udcff"
