"""The digest is that of what is in a tree, and of nothing else."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.runtimes.digest import Entry, Kind, digest_of, digest_of_tree, list_of, read_list
from tests.unit.runtimes.store_rig import SMALL, plant

BYTES = st.binary(min_size=1, max_size=12).filter(lambda text: b"\0" not in text)
ENTRIES = st.lists(
    st.builds(
        Entry,
        path=BYTES.map(os.fsdecode),
        kind=st.sampled_from(Kind),
        mode=st.integers(0, 0o7777),
        content=BYTES.map(os.fsdecode),
    ),
    max_size=8,
    unique_by=lambda entry: entry.path,
)


def test_the_list_is_what_its_description_says() -> None:
    entries = [
        Entry("b", Kind.LINK, 0o777, "../a"),
        Entry("", Kind.DIRECTORY, 0o755),
        Entry("a", Kind.FILE, 0o644, "00"),
    ]
    assert list_of(entries) == b"joblet-tree 1\0d0755 \0\0f0644 a\x0000\0l0777 b\0../a\0"


@given(ENTRIES)
def test_a_list_is_of_one_tree_whatever_it_is_called(entries: list[Entry]) -> None:
    assert sorted(read_list(list_of(entries)), key=repr) == sorted(entries, key=repr)
    assert digest_of(entries) == digest_of(reversed(entries))


@given(ENTRIES.filter(bool), st.sampled_from(["path", "kind", "mode", "content"]))
def test_whatever_is_changed_changes_the_digest(entries: list[Entry], what: str) -> None:
    first = entries[0]
    other = {
        "path": replace(first, path="x" * 20),
        "kind": replace(first, kind=Kind.FILE if first.kind is Kind.LINK else Kind.LINK),
        "mode": replace(first, mode=first.mode ^ 1),
        "content": replace(first, content="x" * 20),
    }
    assert digest_of([other[what], *entries[1:]]) != digest_of(entries)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"joblet-tree 2\0",
        b"joblet-tree 1\0f0644 a\0",
        b"joblet-tree 1\0x0644 a\0b\0",
        b"joblet-tree 1\0f a\0b\0",
    ],
)
def test_what_is_no_list_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_list(text)


def test_order_times_and_shared_files_of_a_directory_do_not_matter(tmp_path: Path) -> None:
    one, two = plant(tmp_path / "one", SMALL), plant(tmp_path / "two", dict(reversed(SMALL.items())))
    (two / "usr/bin/same").unlink()
    os.link(two / "usr/bin/tool", two / "usr/bin/same")
    os.utime(two / "usr/bin/tool", (5, 5))
    assert digest_of_tree(one) == digest_of_tree(two)
    os.chmod(two / "usr/bin/tool", 0o755)
    assert digest_of_tree(one) != digest_of_tree(two)
