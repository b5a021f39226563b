"""A3 without a race: what is read of a workspace, and what is not."""

import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from joblet_agent.errors import InvalidRequest, JobletError, NotFound
from joblet_agent.jobs import work_files
from joblet_agent.jobs.measure import tree_bytes
from joblet_agent.jobs.work_files import list_directory, read_tree
from joblet_agent.model.files import FileKind


@pytest.fixture
def work(tmp_path: Path) -> Path:
    top = tmp_path / "work"
    (top / "sub" / "empty").mkdir(parents=True)
    (top / "sub" / "file").write_bytes(b"content")
    (top / "link").symlink_to(tmp_path / "secret")
    (top / "dir-link").symlink_to(tmp_path)
    os.mkfifo(top / "pipe")
    (tmp_path / "secret").write_text("secret")
    return top


def contents(top: Path, *parts: str) -> dict[str, bytes | str]:
    """What a client gets: content by name, or why there is none."""
    found: dict[str, bytes | str] = {}
    name = ""
    for piece in read_tree(top, parts):
        if piece.file is not None:
            name = piece.file.name
            found[name] = piece.skipped or (
                bytes(piece.file.size) if piece.file.kind is FileKind.FILE else "dir"
            )
        if piece.content:
            before = found[name]
            assert isinstance(before, bytes)
            end = piece.offset + len(piece.content)
            found[name] = before[: piece.offset] + piece.content + before[end:]
    return found


def test_a_list_tells_what_is_there(work: Path) -> None:
    (found,) = list_directory(work, ())
    assert {file.name: file.kind.value for file in found} == {
        "sub": "directory",
        "link": "link",
        "dir-link": "link",
        "pipe": "other",
    }
    (inner,) = list_directory(work, ("sub",))
    assert {(file.name, file.size) for file in inner} == {("empty", 0), ("file", 7)}
    assert list(list_directory(work, ("sub", "empty"))) == []


def test_a_tree_comes_without_what_is_no_file(work: Path) -> None:
    assert contents(work) == {
        "": "dir",
        "sub": "dir",
        "sub/empty": "dir",
        "sub/file": b"content",
        "link": "a symbolic link",
        "dir-link": "a symbolic link",
        "pipe": "no regular file",
    }
    assert contents(work, "sub", "file") == {"": b"content"}


@pytest.mark.parametrize("path", ["link", "pipe", "dir-link/secret", "dir-link/work", "sub/file/x"])
def test_a3_what_is_no_file_is_refused(work: Path, path: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        list(read_tree(work, path.split("/")))
    assert caught.value.reason == "NOT_A_FILE"
    with pytest.raises(JobletError):
        list(list_directory(work, path.split("/")))


def test_a3_the_top_itself_is_no_link(tmp_path: Path, work: Path) -> None:
    (tmp_path / "other").symlink_to(work)
    with pytest.raises((JobletError, OSError)):
        list(read_tree(tmp_path / "other", ()))


def test_what_is_not_there_is_not_found(work: Path) -> None:
    for top, parts, reason in ((work, ("x",), "FILE_NOT_FOUND"), (work / "x", (), "NO_FILES")):
        with pytest.raises(NotFound) as caught:
            list(read_tree(top, parts))
        assert caught.value.reason == reason


def test_holes_are_not_read(work: Path) -> None:
    with (work / "sparse").open("wb") as file:
        file.truncate(1 << 40)
        file.seek(1 << 30)
        file.write(b"data")
    pieces = list(read_tree(work, ("sparse",)))
    assert sum(len(piece.content) for piece in pieces) < 1 << 20
    assert b"data" in b"".join(piece.content for piece in pieces)


def test_a_name_that_is_no_text_is_shown_and_left_out(work: Path) -> None:
    os.close(os.open(os.fsencode(work) + b"/sub/\xff", os.O_CREAT | os.O_WRONLY))
    (found,) = list_directory(work, ("sub",))
    assert "\\xff" in {file.name for file in found}
    assert contents(work)["sub/\\xff"] == "its name is not UTF-8"


def test_there_is_an_end_to_a_list(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_files, "MOST_ENTRIES", 2)
    with pytest.raises(JobletError) as caught:
        list(list_directory(work, ()))
    assert caught.value.reason == "TOO_MANY_FILES"


def test_a_growing_file_is_read_to_the_size_it_had(work: Path) -> None:
    pieces = read_tree(work, ("sub", "file"))
    next(iter(pieces))
    with (work / "sub" / "file").open("ab") as file:
        file.write(b" and more")
    assert b"".join(piece.content for piece in pieces) == b"content"


def test_a_race_never_shows_the_outside(work: Path, tmp_path: Path) -> None:
    over = threading.Event()

    def race() -> None:
        place = work / "sub" / "file"
        while not over.is_set():
            place.unlink()
            place.symlink_to(tmp_path / "secret")
            place.unlink()
            place.write_bytes(b"content")

    racer = threading.Thread(target=race)
    racer.start()
    try:
        for _ in range(300):
            with suppress(JobletError):  # a link at this moment
                assert b"secret" not in contents(work, "sub", "file").values()
            assert contents(work).get("sub/file") != b"secret"
    finally:
        over.set()
        racer.join()


def test_the_size_of_a_tree_is_what_it_takes_of_the_disk(work: Path) -> None:
    size = tree_bytes(work)
    assert size is not None
    (work / "sub" / "big").write_bytes(bytes(1 << 20))
    os.link(work / "sub" / "big", work / "sub" / "again")
    grown = tree_bytes(work)
    assert grown is not None
    assert (1 << 20) <= grown - size < (1 << 20) + 65536
    assert tree_bytes(work / "none") is None


def test_a_deep_tree_is_measured(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    try:
        assert tree_bytes(tmp_path) is not None
    finally:
        while (tmp_path / "d" / "d").exists():  # pytest could not remove it
            (tmp_path / "d" / "d").rename(tmp_path / "e")
            (tmp_path / "d").rmdir()
            (tmp_path / "e").rename(tmp_path / "d")
