"""``make fuzz``: the fuzzer of the network listener, in a container of its own."""

from __future__ import annotations

import sys

from tests.testbed import Release, TestbedError, boot, unwind_on_sigterm
from tests.testbed.install import TESTS, install_package, push_tests


def main(argv: list[str]) -> int:
    """Run ``python3 -m tests.attacks.fuzz`` in a machine; arguments are passed on to it."""
    unwind_on_sigterm()
    try:
        with boot(Release.TRIXIE) as machine:
            install_package(machine)
            push_tests(machine)
            command = ["python3", "-m", "tests.attacks.fuzz", *argv]
            with machine.popen(*command, cwd=TESTS, stdout=None, stderr=None) as process:
                return process.wait()
    except TestbedError as error:
        print(f"fuzz: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
