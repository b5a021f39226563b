"""Commands inside running jobs: where they run, how they end, what is left of them (attack case B2)."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import DEADLINE, Client, eventually, kill_agent, wait_for_agent
from tests.e2e.execs import execute, nothing_is_left, popen, start
from tests.e2e.host import journal, refusal, rnx, running
from tests.e2e.inside import DENIED_CALLS, processes, processes_of_user

pytestmark = [pytest.mark.systemd, pytest.mark.both]

LINKS = "for n in $(seq 0 20); do ln -s /proc/self/fd/$n /work/out$n; done"
QUIET = "echo ready; exec sleep 1000"


def probe(client: Client, job_id: str, script: str, **fields: Any) -> Any:
    out, err, end = execute(client, job_id, "python3", "-I", "-c", script, **fields)
    assert end.exit_code == 0, err
    return json.loads(out)


_nothing_is_left = pytest.fixture(autouse=True)(nothing_is_left)


# -- ends --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 1, 125, 126, 127, 128, 137, 203, 226, 255])
def test_r9_the_exit_status_is_passed_on(client: Client, status: int) -> None:
    with running(client, QUIET) as job_id:
        done = rnx("exec", job_id, "--", "sh", "-c", f"echo out; echo err >&2; exit {status}")
        assert (done.returncode, done.stdout, done.stderr) == (status, b"out\n", b"err\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGPIPE, 34])
def test_r9_death_by_a_signal_is_passed_on(client: Client, number: int) -> None:
    with running(client, QUIET) as job_id:
        _, _, end = execute(client, job_id, "sh", "-c", f"kill -{int(number)} $$")
        assert (end.exit_code, end.signal, end.reason) == (-1, number, "signal")
        assert rnx("exec", job_id, "sh", "-c", f"kill -{int(number)} $$").returncode == 128 + number


@pytest.mark.parametrize(
    ("words", "flags", "status", "text"),
    [
        (["no-such-program"], [], 127, b"program not found"),
        (["/etc/passwd"], [], 126, b"cannot be executed"),
        (["true"], ["--workdir=/no/such"], 125, b"working directory"),
        (["true"], ["--workdir=relative"], 125, b"must be absolute"),
        (["true"], ["--workdir=/proc/self/fd/3"], 125, b"must not be below /proc"),
    ],
)
def test_what_cannot_be_run(
    client: Client, words: list[str], flags: list[str], status: int, text: bytes
) -> None:
    with running(client, QUIET) as job_id:
        done = rnx("job", "exec", *flags, job_id, "--", *words)
        assert done.returncode == status
        assert text in done.stderr
        assert client.status(job_id).status == "RUNNING"


def test_output_arrives_whole_however_slow_its_reader_is(client: Client) -> None:
    with running(client, QUIET) as job_id:
        request = start(job_id, "seq", "1", "2000000")
        got = bytearray()
        for number, event in enumerate(client.agent.ExecInJob(iter([request]), timeout=120)):
            got += event.stdout
            if number < 5:
                time.sleep(0.1)
        assert bytes(got) == b"".join(b"%d\n" % line for line in range(1, 2000001))
        out, _, _ = execute(client, job_id, "printf", "\\000\\377no line end")
        assert out == b"\0\xffno line end"


def test_what_a_command_leaves_behind_does_not_hold_up_its_end(client: Client) -> None:
    with running(client, QUIET) as job_id:
        out, _, end = execute(client, job_id, "sh", "-c", "sleep 1000 & echo over")
        assert (out, end.exit_code) == (b"over\n", 0)
        uid = _uid(client, job_id)
        assert len(processes_of_user(uid)) == 2
    eventually(lambda: processes_of_user(uid), lambda left: not left)


# -- where it runs -----------------------------------------------------------------------------------

INSIDE = """
import json, os
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "namespaces": {name: os.readlink("/proc/self/ns/" + name) for name in os.listdir("/proc/self/ns")},
    "ids": [os.getuid(), os.geteuid(), os.getgid(), os.getegid(), os.getgroups()],
    "status": {key: status[key].split() for key in
               ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")},
    "root": sorted(os.listdir("/")),
    "cwd": os.getcwd(),
    "environment": dict(os.environ),
    "limits": open("/proc/self/limits").read(),
    "mounts": open("/proc/self/mounts").read(),
    "mask": oct(os.umask(0)),
    "group": open("/proc/self/cgroup").read(),
    "signals": [status[key].strip() for key in ("SigBlk", "SigIgn")],
}, sort_keys=True))
"""


def test_a_command_is_what_the_jobs_own_command_is(client: Client) -> None:
    script = f"python3 -I -c '{INSIDE}' > own; echo ready; exec sleep 1000"
    with running(client, script, environment={"COLOUR": "red", "SIZE": "1"}) as job_id:
        inside = probe(client, job_id, INSIDE, environment={"SIZE": "2", "MORE": "3"})
        own = json.loads(Path(f"/var/lib/joblet/jobs/{job_id}/work/own").read_text(encoding="utf-8"))
        for left_by_the_shell in ("PWD", "OLDPWD", "_", "SHLVL"):
            own["environment"].pop(left_by_the_shell, None)
        assert inside["environment"].pop("MORE") == "3"
        assert inside["environment"].pop("SIZE") == "2"
        assert own["environment"].pop("SIZE") == "1"
        assert inside == own


def test_a_command_gets_no_secret_variables(client: Client) -> None:
    look = "import json, os; print(json.dumps(dict(os.environ)))"
    fields = {"environment": {"OPEN": "1"}, "secret_environment": {"HIDDEN": "a-secret"}}
    with running(client, QUIET, **fields) as job_id:
        variables = probe(client, job_id, look)
    assert variables["OPEN"] == "1"
    assert "HIDDEN" not in variables


def test_a_command_is_in_the_jobs_control_group(client: Client) -> None:
    with running(client, QUIET) as job_id:
        before = set(processes(job_id))
        with popen("exec", job_id, "--", "sh", "-c", "echo begun; exec sleep 1000") as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"begun\n"
            (pid,) = set(processes(job_id)) - before
            name = Path(f"/proc/{pid}/comm")
            eventually(lambda: name.read_text(encoding="ascii"), lambda text: text == "sleep\n")
            child.send_signal(signal.SIGINT)
            assert child.wait(30) == 130
        eventually(lambda: set(processes(job_id)), lambda now: now == before)


def test_b2_a_command_has_three_files_and_no_way_out_through_them(client: Client) -> None:
    look = "import json, os; print(json.dumps(sorted(os.listdir('/proc/self/fd'), key=int)))"
    with running(client, f"{LINKS}; {QUIET}") as job_id:
        assert probe(client, job_id, look)[:3] == ["0", "1", "2"]
        assert len(probe(client, job_id, look)) == 4  # the directory itself is open while it is read
        for number in range(21):
            _, _, end = execute(client, job_id, "sh", "-c", "ls ..", work_dir=f"/work/out{number}")
            assert (end.reason, end.exit_code) == ("start-failed", -1), number
        for directory in ("/proc/self/fd/7", "/proc/1/root", "/dev/fd/3", "/work/../proc/self/cwd"):
            refused = refusal(lambda: execute(client, job_id, "true", work_dir=directory))  # noqa: B023
            assert refused == ("INVALID_ARGUMENT", "BAD_WORK_DIR")


CALLS = (
    DENIED_CALLS
    + """
