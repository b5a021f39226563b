"""What can be said about a volume without looking at the host.

Pure. Everything here raises InvalidRequest with a text that names the thing, and what to do.
"""

import re
from collections.abc import Sequence
from decimal import Decimal

from joblet_agent.errors import InvalidRequest
from joblet_agent.jobs.check import MOST_PATH, quoted
from joblet_agent.model.volume import VolumeMount, VolumeType
from joblet_agent.units import GIB, KIB, MIB, TIB

LEAST_SIZE = MIB
MOST_SIZE = 1024 * TIB
MOST_MOUNTS = 64
"""Volumes of one job."""
DEFAULT_PLACE = "/volumes"
PLACES = (DEFAULT_PLACE, "/data", "/media", "/opt", "/srv", "/var/lib")
"""Directories of a job in which it may have volumes, and at whose place.

The root of jobs (jobs/root.py) is shared by all: what is missing there could only be made for all.
"""

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
# As published: powers of 1024. The other spellings are those of the configuration.
_SIZE = re.compile(r"([0-9]{1,15})(\.[0-9]{1,9})?\s?([KMGT]i?B?|B|)", re.IGNORECASE)
_UNITS = {"": 1, "K": KIB, "M": MIB, "G": GIB, "T": TIB}
# No colon, blank, backslash, quote or percent sign: the path goes through a unit file.
_TARGET = re.compile(r"(?:/[A-Za-z0-9_.@+,=-]+)+")


def check_name(name: str, what: str = "volume", act: str = "create") -> str:
    """Return the name of a volume, or of a snapshot."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"cannot {act} {what}: {quoted(name)} cannot be its name",
            reason=f"BAD_{what.upper()}_NAME",
            hint="use 1 to 63 letters, digits, - and _, with a letter or digit first and last",
        )
    return name


def parse_type(text: str) -> VolumeType:
    """Return the type; empty for the default."""
    try:
        return VolumeType(text or VolumeType.FILESYSTEM)
    except ValueError:
        raise InvalidRequest(
            f"cannot create volume: {quoted(text)} is no type of volumes",
            reason="BAD_VOLUME_TYPE",
            hint="types are filesystem and memory",
        ) from None


def parse_size(text: str, *, act: str = "create") -> int:
    """Return the bytes of a size such as ``500MB`` or ``1.5GB``: powers of 1024, as published."""
    match = _SIZE.fullmatch(text.strip())
    size = int(Decimal(match[1] + (match[2] or "")) * _UNITS[match[3][:1].upper().strip("B")]) if match else 0
    if not size:
        raise InvalidRequest(
            f"cannot {act} volume: {quoted(text)} is no size above zero",
            reason="BAD_VOLUME_SIZE",
            hint="give a number with its unit, for example 500MB or 1.5GB (B, KB, MB, GB, TB)",
        )
    if not LEAST_SIZE <= size <= MOST_SIZE:
        raise InvalidRequest(
            f"cannot {act} volume: its size must be from 1MB to 1024TB, not {quoted(text)}",
            reason="BAD_VOLUME_SIZE",
        )
    return size


def parse_mounts(texts: Sequence[str]) -> tuple[VolumeMount, ...]:
    """Return what ``NAME[:/path][:ro]`` ask for."""
    if len(texts) > MOST_MOUNTS:
        raise InvalidRequest(
            f"cannot run job: it has {len(texts)} volumes, at most {MOST_MOUNTS} are possible",
            reason="TOO_MANY_VOLUMES",
        )
    mounts = tuple(_parse_mount(text) for text in texts)
    for number, mount in enumerate(mounts):
        for other in mounts[:number]:
            _check_apart(mount.target, other.target)
    return mounts


def _parse_mount(text: str) -> VolumeMount:
    name, *rest = text.split(":")
    is_read_only = rest[-1:] == ["ro"]
    if is_read_only or rest[-1:] == ["rw"]:
        rest.pop()
    if len(rest) > 1 or not name:
        raise InvalidRequest(
            f"cannot run job: {quoted(text)} is no volume",
            reason="BAD_VOLUME",
            hint="write NAME[:/path][:ro]",
        )
    check_name(name, act="use")
    target = _checked_target(rest[0]) if rest else f"{DEFAULT_PLACE}/{name}"
    return VolumeMount(name, target, is_read_only)


def _checked_target(path: str) -> str:
    problem = _problem(path)
    if problem:
        raise InvalidRequest(
            f"cannot run job: a volume cannot be at {quoted(path)}: {problem}",
            reason="BAD_VOLUME_TARGET",
            hint=f"volumes can be at these directories or below them: {', '.join(PLACES)}",
        )
    return path


def _problem(path: str) -> str:
    if not path.startswith("/"):
        return "the path must be absolute"
    if not _TARGET.fullmatch(path) or len(path) > MOST_PATH:
        return "a path may have letters, digits and _.@+,=- between single slashes"
    if {".", ".."} & set(path.split("/")):
        return "a path must not contain . or .."
    if place_of(path) is None or path == DEFAULT_PLACE:
        return "the directory is the job's own or the host's" if _is_taken(path) else "there is no such place"
    return ""


def _is_taken(path: str) -> bool:
    return path.split("/")[1] in {
        *("bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "mnt", "proc", "root", "run"),
        *("sbin", "sys", "tmp", "usr", "var", "volumes", "work"),
    }


def place_of(target: str) -> str | None:
    """Return which of PLACES a directory is in or at; None for none."""
    return next((place for place in PLACES if target == place or target.startswith(f"{place}/")), None)


def _check_apart(target: str, other: str) -> None:
    if target == other:
        raise InvalidRequest(
            f"cannot run job: two volumes cannot both be at {target}",
            reason="BAD_VOLUME_TARGET",
            hint="give one of them another path: NAME:/path",
        )
    inner, outer = max(target, other, key=len), min(target, other, key=len)
    if inner.startswith(f"{outer}/"):
        # Whoever shares the outer one could put a link there, and so choose where the inner one appears.
        raise InvalidRequest(
            f"cannot run job: a volume cannot be inside another one: {inner} is below {outer}",
            reason="BAD_VOLUME_TARGET",
            hint="mount them side by side",
        )
