"""The same sources give the same bytes, whoever builds them, where and when."""

import hashlib
import os
from pathlib import Path

import pytest

from tests.testbed import CHECKOUT
from tests.testbed.building import NAME, Conditions, build, build_for_pip, unpack_sources
from tests.testbed.install import build_packages

pytestmark = pytest.mark.package

DIST = CHECKOUT / "dist"
ELSEWHERE = Conditions(
    path="/srv/another/folder/with/a/longer/name",
    user=4711,
    umask=0o077,
    env={
        "TZ": "Pacific/Kiritimati",
        "LC_ALL": "C",
        "LANGUAGE": "tr",
        "DEB_BUILD_OPTIONS": "parallel=3",
        "USER": "somebody",
    },
)
A_LONG_TIME_AGO = 1_000_000_000


def test_two_builds_of_the_debian_packages_give_the_same_bytes(tmp_path: Path) -> None:
    first = build_packages()
    _as_of_somebody_else(unpack_sources(DIST, tmp_path))
    assert _sums(build(tmp_path, ELSEWHERE)) == _sums(first)


def test_two_builds_of_wheel_and_sdist_give_the_same_bytes(tmp_path: Path) -> None:
    build_packages()
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        unpack_sources(DIST, folder)
    _as_of_somebody_else(there / NAME)
    first = build_for_pip(here)
    assert [path.suffix for path in first] == [".whl", ".gz"]
    assert _sums(build_for_pip(there, ELSEWHERE)) == _sums(first)


def _as_of_somebody_else(sources: Path) -> None:
    """Give the files another age and other modes."""
    for path in sources.rglob("*"):
        os.utime(path, (A_LONG_TIME_AGO, A_LONG_TIME_AGO))
        path.chmod(0o700 if path.is_dir() or path.stat().st_mode & 0o100 else 0o600)


def _sums(files: list[Path]) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
