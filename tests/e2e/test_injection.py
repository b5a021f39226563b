"""Texts of requests that look like something to systemd: attack cases A5, A7."""

import re
import subprocess
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import Client, command
from tests.e2e.host import in_parallel, reloading, rnx, shown, unit_of
from tests.e2e.inside import running

pytestmark = [pytest.mark.systemd, pytest.mark.both]

ODD_DIRECTORIES = [
    "%n",
    "$HOME",
    "${HOME}",
    " a",
    "a ",
    "-x",
    "~",
    "!x",
    "+x",
    "a:b",
    "a'b\"c",
    "a\\x41",
    "\u00e9",
]
HARD_DIRECTORIES = ["%n", "${HOME}", "a ", "a\\x41"]


def test_a7_a_working_directory_is_the_one_that_was_named(client: Client) -> None:
    made = [pb.FileUpload(path=name, is_directory=True) for name in ODD_DIRECTORIES]

    def one(name: str) -> tuple[str, bytes]:
        job_id = client.run("pwd", work_dir=f"/work/{name}", uploads=made)
        return client.ended(job_id).status, client.log(job_id)

    expected = [("COMPLETED", f"/work/{name}\n".encode()) for name in ODD_DIRECTORIES]
    assert in_parallel(one, ODD_DIRECTORIES) == expected
    with reloading():
        assert [one(name) for name in HARD_DIRECTORIES] == [
            ("COMPLETED", f"/work/{name}\n".encode()) for name in HARD_DIRECTORIES
        ]
    script = 'mkdir -- "$@" && echo ready && exec sleep 1000'
    with running(client, "sh", "-c", script, "sh", *HARD_DIRECTORIES) as job_id:
        for name in HARD_DIRECTORIES:
            assert (
                rnx("exec", f"--workdir=/work/{name}", job_id, "--", "pwd").stdout
                == f"/work/{name}\n".encode()
            )


EACH_TIME = re.compile(
    r"Id|Names|After|FragmentPath|User|[UG]ID|InvocationID|JobId|ControlGroup(Id)?|.*PID|.*Timestamp(Monotonic)?|Exec(Main|Start).*|IPIngress.*"
    r"|.*USec|Memory(Current|Peak|Available|Swap.*|ZSwap.*)|CPUUsageNSec|IO(Read|Write).*|Tasks(Current|Accounting)"
    r"|EnvironmentFiles|StandardOutput|StandardError|BindPaths|BindReadOnlyPaths|NetworkNamespacePath|LogExtraFields|.*Access.*"
)
"""Properties that differ between any two units, or have the job's id in them."""
INJECTED_WORDS = ["sh", "-c", "echo ready; exec sleep 1000", "+/bin/x", "%n", "${HOME}", "a\nUser=root\n"]
INJECTED: dict[str, Any] = {
    "environment": {"A": "1\nUser=root", "B": "%n $HOME\\", "ExecStartPre": "/bin/x", "User": "root"},
    "name": "%n ExecStart=+/bin/x; $HOME \\x2d",
    "work_dir": "/work/%n $HOME",
    "uploads": [pb.FileUpload(path="%n $HOME", is_directory=True)],
}


def test_a5_a7_no_text_of_a_request_becomes_a_property(client: Client) -> None:
    """Of two units of jobs all properties are the same, but for those that the texts are meant to be."""
    with (
        running(client, "sh", "-c", "echo ready; exec sleep 1000", work_dir="/work") as one,
        running(client, *INJECTED_WORDS, **INJECTED, token=f"%n $HOME ExecStart=!/bin/x {uuid4()}") as other,
    ):
        for _ in range(2):
            before, after = shown(unit_of(one)), shown(unit_of(other))
            changed = {
                name: after.get(name)
                for name in before.keys() | after.keys()
                if before.get(name) != after.get(name) and not EACH_TIME.fullmatch(name)
            }
            assert changed == {
                "Description": f"Joblet job {INJECTED['name']}",
                "SyslogIdentifier": INJECTED["name"],
            }
            assert after["ExecStart"].count("path=") == 1
            assert "path=/usr/lib/joblet/joblet-launch ;" in after["ExecStart"]
            command("systemctl", "daemon-reload")  # reads back what systemd wrote down


OF_A_TIMER = re.compile(
    r"Id|Names|FragmentPath|InvocationID|Triggers|Unit|Before|After|.*Timestamp(Monotonic)?|.*Elapse.*|Timers.*"
)
"""Properties that differ between the timers of any two schedules made at different moments."""


