"""A job's samples on disk: a header, then records of one size, appended.

Blocking. A record that is torn, or damaged by a power cut, is not there; the next append removes a torn
one first. A file that has grown to its most records is thinned out: of what it has, every second record
goes, so that recent samples are dense and old ones sparse, however long the job runs.
"""

import os
import struct
import zlib
from dataclasses import astuple
from pathlib import Path

from joblet_agent.model.metrics import Sample

_MAGIC = b"JBLTMETR"
_VERSION = 2
_HEADER = struct.Struct(">8sHHq")
"""magic, version, size of a record, start of the job (Unix ns)."""
_FIGURES = struct.Struct(">q13QI3H")
"""The fields of Sample in their order; pressures in hundredths of a percent."""
_CHECKSUM = struct.Struct(">I")
_RECORD_SIZE = _FIGURES.size + _CHECKSUM.size
_HUNDREDTHS = 100.0
_LARGEST_TASKS, _LARGEST_PRESSURE = 2**32 - 1, 10_000

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_APPEND = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def append(path: Path, sample: Sample, *, started_ns: int, most: int) -> None:
    """Add a sample, which must be later than those before; makes the file. Raises OSError.

    ``started_ns`` is the start of the job, ``most`` the records at which the file is thinned out.
    """
    fd = os.open(path, _APPEND, 0o600)
    try:
        count = _count(fd)
        if count is None:  # new, or of a version that we cannot add to
            os.ftruncate(fd, 0)
            os.write(fd, _HEADER.pack(_MAGIC, _VERSION, _RECORD_SIZE, started_ns))
        elif os.fstat(fd).st_size != _offset(count):
            os.ftruncate(fd, _offset(count))
        os.write(fd, _packed(sample))
        if count is not None and count + 1 >= most:
            _thin_out(path, fd, count + 1)
    finally:
        os.close(fd)


def read(path: Path, *, after_ns: int, most: int) -> tuple[Sample, list[Sample]]:
    """Return the samples later than ``after_ns``, at most so many, and the one before the first of them.

    Before the first sample of all there is the start of the job, with nothing used. Nothing is there
    when there is no file. Raises OSError.
    """
    nothing = Sample(taken_ns=0)
    try:
        fd = os.open(path, _READ)
    except FileNotFoundError:
        return nothing, []
    try:
        count = _count(fd)
        if not count:
            return nothing, []
        first = _first_after(fd, count, after_ns)
        before = _unpacked(_content(fd, first - 1, 1)) if first else []
        samples = _unpacked(_content(fd, first, min(count - first, most)))
        start = Sample(taken_ns=_started_ns(fd))
        return (before or [start])[0], [sample for sample in samples if sample.taken_ns > after_ns]
    finally:
        os.close(fd)


def last(path: Path) -> Sample | None:
    """Return the newest sample, None if there is none. Raises OSError."""
    try:
        fd = os.open(path, _READ)
    except FileNotFoundError:
        return None
    try:
        count = _count(fd)
        samples = _unpacked(_content(fd, max(count - 2, 0), 2)) if count else []
        return samples[-1] if samples else None
    finally:
        os.close(fd)


def _count(fd: int) -> int | None:
    """Return the number of whole records; None for a file that is not ours."""
    header = os.pread(fd, _HEADER.size, 0)
    if len(header) < _HEADER.size or _HEADER.unpack(header)[:3] != (_MAGIC, _VERSION, _RECORD_SIZE):
        return None
    return (os.fstat(fd).st_size - _HEADER.size) // _RECORD_SIZE


def _started_ns(fd: int) -> int:
    return int(_HEADER.unpack(os.pread(fd, _HEADER.size, 0))[3])


def _offset(number: int) -> int:
    return _HEADER.size + number * _RECORD_SIZE


def _content(fd: int, first: int, count: int) -> bytes:
    return os.pread(fd, count * _RECORD_SIZE, _offset(first))


def _first_after(fd: int, count: int, after_ns: int) -> int:
    """Return the number of the first record that is later."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        (taken_ns,) = struct.unpack_from(">q", os.pread(fd, 8, _offset(middle)))
        if taken_ns <= after_ns:
            low = middle + 1
        else:
            high = middle
    return low


def _packed(sample: Sample) -> bytes:
    *counters, tasks, cpu, memory, io = astuple(sample)
    pressures = (min(round(value * _HUNDREDTHS), _LARGEST_PRESSURE) for value in (cpu, memory, io))
    figures = _FIGURES.pack(*counters, min(tasks, _LARGEST_TASKS), *pressures)
    return figures + _CHECKSUM.pack(zlib.crc32(figures))


def _unpacked(content: bytes) -> list[Sample]:
    samples = []
    for start in range(0, len(content) - _RECORD_SIZE + 1, _RECORD_SIZE):
        figures = content[start : start + _FIGURES.size]
        if _CHECKSUM.unpack_from(content, start + _FIGURES.size)[0] != zlib.crc32(figures):
            continue
        *counters, cpu, memory, io = _FIGURES.unpack(figures)
        samples.append(Sample(*counters, *(value / _HUNDREDTHS for value in (cpu, memory, io))))
    return samples


def _thin_out(path: Path, fd: int, count: int) -> None:
    """Write every second record, and the newest, to a new file, and put that in the place of the old one."""
    records = [_content(fd, number, 1) for number in range(0, count, 2)]
    if count % 2 == 0:
        records.append(_content(fd, count - 1, 1))
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)  # of an agent that died in the middle
    with open(os.open(fresh, _APPEND | os.O_EXCL, 0o600), "wb") as file:  # all of it, or OSError
        file.write(os.pread(fd, _HEADER.size, 0) + b"".join(records))
    fresh.rename(path)
