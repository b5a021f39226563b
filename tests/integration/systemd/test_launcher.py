"""The launcher in real units: every end as it was (R9), and a sandbox that holds (A7, A8, B2, B3, B6)."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from joblet_agent.errors import LaunchFailed
from joblet_agent.jobs.outcome import outcome_of
from joblet_agent.model.job import JobId, JobSpec, JobState, Reason
from joblet_agent.ports import LaunchPlan, UnitPhase, UnitStatus
from joblet_agent.systemd.properties import LAUNCHER
from tests.contract.unit_manager_cases import Units
from tests.integration.systemd.real_units import Ran, processes_of, ran, real_units, result_of, shell

pytestmark = pytest.mark.systemd

STATUSES = [0, 1, 2, 125, 126, 127, 128, 137, 143, 199, 200, 203, 209, 217, 226, 243, 245, 246, 255]
HARMLESS = {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}
STOPPING = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
SIGNALS = [number for number in range(1, 65) if number not in STOPPING]


def with_units(
    home: Path, case: Callable[[Units], Awaitable[None]], *, grace: timedelta = timedelta(seconds=1)
) -> None:
    async def main() -> None:
        async with real_units(home, grace=grace) as units:
            await case(units)

    asyncio.run(main())


def one(home: Path, spec: JobSpec, *, prepare: Callable[[LaunchPlan], None] | None = None) -> Ran:
    found: list[Ran] = []

    async def case(units: Units) -> None:
        found.append(await ran(units, spec, prepare=prepare))

    with_units(home, case)
    return found[0]


async def output_begins(plan: LaunchPlan, text: bytes) -> None:
    """Wait until the job has written that much: the log is a file, so this polls."""
    async with asyncio.timeout(30):
        while not plan.log.read_bytes().startswith(text):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# -- ends --------------------------------------------------------------------------------------------


def test_every_exit_status_is_told_as_it_was(tmp_path: Path) -> None:
    async def case(units: Units) -> None:
        ends = await asyncio.gather(*(ran(units, shell('exit "$1"', str(number))) for number in STATUSES))
        told = {number: end.outcome.exit_code for number, end in zip(STATUSES, ends, strict=True)}
        assert told == {number: number for number in STATUSES}
        reasons = {end.outcome.reason for end in ends[1:]}
        assert (ends[0].outcome.state, reasons) == (JobState.COMPLETED, {Reason.EXIT_CODE})
        assert {end.report for end in ends} == {"0 launched\n"}

    with_units(tmp_path, case)


def test_every_signal_is_told_as_it_was(tmp_path: Path) -> None:
    async def case(units: Units) -> None:
        killing = 'kill "-$1" $$; exit 77'
        ends = await asyncio.gather(*(ran(units, shell(killing, str(number))) for number in SIGNALS))
        told = {n: (end.outcome.signal, end.outcome.exit_code) for n, end in zip(SIGNALS, ends, strict=True)}
        assert told == {number: (0, 77) if number in HARMLESS else (number, -1) for number in SIGNALS}

    with_units(tmp_path, case)


@pytest.mark.parametrize(
    ("command", "reason", "exit_code"),
    [
        ("no-such-program", Reason.NOT_FOUND, 127),
        ("/no/such/program", Reason.NOT_FOUND, 127),
        ("/usr/bin/env/x", Reason.NOT_FOUND, 127),
        ("/etc/passwd", Reason.CANNOT_INVOKE, 126),
        ("/usr", Reason.CANNOT_INVOKE, 126),
        ("x" * 300, Reason.CANNOT_INVOKE, 126),
    ],
)
def test_what_cannot_be_executed(tmp_path: Path, command: str, reason: Reason, exit_code: int) -> None:
    end = one(tmp_path, JobSpec(command))
    assert (end.outcome.state, end.outcome.reason) == (JobState.FAILED, reason)
    assert end.outcome.exit_code == exit_code
    assert end.output == b""


def script(text: str, mode: int = 0o755) -> Callable[[LaunchPlan], None]:
    def write(plan: LaunchPlan) -> None:
        file = plan.work / "script"
        file.write_text(text)
        file.chmod(mode)

    return write


def test_scripts(tmp_path: Path) -> None:
    async def case(units: Units) -> None:
        job = JobSpec("./script")
        good = await ran(units, job, prepare=script("#!/bin/sh\nexit 9\n"))
        bare = await ran(units, job, prepare=script("exit 8\n"))
        missing = await ran(units, job, prepare=script("#!/no/interpreter\n"))
        closed = await ran(units, job, prepare=script("#!/bin/sh\n", mode=0o644))
        assert (good.outcome.exit_code, bare.outcome.exit_code) == (9, 8)  # a bare one as in a shell
        assert missing.outcome.reason is Reason.NOT_FOUND
        assert closed.outcome.reason is Reason.CANNOT_INVOKE

    with_units(tmp_path, case)


def test_a_missing_working_directory(tmp_path: Path) -> None:
    end = one(tmp_path, JobSpec("true", work_dir="/work/missing"))
    assert (end.outcome.state, end.outcome.reason) == (JobState.FAILED, Reason.START_FAILED)
    assert "working directory" in end.outcome.message


@pytest.mark.parametrize("directory", ["/proc/self/fd/3", "/dev/fd/3"])  # B2: 2024-21626
def test_no_way_out_by_the_working_directory(tmp_path: Path, directory: str) -> None:
    """Which jobs/check.py refuses already."""
    try:
        reason = one(tmp_path, JobSpec("true", work_dir=directory)).outcome.reason
    except LaunchFailed:  # newer systemd refuses such a unit
        reason = Reason.START_FAILED
    assert reason is Reason.START_FAILED


# -- stop --------------------------------------------------------------------------------------------


def test_a_command_without_a_handler_ends_at_once(tmp_path: Path) -> None:
    """Within the minute that a test may wait; its grace is an hour."""

    async def case(units: Units) -> None:
        plan = await units.running(JobSpec("sleep", ("1000",)))
        await units.manager.stop(plan.job_id)
        end = await result_of(units, plan, stop_requested=True)
        assert (end.outcome.state, end.outcome.signal) == (JobState.STOPPED, 15)

    with_units(tmp_path, case, grace=timedelta(hours=1))


def test_the_stop_signal_reaches_every_process(tmp_path: Path) -> None:
    tree = """
        trap 'wait; echo parent; exit 5' TERM
        sh -c 'trap "echo child; exit 0" TERM; echo up; while :; do sleep 0.01; done' &
        wait; wait
    """

    async def case(units: Units) -> None:
        plan = await units.running(shell(tree))
        await output_begins(plan, b"up\n")
        await units.manager.stop(plan.job_id)
        end = await result_of(units, plan, stop_requested=True)
        assert {"child", "parent"} <= set(end.text.splitlines())
        assert (end.outcome.state, end.outcome.exit_code) == (JobState.STOPPED, 5)

    with_units(tmp_path, case, grace=timedelta(hours=1))


def test_what_ignores_the_stop_signal_is_killed_after_the_grace(tmp_path: Path) -> None:
    async def case(units: Units) -> None:
        plan = await units.running(shell("trap '' TERM; echo up; while :; do sleep 0.01; done"))
        await output_begins(plan, b"up\n")
        await units.manager.stop(plan.job_id)
        end = await result_of(units, plan, stop_requested=True)
        assert (end.outcome.state, end.outcome.signal) == (JobState.STOPPED, 9)
        assert processes_of(plan.uid) == []

    with_units(tmp_path, case, grace=timedelta(seconds=1))


@pytest.mark.parametrize("code", [0, 7])
def test_children_that_stay_behind_die_with_the_command(tmp_path: Path, code: int) -> None:  # B6
    behind = f"(setsid sleep 1000 &); (setsid sh -c 'trap \"\" TERM; sleep 1000' &); exit {code}"

    async def case(units: Units) -> None:
        plan = await units.started(shell(behind))
        status = await units.ended(plan.job_id)
        assert processes_of(plan.uid) == []
        assert (status.exit_kind, status.exit_status) == ("exited", code)
        await units.manager.release(plan.job_id)

    with_units(tmp_path, case, grace=timedelta(hours=1))


def test_orphans_are_reaped(tmp_path: Path) -> None:
    waits = """
        for i in 1 2 3 4 5 6 7 8; do sh -c 'true & exit 0'; done
        while grep -qs '^State:.Z' /proc/[0-9]*/status; do sleep 0.01; done
        echo reaped
    """
    assert one(tmp_path, shell(waits)).text == "reaped\n"


def test_the_death_of_the_init_is_the_death_of_the_job(tmp_path: Path) -> None:
    async def case(units: Units) -> None:
        plan = await units.running(JobSpec("sleep", ("1000",)))
        await units.manager.kill(plan.job_id)
        end = await result_of(units, plan)
        assert (end.outcome.reason, end.outcome.signal) == (Reason.SIGNAL, 9)

    with_units(tmp_path, case)


# -- what a job sees -----------------------------------------------------------------------------------


def test_a_job_sees_its_own_processes_only(tmp_path: Path) -> None:  # B3
    end = one(tmp_path, shell("cat /proc/[0-9]*/comm; echo $$; cat /proc/1/environ"))
    *own, refused = end.text.splitlines()
    assert own == ["joblet-launch", "sh", "2"]
    assert refused.endswith("/proc/1/environ: Permission denied")


def test_a_job_has_three_descriptors(tmp_path: Path) -> None:  # B2
    end = one(tmp_path, shell("ls /proc/$$/fd; readlink /proc/$$/fd/0; true"))
    assert end.text.split() == ["0", "1", "2", "/dev/null"]


def test_a_job_has_no_privilege(tmp_path: Path) -> None:  # B7
    end = one(tmp_path, shell("cat /proc/self/status"))
    status = dict(line.split(":\t", 1) for line in end.text.splitlines() if ":\t" in line)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    uid = str(end.plan.uid)
    assert status["Uid"].split() == status["Gid"].split() == [uid] * 4
    assert set(status["Groups"].split()) <= {uid}


@pytest.mark.parametrize(
    "attempt",
    [
        "unshare -U true",
        "unshare -m true",
        "mount -t tmpfs x /work",
        "chroot / true",
        "touch /x",
        "touch /usr/x",
        "touch /etc/x",
        "cat /etc/shadow",
        "cat /proc/1/environ",
        "kill -9 1",
        "chown 0 /work",
        "nsenter -t 1 -m true",
        "dmesg",
        "ls /sys/kernel",
        "ls /run/systemd/private",
        "ls /run/dbus/system_bus_socket",
        "ls /run/joblet",
        "cp /usr/bin/id /work/id && chmod 4755 /work/id",
    ],
)
def test_what_a_job_may_not_do(tmp_path: Path, attempt: str) -> None:
    end = one(tmp_path, shell(f"if {attempt}; then echo DONE; fi"))
    assert "DONE" not in end.text
    assert end.outcome.state is JobState.COMPLETED


def test_what_a_job_may_do(tmp_path: Path) -> None:
    wanted = """
        echo x >/work/f && echo x >/tmp/f && echo x >/dev/shm/f && echo x >/dev/null
        [ "$PWD" = /work ] && [ -r /etc/passwd ] && [ -x /bin/sh ] && umask && sh -c 'exit 0' && echo good
    """
    assert one(tmp_path, shell(wanted)).text.split() == ["0022", "good"]


def test_a_command_begins_with_the_signals_of_a_shell(tmp_path: Path) -> None:
    end = one(tmp_path, shell("grep -E '^Sig(Blk|Ign)' /proc/self/status"))
    assert [int(line.split()[1], 16) for line in end.text.splitlines()] == [0, 0]


def test_output_is_one_file_in_the_order_it_was_written(tmp_path: Path) -> None:
    end = one(tmp_path, shell("echo 1; echo 2 >&2; printf '\\0\\377'; printf 3 >&2"))
    assert end.output == b"1\n2\n\0\xff3"
    assert end.report == "0 launched\n"


# -- arguments and environment ---------------------------------------------------------------------------


def test_arguments_arrive_exactly(tmp_path: Path) -> None:  # A7
    hostile = (
        *(
            "$HOME",
            "${HOME}",
            "$$",
            "$",
            "%n",
            "%%",
            "%i",
            "-x",
            "--",
            "@x",
            "+x",
            "!x",
            "a;b",
            "a|b",
            "`id`",
        ),
        *(
            '"',
            "'",
            "\\",
            "\\x41",
            "\n",
            "a\nb",
            "\t",
            "",
            " ",
            "*",
            "ü\u202e",
            "\x01\x1b[0m\x7f",
            "x" * 131071,
        ),
    )
    end = one(tmp_path, shell('printf "%s\\0" "$@"', *hostile))
    assert end.output.split(b"\0")[:-1] == [argument.encode() for argument in hostile]


@pytest.mark.parametrize("command", ["-x", "@x", "+x", "!x", "!!x", ":x", "$x", "%n", "a b", "a;b", "|"])
def test_a_commands_name_is_only_a_name(tmp_path: Path, command: str) -> None:  # A7
    def program(plan: LaunchPlan) -> None:
        script('#!/bin/sh\necho "$0"\n')(plan)
        (plan.work / "script").rename(plan.work / command)

    end = one(tmp_path, JobSpec(command, environment={"PATH": "/work:/bin"}), prepare=program)
    assert end.text == f"/work/{command}\n"


def environment_of(end: Ran) -> dict[str, str]:
    pairs = [pair.decode().partition("=") for pair in end.output.split(b"\0")[:-1]]
    return {name: value for name, _, value in pairs}


def test_the_environment_is_exactly_the_jobs(tmp_path: Path) -> None:
    hostile = {
        "A": "",
        "B": " blanks ",
        "C": "a\nb\n",
        "D": "\"'\\`$X ${X} $(id) %n %%",
        "E": "".join(map(chr, range(1, 0x80))),
        "F": "üñ\u202e😀",
        "G": "\\",
        "H": "#x;y=z",
        "_": "x",
        "BIG": "x" * 32768,
    }
    end = one(tmp_path, JobSpec("cat", ("/proc/self/environ",), environment=hostile))
    assert environment_of(end) == end.plan.environment


def test_a_large_environment(tmp_path: Path) -> None:  # A7: 2 MiB are refused before, 1.2 MiB arrive
    many = {f"VARIABLE_{number}": str(number) * 20 for number in range(10_000)}
    end = one(tmp_path, JobSpec("cat", ("/proc/self/environ",), environment=many))
    assert environment_of(end) == end.plan.environment


def test_the_environment_steers_nothing_that_has_privileges(tmp_path: Path) -> None:  # A8
    steering = {
        "LD_PRELOAD": "/work/evil.so",
        "LD_LIBRARY_PATH": "/work",
        "PERL5OPT": "-Mno_such_module",
        "PERL5LIB": "/work",
        "PERL_UNICODE": "SDA",
        "NOTIFY_SOCKET": "/work/socket",
        "LISTEN_FDS": "3",
        "LISTEN_PID": "1",
        "PATH": "/work:/usr/bin:/bin",
        "IFS": "x",
        "BASH_ENV": "/work/evil",
        "JOBLET_ENV_X": "twice",
    }
    end = one(tmp_path, JobSpec("cat", ("/proc/self/environ",), environment=steering))
    assert end.report == "0 launched\n"  # the launcher would have complained there
    complaint, _, rest = end.output.partition(b"\n")
    assert b"/work/evil.so" in complaint
    assert environment_of(Ran(end.plan, end.outcome, rest, "")) == end.plan.environment


def test_no_secret_is_where_other_users_look(tmp_path: Path) -> None:
    async def case(units: Units) -> None:
        plan = await units.running(JobSpec("sleep", ("1000",), environment={"TOKEN": "s3cr3t-value"}))
        unit = units.manager.unit_name(plan.job_id)
        process = await asyncio.create_subprocess_exec(
            "systemctl", "show", "--all", unit, stdout=asyncio.subprocess.PIPE
        )
        shown, _ = await process.communicate()
        assert b"RemainAfterExit=yes" in shown
        assert b"s3cr3t-value" not in shown
        await units.manager.kill(plan.job_id)
        await result_of(units, plan)

    with_units(tmp_path, case)


# -- many ------------------------------------------------------------------------------------------------


def test_the_end_and_the_last_line_of_a_thousand_short_jobs(tmp_path: Path) -> None:  # R10
    async def case(units: Units) -> None:
        together = asyncio.Semaphore(24)

        async def job(number: int) -> tuple[int, bytes]:
            async with together:
                end = await ran(
                    units, shell('printf "line %d" "$1"; exit "$2"', str(number), str(number % 200))
                )
                return end.outcome.exit_code, end.output

        told = await asyncio.gather(*(job(number) for number in range(1000)))
        assert told == [(number % 200, f"line {number}".encode()) for number in range(1000)]

    with_units(tmp_path, case)


# -- silent degradation ------------------------------------------------------------------------------------


def launched(home: Path, *words: str, properties: tuple[str, ...] = ()) -> tuple[int, str]:
    """Run the launcher in a unit that systemd made with less than it was asked for."""
    report = home / "report"
    done = subprocess.run(
        [
            *("systemd-run", "--wait", "--collect", "--quiet", "--service-type=exec"),
            f"--property=StandardError=append:{report}",
            *(f"--property={line}" for line in properties),
            "--setenv=JOBLET_ARG_0=/usr/bin/touch",
            f"--setenv=JOBLET_ARG_1={home}/ran",
            *("--", LAUNCHER, *words),
        ],
        check=False,
        capture_output=True,
    )
    assert not (home / "ran").exists()
    return done.returncode, report.read_text()


NOT_ISOLATED = {
    "net": "cannot isolate the job: its network namespace is the host's",
    "ipc": "cannot isolate the job: its IPC namespace is the host's",
    "uts": "cannot isolate the job: its host name namespace is the host's",
}
PROTECTED = ("PrivateNetwork=yes", "PrivateIPC=yes", "ProtectHostname=yes", "NoNewPrivileges=yes")


@pytest.mark.parametrize(
    ("kind", "forgotten"), [("net", "PrivateNetwork"), ("ipc", "PrivateIPC"), ("uts", "ProtectHostname")]
)
def test_a_job_in_a_namespace_of_the_host_does_not_start(tmp_path: Path, kind: str, forgotten: str) -> None:
    """As when the kernel or a container forbids a namespace, which systemd passes over with a warning."""
    host = [os.readlink(f"/proc/1/ns/{each}") for each in NOT_ISOLATED]
    properties = tuple(line for line in PROTECTED if not line.startswith(forgotten))
    status, report = launched(tmp_path, "100001", "100001", "2", *host, properties=properties)
    assert (status, report) == (125, f"0 launched\n0 {NOT_ISOLATED[kind]}\n")
    outcome = outcome_of(
        UnitStatus(JobId("x"), UnitPhase.ENDED, exit_kind="exited", exit_status=status, result="exit-code"),
        stop_requested=False,
        launch_report=report,
        spec=JobSpec("touch"),
    )
    assert (outcome.state, outcome.reason) == (JobState.FAILED, Reason.START_FAILED)
    assert outcome.message == f"could not start: {NOT_ISOLATED[kind]}"


def test_a_job_that_could_gain_privileges_does_not_start(tmp_path: Path) -> None:
    properties = tuple(line for line in PROTECTED if not line.startswith("NoNewPrivileges"))
    status, report = launched(tmp_path, "100001", "100001", "2", properties=properties)
    assert (status, report) == (125, "0 launched\n0 cannot isolate the job: it could gain privileges\n")


@pytest.mark.parametrize(("uid", "gid"), [("0", "100001"), ("100001", "0"), ("0", "0")])
def test_no_job_is_root_unless_it_is_privileged(tmp_path: Path, uid: str, gid: str) -> None:
    status, report = launched(tmp_path, uid, gid, "2", properties=PROTECTED)
    assert (status, report) == (125, "0 launched\n0 cannot isolate the job: its command would be root\n")
