"""The packages of the version before this one, built from its own commit: what hosts upgrade from."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.testbed import host, locks
from tests.testbed.building import NAME, build
from tests.testbed.errors import TestbedError
from tests.testbed.packages import CHECKOUT

VERSION = "0.1.0"
COMMIT = "fc86743"


def previous_packages() -> list[Path]:
    """Return the ``.deb`` files of the version before, built unless they are there (10 s).

    Raises TestbedError without the repository's history.
    """
    dist = CHECKOUT / "dist" / "previous"
    dist.mkdir(parents=True, exist_ok=True)
    with locks.held(dist / ".lock"):
        if not list(dist.glob(f"*_{VERSION}_all.deb")):
            _build(dist)
    return sorted(dist.glob("*.deb"))


def _build(dist: Path) -> None:
    with TemporaryDirectory() as folder:
        source = Path(folder, NAME)
        try:
            host.call(["git", "clone", "--quiet", "--no-checkout", str(CHECKOUT), str(source)], timeout=120)
            host.call(["git", "-C", str(source), "checkout", "--quiet", COMMIT], timeout=120)
        except TestbedError as error:
            raise TestbedError(
                f"cannot build version {VERSION} to upgrade from: its commit {COMMIT} is not in this clone; "
                "fetch the whole history (git fetch --unshallow)"
            ) from error
        for package in build(Path(folder)):
            shutil.copyfile(package, dist / package.name)
