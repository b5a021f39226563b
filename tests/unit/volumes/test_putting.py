"""Copies into a volume, with links of a hostile job in the way. As root files get their owner."""

import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from joblet_agent.volumes.putting import Put

SECRET = "untouched"
OWN = os.getuid()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    made = tmp_path / "source"
    (made / "dir" / "inner").mkdir(parents=True)
    (made / "file").write_text("new")
    (made / "file").chmod(0o755)
    (made / "dir" / "inner" / "deep").write_text("deep")
    (made / "dir" / "inner" / "deep").chmod(0o604)
    return made


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    made = tmp_path / "volume"
    made.mkdir()
    return made


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    made = tmp_path / "outside"
    made.mkdir()
    (made / "file").write_text(SECRET)
    return made


def put(source: Path, volume: Path, *parts: str) -> Put:
    made = Put(OWN)
    made.tree(source, volume, parts)
    return made


def test_a_tree_arrives_with_the_rights_of_its_owner_for_the_group(source: Path, volume: Path) -> None:
    made = put(source, volume, "new", "place")
    assert (made.count, made.size) == (2, 7)
    place = volume / "new" / "place"
    assert (place / "file").read_text() == "new"
    assert (place / "file").stat().st_mode & 0o777 == 0o770
    assert (place / "dir" / "inner" / "deep").stat().st_mode & 0o777 == 0o660
    assert list(volume.rglob(".joblet-*")) == []


def test_files_are_replaced_and_directories_joined(source: Path, volume: Path) -> None:
    (volume / "dir").mkdir()
    (volume / "dir" / "mine").write_text("mine")
    (volume / "file").write_text("old")
    with (volume / "file").open() as old:
        put(source, volume)
        assert old.read() == "old"  # whoever reads it has a whole one
    assert (volume / "file").read_text() == "new"
    assert (volume / "dir" / "mine").read_text() == "mine"


def test_a3_a_link_in_the_place_of_a_file_is_replaced(source: Path, volume: Path, outside: Path) -> None:
    (volume / "file").symlink_to(outside / "file")
    put(source, volume)
    assert not (volume / "file").is_symlink()
    assert (outside / "file").read_text() == SECRET


@pytest.mark.parametrize("link", ["dir", "dir/inner"])
def test_a3_a_link_in_the_place_of_a_directory_is_not_followed(
    source: Path, volume: Path, outside: Path, link: str
) -> None:
    (volume / link).parent.mkdir(exist_ok=True)
    (volume / link).symlink_to(outside)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        put(source, volume)
    assert os.listdir(outside) == ["file"]


def test_a3_a_link_on_the_way_is_not_followed(source: Path, volume: Path, outside: Path) -> None:
    (volume / "way").symlink_to(outside)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        put(source, volume, "way", "there")
    assert os.listdir(outside) == ["file"]


def test_a3_what_is_no_file_is_not_waited_for(source: Path, volume: Path) -> None:
    os.mkfifo(volume / "file")
    put(source, volume)
    assert (volume / "file").read_text() == "new"
    os.remove(volume / "file")
    (volume / "file").mkdir()
    with pytest.raises(IsADirectoryError):
        put(source, volume)
    assert list(volume.rglob(".joblet-*")) == []


def test_a3_names_that_change_all_the_time_lead_nowhere_else(
    source: Path, volume: Path, outside: Path
) -> None:
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            with suppress(OSError):
                os.rename(volume / "dir", volume / f"old-{os.urandom(4).hex()}")
            with suppress(OSError):
                os.symlink(outside, volume / "dir")
            with suppress(OSError):
                os.rename(volume / "dir", volume / f"old-{os.urandom(4).hex()}")
            with suppress(OSError):
                os.mkdir(volume / "dir")

    racer = threading.Thread(target=swap)
    racer.start()
    try:
        for _ in range(300):
            with suppress(OSError):
                put(source, volume)
    finally:
        stop.set()
        racer.join()
    assert os.listdir(outside) == ["file"]
    assert (outside / "file").read_text() == SECRET


def test_a_copy_that_nobody_wants_ends(source: Path, volume: Path) -> None:
    with pytest.raises(InterruptedError):
        Put(OWN, lambda: True).tree(source, volume, ())
    assert os.listdir(volume) == []
