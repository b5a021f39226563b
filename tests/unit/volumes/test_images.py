import errno
import os
from pathlib import Path

import pytest

from joblet_agent.volumes import images

MIB = 1024**2


def test_an_image_has_its_blocks(tmp_path: Path) -> None:
    image = tmp_path / "image"
    images.make(image, 3 * MIB)
    assert image.stat().st_blocks * 512 >= 3 * MIB
    images.extend(image, 5 * MIB)
    assert (image.stat().st_size, image.stat().st_blocks * 512 >= 5 * MIB) == (5 * MIB, True)
    images.extend(image, 4 * MIB)
    assert image.stat().st_size == 5 * MIB


def test_a_link_in_the_place_of_an_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("x")
    (tmp_path / "image").symlink_to(tmp_path / "target")
    with pytest.raises(FileExistsError):
        images.make(tmp_path / "image", MIB)
    with pytest.raises(OSError, match="Too many levels"):
        images.extend(tmp_path / "image", MIB)
    assert (tmp_path / "target").read_text() == "x"


def test_room_is_looked_for_first(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="left") as caught:
        images.make(tmp_path / "image", 2**60)
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == []


def test_a_copy_is_whole(tmp_path: Path) -> None:
    source = tmp_path / "image"
    source.write_bytes(os.urandom(3 * MIB))
    images.copy(source, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600


def superblock(state: int, incompatible: int) -> bytes:
    block = bytearray(1024)
    block[0x3A:0x3C] = state.to_bytes(2, "little")
    block[0x60:0x64] = incompatible.to_bytes(4, "little")
    return bytes(1024) + bytes(block)


@pytest.mark.parametrize(
    ("content", "is_clean"),
    [
        (superblock(1, 0x2C2), True),
        (superblock(1, 0x2C2 | 4), False),
        (superblock(0, 0x2C2), False),
        (b"short", False),
    ],
)
def test_a_file_system_tells_how_it_was_left(tmp_path: Path, content: bytes, is_clean: bool) -> None:
    image = tmp_path / "image"
    image.write_bytes(content)
    assert images.is_clean(image) is is_clean
