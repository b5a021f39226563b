"""Looks for libraries that programs of a tree need and that the tree does not have. Blocking; runs nothing.

A library counts as there if any file of the tree has its name, wherever it is: packages of languages bring
their own beside them, and where those are looked for is their business.
"""

import os
import re
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from joblet_agent.runtimes.build.means import Checked
from joblet_agent.runtimes.walk import Place, printable, walk

__all__ = ["check_tree", "needed_of", "package_of"]

_NO_PROGRAMS: Final = (
    *(".c", ".css", ".gz", ".h", ".html", ".js", ".json", ".md", ".pem", ".pl", ".pm", ".png", ".po"),
    *(".py", ".pyc", ".pyi", ".rst", ".sh", ".svg", ".ts", ".txt", ".xml", ".yaml", ".yml", ".go", ".java"),
)
_MUST_WORK: Final = ("opt/runtime/", "usr/bin/", "usr/local/bin/")
_FROM_THE_DRIVER: Final = re.compile(r"lib(cuda|nvcuvid|nvidia-[a-z-]+)\.so\.\d+")
"""The host's driver brings them when a job asks for a GPU."""
_SONAME: Final = re.compile(r"(?P<name>.+?)(?:-(?P<inner>\d+\.\d+))?\.so(?:\.(?P<number>\d+))?.*")
_OTHER_NAMES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("libc", "libdl", "libm", "libpthread", "libresolv", "librt", "libutil"), "libc6"),
    "libcrypto": "libssl3",
    "libgobject": "libglib2.0-0",
    "libgio": "libglib2.0-0",
    "libgthread": "libglib2.0-0",
    "libz": "zlib1g",
    "libgfortran": "libgfortran5",
    "libquadmath": "libquadmath0",
}
_MOST_SHOWN: Final = 20
_MOST_READ: Final = 1 << 20
_MOST_HEADERS: Final = 128
_LOAD, _DYNAMIC = 1, 2
_NEEDED, _STRINGS = 1, 5


@dataclass(frozen=True, slots=True)
class _Program:
    machine: int
    needed: tuple[str, ...]


def check_tree(tree: Path) -> Checked:
    """Return what is missing: an error for what must work, a warning for the rest. Raises OSError."""
    names: set[str] = set()
    programs: dict[str, _Program] = {}
    for place in walk(tree):
        if ".so" in place.name or place.name.startswith("ld-"):
            names.add(place.name)
        if place.is_file and (program := _read(place)) is not None:
            programs[place.path] = program
    machines = Counter(program.machine for program in programs.values())
    usual = machines.most_common(1)[0][0] if machines else 0
    missing: dict[str, list[str]] = defaultdict(list)
    for path, program in programs.items():
        for name in program.needed if program.machine == usual else ():
            if name.rpartition("/")[2] not in names and not _FROM_THE_DRIVER.fullmatch(name):
                missing[name].append(path)
    return _checked(missing)


def _checked(missing: Mapping[str, list[str]]) -> Checked:
    errors, warnings, packages = [], [], []
    for name, paths in sorted(missing.items()):
        urgent = sorted(path for path in paths if path.startswith(_MUST_WORK))
        if urgent:
            errors.append(_missing(name, urgent))
            packages.append(package_of(name))
        else:
            warnings.append(_missing(name, sorted(paths)))
    hint = f"add to apt in the definition: {', '.join(dict.fromkeys(packages))}" if packages else ""
    return Checked(_some(errors), _some(warnings), hint)


def _missing(name: str, paths: list[str]) -> str:
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"/{printable(paths[0])}{more} needs {printable(name)}, which is not in the tree"


def _some(texts: list[str]) -> tuple[str, ...]:
    more = [f"{len(texts) - _MOST_SHOWN} more libraries are missing"] if len(texts) > _MOST_SHOWN else []
    return (*texts[:_MOST_SHOWN], *more)


def package_of(library: str) -> str:
    """Return the Debian package that most likely has the library: they are named after it."""
    found = _SONAME.fullmatch(library)
    if found is None:
        return library
    name, inner, number = found["name"], found["inner"] or "", found["number"] or ""
    if name in _OTHER_NAMES:
        return _OTHER_NAMES[name]
    if name.startswith("libpython"):
        return name
    package = name.lower().replace("_", "-") + inner
    return package + ("-" if number and package[-1].isdigit() else "") + number


def _read(place: Place) -> _Program | None:
    if place.status.st_size < 64 or place.name.endswith(_NO_PROGRAMS):  # noqa: PLR2004 - a header's size
        return None
    descriptor = place.open()
    try:
        if os.pread(descriptor, 4, 0) != b"\x7fELF":
            return None
        with suppress(struct.error, ValueError, IndexError):
            return needed_of(descriptor)
        return None
    finally:
        os.close(descriptor)


def needed_of(descriptor: int) -> _Program:
    """Return what an ELF file needs. Raises ValueError, struct.error, IndexError for a broken one."""
    header = os.pread(descriptor, 64, 0)
    is_64, order = header[4] == 2, "<" if header[5] == 1 else ">"  # noqa: PLR2004 - ELFCLASS64
    (machine,) = struct.unpack_from(f"{order}H", header, 18)
    if is_64:
        (offset,) = struct.unpack_from(f"{order}Q", header, 32)
        size, count = struct.unpack_from(f"{order}HH", header, 54)
    else:
        (offset,) = struct.unpack_from(f"{order}I", header, 28)
        size, count = struct.unpack_from(f"{order}HH", header, 42)
    if count > _MOST_HEADERS:
        raise ValueError("too many program headers")
    table = os.pread(descriptor, size * count, offset)
    segments = [_segment(table, place * size, order, is_64=is_64) for place in range(count)]
    for kind, at, _address, length in segments:
        if kind == _DYNAMIC:
            entries = list(_entries(os.pread(descriptor, min(length, _MOST_READ), at), order, is_64=is_64))
            return _Program(machine, tuple(_names(descriptor, entries, segments)))
    return _Program(machine, ())


def _segment(table: bytes, place: int, order: str, *, is_64: bool) -> tuple[int, int, int, int]:
    """Return type, offset in the file, address, size in the file."""
    if is_64:
        kind, _flags, offset, address, _physical, size = struct.unpack_from(f"{order}IIQQQQ", table, place)
    else:
        kind, offset, address, _physical, size = struct.unpack_from(f"{order}IIIII", table, place)
    return kind, offset, address, size


def _entries(dynamic: bytes, order: str, *, is_64: bool) -> Iterator[tuple[int, int]]:
    entry = struct.Struct(f"{order}{'QQ' if is_64 else 'II'}")
    for tag, value in entry.iter_unpack(dynamic[: len(dynamic) // entry.size * entry.size]):
        if tag == 0:
            return
        yield tag, value


def _names(
    descriptor: int, entries: Iterable[tuple[int, int]], segments: Iterable[tuple[int, int, int, int]]
) -> Iterator[str]:
    entries = list(entries)
    address = next((value for tag, value in entries if tag == _STRINGS), None)
    if address is None:
        return
    for kind, offset, start, size in segments:
        if kind == _LOAD and start <= address < start + size:
            strings = os.pread(
                descriptor, min(size - (address - start), _MOST_READ), offset + address - start
            )
            for tag, value in entries:
                if tag == _NEEDED:
                    yield strings[value : strings.index(b"\0", value)].decode("utf-8", "replace")
            return
