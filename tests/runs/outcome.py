"""What came out of a part of the test run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

_COUNT = re.compile(r"(\d+) (passed|failed|skipped|errors?|xfailed|xpassed)\b")
_SUMMARY = re.compile(r"^(=+ )?\d+ (passed|failed|skipped|errors?|xfailed|xpassed|deselected)\b.* in [\d.]+s")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Numbers of tests, and what is told of each that failed; a part that counts nothing is one test."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    failures: tuple[str, ...] = ()

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(
            self.passed + other.passed,
            self.failed + other.failed,
            self.skipped + other.skipped,
            self.failures + other.failures,
        )

    def __str__(self) -> str:
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed{skipped}"


@dataclass(frozen=True, slots=True)
class PartResult:
    """One part's line in the summary."""

    name: str
    outcome: Outcome
    duration: timedelta


def is_summary(line: str) -> bool:
    """Whether it is the line that pytest ends with."""
    return _SUMMARY.match(line) is not None


def of_pytest(summary: str | None, status: int, failures: Sequence[str] = ()) -> Outcome:
    """Read pytest's last line; ``failures`` are what it told of single tests.

    A run that found no test, or that ended badly without counting a failure, has failed.
    """
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for number, word in _COUNT.findall(summary or ""):
        match word:
            case "passed" | "xfailed" | "xpassed":  # a strict one that passes is a failure of its own
                counts["passed"] += int(number)
            case "skipped":
                counts["skipped"] += int(number)
            case _:
                counts["failed"] += int(number)
    if status != 0 and not counts["failed"]:
        counts["failed"] = 1
        failures = (*failures, f"no test is counted as failed, but the exit status is {status}")
    return Outcome(**counts, failures=tuple(failures))


def of_command(status: int) -> Outcome:
    """A command that only has an exit status."""
    return Outcome(passed=1) if status == 0 else Outcome(failed=1, failures=(f"the exit status is {status}",))
