"""With what a job starts: variables, open files, directory. Attack cases A8, B2."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import DEADLINE, JOBS, Client, eventually, kill_agent
from tests.e2e.host import configured, refusal
from tests.e2e.inside import probe, processes, running

pytestmark = [pytest.mark.systemd, pytest.mark.both]

WAITING = "exec sleep 1000"


def test_a_job_starts_with_the_documented_variables_only(client: Client) -> None:
    job_id = client.run("cat", "/proc/self/environ", environment={"MINE": "1", "LANG": "de"})
    client.ended(job_id)
    assert variables(client.log(job_id)) == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/work",
        "USER": "job",
        "LOGNAME": "job",
        "SHELL": "/bin/sh",
        "LANG": "de",
        "MINE": "1",
        "JOBLET_JOB_ID": job_id,
    }


def variables(environ: bytes) -> dict[str, str]:
    entries = environ.decode().removesuffix("\0").split("\0")
    return dict(entry.split("=", 1) for entry in entries)


OPEN_FILES = """
import json, os
open_files = {}
for number in range(1024):
    try:
        os.fstat(number)
        open_files[number] = os.readlink(f"/proc/self/fd/{number}").rpartition("/")[2]
    except OSError:
        pass
def reopened(number, mode):
    try:
        open(f"/proc/self/fd/{number}", mode)
        return "done"
    except OSError as error:
        return error.strerror
