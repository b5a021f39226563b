"""A host whose administrator uses apt and debconf."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.testbed import Machine

AGENT, CERTIFICATES = "joblet-agent.service", "joblet-agent-certificates.service"
DROP_IN = "/etc/joblet/agent.d/50-debconf.yml"
_FOLDER = "/root/dist"
_NOBODY = {"DEBIAN_FRONTEND": "noninteractive"}
_POLICY = "/usr/sbin/policy-rc.d"
_TYPES = {"listen": "select"}

Done = subprocess.CompletedProcess[str]


class Host:
    """Runs commands as root; what fails raises CommandFailed, unless it says ``check``."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._packages: list[str] = []

    def bring(self, packages: Sequence[Path]) -> None:
        """Put packages where ``install`` finds them."""
        self._packages = [f"{_FOLDER}/{package.name}" for package in packages]
        for package, target in zip(packages, self._packages, strict=True):
            self.machine.push(package, target)

    def run(self, *words: str, check: bool = True) -> Done:
        """Run a command, with nobody who answers questions."""
        return self.machine.run(*words, check=check, env=_NOBODY, timeout=600)

    def sh(self, script: str, *, check: bool = True) -> str:
        """Run a shell script and return its output."""
        return self.run("sh", "-euc", script, check=check).stdout

    def preseed(self, **answers: str) -> None:
        """Answer questions before they are asked."""
        lines = [
            f"joblet-agent joblet-agent/{name} {_TYPES.get(name, 'string')} {answer}\n"
            for name, answer in answers.items()
        ]
        self.machine.run("debconf-set-selections", stdin="".join(lines).encode())

    def install(self, *, check: bool = True) -> Done:
        """Install both packages, once more if they are there."""
        again = ["--reinstall"] if self.status() == "installed" else []
        return self.run("apt-get", "install", "--yes", "--quiet", *again, *self._packages, check=check)

    def answer(self, typed: str, *command: str) -> str:
        """Run a command on a terminal where all questions are asked and so answered; return the terminal."""
        done = self.machine.run(
            *("script", "--quiet", "--return", "--flush", "--command", " ".join(command), "/dev/null"),
            stdin=typed.encode(),
            env={"DEBIAN_FRONTEND": "teletype", "DEBIAN_PRIORITY": "low"},
        )
        return done.stdout

    def reconfigure(self, *, check: bool = True) -> Done:
        """Take the answers that there are now."""
        return self.run("dpkg-reconfigure", "joblet-agent", check=check)

    def let_services_start(self, may_start: bool) -> None:
        """Say whether packages may start services, as long as there is no other word."""
        if may_start:
            self.run("rm", "-f", _POLICY)
        else:
            forbid = b"#!/bin/sh\nexit 101\n"
            self.machine.run("install", "-m", "755", "/dev/stdin", _POLICY, stdin=forbid)

    def purge(self) -> None:
        """Take the agent away, and answers that nobody has asked for yet."""
        self.run("dpkg", "--purge", "joblet-agent")
        self.run("sh", "-c", "echo PURGE | debconf-communicate joblet-agent")

    def is_there(self, path: str) -> bool:
        """Say whether there is such a file."""
        return self.run("test", "-e", path, check=False).returncode == 0

    def shown(self, unit: str, what: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={what}", unit).stdout.strip()

    def configured(self, key: str) -> tuple[Any, str]:
        """Return the value of a key of the configuration, and where it comes from."""
        found = json.loads(self.run("joblet-agent", "config", "show", "--json").stdout)["keys"][key]
        return found["value"], found["origin"]

    def status(self) -> str:
        """Return what dpkg knows of the agent's package."""
        done = self.run("dpkg-query", "-W", "-f", "${db:Status-Status}", "joblet-agent", check=False)
        return done.stdout if done.returncode == 0 else "not-installed"
