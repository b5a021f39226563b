"""A1: which paths of files are taken, and which files can be together."""

import os
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.errors import InvalidRequest, LimitReached
from joblet_agent.jobs.upload_check import check_tree, checked_mode, path_parts
from joblet_agent.model.files import NewFile

BAD = {
    "empty": "",
    "absolute": "/etc/x",
    "up": "../x",
    "up-later": "a/../../x",
    "up-at-the-end": "a/..",
    "current": ".",
    "current-inside": "a/./b",
    "slash": "a/",
    "two-slashes": "a//b",
    "nul": "a\0b",
    "encoded": "%2e%2e",
    "encoded-inside": "a/%2E%2e/b",
    "half-encoded": ".%2e",
    "encoded-once": "%2e",
    "surrogate": "\udcff",
    "long": "a/" * 2047 + "ab",
    "long-part": "ä" * 128,
    "deep": "/".join("a" * 129),
}


@pytest.mark.parametrize("path", BAD.values(), ids=BAD)
def test_a1_a_bad_path_is_refused(path: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        path_parts(path, doing="take files")
    assert caught.value.reason == "BAD_PATH"
    assert str(caught.value).startswith("cannot take files: path ")


NAMES = ["a", "a/b", "..a", "a..", "...", "-x", "*", "a\nb", "ü", "%2f", "a" * 255, " "]


@pytest.mark.parametrize("path", NAMES)
def test_any_other_name_is_one(path: str) -> None:
    assert "/".join(path_parts(path, doing="take files")) == path


@given(st.text())
def test_a1_what_is_taken_stays_inside(path: str) -> None:
    try:
        parts = path_parts(path, doing="take files")
    except InvalidRequest:
        return
    assert os.path.normpath("/work/" + path) == "/work/" + "/".join(parts)
    assert PurePosixPath("/work", *parts).is_relative_to("/work")


def test_only_permission_bits_are_taken() -> None:
    assert checked_mode(NewFile("a", mode=0o106755)) == 0o755
    assert checked_mode(NewFile("a", mode=1 << 31 | 0o700, is_directory=True)) == 0o700
    assert (checked_mode(NewFile("a")), checked_mode(NewFile("a", is_directory=True))) == (0o644, 0o755)


def _files(*paths: str) -> list[NewFile]:
    return [NewFile(path.rstrip("/"), is_directory=path.endswith("/")) for path in paths]


def test_directories_may_come_before_and_after_what_is_in_them() -> None:
    check_tree(_files("a/", "a/b", "c/d/e", "c/", "c/d/", "f"), 100)


@pytest.mark.parametrize(
    ("paths", "reason"),
    [
        (["a", "a"], "DUPLICATE_PATH"),
        (["a/", "a/"], "DUPLICATE_PATH"),
        (["a/b", "a/", "a/"], "DUPLICATE_PATH"),
        (["a", "a/"], "BAD_PATH"),
        (["a/", "a"], "BAD_PATH"),
        (["a", "a/b"], "BAD_PATH"),
        (["a/b", "a"], "BAD_PATH"),
        (["a/b", "a/b/c/d"], "BAD_PATH"),
    ],
)
def test_what_cannot_be_together_is_refused(paths: list[str], reason: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_tree(_files(*paths), 100)
    assert caught.value.reason == reason


def test_directories_on_the_way_count() -> None:
    check_tree(_files("a/b/c"), 3)
    with pytest.raises(LimitReached) as caught:
        check_tree(_files("a/b/c", "d"), 3)
    assert caught.value.reason == "TOO_MANY_FILES"
    assert "uploads.max_entries" in str(caught.value)
