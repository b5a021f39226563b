"""Which files the configuration is in, and what is in them."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from joblet_agent.errors import InvalidConfig

DEFAULT_PATH = Path("/etc/joblet/agent.yml")
MOST_BYTES = 1_000_000
"""Of all files together."""
MOST_DROP_INS = 200

_SUFFIX = ".yml"


@dataclass(frozen=True, slots=True)
class DropIns:
    """What a drop-in directory has."""

    files: tuple[Path, ...] = ()
    """Those that count, in the order in which they do: the last one wins."""
    mistaken: tuple[Path, ...] = ()
    """Those that look like drop-ins and are none, because their names end in .yaml."""


def drop_in_directory(path: Path) -> Path:
    """Return where the drop-ins of a configuration file are: ``agent.d`` beside ``agent.yml``."""
    return path.with_name(f"{path.name.removesuffix(_SUFFIX)}.d")


def find_drop_ins(path: Path) -> DropIns:
    """Return the drop-ins of the configuration file, in byte order of their names.

    What editors and package managers leave behind (hidden files, ``x.yml~``, ``x.yml.dpkg-old``) is
    none. Raises InvalidConfig if the directory cannot be read; that there is no directory is fine.
    """
    directory = drop_in_directory(path)
    try:
        names = sorted(os.listdir(directory), key=os.fsencode)
    except FileNotFoundError:
        return DropIns()
    except (OSError, ValueError) as error:
        raise unreadable(directory, error) from error
    names = [name for name in names if not name.startswith(".")]
    found = [directory / name for name in names if name.endswith(_SUFFIX)]
    if len(found) > MOST_DROP_INS:
        raise InvalidConfig(
            f"cannot use the configuration {shown(directory)}: it has more than {MOST_DROP_INS} files",
            reason="INVALID_CONFIG",
        )
    return DropIns(tuple(found), tuple(directory / name for name in names if name.endswith(".yaml")))


def read_file(path: Path, most: int) -> bytes:
    """Return what is in the file, of which at most ``most`` bytes are left to read. Raises InvalidConfig."""
    try:
        content = _content(path, most)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if len(content) > most:
        raise InvalidConfig(
            f"cannot use the configuration {shown(path)}: with this file it has more than {MOST_BYTES} bytes",
            reason="INVALID_CONFIG",
        )
    return content


def unreadable(path: Path, error: OSError | ValueError) -> InvalidConfig:
    """Return the error that says which file cannot be read, and why."""
    is_missing = isinstance(error, FileNotFoundError)
    words = "no such file" if is_missing else getattr(error, "strerror", None) or str(error)
    return InvalidConfig(
        f"cannot read the configuration {shown(path)}: {words}",
        reason="CONFIG_NOT_FOUND" if is_missing else "CONFIG_UNREADABLE",
    )


def shown(path: Path) -> str:
    """Return the path as messages have it: a name that would break a line of them is quoted."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def _content(path: Path, most: int) -> bytes:
    """Return at most one byte more than is allowed, and of a file only: a FIFO would wait for ever."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("not a file")
    with path.open("rb") as file:
        return file.read(most + 1)
