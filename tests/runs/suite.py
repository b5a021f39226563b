"""``make test``: every check and test, with one summary at the end.

Every part runs, whatever the ones before said; what needs the package is left out, and
counted as failed, when the package cannot be built.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from tests.runs import outcome
from tests.runs.outcome import Outcome, PartResult
from tests.testbed import CHECKOUT, Release, TestbedError, host, unwind_on_sigterm
from tests.testbed.install import build_packages

# Where the parts that run on the host find their tests.
HOST_TESTS = ("tests/unit", "tests/contract", "tests/testbed")


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
        results += _in_machines()
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


def _in_machines() -> list[PartResult]:
    """Run the tests in a machine of each release, all at once: they wait more than they work."""
    started = time.monotonic()
    with ExitStack() as stack:
        runs = [(release, stack.enter_context(_release_run(release))) for release in Release]
        return [_release_result(release, started, *run) for release, run in runs]


@contextmanager
def _release_run(release: Release) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    with (
        TemporaryFile() as output,
        subprocess.Popen(
            [sys.executable, "-m", "tests.runs.release", release.value],
            cwd=CHECKOUT,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            yield process, output
        finally:
            process.terminate()


def _release_result(
    release: Release, started: float, process: subprocess.Popen[bytes], output: IO[bytes]
) -> PartResult:
    """Wait for the end, then show what it said: the lines of two at once would be nobody's."""
    status = process.wait()
    name = f"Debian {release.value}"
    print(f"\n──── {name} ────", flush=True)
    output.seek(0)
    result = outcome.of_pytest(_pass_on(output), status)
    return PartResult(name, result, timedelta(seconds=time.monotonic() - started))


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
