from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.errors import InvalidRequest
from joblet_agent.jobs.log_grep import MATCHED_BYTES, LineFilter


def search(pattern: str, data: bytes, *, piece: int) -> list[tuple[int, bytes]]:
    """Feed the data in pieces; return runs as (offset, bytes), neighbours joined."""
    wanted = LineFilter(pattern)
    runs = [run for at in range(0, len(data), piece) for run in wanted.feed(at, data[at : at + piece])]
    joined: list[tuple[int, bytes]] = []
    for run in [*runs, *wanted.finish()]:
        if joined and joined[-1][0] + len(joined[-1][1]) == run.offset:
            joined[-1] = (joined[-1][0], joined[-1][1] + bytes(run.lines))
        else:
            joined.append((run.offset, bytes(run.lines)))
    return joined


@given(
    lines=st.lists(st.binary(max_size=6).map(lambda line: line.replace(b"\n", b"a"))), piece=st.integers(1, 9)
)
@pytest.mark.parametrize("pattern", ["a", "[a]"])
def test_pieces_do_not_matter(pattern: str, lines: list[bytes], piece: int) -> None:
    data = b"\n".join(lines)
    matching = b"".join(
        line for line in (part + b"\n" for part in data.split(b"\n")) if b"a" in line
    ).removesuffix(b"\n")
    found = b"".join(part for _, part in search(pattern, data, piece=piece)).removesuffix(b"\n")
    assert found == matching
    for offset, part in search(pattern, data, piece=piece):
        assert data[offset : offset + len(part)] == part


@pytest.mark.parametrize("end", [b"\n", b""])
@pytest.mark.parametrize(("pattern", "is_match"), [("^x", True), ("late", False)])
def test_a_long_line_is_decided_by_its_beginning(pattern: str, is_match: bool, end: bytes) -> None:
    line = b"x" * (MATCHED_BYTES * 2) + b"late" + end
    found = search(pattern, b"first\n" + line, piece=100_000)
    assert found == ([(6, line)] if is_match else [])


def test_the_line_after_a_long_one_is_searched() -> None:
    data = b"x" * (MATCHED_BYTES + 5) + b"\nyes\n"
    assert search("yes", data, piece=65536) == [(len(data) - 4, b"yes\n")]


def test_binary_lines_are_matched_as_bytes() -> None:
    assert search(r"\xff\x00", b"a\xff\x00b\nc\n", piece=3) == [(0, b"a\xff\x00b\n")]


def test_a_pattern_that_takes_for_ever_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        search("^(a|aa)+$", b"a" * 200 + b"!\n", piece=1000)
    assert caught.value.reason == "PATTERN_TOO_SLOW"
    assert str(caught.value) == "cannot search the log: the pattern takes too long"


@pytest.mark.parametrize(
    "pattern",
    [
        "(",
        "[",
        "a{2,1}",
        "(?P<a>",
        "*",
        "\\",
        "(?<=a*",
        "(" * 1024,
        "(?:" * 16 + "a?" + "){2}" * 16,
        "(?x)a",
        "(?#)a",
    ],
)
def test_patterns_that_are_none(pattern: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        LineFilter(pattern)
    assert caught.value.reason == "PATTERN_INVALID"


@given(st.text(max_size=40, alphabet="ab()[]{}*+?^$|\\.,1-:<>=!P&~"))
def test_any_text_is_a_pattern_or_is_refused(pattern: str) -> None:
    with suppress(InvalidRequest):
        LineFilter(pattern)
