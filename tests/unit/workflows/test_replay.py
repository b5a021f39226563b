"""The agent dies at every point where it waits for a store or for systemd, in every small workflow.

A point is before or after a call had its effect; ``make soak`` has every one of them. Whatever the point,
the workflow comes to the end that it comes to undisturbed, and for each try of each job there was one unit.
"""

from itertools import count
from pathlib import Path

import pytest

from tests.sizes import size
from tests.unit.workflows.cases import CASES, Case
from tests.unit.workflows.replay import Result, replayed

pytestmark = pytest.mark.exhaustive

STEP = size(3, 1)
"""Every third point in a usual run, in each workflow other ones."""
EACH = pytest.mark.parametrize("case", CASES, ids=[case.name.replace(" ", "-") for case in CASES])


def expected(case: Case) -> Result:
    state, members = case.end()
    tries = {name: int(member.partition("/")[2]) for name, member in members.items()}
    starts = {name: number + (name in case.run_again) for name, number in tries.items() if number}
    return Result(state, members, starts)


@EACH
def test_undisturbed_it_comes_to_what_the_reference_says(tmp_path: Path, case: Case) -> None:
    assert replayed(tmp_path, case, [], ends_meanwhile=False)[0] == expected(case)


@pytest.mark.soak
@EACH
def test_an_agent_that_dies_anywhere_comes_to_the_same_end(tmp_path: Path, case: Case) -> None:
    wanted = expected(case)
    for at in count(CASES.index(case) % STEP, STEP):
        for variant in range(size(1, 2)):
            ends_meanwhile = bool((at // STEP + variant) % 2)
            home = tmp_path / f"{at}-{variant}"
            found, was_reached = replayed(home, case, [at], ends_meanwhile=ends_meanwhile)
            assert found == wanted, f"death at {at}, ends meanwhile: {ends_meanwhile}"
        if not was_reached:
            break
    assert at > 10


@pytest.mark.soak
def test_an_agent_that_dies_while_it_recovers_comes_to_the_same_end(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == "diamond")
    for first in range(size(40, 0), size(41, 80), 8):
        for at in count(0, STEP):
            home = tmp_path / f"{first}-{at}"
            found, was_reached = replayed(home, case, [first, at], ends_meanwhile=True)
            assert found == expected(case), f"deaths at {first} and {at}"
            if not was_reached:
                break
