"""What a user of the host who is neither root nor in the group joblet can do to a job, and sees of it."""

import pytest

from tests.e2e.agent import JOBS, Client, command
from tests.e2e.host import unit_of
from tests.e2e.inside import processes, running

pytestmark = [pytest.mark.systemd, pytest.mark.both]

WAITING = ("sh", "-c", "echo ready; exec sleep 1000")


def as_nobody(*words: str) -> tuple[int, str]:
    done = command("runuser", "-u", "nobody", "--", *words, check=False)
    return done.returncode, done.stdout + done.stderr


def test_no_file_of_the_agent_or_of_a_job_can_be_read(client: Client) -> None:
    with running(client, *WAITING, environment={"TOKEN": "t0ken"}) as job_id:
        pid = processes(job_id)[-1]
        paths = [JOBS, JOBS / job_id / "output.log", JOBS / job_id / "work", JOBS.parent / "state.db"]
        for path in [*map(str, paths), f"/proc/{pid}/environ", f"/proc/{pid}/root/work", f"/proc/{pid}/cwd/"]:
            status, told = as_nobody("ls" if path.endswith(("work", "jobs", "/")) else "cat", path)
            assert status != 0, path
            assert "Permission denied" in told
        assert "t0ken" not in as_nobody("systemctl", "show", unit_of(job_id))[1]


def test_no_job_can_be_stopped_or_changed(client: Client) -> None:
    with running(client, *WAITING) as job_id:
        for pid in processes(job_id):
            assert as_nobody("sh", "-c", f"kill -KILL {pid}")[0] != 0
        unit = unit_of(job_id)
        for words in (
            ["stop", unit],
            ["kill", unit],
            ["set-property", unit, "CPUQuota=1%"],
            ["freeze", unit],
        ):
            assert as_nobody("systemctl", "--no-ask-password", *words)[0] != 0, words
        assert client.status(job_id).status == "RUNNING"


def test_what_a_local_user_sees_of_a_job(client: Client) -> None:
    with running(client, *WAITING, name="visible") as job_id:
        assert as_nobody("systemctl", "show", "-P", "Description", unit_of(job_id)) == (
            0,
            "Joblet job visible\n",
        )
        assert as_nobody("ps", "-o", "args=", "-p", str(processes(job_id)[-1])) == (0, "sleep 1000\n")
