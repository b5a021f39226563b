"""Ansible as a platform team runs it: over SSH, at all hosts at once, with the files of ``docs/examples``."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fleet.repository import SOURCE
from tests.testbed import CHECKOUT, Machine

EXAMPLES = CHECKOUT / "docs/examples/ansible"
_PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
TIME_LIMIT = 300  # seconds for one playbook

# A login without a network: each connection is a sshd of its own in the machine, over its input and output.
_SSHD = "mkdir -p /run/sshd && exec /usr/sbin/sshd -i -e 2>/dev/null"
_RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """What a playbook did."""

    status: int
    output: str

    @property
    def hosts(self) -> set[str]:
        """Names of the hosts that it came to."""
        return {name for name, *_ in _RECAP.findall(self.output)}

    @property
    def changed(self) -> dict[str, int]:
        """How many tasks changed something, by host."""
        return {name: int(changed) for name, _, changed, *_ in _RECAP.findall(self.output)}

    @property
    def failed(self) -> set[str]:
        """Names of the hosts where a task failed, or that were not reached."""
        return {name for name, _, _, away, failed in _RECAP.findall(self.output) if int(away) + int(failed)}


class Control:
    """The machine that Ansible runs on: this one, with what is needed for it in ``folder``."""

    def __init__(self, folder: Path, machines: Sequence[Machine], with_repository: Sequence[Machine]) -> None:
        """``with_repository``: those that have packages from a repository of their own."""
        self._folder = folder
        self._machines = machines
        self._with_repository = {machine.name for machine in with_repository}
        self._make_login()

    def play(self, playbook: str, *options: str, packages: Sequence[Path] = (), **variables: Any) -> Outcome:
        """Run a playbook of the examples: with these packages on the hosts, and these variables."""
        self._write_inventory(packages, variables)
        command = [str(_PLAYBOOK), f"--inventory={self._inventory}", *options, str(EXAMPLES / playbook)]
        with (self._folder / "output").open("w+b") as output:
            done = subprocess.run(
                command,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                check=False,
                timeout=TIME_LIMIT,
            )
            output.seek(0)
            text = output.read().decode()
        print(text)  # shown by pytest when the test fails
        return Outcome(done.returncode, text)

    def _make_login(self) -> None:
        key = self._folder / "id"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        known, config = [], []
        for machine in self._machines:
            machine.push(key.with_suffix(".pub"), "/root/.ssh/authorized_keys")
            host_key = machine.run("cat", "/etc/ssh/ssh_host_ed25519_key.pub").stdout
            known.append(f"{machine.name} {host_key}")
            proxy = " ".join(machine.command(["sh", "-c", f"'{_SSHD}'"]))
            config.append(f"Host {machine.name}\n    ProxyCommand {proxy}\n")
        (self._folder / "known").write_text("".join(known), encoding="utf-8")
        (self._folder / "ssh_config").write_text(
            "".join(config) + f"Host *\n    User root\n    IdentityFile {key}\n    IdentitiesOnly yes\n"
            f"    UserKnownHostsFile {self._folder}/known\n    StrictHostKeyChecking yes\n",
            encoding="utf-8",
        )

    @property
    def _inventory(self) -> Path:
        return self._folder / "inventory.json"

    def _write_inventory(self, packages: Sequence[Path], variables: Mapping[str, Any]) -> None:
        version = {package.name.split("_")[1] for package in packages}
        files = {"joblet_agent_packages": packages}
        repository = {"joblet_agent_repository": SOURCE, "joblet_agent_version": "".join(version)}
        hosts = {
            machine.name: repository if machine.name in self._with_repository else files
            for machine in self._machines
        }
        common = {"ansible_python_interpreter": "/usr/bin/python3", **variables}
        content = json.dumps({"joblet": {"hosts": hosts, "vars": common}}, default=str)
        self._inventory.write_text(content, encoding="utf-8")

    def _environment(self) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        return ours | {
            "ANSIBLE_CONFIG": str(EXAMPLES / "ansible.cfg"),
            "ANSIBLE_HOME": str(self._folder / "home"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_SSH_ARGS": f"-F {self._folder}/ssh_config -o ControlMaster=auto -o ControlPersist=300s",
            "LC_ALL": "C.UTF-8",
        }
