"""Terminals of commands inside running jobs, on both sides: the job's own there, and the caller's here."""

import json
import os
import pty
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import DEADLINE, Client, eventually, kill_agent, wait_for_agent
from tests.e2e.execs import STDIN_END, TERMINAL, Exchange, execute, nothing_is_left, stdin
from tests.e2e.host import running
from tests.e2e.inside import processes

pytestmark = pytest.mark.systemd

QUIET = "echo ready; exec sleep 1000"

_nothing_is_left = pytest.fixture(autouse=True)(nothing_is_left)


def shell(client: Client, job_id: str, script: str) -> Exchange:
    return Exchange(client, job_id, "sh", "-c", script, terminal=TERMINAL)


# -- the job's side ------------------------------------------------------------------------------------


def test_a_command_has_a_terminal_of_the_callers_size_and_kind(client: Client) -> None:
    script = "tty; stty size; echo $TERM; stat -c '%U %a' $(tty) >&2; : >/dev/tty; exit 3"
    with running(client, QUIET) as job_id:
        out, err, end = execute(client, job_id, "sh", "-c", script, terminal=TERMINAL)
    assert out == b"/dev/pts/0\r\n33 77\r\nvt220\r\nUNKNOWN 620\r\n"
    assert (err, end.exit_code) == (b"", 3)


def test_output_arrives_whole_however_soon_the_command_ends(client: Client) -> None:
    whole = b"".join(b"%d\r\n" % line for line in range(1, 3001))
    with running(client, QUIET) as job_id:
        for _ in range(30):
            out, _, _ = execute(client, job_id, "seq", "1", "3000", terminal=TERMINAL)
            assert out == whole


def test_a_window_is_followed(client: Client) -> None:
    script = "trap 'stty size; exit 4' WINCH; echo begun; while :; do sleep 0.05; done"
    with running(client, QUIET) as job_id, shell(client, job_id, script) as exchange:
        exchange.until(b"begun\r\n")
        exchange.give(pb.ExecInJobRequest(terminal_size=pb.TerminalSize(rows=5, columns=6)))
        assert exchange.end().exit_code == 4
        assert exchange.out == b"begun\r\n5 6\r\n"


def test_keys_are_keys(client: Client) -> None:
    with running(client, QUIET) as job_id, shell(client, job_id, "exec sh -i") as exchange:
        exchange.give(stdin(b"PS1=; sh -c 'echo beg\"\"un; exec sleep 1000'\r"))
        exchange.until(b"begun\r\n")
        exchange.give(stdin(b"\x03"))
        exchange.give(stdin(b"echo aft''er; read x; echo $x | od -c | head -1; exit 9\rtypo\x7fe\r"))
        exchange.until(b"after\r\n")
        assert exchange.end().exit_code == 9
        assert b"t   y   p   e  \\n" in exchange.out


def test_a_command_that_wants_every_key_gets_it(client: Client) -> None:
    script = "stty raw -echo; echo begun; head -c 6 | od -An -tx1; stty sane"
    with running(client, QUIET) as job_id, shell(client, job_id, script) as exchange:
        exchange.until(b"begun\n")
        exchange.give(stdin(b"\x03\x04\r\x1a\x1b\x00"))
        assert exchange.end().exit_code == 0
        assert b" 03 04 0d 1a 1b 00" in exchange.out


def test_the_end_of_input_is_a_key(client: Client) -> None:
    with running(client, QUIET) as job_id:
        out, _, end = execute(client, job_id, "cat", given=(stdin(b"line\n"), STDIN_END), terminal=TERMINAL)
        assert (out, end.exit_code) == (b"line\r\nline\r\n", 0)


def test_ctrl_c_ends_a_command_by_its_signal(client: Client) -> None:
    with running(client, QUIET) as job_id, shell(client, job_id, "echo begun; exec sleep 1000") as exchange:
        exchange.until(b"begun\r\n")
        exchange.give(stdin(b"\x03"))
        assert exchange.end().signal == signal.SIGINT


LOOK = """
import fcntl, json, os, stat, termios
files = {name: os.readlink("/proc/self/fd/" + name) for name in sorted(os.listdir("/proc/self/fd"))
         if os.path.exists("/proc/self/fd/" + name)}
try:
    fcntl.ioctl(0, termios.TIOCSTI, b"x")
    pushed = "done"
except OSError as error:
    pushed = error.strerror
print(json.dumps({"files": files, "tty": os.stat("/dev/tty").st_rdev, "pushed": pushed,
      "terminals": sorted(os.listdir("/dev/pts")), "leader": os.getsid(0) == os.getpid(),
      "device": os.fstat(0).st_dev == os.stat("/dev/pts/ptmx").st_dev}))
"""


def test_b2_a_terminal_is_the_jobs_own_and_the_only_file(client: Client) -> None:
    with (
        running(client, QUIET) as first,
        running(client, QUIET) as second,
        shell(client, first, "echo begun; exec sleep 1000") as exchange,
    ):
        exchange.until(b"begun\r\n")
        out, _, end = execute(client, second, "python3", "-I", "-c", LOOK, terminal=TERMINAL)
        assert end.exit_code == 0, out
        seen = json.loads(out[out.index(b"{") :])
        assert seen["files"] == dict.fromkeys("012", "/dev/pts/0")
        assert seen["terminals"] == ["0", "ptmx"]  # not the other job's, nor the host's
        assert (seen["leader"], seen["device"]) == (True, True)
        exchange.give(pb.ExecInJobRequest(signal="TERM"))
        assert exchange.end().signal == signal.SIGTERM
        assert exchange.out == b"begun\r\n"  # what was pushed went to nobody else


