"""The packages of the version before this one, built from its last commit: what hosts upgrade from."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.testbed import host, locks
from tests.testbed.building import NAME, build
from tests.testbed.errors import TestbedError
from tests.testbed.packages import CHECKOUT

_CHANGELOG = "debian/changelog"
_ENTRY = re.compile(r"^joblet \((.*)\)", re.MULTILINE)

_CURRENT, VERSION = _ENTRY.findall((CHECKOUT / _CHANGELOG).read_text(encoding="utf-8"))[:2]


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
        host.call(["git", "clone", "--quiet", "--no-checkout", str(CHECKOUT), str(source)], timeout=120)
        host.call(["git", "-C", str(source), "checkout", "--quiet", _last_commit()], timeout=120)
        for package in build(Path(folder)):
            shutil.copyfile(package, dist / package.name)


def _last_commit() -> str:
    """Return the commit before the one that began this version, or the last one if none has yet."""
    entry = f"joblet ({_CURRENT})"
    began = _git("log", "--format=%H", "--reverse", f"-S{entry}", "--", _CHANGELOG).split()
    commit = f"{began[0]}^" if began else "HEAD"
    try:
        there = _ENTRY.findall(_git("show", f"{commit}:{_CHANGELOG}"))
    except TestbedError:
        there = []
    if there[:1] != [VERSION]:
        raise TestbedError(
            f"cannot build version {VERSION} to upgrade from: its last commit is not in this clone; "
            "fetch the whole history (git fetch --unshallow)"
        )
    return commit


def _git(*words: str) -> str:
    return host.call(["git", "-C", str(CHECKOUT), *words])
