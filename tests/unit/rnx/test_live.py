from typing import Any

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.unit.rnx.conftest import Rnx
from tests.unit.rnx.fake_agent import UUID, FakeAgent, failure


def test_pause_resume_and_kill(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["PauseJob"] = pb.PauseJobResponse(uuid=UUID, status="RUNNING")
    agent.answers["ResumeJob"] = pb.ResumeJobResponse(uuid=UUID, status="RUNNING")
    agent.answers["KillJob"] = pb.KillJobResponse(uuid=UUID, status="RUNNING", signal=10)
    assert rnx("job", "pause", "1111").out == f"Job paused successfully:\nID: {UUID}\n"
    assert rnx("job", "resume", "1111").out == f"Job resumed successfully:\nID: {UUID}\n"
    assert rnx("job", "kill", "--signal=USR1", "1111").out == f"Signal sent:\nID: {UUID}\nSignal: 10\n"
    assert rnx("job", "kill", "1111").status == 0
    assert [request.signal for request in agent.asked("KillJob")] == ["USR1", "KILL"]


def test_a_paused_job_is_marked_behind_its_state(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["GetJobStatus"] = pb.GetJobStatusResponse(uuid=UUID, status="RUNNING", paused=True)
    agent.answers["QueryJobs"] = pb.QueryJobsResponse(
        jobs=[pb.Job(uuid=UUID, command="x", status="RUNNING", paused=True)]
    )
    text = rnx("status", UUID).out
    assert "Status: RUNNING (paused)\n" in text
    assert f"rnx job resume {UUID}" in text
    assert "RUNNING (paused)" in rnx("list").out
    assert '"paused": true' in rnx("status", "--json", UUID).out


def output(*events: pb.ExecInJobResponse) -> Any:
    def answer(_request: Any, _context: Any) -> Any:
        yield from events

    return answer


def end(**fields: Any) -> pb.ExecInJobResponse:
    return pb.ExecInJobResponse(end=pb.ExecEnd(**fields))


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, 0),
        ({"exit_code": 7, "reason": "exit-code"}, 7),
        ({"exit_code": -1, "signal": 9, "reason": "signal"}, 137),
        ({"exit_code": 127, "reason": "program-not-found", "message": "program not found: 'x'"}, 127),
        ({"exit_code": 126, "reason": "program-not-executable", "message": "no"}, 126),
        ({"exit_code": -1, "reason": "start-failed", "message": "no"}, 125),
        ({"exit_code": -1, "reason": "lost", "message": "nobody knows"}, 125),
    ],
)
def test_the_status_of_a_command_is_passed_on(
    agent: FakeAgent, rnx: Rnx, fields: dict[str, Any], status: int
) -> None:
    agent.answers["ExecInJob"] = output(
        pb.ExecInJobResponse(stdout=b"out\xff"), pb.ExecInJobResponse(stderr=b"err\n"), end(**fields)
    )
    done = rnx("exec", "1111", "--", "ls", "-l")
    assert done.status == status
    assert done.err.startswith("err\n")
    assert ("rnx: " in done.err) is ("message" in fields)


@pytest.mark.parametrize("form", [["exec"], ["job", "exec"]])
def test_what_a_command_is_asked_for(agent: FakeAgent, rnx: Rnx, form: list[str]) -> None:
    agent.answers["ExecInJob"] = output(end())
    flags = ("--env=A=b", "-e", "C=d", "--workdir", "/tmp")
    assert rnx(*form, *flags, "1111", "--", "ls", "--env=X", "--", "-h").status == 0
    assert rnx(*form, "1111", "ls", "--help").status == 0
    first, second = agent.asked("ExecInJob")
    assert (first.uuid, first.command, list(first.args)) == ("1111", "ls", ["--env=X", "--", "-h"])
    assert (dict(first.environment), first.work_dir) == ({"A": "b", "C": "d"}, "/tmp")
    assert list(second.args) == ["--help"]


def test_a_command_that_is_lost_or_refused(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["ExecInJob"] = failure(grpc.StatusCode.UNAVAILABLE, "gone")
    lost = rnx("exec", "1111", "ls")
    assert (lost.status, "the command is lost" in lost.err) == (125, True)
    agent.answers["ExecInJob"] = failure(grpc.StatusCode.FAILED_PRECONDITION, "it is paused", "JOB_PAUSED")
    refused = rnx("exec", "1111", "ls")
    assert (refused.status, "it is paused" in refused.err) == (125, True)
    agent.answers["ExecInJob"] = output(pb.ExecInJobResponse(stdout=b"x"))
    assert rnx("exec", "1111", "ls").status == 125


def test_an_exec_that_cannot_be_read(rnx: Rnx) -> None:
    assert rnx("exec", "1111").status == 2
    assert rnx("exec", "--json", "1111", "ls").status == 2
    assert rnx("exec", "--env=X", "1111", "ls").status == 2
    assert rnx("exec", "--nope", "1111", "ls").status == 2
