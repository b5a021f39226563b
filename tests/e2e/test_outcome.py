"""How a job ends is told exactly: attack case R9, stop, and what the client shows of it."""

import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import JOBS, Client, command, eventually
from tests.e2e.host import configured, in_parallel, journal, refusal, rnx, rnx_json, running, shown, unit_of

pytestmark = [pytest.mark.systemd, pytest.mark.both]

# 200 to 243 is what systemd itself says of a unit that it could not set up.
EXIT_CODES = [0, 1, 2, 125, 126, 127, 128, 129, 137, 143, 199, *range(200, 246), 254, 255]
ATTACHED_CODES = [0, 1, 126, 127, 128, 137, 143, 199, 200, 203, 217, 226, 243, 255]
# What these do to a process by default is not its end.
HARMLESS = {"SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGWINCH"}
SIGNALS = [number for number in range(1, 65) if number not in {signal.Signals[name] for name in HARMLESS}]
FROM_OUTSIDE = ["HUP", "INT", "QUIT", "ABRT", "KILL", "SEGV", "PIPE", "TERM", "USR1", "RTMIN+3"]


def _end(status: pb.GetJobStatusResponse) -> tuple[str, str, int, int]:
    return status.status, status.reason, status.exit_code, status.signal


def _stop(client: Client, job_id: str, *, force: bool = False) -> pb.StopJobResponse:
    reply: pb.StopJobResponse = client.jobs.StopJob(
        pb.StopJobRequest(uuid=job_id, force=force), timeout=30, wait_for_ready=True
    )
    return reply


def test_r9_every_exit_code_is_told(client: Client) -> None:
    ids = in_parallel(lambda code: client.run("sh", "-c", f"exit {code}"), EXIT_CODES)
    got = {code: _end(client.ended(job_id)) for code, job_id in zip(EXIT_CODES, ids, strict=True)}
    wanted = {code: ("FAILED", "exit-code", code, 0) for code in EXIT_CODES}
    assert got == wanted | {0: ("COMPLETED", "", 0, 0)}


@pytest.mark.usefixtures("client")
def test_r9_an_attached_run_exits_as_its_job() -> None:
    got = in_parallel(lambda code: rnx("run", "--attach", "sh", "-c", f"exit {code}"), ATTACHED_CODES)
    assert [done.returncode for done in got] == ATTACHED_CODES
    assert {done.stdout + done.stderr for done in got} == {b""}


def test_r9_wait_exits_as_the_job(client: Client) -> None:
    scripts = {f"exit {code}": code for code in ATTACHED_CODES} | {
        f"kill -{number} $$": 128 + number for number in (1, 2, 9, 11, 13, 15)
    }
    ids = in_parallel(lambda script: client.run("sh", "-c", script), list(scripts))
    got = in_parallel(lambda job_id: rnx("wait", job_id), ids)
    assert [done.returncode for done in got] == list(scripts.values())
    assert {done.stdout + done.stderr for done in got} == {b""}


def test_r9_every_signal_is_told(client: Client) -> None:
    ids = in_parallel(
        lambda number: client.run("sh", "-c", f"ulimit -c unlimited; kill -{number} $$"), SIGNALS
    )
    statuses = [client.ended(job_id) for job_id in ids]
    assert [_end(status) for status in statuses] == [("FAILED", "signal", -1, number) for number in SIGNALS]
    assert statuses[SIGNALS.index(11)].message == "killed by signal 11 (SIGSEGV)"


@pytest.mark.usefixtures("client")
def test_r9_an_attached_run_tells_the_signal_as_a_shell_does() -> None:
    numbers = [1, 2, 6, 9, 11, 13, 15, 40]
    got = in_parallel(lambda number: rnx("run", "--attach", "sh", "-c", f"kill -{number} $$"), numbers)
    assert [done.returncode for done in got] == [128 + number for number in numbers]
    assert got[3].stderr == b"rnx: killed by signal 9 (SIGKILL)\n"


@pytest.mark.parametrize("command", ["joblet-test-script", "/usr/local/bin/joblet-test-script"])
def test_r9_a_script_without_its_interpreter_says_which_one_is_missing(client: Client, command: str) -> None:
    script = Path("/usr/local/bin/joblet-test-script")
    script.write_text("#! /opt/no-such-python -E\n", encoding="ascii")
    script.chmod(0o755)
    try:
        status = client.ended(client.run(command))
    finally:
        script.unlink()
    assert _end(status) == ("FAILED", "program-not-found", 127, 0)
    assert status.message == f"program not found: '{command}' needs /opt/no-such-python, which is missing"


