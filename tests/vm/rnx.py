"""The command line client inside a virtual machine, as a user calls it."""

import json
from typing import Any

from tests.testbed.guest import Guest


class Rnx:
    """Calls rnx in a guest."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def run(self, *argv: str) -> str:
        """Start a job and return its id."""
        return self._guest.run("rnx", "run", "--detach", *argv).stdout.strip()

    def attach(self, *argv: str) -> tuple[int, str]:
        """Run a job to its end; return rnx's exit status and what the job wrote."""
        done = self._guest.run("rnx", "run", "--attach", *argv, check=False)
        return done.returncode, done.stdout

    def log(self, job_id: str) -> str:
        """The job's output; waits for its end."""
        return self._guest.run("rnx", "log", job_id).stdout

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs, newest first."""
        return list(json.loads(self._guest.run("rnx", "list", "--json").stdout))

    def status(self, job_id: str) -> dict[str, Any]:
        """What is known about the job."""
        return dict(json.loads(self._guest.run("rnx", "status", job_id, "--json").stdout))
