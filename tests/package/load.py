"""A host at work: jobs that count, serve, ask each other and are watched, and starts that are due."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.testbed.machine import Machine

# Counts until it is told to end, fast enough that a gap of a moment would miss a number.
_COUNT = "n=0; while [ ! -e stop ]; do n=$((n+1)); echo $n; sleep 0.05; done; exit 7"
_FOLLOWED = "while :; do n=$((n+1)); echo $n; sleep 0.05; done"
# Asks another job by its name, over and over; says how often, and each failure.
_ASK = """
import time, urllib.request
asked = 0
while True:
    try:
        urllib.request.urlopen("http://server/", timeout=60).read()
        asked += 1
        if asked % 20 == 0:
            print("asked", asked, flush=True)
    except OSError as error:
        print("failed", error, flush=True)
    time.sleep(0.05)
"""

# Each of the two jobs that wait does so until somebody has ended it; one of them under the version before.
_WORKFLOW = """\
defaults: {command: sh, network: none, args: [-c, "until [ -e stop ]; do sleep 0.05; done"]}
jobs:
  long: {}
  short: {}
  behind-short: {args: [-c, "true"], requires: short}
  last: {args: [-c, "true"], requires: [long, behind-short]}
"""


@dataclass
class Load:
    """Everything is started by start(), and must stand each change of the package."""

    machine: Machine
    jobs: dict[str, str] = field(default_factory=dict)
    pids: dict[str, int] = field(default_factory=dict)
    watchers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    workflow: str = ""

    def rnx(self, *words: str) -> str:
        """What rnx says."""
        return self.machine.run("rnx", *words).stdout.strip()

    def status(self, job: str) -> dict[str, Any]:
        """What is known of a job."""
        return dict(json.loads(self.rnx("status", job, "--json")))

    def start(self) -> None:
        """Make networks and volumes, start jobs and those who watch them."""
        self.rnx("network", "create", "web", "--cidr", "10.77.0.0/24")
        self.rnx("volume", "create", "data", "--size", "16MB", "--type", "filesystem")
        self.rnx("volume", "create", "memory", "--size", "16MB", "--type", "memory")
        self.rnx("volume", "create", "plain", "--size", "16MB")
        volumes = ("--volume=data", "--volume=memory", "--volume=plain")
        self._run("server", "--network=web", "--publish=8080:80", "python3", "-m", "http.server", "80")
        self._run("asker", "--network=web", "python3", "-c", _ASK)
        self._run("followed", *volumes, "sh", "-c", _FOLLOWED)
        self.jobs["tick"] = self.rnx("run", "-d", "--name=tick", "--schedule=*:*:0/2", "true")
        # In it, whatever is written there, is not gone either.
        keep = "for each in /volumes/*; do echo kept >$each/file; done"
        self.rnx("exec", self.jobs["followed"], "--", "sh", "-c", keep)
        self._watch("followed", "rnx", "log", self.jobs["followed"])
        self._watch("attached", "rnx", "run", "--attach", "--name=attached", "sh", "-c", _COUNT)
        self._until("[ -s /root/attached ]")
        listed = json.loads(self.rnx("list", "--json"))
        (self.jobs["attached"],) = [each["id"] for each in listed if each.get("name") == "attached"]
        for name in ("server", "asker", "followed", "attached"):
            self.pids[name] = self.status(self.jobs[name])["mainPid"]

    def start_workflow(self) -> None:
        """Run a workflow, which a version before this one knows the jobs of, and nothing else."""
        self.machine.run("sh", "-c", "cat >/root/workflow.yml", stdin=_WORKFLOW.encode())
        said = self.rnx("workflow", "run", "/root/workflow.yml")
        (self.workflow,) = (line.split()[-1] for line in said.splitlines() if "created with UUID:" in line)
        self._until_member("long", "RUNNING")
        self._until_member("short", "RUNNING")
        self.pids["long"] = self.status(self.jobs["long"])["mainPid"]

    def end_short(self) -> None:
        """Let a job of the workflow end, whether the agent knows workflows or not."""
        self._tell_to_end("short")
        self.rnx("log", self.jobs["short"])

    def check_workflow(self) -> None:
        """It has gone on, and goes on to its end."""
        self._until_member("behind-short", "COMPLETED")
        self._tell_to_end("long")
        del self.pids["long"]
        self._until_member("last", "COMPLETED")
        found = self._workflow_status()
        assert (found["status"], found["completed_jobs"]) == ("COMPLETED", 4)
        names = [each.get("name") for each in json.loads(self.rnx("list", "--json"))]
        assert [names.count(each) for each in ("long", "short", "behind-short", "last")] == [1] * 4

    def check(self) -> None:
        """Nobody has noticed anything, and everything goes on."""
        for name, pid in self.pids.items():
            status = self.status(self.jobs[name])
            assert (status["status"], status["mainPid"]) == ("RUNNING", pid), (name, status)
        self._must_grow("/root/followed")
        self._must_grow("/root/attached")
        asker = f"/var/lib/joblet/jobs/{self.jobs['asker']}/output.log"
        self._must_grow(asker)
        assert "failed" not in self.machine.run("cat", asker).stdout
        self.machine.run("python3", "-c", "import urllib.request as u; u.urlopen('http://10.77.0.1:8080/')")
        seen = self.rnx("exec", self.jobs["followed"], "--", "sh", "-c", "cat /volumes/*/file")
        assert seen.split() == ["kept"] * 3
        (schedule,) = json.loads(self.rnx("schedule", "list", "--json"))
        assert (schedule["uuid"], schedule["status"]) == (self.jobs["tick"], "ACTIVE")
        self._no_start_twice()

    def finish(self) -> None:
        """End it: those who watched have seen every byte once, and the status."""
        self._tell_to_end("attached")
        assert self.watchers["attached"].wait(60) == 7
        self.rnx("stop", self.jobs["followed"])
        self.watchers["followed"].wait(60)
        for name in ("attached", "followed"):
            seen = self.machine.run("cat", f"/root/{name}").stdout
            assert seen == self.rnx("log", self.jobs[name]) + "\n"
            numbers = [int(line) for line in seen.split()]
            assert numbers == list(range(1, len(numbers) + 1))
        self._no_start_twice()

    def close(self) -> None:
        """End those who watch."""
        for watcher in self.watchers.values():
            if watcher.poll() is None:
                os.killpg(watcher.pid, signal.SIGKILL)  # nsenter alone would leave rnx behind
            watcher.wait()

    def _tell_to_end(self, name: str) -> None:
        """Not by rnx exec: the job that sees the file takes the command along that has made it.

        And the version before does not find the processes of a workflow's jobs.
        """
        self.machine.run("touch", f"/var/lib/joblet/jobs/{self.jobs[name]}/work/stop")

    def _run(self, name: str, *words: str) -> None:
        self.jobs[name] = self.rnx("run", "-d", f"--name={name}", *words)

    def _watch(self, name: str, *words: str) -> None:
        # Of an earlier load there may be such a file, which would be taken for this one's.
        self.machine.run("rm", "-f", f"/root/{name}")
        command = ("sh", "-c", f'exec "$@" >/root/{name}', "sh", *words)
        self.watchers[name] = self.machine.popen(*command, stdout=None, stderr=None)

    def _workflow_status(self) -> dict[str, Any]:
        return dict(json.loads(self.rnx("workflow", "status", self.workflow, "--json")))

    def _until_member(self, name: str, state: str) -> None:
        deadline = time.monotonic() + 60
        while True:
            (job,) = (each for each in self._workflow_status()["jobs"] if each["name"] == name)
            if job["status"] == state:
                self.jobs[name] = job["id"]
                return
            assert time.monotonic() < deadline, job
            time.sleep(0.2)

    def _must_grow(self, path: str) -> None:
        size = self.machine.run("stat", "-c", "%s", path).stdout.strip()
        self._until(f"[ $(stat -c %s {path}) -gt {size} ]")

    def _until(self, condition: str) -> None:
        self.machine.run("timeout", "60", "sh", "-c", f"until {condition}; do sleep 0.1; done")

    def _no_start_twice(self) -> None:
        jobs = [each for each in json.loads(self.rnx("list", "--json")) if each.get("name") == "tick"]
        starts = [each["scheduled_time"] for each in jobs]
        assert starts
        assert len(set(starts)) == len(starts)


@contextmanager
def at_work(machine: Machine) -> Iterator[Load]:
    """Put the host to work for a block."""
    load = Load(machine)
    try:
        load.start()
        yield load
    finally:
        load.close()