def test_r9_a_signal_from_outside_is_told(client: Client) -> None:
    for name in FROM_OUTSIDE:
        number = signal.SIGRTMIN + 3 if name == "RTMIN+3" else signal.Signals[f"SIG{name}"]
        with running(client, "echo ready; exec sleep 1000") as job_id:
            command("systemctl", "kill", f"--signal={name}", unit_of(job_id))
            assert _end(client.ended(job_id)) == ("FAILED", "signal", -1, number), name


def test_r9_a_handled_signal_is_no_end(client: Client) -> None:
    script = "trap 'echo got it' TERM; trap 'exit 42' INT; echo ready; while :; do sleep 0.05; done"
    with running(client, script) as job_id:
        command("systemctl", "kill", "--signal=TERM", unit_of(job_id))
        eventually(lambda: client.log(job_id), lambda log: log.startswith(b"ready\n") and b"got it\n" in log)
        assert client.status(job_id).status == "RUNNING"
        command("systemctl", "kill", "--signal=INT", unit_of(job_id))
        assert _end(client.ended(job_id)) == ("FAILED", "exit-code", 42, 0)


def test_r9_the_end_of_the_command_is_the_end_of_what_it_left_behind(client: Client) -> None:
    job_id = client.run("sh", "-c", "trap '' TERM; (sleep 1000; echo never) & setsid sleep 1000 & exit 5")
    assert _end(client.ended(job_id)) == ("FAILED", "exit-code", 5, 0)
    assert client.log(job_id) == b""


CANNOT_START = [
    pytest.param(
        ["/no/such/program"], 127, "program-not-found", 127, "not found: '/no/such/program'", id="path"
    ),
    pytest.param(
        ["no-such"], 127, "program-not-found", 127, "'no-such' in PATH=/usr/local/sbin:/usr/", id="name"
    ),
    pytest.param(
        ["--env=PATH=/etc:/work", "sh"],
        127,
        "program-not-found",
        127,
        "'sh' in PATH=/etc:/work",
        id="own-path",
    ),
    pytest.param(["/etc/passwd/x"], 127, "program-not-found", 127, "program not found", id="below-a-file"),
    pytest.param(["/usr"], 126, "program-not-executable", 126, "cannot be executed", id="directory"),
    pytest.param(["/etc/passwd"], 126, "program-not-executable", 126, "cannot be executed", id="text"),
    pytest.param(
        ["--workdir=/no/such", "true"],
        125,
        "start-failed",
        -1,
        "the working directory '/no/such' is missing",
        id="work-dir",
    ),
]


@pytest.mark.parametrize(("words", "attached", "reason", "code", "text"), CANNOT_START)
@pytest.mark.usefixtures("client")
def test_r9_what_cannot_start_says_why(
    words: list[str], attached: int, reason: str, code: int, text: str
) -> None:
    done = rnx("run", "--attach", *words)
    assert (done.returncode, done.stdout) == (attached, b"")
    assert text in done.stderr.decode()
    status = rnx_json("status", _newest())
    assert (status["status"], status["reason"], status["exitCode"]) == ("FAILED", reason, code)
    assert text in status["message"]
    assert done.stderr.decode().splitlines()[-1] == f"rnx: {status['message']}"
    (ended,) = journal("JOBLET_EVENT=ended", f"JOBLET_JOB_ID={status['uuid']}")
    assert f"FAILED: {status['message']}" in ended["MESSAGE"]


def _newest() -> str:
    return str(rnx_json("list", "--limit=1")[0]["id"])


def test_r9_a_stop_by_the_administrator_is_told(client: Client) -> None:
    with running(client, "echo ready; exec sleep 1000") as job_id:
        command("systemctl", "stop", unit_of(job_id))
        status = client.ended(job_id)
    assert _end(status) == ("STOPPED", "stopped", -1, signal.SIGTERM)
    assert status.message == "stopped with systemctl"


def test_stop_ends_a_sleep_with_the_first_signal(client: Client) -> None:
    job_id = client.run("sleep", "1000")
    reply = _stop(client, job_id)
    assert (reply.status, reply.reason, reply.signal) == ("STOPPED", "stopped", signal.SIGTERM)
    assert _end(client.status(job_id)) == ("STOPPED", "stopped", -1, signal.SIGTERM)


def test_stop_reaches_a_command_that_has_only_just_begun(client: Client) -> None:
    def end(_: int) -> tuple[str, int]:
        reply = _stop(client, client.run("sleep", "1000"))
        return reply.status, reply.signal

    assert in_parallel(end, list(range(40))) == [("STOPPED", signal.SIGTERM)] * 40


