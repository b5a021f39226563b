import itertools
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.workflow_file.graph import find_cycle, in_waves
from joblet_agent.workflow_file.variables import between, expanded, references, replaced

NAMES = ("A", "B", "C", "D")
parts = st.sampled_from(["x", " ", "$", "$$", "{", "}", *(f"${{{name}}}" for name in (*NAMES, "UNKNOWN"))])
texts = st.lists(parts, max_size=5).map("".join)


def test_references_are_replaced_and_unknown_ones_stay() -> None:
    assert replaced("a ${X} ${Y} $X ${X", {"X": "1"}.get) == "a 1 ${Y} $X ${X"


def test_a_doubled_dollar_is_a_dollar() -> None:
    assert replaced("$${X} ${X}", {"X": "1"}.get) == "${X} 1"
    assert list(references("$${X} ${jobs.load.rows} ${Y}")) == ["jobs.load.rows", "Y"]


def test_a_value_is_not_looked_at_again() -> None:
    assert replaced("${X}", {"X": "${Y}", "Y": "no"}.get) == "${Y}"


def all_of(variables: dict[str, str], most: int = 32768, total: int = 10**9) -> Mapping[str, str]:
    order = itertools.chain.from_iterable(in_waves(between(variables)))
    return expanded(variables, order, most=most, total=total)


@given(st.dictionaries(st.sampled_from(NAMES), texts))
def test_variables_refer_to_one_another_in_any_order(variables: dict[str, str]) -> None:
    if find_cycle(between(variables)):
        return
    found = all_of(variables)
    assert list(found) == list(variables)
    for name, text in variables.items():
        assert found[name] == replaced(text, found.get)


def test_what_grows_without_end_is_refused_by_name() -> None:
    variables = {"V0": "x" * 10} | {f"V{n}": f"${{V{n - 1}}}" * 10 for n in range(1, 30)}
    with pytest.raises(ValueError, match="V4"):
        all_of(variables)
    with pytest.raises(ValueError, match="V3"):
        all_of(variables, total=1111)


def test_a_long_chain_of_variables_is_no_recursion() -> None:
    variables = {"V0": "x"} | {f"V{n}": f"${{V{n - 1}}}" for n in range(1, 20_000)}
    assert set(all_of(variables, 10).values()) == {"x"}