print(json.dumps({
    "open": open_files,
    "input": os.read(0, 1).decode(),
    "reopened": [reopened(number, mode) for number in (1, 2) for mode in ("r", "w", "a")],
    "cwd": os.getcwd(),
}))
"""


def _check_open_files(got: Any, cwd: str = "/work") -> None:
    assert got == {
        "open": {"0": "null", "1": "output.log", "2": "output.log"},
        "input": "",
        "reopened": ["Permission denied"] * 6,
        "cwd": cwd,
    }


def test_b2_only_the_three_standard_files_are_open(client: Client) -> None:
    _check_open_files(probe(client, OPEN_FILES))
    _check_open_files(probe(client, OPEN_FILES, work_dir="/tmp"), cwd="/tmp")


def test_b2_only_the_three_standard_files_are_open_after_waiting(client: Client) -> None:
    with (
        configured("jobs:\n  max_concurrent: 1\nprofiles:\n  privileged: true\n"),
        running(client, "sh", "-c", f"echo ready; {WAITING}") as first,
    ):
        second = client.run("python3", "-I", "-c", OPEN_FILES)
        third = client.run("python3", "-I", "-c", OPEN_FILES, profile="privileged")
        assert client.status(second).status == "PENDING"
        client.jobs.StopJob(pb.StopJobRequest(uuid=first, force=True), timeout=30)
        assert client.ended(second).status == "COMPLETED"
        assert client.ended(third).status == "COMPLETED"
        text, of_root = client.log(second), client.log(third)
    _check_open_files(json.loads(text))
    assert set(json.loads(of_root)["open"]) == {"0", "1", "2"}


def test_b2_only_the_three_standard_files_are_open_in_a_strict_job(client: Client) -> None:
    _check_open_files(probe(client, OPEN_FILES, profile="strict"))


def test_b2_only_the_three_standard_files_are_open_when_an_agent_starts_what_it_found(client: Client) -> None:
    due = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    job_id = client.run("python3", "-I", "-c", OPEN_FILES, schedule=due)
    kill_agent()
    assert client.ended(job_id).status == "COMPLETED", client.log(job_id)
    _check_open_files(json.loads(client.log(job_id)))


def test_b2_only_the_three_standard_files_are_open_in_a_recurring_job(client: Client) -> None:
    request = pb.RunJobRequest(command="python3", args=["-I", "-c", OPEN_FILES], schedule="*:*:*")
    schedule = client.jobs.RunJob(request, timeout=DEADLINE).schedule_uuid
    shown = pb.GetScheduleRequest(uuid=schedule)
    try:
        first = eventually(
            lambda: client.agent.GetSchedule(shown, timeout=DEADLINE).schedule.last_job_uuid, bool
        )
    finally:
        client.agent.RemoveSchedule(pb.RemoveScheduleRequest(uuid=schedule), timeout=DEADLINE)
    assert client.ended(first).status == "COMPLETED", client.log(first)
    _check_open_files(json.loads(client.log(first)))


DIRECTORIES_OF_OTHERS = [
    "/proc/self/fd/3",
    "/proc/self/fd/0",
    "//proc/self/cwd",
    "/./proc/1/root",
    "/dev/fd/3",
    "/work/../proc/self/fd/3",
    "proc/self/fd/3",
    "../x",
    "/work\n/x",
]


@pytest.mark.parametrize("work_dir", DIRECTORIES_OF_OTHERS)
def test_b2_no_working_directory_of_whoever_starts_the_job(client: Client, work_dir: str) -> None:
    before = set(JOBS.iterdir())
    for when in ("", "2030-01-01T00:00:00Z", "daily"):
        refused = refusal(lambda: client.run("pwd", work_dir=work_dir, schedule=when))  # noqa: B023
        assert refused == ("INVALID_ARGUMENT", "BAD_WORK_DIR")
    assert set(JOBS.iterdir()) == before


HOSTILE = {
    "LD_PRELOAD": "libresolv.so.2",
    "LD_LIBRARY_PATH": "/work",
    "GCONV_PATH": "/work",
    "PERL5OPT": "-Mno_such_module",
    "PERL5LIB": "/work",
    "PERL5DB": "BEGIN { exit 3 }",
    "NOTIFY_SOCKET": "/run/systemd/notify",
    "LISTEN_FDS": "3",
    "LISTEN_PID": "1",
    "WATCHDOG_USEC": "1",
    "PATH": "/work",
    "BASH_ENV": "/work/x",
    "ENV": "/work/x",
    "HOME": "/root",
    "JOBLET_ENV_LD_PRELOAD": "libresolv.so.2",
}


@pytest.mark.parametrize("given", ["environment", "secret_environment"])
def test_a8_variables_of_the_job_act_on_the_job_only(client: Client, given: str) -> None:
    script = f"cat /proc/self/environ; printf '\\0ready\\n'; {WAITING}"
    script = script.replace("cat", "/usr/bin/cat").replace("sleep", "/usr/bin/sleep")
    with running(client, "/bin/sh", "-c", script, **{given: HOSTILE}) as job_id:
        launcher, init, own = processes(job_id)
        eventually(lambda: _maps(own), lambda maps: "/sleep" in maps)
        assert "libresolv" in _maps(own)
        for pid in (launcher, init):
            assert "libresolv" not in _maps(pid)
            names = variables(Path(f"/proc/{pid}/environ").read_bytes()).keys()
            assert not names & (HOSTILE.keys() - {"PATH", "HOME", "JOBLET_ENV_LD_PRELOAD"})
            assert variables(Path(f"/proc/{pid}/environ").read_bytes()).get("PATH") != "/work"
        assert client.status(job_id).status == "RUNNING"
        got = variables(client.log(job_id).split(b"\0ready\n")[0])
    assert {name: got.get(name) for name in HOSTILE} == HOSTILE


def _maps(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")


def test_private_files_of_the_start_are_gone_when_the_command_runs(client: Client) -> None:
    with running(client, "sh", "-c", f"echo ready; {WAITING}", environment={"S": "a-secret"}) as job_id:
        eventually(lambda: Path(f"/run/joblet/env/{job_id}").exists(), lambda exists: not exists)
        report = Path(f"/run/joblet/launch/{job_id}")
        assert report.read_bytes() == b"0 launched\n"
        assert (report.stat().st_uid, report.stat().st_mode & 0o777) == (0, 0o600)
        log = JOBS / job_id / "output.log"
        assert (log.stat().st_uid, log.stat().st_mode & 0o777) == (0, 0o600)
        for directory in (Path("/run/joblet/env"), Path("/run/joblet/launch"), JOBS, JOBS / job_id):
            assert (directory.stat().st_uid, directory.stat().st_mode & 0o777) == (0, 0o700)
