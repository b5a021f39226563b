"""For tests without a host."""

import os
from pathlib import Path

import pytest

_FREE = slice(3, 5)
"""f_bfree and f_bavail, in what os.statvfs returns."""


@pytest.fixture(autouse=True)
def _disk_with_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk be empty, however full the one is that the tests run on."""
    real = os.statvfs

    def roomy(path: int | str | Path) -> os.statvfs_result:
        found = list(real(path))
        found[_FREE] = [found[2], found[2]]
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "statvfs", roomy)
