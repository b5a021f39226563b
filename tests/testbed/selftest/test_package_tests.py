"""What comes out of the package's own tests is read from autopkgtest's summary."""

import pytest

from tests.runs.outcome import Outcome
from tests.runs.smoke import of_autopkgtest

BEFORE = (
    "network              FAIL non-zero exit status 1\nautopkgtest [01:57:50]: @@@@@@@@@@@@@@@@@@@@ summary\n"
)


@pytest.mark.parametrize(
    ("summary", "status", "outcome"),
    [
        ("package              PASS\nnetwork              PASS\n", 0, Outcome(passed=2)),
        ("package              PASS\nnetwork              FAIL non-zero exit status 1\n", 4, Outcome(1, 1)),
        ("package              PASS\nnetwork              SKIP no isolation\n", 2, Outcome(1, 1)),
        ("*                    SKIP no tests in this package\n", 8, Outcome(failed=1)),
        ("package              PASS\n", 16, Outcome(1, 1)),
        ("", 0, Outcome(failed=1)),
    ],
)
def test_only_what_has_passed_is_taken_for_that(summary: str, status: int, outcome: Outcome) -> None:
    assert of_autopkgtest(BEFORE + summary, status) == outcome
