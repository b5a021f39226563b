"""Trees that hostile jobs leave. Links, modes and depth are in test_files.py."""

import os
from pathlib import Path

import pytest

from joblet_agent.jobs.removal import remove_tree


def test_wide_and_deep(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for a in range(4):
        for b in range(4):
            (tree / f"{a}" / f"{b}" / "same" / "same").mkdir(parents=True)
            (tree / f"{a}" / f"{b}" / "same" / "file").write_text("x")
    assert remove_tree(tree) == []
    assert not tree.exists()


def test_many_entries_in_one_directory(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(3000):
        (tree / f"d{number}").mkdir()
        (tree / f"f{number}").touch()
    assert remove_tree(tree) == []
    assert not tree.exists()


@pytest.mark.parametrize("kind", ["missing", "file", "link", "dangling"])
def test_what_is_no_directory(tmp_path: Path, kind: str) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "kept").touch()
    it = tmp_path / "it"
    if kind == "file":
        it.touch()
    elif kind in {"link", "dangling"}:
        it.symlink_to(other if kind == "link" else "nowhere")
    assert remove_tree(it) == []
    assert not os.path.lexists(it)
    assert (other / "kept").exists()


def test_what_cannot_be_removed_is_told_and_the_rest_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    (tree / "a").mkdir(parents=True)
    for name in ("a/kept", "a/gone", "gone"):
        (tree / name).touch()
    unlink = os.unlink

    def refuse(path: str, *, dir_fd: int | None = None) -> None:
        if path == "kept":  # as chattr +i does
            raise PermissionError(1, "Operation not permitted")
        unlink(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", refuse)
    failures = remove_tree(tree)
    assert failures[0] == "kept: Operation not permitted"
    assert [file.name for file in tree.rglob("*") if file.is_file()] == ["kept"]


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    (tmp_path / "tree" / "a" / "b").mkdir(parents=True)
    remove_tree(tmp_path / "tree")
    assert len(os.listdir("/proc/self/fd")) == before
