"""What PID 1 of 252 and 257 wrote for such units, reduced to what is read."""

import asyncio
from datetime import UTC, datetime

import pytest

from joblet_agent.model.job import JobId
from joblet_agent.ports import UnitPhase
from joblet_agent.systemd.invocations import Entry, JournalInvocations, status_of

_ID = JobId("7f3a0000-0000-4000-8000-000000000001")
_INVOCATION = "bc319cf9cb76485c8f73a5f21590359a"
_STARTED = "39f53479d3a045ac8e11786248231fbf"
_STOPPING = "de5b426a63be47a7b6ac3eaac82e2f6f"
_EXITED = "98e322203f7a4ed290d09fe03c09fe15"
_SUCCEEDED = "7ad2d189f7e94e70a38c781354912448"
_FAILED = "d9b373ed55a64feb8242e02dbe79a49c"


def entries(*records: tuple[str, dict[str, str]]) -> list[Entry]:
    return [
        {"MESSAGE_ID": message_id, "__REALTIME_TIMESTAMP": str((100 + at) * 1_000_000), **fields}
        for at, (message_id, fields) in enumerate(((_STARTED, {}), *records))
    ]


def exited(kind: str, status: int) -> tuple[str, dict[str, str]]:
    return _EXITED, {"EXIT_CODE": kind, "EXIT_STATUS": str(status)}


def failed(result: str) -> tuple[str, dict[str, str]]:
    return _FAILED, {"UNIT_RESULT": result}


@pytest.mark.parametrize(
    ("found", "kind", "status", "result"),
    [
        (entries((_SUCCEEDED, {})), "exited", 0, "success"),
        (entries(exited("exited", 7), failed("exit-code")), "exited", 7, "exit-code"),
        (entries(exited("exited", 203), failed("exit-code")), "exited", 203, "exit-code"),
        (entries(exited("killed", 9), failed("signal")), "killed", 9, "signal"),
        (entries(exited("dumped", 11), failed("core-dump")), "dumped", 11, "core-dump"),
        (entries(exited("killed", 9), failed("oom-kill")), "killed", 9, "oom-kill"),
        (entries((_STOPPING, {}), (_SUCCEEDED, {})), "killed", 15, "success"),
        (entries((_STOPPING, {}), exited("killed", 9), failed("timeout")), "killed", 9, "timeout"),
        (entries(failed("timeout")), "killed", 15, "timeout"),
        (entries(failed("resources")), "", 0, "resources"),
    ],
)
def test_ends(found: list[Entry], kind: str, status: int, result: str) -> None:
    told = status_of(_ID, _INVOCATION, found)
    assert told is not None
    assert (told.exit_kind, told.exit_status, told.result) == (kind, status, result)
    assert told.phase is UnitPhase.GONE
    assert told.invocation_id == _INVOCATION


def test_times_are_those_of_the_records() -> None:
    told = status_of(_ID, _INVOCATION, entries(exited("exited", 7), failed("exit-code")))
    assert told is not None
    assert told.started_at == datetime.fromtimestamp(100, UTC)
    assert told.ended_at == datetime.fromtimestamp(101, UTC)


@pytest.mark.parametrize("found", [[], entries(), entries((_STOPPING, {}))])
def test_no_end_in_the_journal_is_no_answer(found: list[Entry]) -> None:
    assert status_of(_ID, _INVOCATION, found) is None


@pytest.mark.parametrize("invocation_id", ["", "x" * 32, _INVOCATION + "0", _INVOCATION.upper()])
def test_what_is_no_invocation_id_is_not_looked_for(invocation_id: str) -> None:
    assert asyncio.run(JournalInvocations().status(_ID, invocation_id)) is None