def test_stop_sends_the_signal_to_all_processes(client: Client) -> None:
    child = "trap 'echo child; exit' TERM; echo up; while :; do sleep 0.05; done"
    script = f"trap 'wait; echo parent; exit 3' TERM; sh -c {shlex.quote(child)} & echo ready; wait"
    with running(client, script) as job_id:
        eventually(lambda: client.log(job_id), lambda log: b"up\n" in log)
        _stop(client, job_id)
        assert _end(client.status(job_id)) == ("STOPPED", "stopped", 3, 0)
        assert client.log(job_id).endswith(b"child\nparent\n")


def test_stop_kills_what_ignores_it_after_the_grace(client: Client) -> None:
    with (
        configured("jobs:\n  stop_grace: 1s\n"),
        running(client, "trap '' TERM; echo ready; while :; do sleep 0.05; done") as job_id,
    ):
        _stop(client, job_id)
        assert _end(client.ended(job_id)) == ("STOPPED", "stopped", -1, signal.SIGKILL)


def test_stop_with_force_kills_at_once(client: Client) -> None:
    script = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.05; done"
    with running(client, script) as job_id:
        reply = _stop(client, job_id, force=True)
        assert (reply.status, reply.signal) == ("STOPPED", signal.SIGKILL)
        assert client.log(job_id) == b"ready\n"


def test_stop_with_force_overtakes_a_stop_under_way(client: Client) -> None:
    script = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.05; done"
    with running(client, script) as job_id:
        stopping = client.jobs.StopJob.future(pb.StopJobRequest(uuid=job_id), timeout=30)
        eventually(lambda: client.log(job_id), lambda log: log.endswith(b"asked\n"))
        assert client.status(job_id).status == "STOPPING"
        assert _stop(client, job_id, force=True).signal == signal.SIGKILL
        assert stopping.result().status == "STOPPED"


def test_stop_takes_effect_once(client: Client) -> None:
    job_id = client.run("sleep", "1000")
    _stop(client, job_id)
    assert refusal(lambda: _stop(client, job_id)) == ("FAILED_PRECONDITION", "JOB_ENDED")
    done = rnx("stop", job_id)
    assert done.returncode == 1
    assert b"cannot stop job" in done.stderr


def test_stop_of_a_waiting_job_withdraws_it(client: Client) -> None:
    with (
        configured("jobs:\n  max_concurrent: 1\n"),
        running(client, "echo ready; exec sleep 1000") as busy,
    ):
        waiting = [client.run("sh", "-c", "echo ran") for _ in range(3)]
        assert [client.status(job_id).queue_position for job_id in waiting] == [1, 2, 3]
        assert rnx_json("stop", waiting[0]) == {"uuid": waiting[0], "status": "CANCELED"} | _ended_fields(
            client, waiting[0]
        )
        assert _end(client.status(waiting[0])) == ("CANCELED", "canceled", 0, 0)
        cancel = rnx_json("job", "cancel", waiting[1])
        assert (cancel["canceled"], cancel["job_id"], cancel["status"]) == (True, waiting[1], "CANCELED")
        assert rnx("job", "cancel", busy).returncode == 1
        assert client.status(waiting[2]).queue_position == 1
        _stop(client, busy)
        assert client.ended(waiting[2]).status == "COMPLETED"
        assert [client.log(job_id) for job_id in waiting] == [b"", b"", b"ran\n"]


def _ended_fields(client: Client, job_id: str) -> dict[str, object]:
    return {"endTime": client.status(job_id).end_time, "reason": "canceled"}


def test_delete_refuses_a_running_job_and_forgets_an_ended_one(client: Client) -> None:
    job_id = client.run("sleep", "1000")

    def delete() -> object:
        return client.jobs.DeleteJob(pb.DeleteJobRequest(uuid=job_id), timeout=30)

    assert refusal(delete) == ("FAILED_PRECONDITION", "JOB_NOT_ENDED")
    assert client.status(job_id).status == "RUNNING"
    _stop(client, job_id)
    assert (JOBS / job_id).exists()
    assert rnx_json("delete", job_id)["success"] is True
    assert not (JOBS / job_id).exists()
    assert refusal(lambda: client.status(job_id)) == ("NOT_FOUND", "JOB_NOT_FOUND")
    assert refusal(delete) == ("NOT_FOUND", "JOB_NOT_FOUND")


def test_delete_all_leaves_what_runs(client: Client) -> None:
    ended = [client.run("true") for _ in range(3)]
    for job_id in ended:
        client.ended(job_id)
    with running(client, "echo ready; exec sleep 1000") as busy:
        there = len(rnx_json("list"))
        done = rnx_json("job", "delete-all")
        assert (done["success"], done["deleted_count"], done["skipped_count"]) == (True, there - 1, 1)
        assert [job["id"] for job in rnx_json("list")] == [busy]
        assert {home.name for home in JOBS.iterdir()} == {busy}
    text = rnx("job", "delete-all").stdout.decode()
    assert "Deleted count: 1\nSkipped count: 0 (running/scheduled)\n" in text
    assert rnx("list").stdout == b"No jobs found\n"
    assert rnx_json("list") == []


