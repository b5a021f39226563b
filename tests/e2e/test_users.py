"""The users of jobs, as the host sees them: by name while their job runs, and never longer."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.agent import Client, command, eventually, kill_agent, wait_for_agent
from tests.e2e.host import AGENT, unit_of
from tests.e2e.inside import processes, running

pytestmark = [pytest.mark.systemd, pytest.mark.both]

RECORDS = Path("/run/userdb")
SWITCH = Path("/etc/nsswitch.conf")
WAITING = ("sh", "-c", "echo ready; exec sleep 1000")


def name_of(job_id: str) -> str:
    return f"joblet-{job_id[:13]}"


def user_of(pid: int) -> tuple[str, ...]:
    return tuple(command("ps", "-o", "user:40=,uid=,gid=", "-p", str(pid)).stdout.split())


def ours() -> set[str]:
    return {path.name for path in RECORDS.iterdir()}


def test_the_unit_tells_the_user_that_the_processes_of_the_job_have(client: Client) -> None:
    with running(client, *WAITING) as job_id:
        said = command("systemctl", "show", "-P", "User", unit_of(job_id)).stdout.strip()
        _launcher, *of_job = processes(job_id)
        uid = user_of(of_job[-1])[1]
        assert said == uid
        users = [user_of(pid) for pid in of_job]
        assert users[-1] == (name_of(job_id), uid, uid)
        group = command("stat", "--format=%U:%G", f"/var/lib/joblet/jobs/{job_id}/work").stdout.strip()
        assert group == f"{name_of(job_id)}:{name_of(job_id)}"


def test_every_user_of_the_host_may_look_a_job_up_and_nobody_logs_in_as_one(client: Client) -> None:
    with running(client, *WAITING) as job_id:
        lookup = ("runuser", "-u", "nobody", "--", "getent", "passwd", name_of(job_id))
        _name, _password, uid, gid, title, home, shell = command(*lookup).stdout.strip().split(":")
        assert (uid, title) == (gid, f"Joblet job {job_id}")
        assert (home, shell) == ("/nonexistent", "/usr/sbin/nologin")
        assert command("getent", "shadow", name_of(job_id)).stdout.split(":")[1].startswith("!")


def test_nothing_is_left_of_the_user_of_a_job_that_has_ended(client: Client) -> None:
    with running(client, *WAITING) as job_id:
        assert f"{name_of(job_id)}.user" in ours()
    eventually(ours, lambda names: not [name for name in names if name.startswith(name_of(job_id))])
    assert command("getent", "passwd", name_of(job_id), check=False).returncode == 2


def test_an_agent_that_was_killed_keeps_the_users_of_running_jobs_and_no_others(client: Client) -> None:
    left = RECORDS / "joblet-00000000-0000.user"
    with running(client, *WAITING) as job_id:
        left.write_text('{"userName": "joblet-00000000-0000", "uid": 4294967000, "gid": 4294967000}')
        (RECORDS / "4294967000.user").symlink_to(left.name)
        kill_agent()
        wait_for_agent(client)
        eventually(ours, lambda names: not names & {left.name, "4294967000.user"})
        assert user_of(processes(job_id)[-1])[0] == name_of(job_id)
    eventually(ours, lambda names: not [name for name in names if name.startswith(name_of(job_id))])


@contextmanager
def _sources(text: str) -> Iterator[None]:
    """The host's users come from there; the agent was started since."""
    before = SWITCH.read_text(encoding="utf-8")
    try:
        SWITCH.write_text(text, encoding="utf-8")
        command("systemctl", "restart", AGENT)
        yield
    finally:
        SWITCH.write_text(before, encoding="utf-8")
        command("systemctl", "restart", AGENT)


@pytest.mark.parametrize(
    ("sources", "told"),
    [
        ("passwd: files\ngroup: files\n", "is libnss-systemd installed?"),
        ("passwd: files systemd\ngroup: files systemd ldap\n", "each start would ask ldap"),
    ],
)
def test_jobs_run_on_a_host_that_does_not_look_their_users_up(
    client: Client, sources: str, told: str
) -> None:
    with _sources(sources):
        wait_for_agent(client)
        since = command("systemctl", "show", "-P", "InvocationID", AGENT).stdout.strip()
        with running(client, *WAITING) as job_id:
            assert command("systemctl", "show", "-P", "User", unit_of(job_id)).stdout.strip() == ""
            assert int(user_of(processes(job_id)[-1])[1]) >= 1 << 16
        said = command("journalctl", "--no-pager", "-o", "cat", f"_SYSTEMD_INVOCATION_ID={since}").stdout
    assert [line for line in said.splitlines() if told in line]
    wait_for_agent(client)
