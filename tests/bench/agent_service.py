"""The installed agent under its own unit, with a state and a socket that belong to the benchmark.

A drop-in changes the command line alone, so everything else (hardening, watchdog, restart) is as
users have it, and what the agent of this host remembers is not touched.
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UNIT = "joblet-agent.service"
STATE = Path("/var/lib/joblet-bench")
RUN = Path("/run/joblet-bench")
ADDRESS = f"unix:{RUN}/agent.sock"

_CONFIG = RUN / "agent.yml"
_DROP_IN = Path(f"/run/systemd/system/{UNIT}.d/90-bench.conf")
_DROP_IN_TEXT = f"""\
[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=
ExecStart=/usr/bin/joblet-agent --config {_CONFIG}
ReadWritePaths={STATE} {RUN}
"""
_JOB_UNITS = "joblet-job-*.service"


class AgentService:
    """Starts and stops the agent; nothing of it is asynchronous, every call returns when it is done."""

    def start(self, keys: str = "") -> None:
        """Start it, ready to serve; ``keys`` is YAML added to the configuration."""
        socket = f"socket:\n  path: {RUN}/agent.sock\n"
        _CONFIG.write_text(f"state_dir: {STATE}\nrun_dir: {RUN}\n{socket}{keys}", encoding="utf-8")
        _systemctl("start", UNIT)

    def stop(self) -> None:
        """Stop it; jobs go on."""
        _systemctl("stop", UNIT)

    def restart(self) -> None:
        """Do what an administrator or an upgrade does."""
        _systemctl("restart", UNIT)

    def kill(self) -> None:
        """Kill it; systemd starts it again."""
        _systemctl("kill", "--signal=KILL", "--kill-whom=main", UNIT)

    @property
    def pid(self) -> int:
        """Process id of the running agent."""
        return int(_systemctl("show", "--property=MainPID", "--value", UNIT))

    @property
    def watchdog_seconds(self) -> float:
        """WatchdogSec= of the unit."""
        path = "/org/freedesktop/systemd1/unit/joblet_2dagent_2eservice"
        words = ["get-property", "org.freedesktop.systemd1", path, "org.freedesktop.systemd1.Service"]
        told = subprocess.run(
            ["busctl", *words, "WatchdogUSec"], check=True, stdout=subprocess.PIPE, text=True
        )
        return int(told.stdout.split()[1]) / 1e6

    def clear_jobs(self) -> None:
        """End every job of this host and forget all that the benchmark's agent knows."""
        self.stop()
        _systemctl("kill", "--signal=KILL", _JOB_UNITS)
        _systemctl("stop", _JOB_UNITS)
        _systemctl("reset-failed", _JOB_UNITS)
        for directory in (STATE, RUN):
            _empty(directory)


@contextmanager
def borrowed_service() -> Iterator[AgentService]:
    """Give the service to the benchmark, and afterwards back as it was. Refuses while jobs run."""
    running = _systemctl("list-units", "--no-legend", "--plain", _JOB_UNITS)
    if running.strip():
        raise SystemExit(f"bench: jobs are running on this host, and would be ended:\n{running}")
    was_active = subprocess.run(["systemctl", "is-active", "--quiet", UNIT], check=False).returncode == 0
    service = AgentService()
    service.stop()
    _DROP_IN.parent.mkdir(parents=True, exist_ok=True)
    _DROP_IN.write_text(_DROP_IN_TEXT, encoding="utf-8")
    for directory in (STATE, RUN):
        directory.mkdir(mode=0o755, exist_ok=True)
    _systemctl("daemon-reload")
    try:
        yield service
    finally:
        service.clear_jobs()
        shutil.rmtree(_DROP_IN.parent)
        for directory in (STATE, RUN):
            shutil.rmtree(directory)
        _systemctl("daemon-reload")
        if was_active:
            _systemctl("start", UNIT)


def _systemctl(*words: str) -> str:
    done = subprocess.run(["systemctl", *words], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def _empty(directory: Path) -> None:
    for entry in directory.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
