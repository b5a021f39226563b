from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.model.secrets import Secrets
from joblet_agent.workflows.secrets import read_member, write_members

MEMBERS = st.dictionaries(
    st.integers(0, 30), st.dictionaries(st.text(max_size=3), st.text()).map(Secrets), max_size=20
)


@given(MEMBERS)
def test_each_job_gets_its_own(tmp_path_factory: pytest.TempPathFactory, members: dict[int, Secrets]) -> None:
    file = tmp_path_factory.mktemp("secrets") / "secrets"
    write_members(file, members)
    for number in range(32):
        if members.get(number):
            assert read_member(file, number) == members[number]
        else:
            with pytest.raises(OSError, match="damaged"):
                read_member(file, number)


def test_those_of_10_000_jobs_are_there_once(tmp_path: Path) -> None:
    shared = Secrets({"KEY": "x" * 1000})
    write_members(tmp_path / "secrets", dict.fromkeys(range(10_000), shared))
    assert (tmp_path / "secrets").stat().st_size < 150_000
    assert read_member(tmp_path / "secrets", 9_999) == shared


def test_damage_is_told_without_a_word_of_what_is_there(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    with pytest.raises(FileNotFoundError, match="its secrets are gone"):
        read_member(file, 0)
    write_members(file, {0: Secrets({"KEY": "s3cr3t"})})
    whole = file.read_bytes()
    for damaged in (b"", b"\0\0", whole[:8], whole[:-3], b"\xff" * 40):
        file.write_bytes(damaged)
        with pytest.raises(OSError, match="its secrets are damaged") as caught:
            read_member(file, 0)
        assert caught.value.__context__ is None or caught.value.__suppress_context__