def test_run_prints_what_scripts_read(client: Client) -> None:
    lines = rnx("run", "echo", "Hello, Joblet!").stdout.decode().splitlines()
    assert lines[0] == "Job started:"
    job_id = lines[1].removeprefix("ID: ")
    assert lines[2] == "Command: echo Hello, Joblet!"
    assert lines[3] in {"Status: RUNNING", "Status: COMPLETED"}
    assert client.ended(job_id).status == "COMPLETED"
    assert rnx("log", job_id[:8]).stdout == b"Hello, Joblet!\n"
    data = rnx_json("job", "run", "sh", "-c", "exit 3")
    assert (data["command"], data["args"]) == ("sh", ["-c", "exit 3"])
    assert client.ended(data["job_uuid"]).exit_code == 3


STATUS_KEYS = (
    "uuid name nodeId command args status startTime endTime exitCode scheduledTime environment"
    " secretEnvironment network volumes runtime workDir uploads dependencies workflowUuid"
)


def test_list_and_status_show_the_same_job_in_both_forms(client: Client) -> None:
    job_id = client.run("sh", "-c", "echo x; exit 9", name="shown", environment={"A": "b"})
    client.ended(job_id)
    (entry,) = [job for job in rnx_json("list") if job["id"] == job_id]
    wanted: dict[str, object] = {
        "name": "shown",
        "status": "FAILED",
        "command": "sh",
        "args": ["-c", "echo x; exit 9"],
    }
    wanted |= {"exit_code": 9, "reason": "exit-code"}
    assert {key: entry[key] for key in wanted} == wanted
    assert rnx_json("job", "list") == rnx_json("list")
    status = rnx_json("status", job_id[:8])
    assert status.keys() >= set(STATUS_KEYS.split())
    assert (status["uuid"], status["name"], status["exitCode"]) == (job_id, "shown", 9)
    assert (status["environment"], status["unit"]) == ({"A": "b"}, unit_of(job_id))
    assert rnx_json("job", "status", job_id) == status
    text = rnx("status", job_id).stdout.decode()
    assert "\nStatus: FAILED\n" in text
    assert "Exit Code: 9" in text
    row = next(line for line in rnx("list").stdout.decode().splitlines() if line.startswith(job_id))
    assert row.split()[1:4] == ["shown", "-", "FAILED"]


# What belongs to one start of a unit, or what systemd-run has options of its own for. That variables and
# command arrive all the same is seen from the output.
NOT_COMPARED = (
    "Id Names InvocationID MainPID ExecMainPID ControlGroup ControlGroupId FragmentPath RemainAfterExit"
    " EnvironmentFiles Environment ExecStart ExecStartEx After CollectMode StandardInput StandardOutput"
    " StandardError StandardInputFileDescriptorName StandardOutputFileDescriptorName Refs"
    " User UID GID SetLoginEnvironment DropInPaths"
)
MEASURED = ("Timestamp", "TimestampMonotonic", "CPUUsageNSec", "TasksCurrent")
TOLD = "env | sort; id; pwd; hostname; grep -E '^(Cap|NoNew|Sec)' /proc/self/status; ls / /dev; ulimit -a"


def test_explain_tells_how_to_start_the_same_by_hand(client: Client) -> None:
    script = f"{TOLD}; echo ready; exec sleep 1000"
    with running(client, script, environment={"A": "$HOME %n 'q\"' \\"}, name="told") as job_id:
        told = rnx_json("job", "explain", job_id)
        assert told["unit"] == unit_of(job_id)
        with _by_hand(shlex.split(told["systemd_run"]), "joblet-explained.service") as output:
            assert output == client.log(job_id)
            ours, theirs = _settings(unit_of(job_id)), _settings("joblet-explained.service")
    assert ours.keys() == theirs.keys()
    assert {key: (ours[key], theirs[key]) for key in ours if ours[key] != theirs[key]} == {}


@contextmanager
def _by_hand(words: list[str], unit: str) -> Iterator[bytes]:
    """Run systemd-run within the block; enter it with the output once that says ``ready``."""
    with subprocess.Popen([words[0], f"--unit={unit}", "--quiet", *words[1:]], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        output = b""
        while not output.endswith(b"ready\n"):
            line = run.stdout.readline()
            assert line, output
            output += line
        try:
            yield output
        finally:
            command("systemctl", "stop", unit)


def _settings(unit: str) -> dict[str, str]:
    return {
        key: value
        for key, value in shown(unit).items()
        if key not in NOT_COMPARED
        and not key.endswith(MEASURED)
        and not key.startswith(("Memory", "IO", "IP"))
    }
