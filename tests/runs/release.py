"""``python3 -m tests.runs.release RELEASE [I/N]``: install the package as a user would, run all tests.

The package's own, then all but the host's: the unit tests too, as Debian's libraries are others. With
``I/N``, part I of N of those that are shared (tests/shares.py).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.runs import failures
from tests.runs.smoke import run_package_tests
from tests.shares import OPTION
from tests.testbed import CHECKOUT, Machine, Release, TestbedError, boot, mirror, unwind_on_sigterm
from tests.testbed.install import TESTS, install_package, push_tests

FOLDERS = ("tests/unit", "tests/contract", "tests/integration", "tests/e2e")
LOGS = CHECKOUT / "dist" / "logs"


def main(argv: Sequence[str]) -> int:
    """Run the release's tests; the exit status is pytest's, or 1 if only the package's own have failed."""
    unwind_on_sigterm()
    release = Release(argv[0])
    try:
        with boot(release) as machine:
            install_package(machine)
            is_broken = run_package_tests(machine).failed > 0  # first: nobody has touched anything yet
            push_tests(machine)
            with mirror.serving(machine):
                status = _pytest(machine, *argv[1:]) or int(is_broken)
            if status:
                save_journal(machine)
            return status
    except TestbedError as error:
        print(f"{release.value}: {error}", flush=True)
        failures.tell(str(error))
        return 1


def _pytest(machine: Machine, share: str = "0/1") -> int:
    # Native tracebacks: Debian 12's Python 3.11.2 cannot always parse sources for pytest's own
    # (SystemError, "AST constructor recursion depth mismatch"), which ends the whole run.
    command = ["python3", "-m", "pytest", "-p", "no:cacheprovider", "--tb=native", "--durations=40"]
    folders = [folder for folder in FOLDERS if (CHECKOUT / folder).is_dir()]
    marks = ("-m", "not vm and not compat and not testbed and not exhaustive")
    words = (*command, *marks, f"{OPTION}={share}", *folders)
    with machine.popen(*words, cwd=TESTS, stdout=None, stderr=subprocess.STDOUT) as process:
        try:
            return process.wait()
        finally:
            # Told to end, and not killed, so that it can clear away what it started.
            process.terminate()


def save_journal(machine: Machine) -> None:
    """Keep what the machine's journal says; machines leave nothing behind."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log: Path = LOGS / f"{machine.release.value}.log"
    log.write_text(machine.run("journalctl", "--no-pager", "--output=short-precise").stdout, encoding="utf-8")
    print(f"the machine's journal is in {log}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
