"""hooks.on_failure: a real hook unit, started by systemd or by the agent, once for each job that fails."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.agent import Client, command, eventually
from tests.e2e.host import configured, journal, running, unit_of

pytestmark = pytest.mark.systemd

UNIT = Path("/etc/systemd/system/joblet-test-hook@.service")
TOLD = Path("/run/joblet-test-hook")
HOOK = f"""
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo "%i $$MONITOR_UNIT $$MONITOR_SERVICE_RESULT $$MONITOR_EXIT_STATUS" >> {TOLD}'
"""


@pytest.fixture
def hooked(client: Client) -> Iterator[Client]:
    with _hook():
        yield client


@contextmanager
def _hook() -> Iterator[None]:
    UNIT.write_text(HOOK, encoding="ascii")
    command("systemctl", "daemon-reload")
    try:
        with configured("hooks:\n  on_failure: joblet-test-hook@.service\n"):
            yield
    finally:
        UNIT.unlink()
        TOLD.unlink(missing_ok=True)
        command("systemctl", "daemon-reload")


def _told(job_id: str) -> list[str]:
    lines = TOLD.read_text(encoding="ascii").splitlines() if TOLD.exists() else []
    return [line.removeprefix(job_id).strip() for line in lines if line.startswith(job_id)]


def _end(client: Client, script: str) -> str:
    job_id = client.run("sh", "-c", script)
    client.ended(job_id)
    return job_id


def test_a_hook_is_started_once_for_each_failure_and_knows_the_job(hooked: Client) -> None:
    exited = _end(hooked, "exit 7")
    killed = _end(hooked, "kill -9 $$")
    missing = hooked.run("no-such-program")
    no_directory = hooked.run("true", work_dir="/no/such")
    statuses = {exited: "7", killed: "KILL", missing: "127", no_directory: "200"}
    told = eventually(lambda: {job: _told(job) for job in statuses}, lambda told: all(told.values()))
    for job_id, status in statuses.items():
        (line,) = told[job_id]
        # The agent may have let the unit go before the hook is set up: then systemd's result is "success".
        assert line.split()[::2] == [unit_of(job_id), status]


@pytest.mark.parametrize("number", [1, 2, 13, 15])
def test_signals_that_systemd_takes_for_success_start_it_too(hooked: Client, number: int) -> None:
    job_id = _end(hooked, f"kill -{number} $$")
    assert hooked.status(job_id).status == "FAILED"
    name = signal.Signals(number).name.removeprefix("SIG")
    assert eventually(lambda: _told(job_id), bool) == [f"{unit_of(job_id)} success {name}"]
    assert command("systemctl", "is-failed", unit_of(job_id), check=False).stdout != "failed\n"


def test_nothing_is_started_for_other_ends(hooked: Client) -> None:
    fine = _end(hooked, "true")
    with running(hooked, "echo ready; exec sleep 1000") as stopped:
        command("rnx", "stop", stopped)
    last = _end(hooked, "exit 1")
    eventually(lambda: _told(last), bool)
    assert _told(fine) == _told(stopped) == []


def test_a_hook_that_is_not_there_is_told_at_the_start_and_harms_no_job(client: Client) -> None:
    with configured("hooks:\n  on_failure: no-such-hook@.service\n"):
        job_id = _end(client, "exit 3")
        assert client.status(job_id).exit_code == 3
        killed = _end(client, "kill -15 $$")
        assert client.status(killed).reason == "signal"
    messages = [entry["MESSAGE"] for entry in journal("-t", "joblet-agent", "--since=-1min")]
    assert any("systemd has no usable unit no-such-hook@joblet-check.service" in text for text in messages)
