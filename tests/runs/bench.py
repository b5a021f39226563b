"""``make bench``: the benchmarks, in a container at native speed."""

from __future__ import annotations

import shutil
import sys

from tests.testbed import CHECKOUT, Release, TestbedError, boot, unwind_on_sigterm
from tests.testbed.install import TESTS, install_package, push_tests

RESULTS = "/root/bench"


def main(argv: list[str]) -> int:
    """Run ``python3 -m tests.bench --output DIR`` in a machine and fetch what it wrote.

    Arguments are passed on to it.
    """
    unwind_on_sigterm()
    target = CHECKOUT / "dist" / "bench"
    try:
        with boot(Release.TRIXIE) as machine:
            install_package(machine)
            push_tests(machine)
            machine.run("mkdir", "-p", RESULTS)
            command = ["python3", "-m", "tests.bench", "--output", RESULTS, *argv]
            with machine.popen(*command, cwd=TESTS, stdout=None, stderr=None) as process:
                status = process.wait()
            shutil.rmtree(target, ignore_errors=True)
            machine.pull(RESULTS, target)
    except TestbedError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(f"results are in {target}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
