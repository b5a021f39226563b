"""What tests use and change on the machine around the agent, and put back."""

import json
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import grpc

from tests.e2e.agent import Client, command, eventually, running_units, wait_for_agent

AGENT = "joblet-agent.service"
CONFIG = Path("/etc/joblet/agent.yml")
STATE = Path("/var/lib/joblet")
DATABASE = STATE / "state.db"

_PARALLEL = 8

T = TypeVar("T")
R = TypeVar("R")


def rnx(*words: str) -> subprocess.CompletedProcess[bytes]:
    """Run the client and return its exit status and its bytes."""
    return subprocess.run(
        ["rnx", *words], check=False, capture_output=True, stdin=subprocess.DEVNULL, timeout=120
    )


def said(status: int, *words: str) -> str:
    """Run the client, which has to exit so; return what it printed, or its errors if it failed."""
    done = rnx(*words)
    assert done.returncode == status, (done.stdout, done.stderr)
    return (done.stdout if status == 0 else done.stderr).decode()


def rnx_json(*words: str) -> Any:
    """Run the client with ``--json`` and return what it printed."""
    done = rnx("--json", *words)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def refusal(call: Callable[[], object]) -> tuple[str, str]:
    """Return the status code and the reason with which a call is refused."""
    try:
        answer = call()
    except grpc.RpcError as error:
        told: Any = error.trailing_metadata()
        return error.code().name, dict(told).get("joblet-reason", "")
    raise AssertionError(f"not refused: {answer}")


@contextmanager
def disk_image(size: int) -> Iterator[Path]:
    """Make an image of so many bytes with an ext4 in it, whose user unmounts it before it goes."""
    image = Path("/var/tmp/joblet-test.img")
    with image.open("wb") as file:
        file.truncate(size)
    try:
        command("mkfs.ext4", "-q", "-m", "0", str(image))
        yield image
    finally:
        image.unlink()


def in_parallel(work: Callable[[T], R], values: list[T]) -> list[R]:
    """Return the results in the order of the values; raise what any of them raised."""
    with ThreadPoolExecutor(_PARALLEL) as pool:
        return list(pool.map(work, values))


@contextmanager
def configured(text: str) -> Iterator[None]:
    """Let the agent run with this configuration within the block. Ends what runs of it."""
    before = CONFIG.read_bytes() if CONFIG.exists() else None
    CONFIG.write_text(text, encoding="utf-8")
    command("systemctl", "restart", AGENT)
    _wait_for_agent()
    try:
        yield
    finally:
        if units := running_units():
            command("systemctl", "stop", *units, check=False)  # some may have ended by themselves
        command("systemctl", "stop", AGENT)
        CONFIG.unlink() if before is None else CONFIG.write_bytes(before)
        command("systemctl", "start", AGENT)
        _wait_for_agent()


def _wait_for_agent() -> None:
    """Return when calls are answered, those of older clients too: gRPC lets them share one connection."""
    client = Client()
    wait_for_agent(client)
    client.close()


@contextmanager
def running(client: Client, script: str, **fields: object) -> Iterator[str]:
    """Run a shell script that prints the line ``ready`` when it is, and end it after the block."""
    job_id = client.run("sh", "-c", script, **fields)
    try:
        eventually(lambda: (client.log(job_id), client.status(job_id)), lambda now: b"ready\n" in now[0])
        yield job_id
    finally:
        command("systemctl", "kill", "--signal=KILL", unit_of(job_id), check=False)
        client.ended(job_id)


@contextmanager
def reloading() -> Iterator[None]:
    """Let systemd read its units again, and again, within the block."""
    over = threading.Event()

    def reload() -> None:
        while not over.is_set():
            command("systemctl", "daemon-reload")

    thread = threading.Thread(target=reload)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def unit_of(job_id: str) -> str:
    return f"joblet-job-{job_id}.service"


_WITHOUT_ORDER = ("After", "Before", "Requires", "IPAddressAllow", "IPAddressDeny")


def shown(unit: str) -> dict[str, str]:
    """Return all properties that systemd has of a unit; words whose order means nothing are sorted."""
    lines = command("systemctl", "show", "--all", unit).stdout.splitlines()
    properties = dict(line.split("=", 1) for line in lines if "=" in line)
    return properties | {name: " ".join(sorted(properties.get(name, "").split())) for name in _WITHOUT_ORDER}


def journal(*filters: str) -> list[dict[str, Any]]:
    """Return records of the journal, oldest first, everything written so far among them."""
    command("journalctl", "--sync")
    lines = command("journalctl", "--no-pager", "--all", "--output=json", *filters).stdout.splitlines()
    return [json.loads(line) for line in lines]


def changed_record(job_id: str, **fields: object) -> None:
    """Change what the store knows of a job; the agent must be stopped."""
    with closing(sqlite3.connect(DATABASE)) as database, database:
        (record,) = database.execute("SELECT record FROM jobs WHERE id = ?", (job_id,)).fetchone()
        changed = json.dumps(json.loads(record) | fields).encode()
        database.execute("UPDATE jobs SET record = ? WHERE id = ?", (changed, job_id))
