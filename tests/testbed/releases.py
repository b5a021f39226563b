"""The Debian releases that are tested, and Ubuntu's as one more host of runtimes (``make runtimes``)."""

from __future__ import annotations

from enum import Enum
from pathlib import Path


class Release(Enum):
    """A release; the value is its code name."""

    BOOKWORM = "bookworm"
    TRIXIE = "trixie"
    NOBLE = "noble"


DEBIAN = (Release.BOOKWORM, Release.TRIXIE)
"""What everything is tested on."""


def host_release() -> Release | None:
    """The release this machine runs, or None when it is another system."""
    try:
        lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    codenames = [line.partition("=")[2].strip('"') for line in lines if line.startswith("VERSION_CODENAME=")]
    return next((release for release in Release if release.value in codenames), None)