@pytest.mark.parametrize(("when", "kind"), [("2030-01-01T00:00:00Z", "job"), ("daily", "schedule")])
def test_a5_no_text_of_a_request_becomes_a_property_of_a_timer(client: Client, when: str, kind: str) -> None:
    titles = {"job": "Start of Joblet job ", "schedule": "Starts of Joblet schedule "}
    texts: dict[str, Any] = {name: value for name, value in INJECTED.items() if name != "uploads"}
    plain = pb.RunJobRequest(command="true", name="plain", schedule=when)
    odd = pb.RunJobRequest(command=INJECTED_WORDS[0], args=INJECTED_WORDS[1:], schedule=when, **texts)
    made = [client.jobs.RunJob(request, timeout=30) for request in (plain, odd)]
    ids = [reply.schedule_uuid or reply.job_uuid for reply in made]
    try:
        for _ in range(2):
            before, after = (shown(f"joblet-{kind}@{each}.timer") for each in ids)
            changed = {
                name: after.get(name)
                for name in before.keys() | after.keys()
                if before.get(name) != after.get(name) and not OF_A_TIMER.fullmatch(name)
            }
            assert changed == {"Description": titles[kind] + INJECTED["name"]}
            command("systemctl", "daemon-reload")
    finally:
        for each in ids:
            if kind == "job":
                client.jobs.CancelJob(pb.CancelJobRequest(uuid=each), timeout=30)
            else:
                client.agent.RemoveSchedule(pb.RemoveScheduleRequest(uuid=each), timeout=30)


MOUNT = """[Mount]
What=none
Where=/srv/joblet-test
Type=tmpfs
"""


def test_a5_a_working_directory_mounts_nothing_on_the_host(client: Client) -> None:
    """What is in fstab with ``noauto`` is a mount unit that whatever requires its path would start."""
    unit = Path("/run/systemd/system/srv-joblet\\x2dtest.mount")
    unit.write_text(MOUNT, encoding="ascii")
    command("systemctl", "daemon-reload")
    try:
        assert client.ended(client.run("true", work_dir="/srv/joblet-test")).reason == "start-failed"
        assert command("systemctl", "is-active", unit.name, check=False).stdout == "inactive\n"
    finally:
        command("systemctl", "stop", unit.name, check=False)
        unit.unlink()
        command("systemctl", "daemon-reload")


COMMANDS_TO_TERMINALS = "\x1b\x07\r\x9b\u202e\u2028"
ESCAPES = "\x1b[2J\x1b]0;title\x07\r\x9b2J\u202e\u2028\n"


def test_a7_no_text_of_a_job_is_a_command_to_a_terminal(client: Client) -> None:
    script = f"echo ready; exec sleep 1000 # {ESCAPES}"
    with running(client, "sh", "-c", script, environment={"A": ESCAPES}) as job_id:
        verbs = (["list"], ["status", job_id], ["job", "explain", job_id])
        shown = [rnx(*view, *verb) for view in ([], ["--json"]) for verb in verbs]
    assert {done.returncode for done in shown} == {0}
    refused = [
        rnx("run", "--attach", f"no{ESCAPES}such"),
        rnx("status", ESCAPES),
        rnx("run", f"--name={ESCAPES}", "x"),
    ]
    _assert_harmless(*shown, *refused)


def test_a7_no_name_of_a_file_and_no_end_of_a_job_is_a_command_to_a_terminal(
    client: Client, tmp_path: Path
) -> None:
    job_id = client.run("sh", "-c", f"cd /work; touch '{ESCAPES}'; ln -s x 'l{ESCAPES}'", ESCAPES)
    failed = client.run(f"/no/such{ESCAPES}")
    client.ended(job_id)
    client.ended(failed)
    words = (
        ("wait", failed),
        ("job", "files", job_id),
        ("job", "download", job_id, f"--to={tmp_path / 'copy'}"),
        ("job", "download", job_id, ESCAPES),
        ("job", "metrics", f"{job_id}{ESCAPES}"),
        ("log", f"{job_id}{ESCAPES}"),
        ("job", "top", f"{job_id}{ESCAPES}"),
        ("delete", f"{job_id}{ESCAPES}"),
    )
    views = [rnx(*each) for each in words]
    assert b"\\x1b[2J" in views[1].stdout
    _assert_harmless(*views)


def _assert_harmless(*views: subprocess.CompletedProcess[bytes]) -> None:
    for done in views:
        told = (done.stdout + done.stderr).decode()
        assert not [each for each in COMMANDS_TO_TERMINALS if each in told], (done.args, told)
