from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.workflow_file.graph import find_cycle, in_waves

NAMES = "abcdefg"
graphs = st.dictionaries(
    st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), max_size=4).map(tuple), max_size=len(NAMES)
)


def reachable(graph: dict[str, tuple[str, ...]], first: str) -> set[str]:
    """What first waits for, directly or not: by widening until nothing is added."""
    found: set[str] = set(graph[first])
    while True:
        more = {each for name in found for each in graph.get(name, ())} - found
        if not more:
            return found
        found |= more


@given(graphs)
def test_a_circle_is_found_if_there_is_one_and_is_one(graph: dict[str, tuple[str, ...]]) -> None:
    circle = find_cycle(graph)
    assert bool(circle) is any(name in reachable(graph, name) for name in graph)
    if circle:
        assert circle[0] == circle[-1]
        assert len(set(circle)) == len(circle) - 1
        assert all(after in graph[before] for before, after in pairwise(circle))


@given(graphs)
def test_a_wave_waits_for_the_ones_before_it_only(graph: dict[str, tuple[str, ...]]) -> None:
    known = {
        name: tuple(each for each in needed if each in graph and each < name)
        for name, needed in graph.items()
    }
    waves = in_waves(known)
    assert sorted(name for wave in waves for name in wave) == sorted(known)
    number = {name: at for at, wave in enumerate(waves) for name in wave}
    for name, needed in known.items():
        assert number[name] == max((number[each] + 1 for each in needed), default=0)


def test_a_long_chain_is_no_recursion() -> None:
    chain = {str(at): (str(at - 1),) if at else () for at in range(100_000)}
    assert find_cycle(chain) == []
    assert len(in_waves(chain)) == 100_000
