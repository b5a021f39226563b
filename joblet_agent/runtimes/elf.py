"""What an ELF program or library needs of a system: its loader and its libraries (elf(5)). Pure.

Reads 64-bit little-endian files, which every supported processor has.
"""

import struct
from dataclasses import dataclass
from typing import Final

_LOAD, _DYNAMIC, _INTERPRETER = 1, 2, 3
_NEEDED, _STRING_TABLE, _SONAME, _RPATH, _RUNPATH = 1, 5, 14, 15, 29
_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")
_ENTRY: Final = struct.Struct("<qQ")
_MOST_ENTRIES = 4096


class NoElf(Exception):
    """It is no ELF file, or a broken one, or one for other processors than ours."""


@dataclass(frozen=True, slots=True)
class Elf:
    """What is said in the headers."""

    machine: int
    """Number of the processor's kind (EM_X86_64 is 62, EM_AARCH64 183)."""
    interpreter: str = ""
    """Path of the dynamic loader; empty for a library, and for a program that needs none."""
    interpreter_at: int = 0
    """Where in the file that path is …"""
    interpreter_room: int = 0
    """… and how many bytes it may have, with a NUL at its end."""
    needed: tuple[str, ...] = ()
    """Names of the libraries that the loader looks for."""
    soname: str = ""
    search: tuple[str, ...] = ()
    """Directories of its own to look in (DT_RPATH, DT_RUNPATH), ``$ORIGIN`` as it is."""


def read_elf(content: bytes) -> Elf:
    """Return what the file with this content says. Raises NoElf."""
    try:
        return _read(content)
    except (struct.error, ValueError, IndexError) as error:
        raise NoElf(f"its headers are broken: {error}") from error


def _read(content: bytes) -> Elf:
    ident, _, machine, _, _, segments_at, _, _, _, size, count, *_ = _HEADER.unpack_from(content)
    if ident[:6] != b"\x7fELF\x02\x01":
        raise NoElf("it is no 64-bit little-endian ELF file")
    if size < _SEGMENT.size:
        raise NoElf("its program headers are too short")
    loaded: list[tuple[int, int, int]] = []
    dynamic: tuple[int, int] | None = None
    interpreter, interpreter_at, room = "", 0, 0
    for number in range(count):
        kind, _, at, address, _, in_file, _, _ = _SEGMENT.unpack_from(content, segments_at + number * size)
        if kind == _LOAD:
            loaded.append((address, at, in_file))
        elif kind == _DYNAMIC:
            dynamic = (at, in_file)
        elif kind == _INTERPRETER:
            interpreter_at, room = at, in_file
            interpreter = content[at : at + in_file].split(b"\0", 1)[0].decode()
    if dynamic is None:
        return Elf(machine, interpreter, interpreter_at, room)
    entries = _dynamic(content, *dynamic)
    texts_at = next((value for tag, value in entries if tag == _STRING_TABLE), None)
    if texts_at is None:
        return Elf(machine, interpreter, interpreter_at, room)
    table = _offset(texts_at, loaded)

    def texts(*tags: int) -> tuple[str, ...]:
        return tuple(_text(content, table + value) for tag, value in entries if tag in tags)

    return Elf(
        machine,
        interpreter,
        interpreter_at,
        room,
        texts(_NEEDED),
        "".join(texts(_SONAME)[:1]),
        tuple(each for text in texts(_RPATH, _RUNPATH) for each in text.split(":") if each),
    )


def _dynamic(content: bytes, at: int, size: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for number in range(min(size // _ENTRY.size, _MOST_ENTRIES)):
        tag, value = _ENTRY.unpack_from(content, at + number * _ENTRY.size)
        if tag == 0:
            break
        found.append((tag, value))
    return found


def _offset(address: int, loaded: list[tuple[int, int, int]]) -> int:
    for start, at, size in loaded:
        if start <= address < start + size:
            return at + address - start
    raise NoElf("its texts are in no segment")


def _text(content: bytes, at: int) -> str:
    return content[at : content.index(b"\0", at)].decode(errors="surrogateescape")