x86 = os.uname().machine == "x86_64"
fd = os.open("/proc/self/ns/net", os.O_RDONLY)
namespaces = {"net": 0x40000000, "ipc": 0x08000000, "uts": 0x04000000, "user": 0x10000000,
              "cgroup": 0x02000000, "mnt": 0x00020000, "pid": 0x20000000}
unshare, clone, setns, chroot = (272, 56, 308, 161) if x86 else (97, 220, 268, 51)
print(json.dumps({
    **{f"unshare {name}": call(unshare, flag) for name, flag in namespaces.items()},
    **{f"clone {name}": call(clone, flag | 17, 0, 0, 0, 0) for name, flag in namespaces.items()},
    "setns": call(setns, fd, 0x40000000),
    "setns any": call(setns, fd, 0),
    "chroot": call(chroot, b"/work"),
    "bpf": call(321 if x86 else 280, 0, 0, 0),
}))
"""
)


def test_b7_a_command_cannot_join_or_make_namespaces(client: Client) -> None:
    with running(client, QUIET) as job_id:
        answers = probe(client, job_id, CALLS)
    assert set(answers.values()) == {"EPERM"}, answers


def test_strict_jobs_take_commands_too(client: Client) -> None:
    with running(client, QUIET, profile="strict") as job_id:
        out, _, end = execute(client, job_id, "id", "-u")
        assert (int(out), end.exit_code) == (_uid(client, job_id), 0)
        answers = probe(client, job_id, CALLS)
    assert set(answers.values()) == {"EPERM"}, answers


# -- refused -----------------------------------------------------------------------------------------


def test_what_does_not_run_takes_no_command(client: Client) -> None:
    ended = client.run("true")
    client.ended(ended)
    assert refusal(lambda: execute(client, ended, "true")) == ("FAILED_PRECONDITION", "JOB_NOT_RUNNING")
    assert refusal(lambda: execute(client, "0123456789ab", "true")) == ("NOT_FOUND", "JOB_NOT_FOUND")
    done = rnx("exec", ended, "--", "true")
    assert (done.returncode, b"not running" in done.stderr) == (125, True)
    with running(client, QUIET) as job_id:
        assert refusal(lambda: execute(client, job_id, "")) == ("INVALID_ARGUMENT", "COMMAND_REQUIRED")
        client.agent.PauseJob(pb.PauseJobRequest(uuid=job_id), timeout=DEADLINE)
        assert refusal(lambda: execute(client, job_id, "true")) == ("FAILED_PRECONDITION", "JOB_PAUSED")


# -- who goes away -----------------------------------------------------------------------------------

SPREADS = "sleep 1000 & sleep 1000 | sleep 1000 & echo begun; sleep 1000; echo never"


def test_a_command_is_killed_when_its_caller_goes_away(client: Client) -> None:
    with running(client, QUIET) as job_id:
        before = processes(job_id)
        call = client.agent.ExecInJob(iter([start(job_id, "sh", "-c", SPREADS)]))
        assert next(iter(call)).stdout == b"begun\n"
        assert len(processes(job_id)) > len(before)
        call.cancel()
        eventually(lambda: processes(job_id), lambda now: now == before)
        assert client.status(job_id).status == "RUNNING"


@pytest.mark.parametrize("script", [SPREADS, "trap '' TERM INT HUP PIPE; " + SPREADS])
def test_r3_a_command_is_killed_when_the_agent_is(client: Client, script: str) -> None:
    with running(client, QUIET) as job_id:
        before = processes(job_id)
        child = popen("exec", job_id, "--", "sh", "-c", script)
        assert child.stdout is not None
        assert child.stdout.readline() == b"begun\n"
        kill_agent()
        _, errors = child.communicate(timeout=30)
        assert (child.returncode, b"the command is lost" in errors) == (125, True)
        wait_for_agent(client)
        eventually(lambda: processes(job_id), lambda now: now == before)
        assert client.status(job_id).status == "RUNNING"


@pytest.mark.parametrize("how", ["stop", "kill", "end"])
def test_b6_a_command_ends_with_its_job(client: Client, how: str) -> None:
    script = (
        "echo ready; sleep 1000" if how != "end" else "echo ready; while [ ! -e over ]; do sleep 0.05; done"
    )
    with running(client, script) as job_id:
        uid = _uid(client, job_id)
        child = popen(
            "exec", job_id, "--", "sh", "-c", "trap '' TERM; setsid sleep 1000 & echo begun; sleep 1000"
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"begun\n"
        if how == "stop":
            client.jobs.StopJob(pb.StopJobRequest(uuid=job_id), timeout=DEADLINE)
        elif how == "kill":
            client.agent.KillJob(pb.KillJobRequest(uuid=job_id), timeout=DEADLINE)
        else:
            Path(f"/var/lib/joblet/jobs/{job_id}/work/over").touch()
        status = client.ended(job_id)
        assert status.status == {"stop": "STOPPED", "kill": "FAILED", "end": "COMPLETED"}[how]
        child.communicate(timeout=30)
        assert child.returncode == 128 + signal.SIGKILL
        eventually(lambda: processes_of_user(uid), lambda left: not left)


def test_a_command_stands_still_while_its_job_is_paused(client: Client) -> None:
    with running(client, QUIET) as job_id:
        ticking = "while :; do echo tick; sleep 0.02; done"
        call = client.agent.ExecInJob(iter([start(job_id, "sh", "-c", ticking)]))
        assert next(call).stdout
        client.agent.PauseJob(pb.PauseJobRequest(uuid=job_id), timeout=DEADLINE)
        before = processes(job_id)
        call.cancel()  # killed although it cannot run
        eventually(lambda: processes(job_id), lambda now: len(now) == 3)
        assert len(before) > 3
        client.agent.ResumeJob(pb.ResumeJobRequest(uuid=job_id), timeout=DEADLINE)


def test_a_command_leaves_a_record_in_the_journal(client: Client) -> None:
    with running(client, QUIET) as job_id:
        execute(client, job_id, "echo", "a-secret-argument")
    told = [each["MESSAGE"] for each in journal(f"JOBLET_JOB_ID={job_id}", "JOBLET_EVENT=exec")]
    assert told == [f"local runs 'echo' in job {job_id}"]


def _uid(client: Client, job_id: str) -> int:
    return os.stat(f"/var/lib/joblet/jobs/{job_id}/work").st_uid
