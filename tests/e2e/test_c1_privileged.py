"""An operator brings no privileged job about, by whatever method: attack case C1."""

from typing import Any

import pytest

from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.pb import joblet_pb2_grpc as stubs
from tests.certificates import make, make_ca
from tests.e2e.agent import DEADLINE, Client
from tests.e2e.host import refusal
from tests.e2e.network import channel, listening

pytestmark = [pytest.mark.systemd, pytest.mark.both]

CA = make_ca()
DENIED = ("PERMISSION_DENIED", "PROFILE_NOT_PERMITTED")


def test_c1_an_operator_starts_nothing_privileged(client: Client) -> None:
    with (
        listening(CA, "profiles:\n  privileged: true\n"),
        channel(make("eve", "operator", ca=CA), CA) as made,
    ):
        jobs: Any = stubs.JobServiceStub(made)  # type: ignore[no-untyped-call]
        agent: Any = stubs.AgentServiceStub(made)  # type: ignore[no-untyped-call]
        for when in ("", "2030-01-01T00:00:00Z", "daily"):
            asked = pb.RunJobRequest(command="true", profile="privileged", schedule=when)
            assert refusal(lambda: jobs.RunJob(asked, timeout=DEADLINE)) == DENIED  # noqa: B023
        of_admin = pb.RunJobRequest(command="true", profile="privileged", schedule="*:*:0/2")
        schedule = client.jobs.RunJob(of_admin, timeout=DEADLINE).schedule_uuid
        try:
            agent.PauseSchedule(pb.PauseScheduleRequest(uuid=schedule), timeout=DEADLINE)
            request = pb.ResumeScheduleRequest(uuid=schedule)
            assert refusal(lambda: agent.ResumeSchedule(request, timeout=DEADLINE)) == DENIED
            shown = agent.GetSchedule(pb.GetScheduleRequest(uuid=schedule), timeout=DEADLINE)
            assert shown.schedule.status == "PAUSED"
            assert client.agent.ResumeSchedule(request, timeout=DEADLINE).schedule.status == "ACTIVE"
        finally:
            client.agent.RemoveSchedule(pb.RemoveScheduleRequest(uuid=schedule), timeout=DEADLINE)
