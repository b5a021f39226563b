"""``make test``: every check and test, with one summary at the end; ``--all`` has every test on each release.

Every part runs, whatever the ones before said; what needs the package is left out, and
counted as failed, when the package cannot be built.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from tests.runs import failures, outcome
from tests.runs.outcome import Outcome, PartResult
from tests.shares import OPTION
from tests.testbed import CHECKOUT, DEBIAN, Release, TestbedError, host, unwind_on_sigterm
from tests.testbed.install import build_packages

# Where the parts that run on the host find their tests.
HOST_TESTS = ("tests/unit", "tests/contract", "tests/testbed")


def main(argv: Sequence[str]) -> int:
    """Run everything; the exit status is 0 if nothing failed."""
    shares = 1 if "--all" in argv else len(DEBIAN)
    unwind_on_sigterm()
    results: list[PartResult] = []

    def part(name: str, run: Callable[[], Outcome]) -> Outcome:
        print(f"\n──── {name} ────", flush=True)
        started = time.monotonic()
        try:
            result = run()
        except TestbedError as error:
            print(f"{name}: {error}", flush=True)
            result = Outcome(failed=1, failures=(str(error).partition("\n")[0],))
        results.append(PartResult(name, result, timedelta(seconds=time.monotonic() - started)))
        return result

    part("lint", lambda: _make("lint"))
    part(
        "unit tests",
        lambda: _host_pytest("not systemd and not testbed", *HOST_TESTS, workers="auto", by="worksteal"),
    )
    part("testbed", lambda: _host_pytest("testbed", "tests/testbed"))
    if part("build", _build).failed == 0:
        part("package", lambda: _package_tests(shares))
        # Two at once, as a machine has two processors at least: more take no less time, and what a test waits
        # for comes late then.
        commands = {f"Debian {release.value}": _release_command(release, shares) for release in DEBIAN}
        results += _together(commands)
        others = _pytest_command("compat or fleet", "tests/compat", "tests/fleet")
        machine = _pytest_command("vm", "tests/vm")
        results += _together({"virtual machine": machine, "clients and fleet": others})
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


def _package_tests(shares: int) -> Outcome:
    return _host_pytest("package", "tests/package", workers="auto", by="loadfile", share=f"0/{shares}")


def _host_pytest(
    marker: str, *folders: str, workers: str = "0", by: str = "load", share: str = "0/1"
) -> Outcome:
    """Run tests with the tools' interpreter, in the checkout, with ``workers`` that share them out ``by``."""
    options = (f"--numprocesses={workers}", f"--dist={by}", f"{OPTION}={share}")
    command = [*_pytest_command(marker, *folders), *options]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        return _follow(process)


def _pytest_command(marker: str, *folders: str) -> list[str]:
    tools = Path(host.call([str(CHECKOUT / "tests/setup/host-tools")], timeout=900).strip())
    pytest = [str(tools / "python"), "-m", "pytest", "--durations=15", "-m", marker]
    return [*pytest, *(folder for folder in folders if (CHECKOUT / folder).is_dir())]


def _release_command(release: Release, shares: int) -> list[str]:
    share = f"{DEBIAN.index(release) % shares}/{shares}"
    return [sys.executable, "-m", "tests.runs.release", release.value, share]


def _together(commands: Mapping[str, list[str]]) -> list[PartResult]:
    """Run parts that are in machines all at once."""
    started = time.monotonic()
    with ExitStack() as stack:
        runs = [(name, stack.enter_context(_running(command))) for name, command in commands.items()]
        return [_result(name, started, *run) for name, run in runs]


@contextmanager
def _running(command: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    with (
        TemporaryFile() as output,
        subprocess.Popen(command, cwd=CHECKOUT, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            yield process, output
        finally:
            process.terminate()


def _result(name: str, started: float, process: subprocess.Popen[bytes], output: IO[bytes]) -> PartResult:
    """Wait for the end, then show what it said: the lines of several at once would be nobody's."""
    status = process.wait()
    print(f"\n──── {name} ────", flush=True)
    output.seek(0)
    result = _outcome(output, lambda: status)
    return PartResult(name, result, timedelta(seconds=time.monotonic() - started))


def _follow(process: subprocess.Popen[bytes]) -> Outcome:
    """Show what pytest says while it says it."""
    assert process.stdout is not None
    try:
        return _outcome(process.stdout, process.wait)
    finally:
        # Told to end, and not killed, so that it can clear away what it started.
        process.terminate()


def _outcome(stream: IO[bytes], status: Callable[[], int]) -> Outcome:
    """Pass pytest's output on, and read what it tells at its end."""
    summary, told = None, []
    for line in stream:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
        text = line.decode("utf-8", errors="replace")
        if outcome.is_summary(text):
            summary = text
        elif failure := failures.read(text):
            told.append(failure)
    return outcome.of_pytest(summary, status(), told)


def _print_summary(results: Sequence[PartResult]) -> None:
    failed = [line for result in results for line in failures.shown(result.name, result.outcome.failures)]
    if failed:
        print("\n──── what failed ────", *failed, sep="\n")
    print("\n──── summary ────")
    for result in results:
        print(f"{result.name:20} {result.duration.total_seconds():6.0f} s   {result.outcome}")
    # Alone on its line and last: what reads test logs looks for it.
    print(sum((result.outcome for result in results), Outcome()), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
