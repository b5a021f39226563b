"""The package's own tests (debian/tests), by autopkgtest(1) in a machine that has the package installed."""

from __future__ import annotations

import re
import subprocess

from tests.runs import failures
from tests.runs.outcome import Outcome
from tests.testbed import Machine
from tests.testbed.install import push_package_tests

_RESULT = re.compile(r"^(\S+) +(PASS|FAIL|SKIP|FLAKY)\b", re.MULTILINE)
_SUMMARY = "@@@@ summary"


def run_package_tests(machine: Machine) -> Outcome:
    """Run them as Debian does, and count them.

    The machine is thrown away, so its isolation is ignored: the null runner cannot know of it.
    """
    source = push_package_tests(machine)
    command = ["autopkgtest", "--no-built-binaries", "--ignore-restrictions=isolation-machine"]
    with machine.popen(
        *command, source, "--", "null", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            output = process.communicate()[0].decode("utf-8", errors="replace")
        finally:
            process.terminate()
    print(output, flush=True)
    outcome = of_autopkgtest(output, process.returncode)
    if outcome.failed:
        summary = " ".join(output.rpartition(_SUMMARY)[2].split())
        failures.tell(f"debian/tests: exit status {process.returncode}, {summary}")
    return outcome


def of_autopkgtest(output: str, status: int) -> Outcome:
    """Read the summary at the end. What was skipped has not been tested, and counts as failed."""
    results = [word for _, word in _RESULT.findall(output.rpartition(_SUMMARY)[2])]
    failed = sum(word != "PASS" for word in results)
    if not failed and (status != 0 or not results):
        failed = 1
    return Outcome(passed=results.count("PASS"), failed=failed)
