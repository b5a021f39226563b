import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.cpu_list import MOST_CPUS, format_cpu_list, parse_cpu_list
from joblet_agent.units import parse_timeout


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0", (0,)),
        ("0-3", (0, 1, 2, 3)),
        ("4,0,2", (0, 2, 4)),
        ("0-1,3,5-6", (0, 1, 3, 5, 6)),
        ("7-7,7", (7,)),
    ],
)
def test_ranges_lists_and_mixtures(text: str, cpus: tuple[int, ...]) -> None:
    assert parse_cpu_list(text) == cpus


@given(st.sets(st.integers(0, MOST_CPUS - 1), min_size=1, max_size=50))
def test_what_is_written_is_read_back(cpus: set[int]) -> None:
    assert set(parse_cpu_list(format_cpu_list(cpus))) == cpus


@given(st.text() | st.text("0123456789-, "))
def test_c8_any_text_is_cpus_or_an_error(text: str) -> None:
    try:
        cpus = parse_cpu_list(text)
    except ValueError as error:
        assert "expected" in str(error)  # noqa: PT017 - most texts are wrong, some are not
    else:
        assert cpus == tuple(sorted(set(cpus)))
        assert 0 <= cpus[0] <= cpus[-1] < MOST_CPUS


@given(st.text() | st.text("0123456789dhms"))
def test_c8_any_text_is_a_time_limit_or_an_error(text: str) -> None:
    try:
        timeout = parse_timeout(text)
    except ValueError as error:
        assert "expected" in str(error)  # noqa: PT017
    else:
        assert timeout.total_seconds() > 0
