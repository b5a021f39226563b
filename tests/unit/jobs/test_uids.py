import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.errors import LimitReached
from joblet_agent.jobs.uids import UidPool

FIRST = 100_000


@given(st.integers(1, 6), st.lists(st.one_of(st.none(), st.integers(FIRST - 1, FIRST + 6)), max_size=60))
def test_a_uid_belongs_to_one_job_at_a_time(count: int, steps: list[int | None]) -> None:
    """None takes a uid, a number gives one back."""
    pool, taken = UidPool(FIRST, count), set[int]()
    for step in steps:
        if step is not None:
            pool.give_back(step)
            taken.discard(step)
        elif len(taken) < count:
            uid = pool.take()
            assert uid in range(FIRST, FIRST + count)
            assert uid not in taken
            taken.add(uid)
        else:
            with pytest.raises(LimitReached):
                pool.take()


def test_what_was_given_back_comes_last() -> None:
    pool = UidPool(FIRST, 3)
    uid = pool.take()
    pool.give_back(uid)
    assert [pool.take() for _ in range(3)] == [FIRST + 1, FIRST + 2, uid]


def test_uids_of_jobs_that_were_found_running_are_not_given_out() -> None:
    pool = UidPool(FIRST, 2)
    pool.keep(FIRST)
    assert pool.take() == FIRST + 1
    with pytest.raises(LimitReached) as caught:
        pool.take()
    assert (caught.value.reason, str(caught.value)) == (
        "NO_FREE_UID",
        "cannot start job: all 2 user ids of jobs.uid_count are in use",
    )


def test_a_uid_outside_the_range_is_kept_and_freed_without_harm() -> None:
    pool = UidPool(FIRST, 1)
    pool.keep(0)
    pool.give_back(0)
    pool.give_back(12)
    assert pool.take() == FIRST


def test_a_certain_uid_is_taken_once() -> None:
    pool = UidPool(100, 2)
    assert pool.take_this(70)
    assert not pool.take_this(70)
    assert pool.take_this(100)
    assert pool.take() == 101
    pool.give_back(70)
    assert pool.take_this(70)
