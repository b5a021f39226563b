"""What an archive is that is no OCI archive: tells one of the published setup scripts from others.

Only for the words of a refusal. So it looks at the names at the beginning alone, and needs no library that
reads what strangers have written: a header of tar(5) has 512 bytes, and says how far it is to the next one.
"""

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

__all__ = ["has_setup_scripts", "is_tar", "is_tar_name", "names_of_tar"]

_MOST_BYTES = 4 << 20
"""So much of the archive, and of what it is when it is not compressed."""
_BLOCK = 512
_GZIP = b"\x1f\x8b"
_MAGIC = slice(257, 262)
_SIZE = slice(124, 136)
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".oci")


def is_tar_name(name: str) -> bool:
    """Say whether a file of this name should be an archive."""
    return name.casefold().endswith(_ARCHIVES)


def is_tar(head: bytes) -> bool:
    """Say whether a file that begins like this is one of tar(1), compressed or not."""
    return head.startswith(_GZIP) or head[_MAGIC] == b"ustar"


def names_of_tar(path: Path) -> list[str]:
    """Return the names at its beginning; none if it is no archive of tar(1). Blocking; raises OSError."""
    with path.open("rb") as file:
        data = file.read(_MOST_BYTES)
    if data.startswith(_GZIP):
        try:
            data = zlib.decompressobj(wbits=31).decompress(data, _MOST_BYTES)
        except zlib.error:
            return []
    return list(_names(data))


def _names(data: bytes) -> Iterator[str]:
    place = 0
    while len(header := data[place : place + _BLOCK]) == _BLOCK and header[_MAGIC] == b"ustar":
        yield header[:100].rstrip(b"\0").decode("utf-8", "replace")
        try:
            size = int(header[_SIZE].rstrip(b"\0 ") or b"0", 8)
        except ValueError:
            return
        if size < 0:
            return
        place += _BLOCK + -(-size // _BLOCK) * _BLOCK


def has_setup_scripts(names: Iterable[str]) -> bool:
    """Say whether these are the files of a runtime that is set up by scripts, as published ones are."""
    files = {PurePosixPath(name).name for name in names}
    return any(name.startswith("setup") and name.endswith(".sh") for name in files)
