"""One line for each test that failed, in pytest's output and again at the end of ``make test``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest  # make test itself runs without it

_MARK = "what failed: "
_LENGTH = 400


def write(reporter: pytest.TerminalReporter) -> None:
    """Let pytest end its report with them, each with where the test was and the first line of the error."""
    for report in (*reporter.getreports("failed"), *reporter.getreports("error")):
        reporter.write_line(_MARK + _line(report))


def tell(failure: str) -> None:
    """Tell of something that failed and is no test of pytest."""
    print(_MARK + _first_line(failure), flush=True)


def read(line: str) -> str | None:
    """Return what a line of output tells of a test that failed, None if it tells nothing of that."""
    return line.removeprefix(_MARK).strip() if line.startswith(_MARK) else None


def shown(part: str, failures: Sequence[str], most: int = 20) -> list[str]:
    """Return the lines for a part; not all of them if next to nothing works."""
    lines = [f"{part}: {failure}" for failure in failures[:most]]
    left = len(failures) - len(lines)
    return [*lines, f"{part}: and {left} more"] if left else lines


def _line(report: pytest.TestReport | pytest.CollectReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    error = crash.message if crash else report.longreprtext.strip().rpartition("\n")[2]
    # Where in the test's own file: most errors come from a helper.
    file = report.nodeid.partition("::")[0]
    lines = re.findall(re.escape(file) + r'(?:", line |:)(\d+)', report.longreprtext)
    when = "" if report.when == "call" else f" ({report.when})"
    where = f", line {' > '.join(lines[-3:])}" if lines else ""
    return f"{report.nodeid}{when}{where}: {_first_line(error)}"


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:_LENGTH]
