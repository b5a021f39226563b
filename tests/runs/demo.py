"""``make demo``: an agent under a real systemd, one job, its output."""

from __future__ import annotations

import shlex
import sys

from tests.testbed import Machine, Release, boot, unwind_on_sigterm
from tests.testbed.errors import TestbedError
from tests.testbed.install import build_packages, install_package
from tests.testbed.releases import host_release


def main() -> int:
    """Show what a user sees, in a machine that is thrown away."""
    unwind_on_sigterm()
    release = host_release() or Release.TRIXIE
    try:
        print("Building the packages …", flush=True)
        packages = build_packages()
        print(f"Booting Debian {release.value} with its own systemd …", flush=True)
        with boot(release) as machine:
            print(f"Installing {', '.join(package.name for package in packages)} …\n", flush=True)
            install_package(machine, packages)
            started = _show(machine, "rnx", "run", "echo", "Hello, Joblet!")
            output = _show(machine, "rnx", "log", _job_id(started))
            if "Hello, Joblet!" not in output:
                raise TestbedError("cannot find the job's output in its log")
        print("The machine is gone; nothing is left on this host.")
    except TestbedError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


def _show(machine: Machine, *argv: str) -> str:
    """Run a command as if somebody typed it, and return its output."""
    print(f"# {shlex.join(argv)}")
    output = machine.run(*argv).stdout
    print(output, flush=True)
    return output


def _job_id(output: str) -> str:
    for line in output.splitlines():
        name, _, value = line.partition(":")
        if name == "ID":
            return value.strip()
    raise TestbedError(f"cannot find the line with the job's ID in:\n{output}")


if __name__ == "__main__":
    sys.exit(main())