def test_strict_jobs_have_terminals_too(client: Client) -> None:
    with running(client, QUIET, profile="strict") as job_id:
        out, _, _ = execute(client, job_id, "tty", terminal=TERMINAL)
    assert out == b"/dev/pts/0\r\n"


@pytest.mark.parametrize("script", ["echo begun; exec sleep 1000", "set -m; sleep 1000 & echo begun; cat"])
def test_nothing_of_a_terminal_is_left_when_its_caller_goes(client: Client, script: str) -> None:
    with running(client, QUIET) as job_id:
        before = processes(job_id)
        with shell(client, job_id, f"trap '' HUP; {script}") as exchange:
            exchange.until(b"begun\r\n")
        eventually(lambda: processes(job_id), lambda now: now == before)


def test_a_job_that_ends_ends_a_terminal(client: Client) -> None:
    with running(client, QUIET) as job_id, shell(client, job_id, "echo begun; cat") as exchange:
        exchange.until(b"begun\r\n")
        client.jobs.StopJob(pb.StopJobRequest(uuid=job_id, force=True), timeout=DEADLINE)
        assert exchange.end().signal == signal.SIGKILL


# -- the caller's side ---------------------------------------------------------------------------------


class Screen:
    """``rnx`` at a terminal of its own."""

    def __init__(self, *words: str) -> None:
        self.keyboard, self.terminal = pty.openpty()
        termios.tcsetwinsize(self.keyboard, (40, 100))
        self.before = termios.tcgetattr(self.terminal)
        self.shown = b""
        self.child = subprocess.Popen(
            ["setsid", "--ctty", "rnx", *words],
            stdin=self.terminal,
            stdout=self.terminal,
            stderr=self.terminal,
            env={**os.environ, "TERM": "vt100"},
        )

    def type(self, keys: bytes) -> None:
        os.write(self.keyboard, keys)

    def until(self, text: bytes) -> None:
        """Read until the screen shows the text."""
        until = time.monotonic() + DEADLINE
        while text not in self.shown:
            assert time.monotonic() < until, self.shown
            if select.select([self.keyboard], [], [], 0.1)[0]:
                self.shown += os.read(self.keyboard, 65536)

    def ended(self) -> int:
        """Return the exit status, of a program that has left the terminal as it was."""
        until = time.monotonic() + DEADLINE
        while self.child.poll() is None:
            assert time.monotonic() < until, self.shown
            if select.select([self.keyboard], [], [], 0.05)[0]:
                self.shown += os.read(self.keyboard, 65536)
        assert termios.tcgetattr(self.terminal) == self.before
        return int(self.child.returncode)


@contextmanager
def screen(*words: str) -> Iterator[Screen]:
    made = Screen(*words)
    try:
        yield made
    finally:
        made.child.kill()
        made.child.wait()
        os.close(made.keyboard)
        os.close(made.terminal)


def test_a_shell_in_a_job(client: Client) -> None:
    with running(client, QUIET) as job_id, screen("job", "exec", "-it", job_id, "--", "sh") as at:
        at.type(b"PS1=; stty size; echo kind $TERM\r")
        at.until(b"40 100\r\nkind vt100\r\n")
        termios.tcsetwinsize(at.keyboard, (20, 50))
        # The new size and the keys come by ways of their own.
        at.type(b"until [ \"$(stty size)\" = '20 50' ]; do :; done; echo re''sized\r")
        at.until(b"resized\r\n")
        at.type(b"sh -c 'echo go\"\"es; exec sleep 1000'\r")
        at.until(b"goes\r\n")
        at.type(b"\x03")
        at.until(b"^C")
        at.type(b"echo he''re; exit 6\r")
        at.until(b"here\r\n")
        assert at.ended() == 6


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
def test_a_client_that_is_ended_gives_its_terminal_back(client: Client, number: signal.Signals) -> None:
    with running(client, QUIET) as job_id:
        before = processes(job_id)
        with screen("exec", "-t", job_id, "--", "sh", "-c", "echo begun; exec sleep 1000") as at:
            at.until(b"begun\r\n")
            at.child.send_signal(number)
            assert at.ended() == (130 if number is signal.SIGINT else -number)
        eventually(lambda: processes(job_id), lambda now: now == before)


def test_a_lost_agent_gives_the_terminal_back(client: Client) -> None:
    with running(client, QUIET) as job_id:
        before = processes(job_id)
        with screen("exec", "-t", job_id, "--", "sh", "-c", "echo begun; exec sleep 1000") as at:
            at.until(b"begun\r\n")
            kill_agent()
            assert at.ended() == 125
            at.until(b"the command is lost")
        wait_for_agent(client)
        eventually(lambda: processes(job_id), lambda now: now == before)


def test_a_client_that_is_stopped_gives_its_terminal_back_for_so_long(client: Client) -> None:
    with running(client, QUIET) as job_id, screen("exec", "-t", job_id, "--", "sh") as at:
        at.type(b"PS1=; echo beg''un\r")
        at.until(b"begun\r\n")
        raw = termios.tcgetattr(at.terminal)
        assert raw != at.before
        at.child.send_signal(signal.SIGTSTP)
        eventually(lambda: termios.tcgetattr(at.terminal), lambda modes: modes == at.before)
        at.child.send_signal(signal.SIGCONT)
        eventually(lambda: termios.tcgetattr(at.terminal), lambda modes: modes == raw)
        at.type(b"exit 7\r")
        assert at.ended() == 7


@pytest.mark.parametrize("words", [["exec", "-t"], ["job", "exec", "--tty", "--interactive"]])
def test_a_terminal_is_refused_by_name_without_one(words: list[str]) -> None:
    done: Any = subprocess.run(
        ["rnx", *words, "7f3a", "sh"], check=False, capture_output=True, stdin=subprocess.DEVNULL
    )
    assert (done.returncode, b"--tty" in done.stderr) == (2, True)
