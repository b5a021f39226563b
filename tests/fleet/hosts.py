"""The hosts of a fleet, and jobs on them that would notice an interruption."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from tests.fleet.ansible import Control
from tests.testbed import DEBIAN, Machine
from tests.testbed.install import build_packages

T = TypeVar("T")

PORT = 50052
SETTINGS = {
    "joblet_agent_answers": {"joblet-agent/port": {"type": "string", "value": str(PORT)}},
    "joblet_agent_drop_ins": {"60-fleet.yml": {"jobs": {"max_concurrent": 200}}},
    "joblet_agent_members": ["games"],
    "joblet_agent_check_accepted": [
        f"CGROUP_CONTROLLER_{name}" for name in ("CPU", "CPUSET", "IO", "MEMORY", "PIDS")
    ],
}
"""What the role is told that the fleet shall be like."""

AGENT_PROCESS = ("systemctl", "show", "--property=MainPID", "joblet-agent")

_COUNT = "n=0; while :; do echo $n; n=$((n+1)); sleep 0.2; done"
_PATIENCE = 60  # seconds for a follower to see the end of its job


class Fleet:
    """Machines, and the one that manages them."""

    def __init__(self, machines: Sequence[Machine], control: Control) -> None:
        self.machines = machines
        self.control = control

    @property
    def pairs(self) -> list[list[Machine]]:
        """Return the hosts, one of each release at a time."""
        releases = [
            [machine for machine in self.machines if machine.release is release] for release in DEBIAN
        ]
        return [list(pair) for pair in zip(*releases, strict=True)]

    @property
    def names(self) -> set[str]:
        """Return the names of all hosts."""
        return names(self.machines)

    def each(self, work: Callable[[Machine], T]) -> dict[str, T]:
        """Return what the function returns for each host; it is called for all at once."""
        with ThreadPoolExecutor(len(self.machines)) as pool:
            return dict(
                zip((machine.name for machine in self.machines), pool.map(work, self.machines), strict=True)
            )

    def said(self, *command: str) -> dict[str, str]:
        """Return what the command prints on each host."""
        return self.each(lambda machine: machine.run(*command).stdout.strip())

    def installed(self) -> dict[str, set[str]]:
        """Return state and version of the packages on each host, as ``ii 0.2.0``: one entry if they agree."""
        show = ("dpkg-query", "--show", "--showformat=${db:Status-Abbrev}${Version}\n", "joblet-agent", "rnx")
        return {name: set(text.splitlines()) for name, text in self.said(*show).items()}


def names(machines: Sequence[Machine]) -> set[str]:
    """Return the names of these hosts."""
    return {machine.name for machine in machines}


def version() -> str:
    """Return the version that the checkout is of."""
    return build_packages()[0].name.split("_")[1]


def limit(machines: Sequence[Machine]) -> str:
    """Return the option with which a playbook leaves the others alone."""
    return f"--limit={','.join(machine.name for machine in machines)}"


class Count:
    """A job that counts, and somebody who follows its log into a file."""

    def __init__(self, machine: Machine, folder: Path, *rnx: str) -> None:
        """``rnx``: how the client is called, if not as ever."""
        rnx = rnx or ("rnx",)
        self._machine = machine
        self._followed = folder / machine.name
        self._job = machine.run(*rnx, "run", "--detach", "sh", "-c", _COUNT).stdout.strip()
        self._began = self._process()
        with self._followed.open("wb") as output:
            self._follower = machine.popen(
                *rnx, "log", self._job, stdout=output.fileno(), stderr=subprocess.STDOUT
            )

    def faults(self) -> list[str]:
        """Stop the job, and return what it or who follows it has noticed until then."""
        after = self._process()
        has_followed = self._follower.poll() is None
        self._machine.run("rnx", "stop", self._job)
        self._follower.wait(_PATIENCE)
        lines = self._followed.read_text(encoding="utf-8").splitlines()
        checks = {
            f"its process is another one: {after}": after == self._began,
            "who follows it had ended": has_followed,
            f"who follows it fails: {lines[-3:]}": self._follower.returncode == 0,
            f"its log has a gap: {lines}": lines == [str(number) for number in range(len(lines))],
        }
        return [fault for fault, is_well in checks.items() if not is_well]

    def close(self) -> None:
        """End the follower, whatever has happened."""
        if self._follower.poll() is None:
            self._follower.terminate()
        self._follower.wait(_PATIENCE)

    def _process(self) -> dict[str, Any]:
        status = json.loads(self._machine.run("rnx", "status", self._job, "--json").stdout)
        show = ("systemctl", "show", "--property=MainPID,InvocationID", status["unit"])
        return {"status": status["status"], "unit": self._machine.run(*show).stdout}
