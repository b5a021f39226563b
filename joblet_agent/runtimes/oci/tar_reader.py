"""Reads tar streams of strangers: ustar, pax and GNU's long names; nothing is made of what is read here.

Not the standard library's tarfile: that keeps a list of all members, reads headers of any length into memory,
and guesses where an archive is broken. This one holds one header at a time and refuses what it does not know.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from joblet_agent.runtimes.oci.refusals import broken, refused, shown

BLOCK: Final = 512
_MOST_EXTENSION: Final = 1 << 20
"""Bytes of one pax header or long name."""
_PIECE: Final = 1 << 18
_CHECKSUM: Final = slice(148, 156)
_PAX_OF_ALL: Final = b"g"
_IGNORED: Final = {b"V"}
"""GNU's name of the volume."""
_HINT: Final = "make the archive anew, without --sparse"


class Kind(Enum):
    """What an entry makes."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    HARD_LINK = "hard link"
    CHARACTER_DEVICE = "character device"
    BLOCK_DEVICE = "block device"
    FIFO = "fifo"


_KINDS: Final = {
    b"0": Kind.FILE,
    b"\0": Kind.FILE,
    b"7": Kind.FILE,
    b"1": Kind.HARD_LINK,
    b"2": Kind.LINK,
    b"3": Kind.CHARACTER_DEVICE,
    b"4": Kind.BLOCK_DEVICE,
    b"5": Kind.DIRECTORY,
    b"6": Kind.FIFO,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. Names are as they came: bytes that are no UTF-8 are surrogates (os.fsencode)."""

    name: str
    kind: Kind
    mode: int
    size: int
    """Bytes of content; 0 for all but files."""
    target: str = ""
    """Of links of both kinds."""
    has_capabilities: bool = False


class TarReader:
    """Iterates over the entries of a stream. What was not taken of an entry's content is passed over."""

    def __init__(self, read: Callable[[int], bytes], skip: Callable[[int], int] | None = None) -> None:
        """Let ``read`` return so many bytes, fewer only where the stream ends; ``skip`` passes over them."""
        self._read = read
        self._skip = skip or self._read_over
        self._left = 0
        """Bytes of content not taken yet."""
        self._padding = 0
        self.place = 0
        """Bytes read so far: where an entry's content begins, as long as none of it was taken."""

    def __iter__(self) -> Iterator[Entry]:
        extensions: dict[str, bytes] = {}
        while (header := self._header()) is not None:
            kind = header[156:157]
            if kind in {b"x", b"X"}:
                extensions |= _pax(self._extension(header))
            elif kind == b"L":
                extensions["path"] = self._extension(header).rstrip(b"\0")
            elif kind == b"K":
                extensions["linkpath"] = self._extension(header).rstrip(b"\0")
            elif kind == _PAX_OF_ALL:
                _refuse_for_all(_pax(self._extension(header)))
            elif kind in _IGNORED:
                self._extension(header)
            else:
                entry = _entry(header, extensions)
                extensions = {}
                self._left, self._padding = entry.size, -entry.size % BLOCK
                yield entry

    def content(self) -> Iterator[bytes]:
        """Return the content of the entry that came last, in pieces."""
        while self._left:
            size = min(self._left, _PIECE)
            self._left -= size
            yield self._exactly(size)

    def _header(self) -> bytes | None:
        """Return the next header; None at the end, with or without the two empty blocks that mark it."""
        passed = self._skip(self._left + self._padding)
        self.place += passed
        if passed < self._left + self._padding:
            raise broken("its end is missing")
        self._left = self._padding = 0
        header = self._read(BLOCK)
        self.place += len(header)
        if not header or not header.strip(b"\0"):
            return None
        if len(header) < BLOCK:
            raise broken("its end is missing")
        said, bare = _number(header[_CHECKSUM]), header[:148] + b" " * 8 + header[156:]
        if said != sum(bare):
            raise broken("no tar archive, or damaged: the checksum of a header is wrong")
        return header

    def _extension(self, header: bytes) -> bytes:
        size = _number(header[124:136])
        if size > _MOST_EXTENSION:
            raise refused(f"a header of {size} bytes; {_MOST_EXTENSION} are allowed")
        self._padding = -size % BLOCK
        return self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        piece = self._read(size)
        self.place += len(piece)
        if len(piece) < size:
            raise broken("its end is missing")
        return piece

    def _read_over(self, size: int) -> int:
        passed = 0
        while passed < size and (piece := self._read(min(size - passed, _PIECE))):
            passed += len(piece)
        return passed


def _entry(header: bytes, extensions: dict[str, bytes]) -> Entry:
    if any(key.startswith("GNU.sparse.") for key in extensions) or header[156:157] == b"S":
        raise refused(f"{shown(_text(_name(header)))} is stored as a sparse file", _HINT)
    kind = _KINDS.get(header[156:157])
    name = extensions.get("path") or _name(header)
    if kind is None:
        raise refused(f"{shown(_text(name))} is of an unknown type, {shown(_text(header[156:157]))}")
    target = extensions.get("linkpath") or header[157:257].split(b"\0", 1)[0]
    if b"\0" in name or b"\0" in target:
        raise refused(f"{shown(_text(name))}: a name has a NUL in it")
    if kind is Kind.FILE and name.endswith(b"/"):  # so version 7 says it
        kind = Kind.DIRECTORY
    return Entry(
        name=_text(name),
        kind=kind,
        mode=_number(header[100:108]) & 0o7777,
        size=_size(header, extensions) if kind is Kind.FILE else 0,
        target=_text(target) if kind in {Kind.LINK, Kind.HARD_LINK} else "",
        has_capabilities="SCHILY.xattr.security.capability" in extensions,
    )


def _name(header: bytes) -> bytes:
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] == b"ustar\0":  # GNU's own has other things at the place of the prefix
        prefix = header[345:500].split(b"\0", 1)[0]
        return b"/".join((prefix, name)) if prefix else name
    return name


def _size(header: bytes, extensions: dict[str, bytes]) -> int:
    said = extensions.get("size")
    if not said:
        return _number(header[124:136])
    if not said.isdigit() or len(said) > 19:  # noqa: PLR2004 - of 2**63
        raise broken(f"{shown(_text(said))} is no size")
    return int(said)


def _number(field: bytes) -> int:
    """Return a number of a header: octal digits, or binary where the first bit says so."""
    if field[0] & 0x80:
        if field[0] & 0x40:
            raise broken("a header has a negative number")
        return int.from_bytes(field, "big") & ~(0x80 << 8 * (len(field) - 1))
    digits = field.split(b"\0", 1)[0].strip(b" ")
    if digits.strip(b"01234567"):
        raise broken("no tar archive, or damaged: a header has no number where one must be")
    return int(digits, 8) if digits else 0


def _pax(text: bytes) -> dict[str, bytes]:
    """Return the records of a pax header: length, key and value, one after the other."""
    records: dict[str, bytes] = {}
    at = 0
    while at < len(text):
        space = text.find(b" ", at, at + 12)
        length = text[at:space] if space > 0 else b""
        end = at + (int(length) if length.isdigit() else 0)
        if not at < space < end <= len(text) or text[end - 1 : end] != b"\n":
            raise broken("a pax header is damaged")
        key, separator, value = text[space + 1 : end - 1].partition(b"=")
        if not separator or not key:
            raise broken("a pax header is damaged")
        records[_text(key)] = value
        at = end
    return records


def _refuse_for_all(records: dict[str, bytes]) -> None:
    if wrong := {"path", "linkpath", "size"} & records.keys():
        raise refused(f"a pax header for all files says {', '.join(sorted(wrong))}")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
