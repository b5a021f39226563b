"""``make test``: every check and test, one after the other, with one summary at the end.

Every part runs, whatever the ones before said; what needs the package is left out, and
counted as failed, when the package cannot be built.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import IO

from tests.runs import outcome
from tests.runs.outcome import Outcome, PartResult
from tests.testbed import CHECKOUT, Machine, Release, TestbedError, boot, host, unwind_on_sigterm
from tests.testbed.install import TESTS, build_packages, install_package, push_tests

# Where the parts that run on the host and those that run in machines find their tests.
HOST_TESTS = ("tests/unit", "tests/contract", "tests/testbed")
MACHINE_TESTS = ("tests/unit", "tests/contract", "tests/integration", "tests/e2e")
LOGS = CHECKOUT / "dist" / "logs"


def main() -> int:
    """Run everything; the exit status is 0 if nothing failed."""
    unwind_on_sigterm()
    results: list[PartResult] = []

    def part(name: str, run: Callable[[], Outcome]) -> Outcome:
        print(f"\n──── {name} ────", flush=True)
        started = time.monotonic()
        try:
            result = run()
        except TestbedError as error:
            print(f"{name}: {error}", flush=True)
            result = Outcome(failed=1)
        results.append(PartResult(name, result, timedelta(seconds=time.monotonic() - started)))
        return result

    part("lint", lambda: _make("lint"))
    part("unit tests", lambda: _host_pytest("not systemd and not testbed", *HOST_TESTS))
    part("testbed", lambda: _host_pytest("testbed", "tests/testbed"))
    if part("package", _build).failed == 0:
        part("published clients", lambda: _host_pytest("compat", "tests/compat"))
        for release in Release:
            part(f"Debian {release.value}", lambda release=release: _in_machine(release))  # type: ignore[misc]
        part("virtual machine", lambda: _host_pytest("vm", "tests/vm"))
    _print_summary(results)
    return 1 if any(result.outcome.failed for result in results) else 0


def _make(target: str) -> Outcome:
    return outcome.of_command(
        subprocess.run(["make", "--silent", target], cwd=CHECKOUT, check=False).returncode
    )


def _build() -> Outcome:
    for package in build_packages():
        print(package.name)
    return Outcome(passed=1)


def _host_pytest(marker: str, *folders: str) -> Outcome:
    """Run tests with the tools' interpreter, in the checkout."""
    tools = Path(host.call([str(CHECKOUT / "tests/setup/host-tools")], timeout=900).strip())
    command = [str(tools / "python"), "-m", "pytest", "-m", marker, *_existing(folders)]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        return _follow(process)


def _in_machine(release: Release) -> Outcome:
    """Install the package as a user would, and run the tests beside it.

    All of them but the host's: the unit tests too, as Debian's libraries are others than the host's.
    """
    with boot(release) as machine:
        install_package(machine)
        push_tests(machine)
        # Native tracebacks: Debian 12's Python 3.11.2 cannot always parse sources for pytest's own
        # (SystemError, "AST constructor recursion depth mismatch"), which ends the whole run.
        command = ["python3", "-m", "pytest", "-p", "no:cacheprovider", "--tb=native"]
        with machine.popen(
            *command,
            *("-m", "not vm and not compat and not testbed"),
            *_existing(MACHINE_TESTS),
            cwd=TESTS,
            stderr=subprocess.STDOUT,
        ) as process:
            result = _follow(process)
        if result.failed:
            _save_journal(machine)
    return result


def _follow(process: subprocess.Popen[bytes]) -> Outcome:
    """Pass pytest's output on, and read its last line."""
    assert process.stdout is not None
    try:
        summary = _pass_on(process.stdout)
        return outcome.of_pytest(summary, process.wait())
    finally:
        # Told to end, and not killed, so that it can clear away what it started.
        process.terminate()


def _pass_on(stream: IO[bytes]) -> str | None:
    summary = None
    for line in stream:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
        text = line.decode("utf-8", errors="replace")
        if outcome.is_summary(text):
            summary = text
    return summary


def _save_journal(machine: Machine) -> None:
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{machine.release.value}.log"
    log.write_text(machine.run("journalctl", "--no-pager", "--output=short-precise").stdout, encoding="utf-8")
    print(f"the machine's journal is in {log}")


def _existing(folders: Sequence[str]) -> list[str]:
    return [folder for folder in folders if (CHECKOUT / folder).is_dir()]


def _print_summary(results: Sequence[PartResult]) -> None:
    print("\n──── summary ────")
    for result in results:
        print(f"{result.name:20} {result.duration.total_seconds():6.0f} s   {result.outcome}")
    # Alone on its line and last: what reads test logs looks for it.
    print(sum((result.outcome for result in results), Outcome()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
