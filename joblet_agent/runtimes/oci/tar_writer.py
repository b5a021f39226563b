"""Headers of tar archives: the same words give the same bytes, with every version of Python."""

from collections.abc import Mapping
from typing import Final

from joblet_agent.runtimes.oci.tar_reader import BLOCK, Kind

END: Final = b"\0" * 2 * BLOCK
_TYPES: Final = {Kind.FILE: b"0", Kind.HARD_LINK: b"1", Kind.LINK: b"2", Kind.DIRECTORY: b"5"}
_MOST_NAME: Final = 100
_MOST_OCTAL: Final = 8**11


def header(
    name: bytes, kind: Kind, *, mode: int, size: int = 0, target: bytes = b"", mtime: int = 0
) -> bytes:
    """Return the header of an entry that is root's, with a pax header before it if names are long."""
    records = {}
    if len(name) > _MOST_NAME:
        records["path"] = name
    if len(target) > _MOST_NAME:
        records["linkpath"] = target
    if size >= _MOST_OCTAL:
        records["size"] = str(size).encode()
    own = _ustar(name[:_MOST_NAME], _TYPES[kind], mode, size % _MOST_OCTAL, target[:_MOST_NAME], mtime)
    return _extension(records, mtime) + own if records else own


def padding(size: int) -> bytes:
    """Return what follows content of that size."""
    return b"\0" * (-size % BLOCK)


def _extension(records: Mapping[str, bytes], mtime: int) -> bytes:
    text = b"".join(_record(key, value) for key, value in records.items())
    own = _ustar(b"pax", b"x", 0o644, len(text), b"", mtime)
    return own + text + padding(len(text))


def _record(key: str, value: bytes) -> bytes:
    """Return a line with its length in front, which counts its own digits."""
    rest = b" " + key.encode() + b"=" + value + b"\n"
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return str(length).encode() + rest


def _ustar(name: bytes, kind: bytes, mode: int, size: int, target: bytes, mtime: int) -> bytes:
    fields = (
        name.ljust(100, b"\0"),
        _octal(mode, 8),
        _octal(0, 8),
        _octal(0, 8),
        _octal(size, 12),
        _octal(mtime, 12),
        b" " * 8,
        kind,
        target.ljust(100, b"\0"),
        b"ustar\00000",
        b"root".ljust(32, b"\0"),
        b"root".ljust(32, b"\0"),
        _octal(0, 8),
        _octal(0, 8),
    )
    whole = b"".join(fields).ljust(BLOCK, b"\0")
    return whole[:148] + f"{sum(whole):06o}\0 ".encode() + whole[156:]


def _octal(number: int, width: int) -> bytes:
    return f"{number:0{width - 1}o}\0".encode()
