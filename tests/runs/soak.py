"""``make soak``: the attacks whose size ``make test`` cannot afford, at their full size, on Debian 13."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from tests.runs.release import save_journal
from tests.sizes import FULL
from tests.testbed import Release, TestbedError, boot, unwind_on_sigterm
from tests.testbed.install import TESTS, install_package, push_tests


def main(argv: Sequence[str]) -> int:
    """Run the tests that are marked ``soak``; arguments are passed on to pytest, which tells the status."""
    unwind_on_sigterm()
    command = ["python3", "-m", "pytest", "-p", "no:cacheprovider", "-v", "-s", "--durations=0", "-m", "soak"]
    try:
        with boot(Release.TRIXIE) as machine:
            install_package(machine)
            push_tests(machine)
            words = (*command, *argv, "tests/unit", "tests/e2e")
            with machine.popen(
                *words, cwd=TESTS, env={FULL: "1"}, stdout=None, stderr=subprocess.STDOUT
            ) as process:
                status = process.wait()
            if status:
                save_journal(machine)
            return status
    except TestbedError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
