"""What tests let jobs find out from inside, and what the host sees of the same job."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.agent import Client, command, eventually
from tests.e2e.host import unit_of

DENIED_CALLS = """
import ctypes, errno, json, os
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *words):
    ctypes.set_errno(0)
    done = libc.syscall(ctypes.c_long(number), *words)
    return "done" if done >= 0 else errno.errorcode[ctypes.get_errno()]
"""
"""Beginning of a probe that makes system calls; ``call`` returns the name of the error, or ``done``."""


def probe(client: Client, script: str, *args: str, **fields: Any) -> Any:
    """Run Python in a job and return what it printed as JSON."""
    job_id = client.run("python3", "-I", "-c", script, *args, **fields)
    status, log = client.ended(job_id), client.log(job_id)
    assert status.status == "COMPLETED", (status.message, log)
    return json.loads(log)


@contextmanager
def running(client: Client, *words: str, **fields: Any) -> Iterator[str]:
    """Run a command that prints ``ready`` when it is, and end it after the block."""
    job_id = client.run(*words, **fields)
    try:
        eventually(lambda: client.log(job_id), lambda log: b"ready\n" in log)
        yield job_id
    finally:
        command("systemctl", "kill", "--signal=KILL", unit_of(job_id), check=False)
        client.ended(job_id)


def processes(job_id: str) -> list[int]:
    """Return the host's process ids of a running job, the launcher's first."""
    group = command("systemctl", "show", "-P", "ControlGroup", unit_of(job_id)).stdout.strip()
    listing = Path(f"/sys/fs/cgroup{group}/cgroup.procs").read_text(encoding="ascii")
    return sorted(map(int, listing.split()))


def processes_of_user(uid: int) -> list[int]:
    """Return the host's process ids of a user's living processes.

    A process that is dead but not yet reaped has no command line any more.
    """
    pids = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _owner(pid) == uid]
    return [pid for pid in pids if _command_line(pid)]


def _owner(pid: int) -> int | None:
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except FileNotFoundError:
        return None


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
