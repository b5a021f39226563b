"""The secrets of a workflow's jobs, by their numbers: one file of root's alone.

It begins with a table of where each job's are, so that those of one are read without the others; equal ones
are there once. Blocking; callers run it in a thread.
"""

import errno
import os
import struct
from collections.abc import Mapping
from pathlib import Path

from joblet_agent.jobs.secrets import DAMAGED, GONE, pack, unpack, write_private
from joblet_agent.model.secrets import Secrets

_PLACE = struct.Struct(">QI")
"""Of a job's secrets: from the start of the file, and how many bytes; no bytes for none."""
_COUNT = struct.Struct(">I")
"""Of the jobs in the table, which begins behind it."""


def write_members(file: Path, secrets: Mapping[int, Secrets]) -> None:
    """Write the secrets, 0600, durably. Raises OSError, and there is no such file then."""
    count = max(secrets, default=-1) + 1
    places = [(0, 0)] * count
    known: dict[bytes, int] = {}
    end = _COUNT.size + count * _PLACE.size
    for number, each in secrets.items():
        if not each:
            continue
        content = pack(each)
        if content not in known:
            known[content] = end
            end += len(content)
        places[number] = (known[content], len(content))
    table = b"".join(_PLACE.pack(*place) for place in places)
    write_private(file, b"".join((_COUNT.pack(count), table, *known)))


def read_member(file: Path, number: int) -> Secrets:
    """Return the secrets of a job that has some.

    Raises OSError if they are not there, or not as they were written.
    """
    try:
        with file.open("rb") as kept:
            (count,) = _COUNT.unpack(kept.read(_COUNT.size))
            if number >= count:
                raise OSError(errno.EIO, DAMAGED)
            kept.seek(_COUNT.size + number * _PLACE.size)
            start, size = _PLACE.unpack(kept.read(_PLACE.size))
            if not size or start + size > os.fstat(kept.fileno()).st_size:
                raise OSError(errno.EIO, DAMAGED)
            content = os.pread(kept.fileno(), size, start)
    except FileNotFoundError as error:
        raise OSError(errno.ENOENT, GONE) from error
    except struct.error:
        raise OSError(errno.EIO, DAMAGED) from None
    return unpack(content)
