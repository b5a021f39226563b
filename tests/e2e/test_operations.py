"""What docs/operations.md promises to those who look after a host: who gets in, what shows, what survives."""

import json
import re

import pytest

from tests.e2e.agent import Client, command, eventually, main_pid
from tests.e2e.host import AGENT, CONFIG, configured, running, shown, unit_of

pytestmark = [pytest.mark.systemd, pytest.mark.both]

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534")


def test_a_stranger_is_told_who_may_use_the_socket(client: Client) -> None:
    refused = command(*NOBODY, "--clear-groups", "rnx", "list", check=False)
    assert refused.returncode == 1
    assert refused.stderr == (
        "rnx: cannot reach the agent at unix:/run/joblet/agent.sock: permission denied\n"
        "hint: root and members of the group joblet may use the local socket\n"
    )


def test_members_of_the_group_may_do_everything(client: Client) -> None:
    run = ("rnx", "run", "--attach", "echo", "hello")
    assert command(*NOBODY, "--groups=joblet", *run).stdout == "hello\n"
    assert "deleted" in command(*NOBODY, "--groups=joblet", "rnx", "delete-all").stdout


def test_reloads_of_systemd_change_nothing(client: Client) -> None:
    agent = main_pid()
    ends = client.run("sh", "-c", "sleep 0.5; exit 5")
    goes_on = client.run("sh", "-c", "echo out; sleep 1000")
    for verb in ("daemon-reload", "daemon-reload", "daemon-reexec", "daemon-reload"):
        command("systemctl", verb)
        ended = client.ended(client.run("true"))
        assert (ended.status, ended.message) == ("COMPLETED", "")
        assert client.status(goes_on).status == "RUNNING"
    ended = client.ended(ends)
    assert (ended.status, ended.reason, ended.exit_code) == ("FAILED", "exit-code", 5)
    assert command("rnx", "stop", goes_on).returncode == 0
    assert client.log(goes_on) == b"out\n"
    assert main_pid() == agent


OF_THE_MOMENT = re.compile(
    r".*(Timestamp|USec|Current|Peak|NSec|Bytes|Packets|Operations|Available).*|NFileDescriptorStore|ExecStart.*"
)


def test_r8_a_unit_is_read_back_as_it_was_made(client: Client) -> None:
    """systemd writes transient units into files, and does not know everything again that it writes."""
    with configured("profiles:\n  privileged: true\nlimits:\n  unenforced: accept\n"):
        for profile in ("default", "strict", "privileged"):
            before, after = _before_and_after_a_reload(client, profile)
            assert (after["LoadState"], after["NeedDaemonReload"]) == ("loaded", "no")
            changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
            assert {name for name in changed if not OF_THE_MOMENT.fullmatch(name)} == set()


def _before_and_after_a_reload(client: Client, profile: str) -> list[dict[str, str]]:
    script = "echo ready; exec sleep 1000"
    with running(
        client,
        script,
        profile=profile,
        max_memory=64,
        timeout="1h",
        nice=3,
        secret_files={"key": b"x"},
        work_size=1 << 20,
    ) as job_id:
        read = [shown(unit_of(job_id))]
        command("systemctl", "daemon-reload")
        read.append(shown(unit_of(job_id)))
    return read


def test_the_tools_of_systemd_show_a_job(client: Client) -> None:
    job_id = client.run("sh", "-c", "echo from the job; sleep 1000", name="web")
    unit = unit_of(job_id)
    assert "Joblet job web" in command("systemctl", "status", "--no-pager", unit).stdout
    tree = ("systemd-cgls", "--no-pager", "-u", "joblet-jobs.slice")
    eventually(lambda: command(*tree).stdout, lambda shown: "sleep 1000" in shown)

    def copied(*match: str) -> list[dict[str, str]]:
        lines = command("journalctl", "--output=json", *match).stdout.splitlines()
        return [json.loads(line) for line in lines]

    for match in (("-u", unit), (f"JOBLET_JOB_ID={job_id}", "SYSLOG_IDENTIFIER=web")):
        records = eventually(
            lambda match=match: copied(*match),  # type: ignore[misc]
            lambda records: any(record["MESSAGE"] == "from the job" for record in records),
        )
        assert "web" in {record["SYSLOG_IDENTIFIER"] for record in records}
    command("systemctl", "stop", unit)
    ended = client.ended(job_id)
    assert (ended.status, ended.reason) == ("STOPPED", "stopped")
    (event,) = eventually(lambda: copied("JOBLET_EVENT=ended", f"JOBLET_JOB_ID={job_id}"), bool)
    assert event["MESSAGE"].startswith(f"job {job_id} STOPPED: stopped with systemctl (")  # what it used


def test_a_wrong_configuration_is_told_once_and_spares_the_jobs(client: Client) -> None:
    job_id = client.run("sleep", "1000")
    before = CONFIG.read_bytes()
    try:
        CONFIG.write_bytes(b"jobs:\n  max_concurent: 5\n")
        assert command("systemctl", "restart", AGENT, check=False).returncode == 1
        assert command("systemctl", "is-failed", AGENT).stdout == "failed\n"
        told = command("joblet-agent", check=False)
        assert told.returncode == 78
        assert told.stderr.splitlines()[1] == (
            f"{CONFIG}:2: jobs.max_concurent: unknown key, did you mean max_concurrent?"
        )
    finally:
        CONFIG.write_bytes(before)
        command("systemctl", "start", AGENT)
    assert client.status(job_id).status == "RUNNING"
    assert command("rnx", "stop", job_id).returncode == 0
