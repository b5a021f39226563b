import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.workflows.output_lines import MOST_OUTPUT, read_lines

PAIRS = st.dictionaries(
    st.from_regex(r"[A-Za-z0-9_]+", fullmatch=True),
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\n")),
)


@given(PAIRS)
def test_what_is_written_is_read(pairs: dict[str, str]) -> None:
    content = "\n".join(f"{key}={value}" for key, value in pairs.items()).encode()
    if len(content) <= MOST_OUTPUT:
        assert read_lines(content) == (pairs, [])


@given(st.binary())
def test_nothing_that_a_job_writes_is_too_much(content: bytes) -> None:
    outputs, problems = read_lines(content)
    assert all("\0" not in value for value in outputs.values())
    assert all("\n" not in problem for problem in problems)


def test_the_last_value_counts_and_wrong_lines_are_told() -> None:
    outputs, problems = read_lines(b"A=1\n\nA=2=3\nbad key=x\nno\nZ=\0\nB=\n")
    assert outputs == {"A": "2=3", "B": ""}
    assert problems == [
        ".joblet-output, line 4: expected KEY=VALUE, with letters, digits and _ in KEY",
        ".joblet-output, line 5: expected KEY=VALUE, with letters, digits and _ in KEY",
        ".joblet-output, line 6: the value has a NUL byte",
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"A=\xff\n", ".joblet-output is not UTF-8; nothing of it is taken"),
        (b"A" * (MOST_OUTPUT + 1), ".joblet-output has more than 64 KiB; nothing of it is taken"),
    ],
)
def test_what_is_no_text_is_left(content: bytes, problem: str) -> None:
    assert read_lines(content) == ({}, [problem])
