from joblet_agent.pb import joblet_pb2 as pb
from tests.unit.rnx.conftest import Rnx
from tests.unit.rnx.fake_agent import UUID, FakeAgent


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
