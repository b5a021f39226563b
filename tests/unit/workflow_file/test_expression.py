import itertools
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.workflow_file.expression import (
    FINISHED,
    STATUSES,
    All,
    Any,
    Condition,
    End,
    ExpressionError,
    Not,
    Test,
    evaluate,
    jobs_of,
    parse_expression,
    to_text,
)

COMPLETED, FAILED = STATUSES["COMPLETED"], STATUSES["FAILED"]
JOBS = ("a", "b", "c")


def conditions() -> st.SearchStrategy[Condition]:
    names = st.sampled_from((*JOBS, "a job", "NOT", 'quo"te\\d', "x.y-z"))
    tests = st.builds(Test, names, st.sets(st.sampled_from(End), min_size=1).map(frozenset))
    return st.recursive(
        tests,
        lambda inner: st.one_of(
            st.builds(Not, inner),
            st.lists(inner, min_size=2, max_size=4).map(lambda several: All(tuple(several))),
            st.lists(inner, min_size=2, max_size=4).map(lambda several: Any(tuple(several))),
        ),
        max_leaves=8,
    )


def reference(condition: Condition, ends: Mapping[str, End]) -> bool:
    """What Python's own operators say, once every job has ended."""
    match condition:
        case Test(job, wanted):
            return ends[job] in wanted
        case Not(inner):
            return not reference(inner, ends)
        case All(several):
            return all(reference(each, ends) for each in several)
        case Any(several):
            return any(reference(each, ends) for each in several)


@given(conditions())
def test_a_condition_survives_being_written_and_read(condition: Condition) -> None:
    assert parse_expression(to_text(condition)) == condition


@given(conditions(), st.data())
def test_once_all_jobs_have_ended_it_is_what_logic_says(condition: Condition, data: st.DataObject) -> None:
    ends = {name: data.draw(st.sampled_from(End)) for name in set(jobs_of(condition))}
    assert evaluate(condition, ends.get) is reference(condition, ends)


@given(conditions(), st.data())
def test_what_is_decided_early_stays_true_however_the_others_end(
    condition: Condition, data: st.DataObject
) -> None:
    names = sorted(set(jobs_of(condition)))
    ends = {name: data.draw(st.sampled_from(End)) for name in names}
    known = data.draw(st.sets(st.sampled_from(names)))
    early = evaluate(condition, {name: ends[name] for name in known}.get)
    assert early in {None, reference(condition, ends)}


def test_or_binds_weaker_than_and_and_not_binds_most() -> None:
    a, b, c = (Test(name, COMPLETED) for name in JOBS)
    text = "a=COMPLETED or not b=COMPLETED AND c=COMPLETED"
    assert parse_expression(text) == Any((a, All((Not(b), c))))
    assert parse_expression("(a=COMPLETED || b=COMPLETED) && !c=COMPLETED") == All((Any((a, b)), Not(c)))


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("a = completed", Test("a", COMPLETED)),
        ("a==FAILED", Test("a", FAILED)),
        ("a != FAILED", Not(Test("a", FAILED))),
        ("a IN (COMPLETED, FAILED)", Test("a", COMPLETED | FAILED)),
        ("a NOT IN (FAILED)", Not(Test("a", FAILED))),
        ("a NOT_IN (FAILED)", Not(Test("a", FAILED))),
        (f"'not'={FINISHED}", Test("not", frozenset(End))),
        ("((build-1.2=FAILED))", Test("build-1.2", FAILED)),
    ],
)
def test_each_form_of_a_test(text: str, condition: Condition) -> None:
    assert parse_expression(text) == condition


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("", 0, "expected the name of a job, not the end"),
        ("a", 1, "expected =, !=, IN or NOT IN, not the end"),
        ("a=", 2, "expected a status, not the end"),
        ("a=COMPLETE", 2, "did you mean COMPLETED?"),
        ("a=FAILED b=FAILED", 9, "expected AND, OR or the end, not 'b'"),
        ("(a=FAILED", 9, "expected AND, OR or ), not the end"),
        ("a IN FAILED", 5, "expected ( and statuses"),
        ("a IN (FAILED", 12, "expected , or )"),
        ("a=FAILED AND", 12, "expected the name of a job"),
        ("a=FAILED; rm", 8, "'; rm' is not understood"),
        ("NOT " * 60 + "a=FAILED", 200, "more than 50 parentheses"),
    ],
)
def test_what_is_no_condition_is_told_with_its_place(text: str, position: int, words: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_expression(text)
    assert words in str(caught.value)
    assert caught.value.position == position


def test_any_text_is_read_or_refused() -> None:
    signs = ["a", "=", "FAILED", "(", ")", "AND", "NOT", "IN", ",", '"', "\\"]
    for words in itertools.product(signs, repeat=4):
        try:
            parse_expression(" ".join(words))
        except ExpressionError:
            continue
