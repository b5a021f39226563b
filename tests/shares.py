"""Which machine runs what: ``make test`` has no time for all tests on each release.

Tests of the adapters (``tests/integration``, ``tests/contract``) and those that are marked ``both`` are for
each release; of ``tests/unit`` and ``tests/e2e`` each machine has its share, and of the files of tests on the
host that boot a machine of each release (``tests/package``) each share has one release.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from tests.testbed import DEBIAN, Release

if TYPE_CHECKING:
    import pytest  # make test itself runs without it

OPTION = "--share"
_SHARED = ("tests/unit/", "tests/e2e/")


def add_option(parser: pytest.Parser) -> None:
    """Add ``--share=I/N``: run part I of N, from 0 on, of the tests that are shared; all without it."""
    parser.addoption(OPTION, default="0/1", metavar="I/N", help="run this part of the tests that are shared")


def keep_share(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is another machine's. The same name is always the same machine's."""
    index, count = (int(word) for word in str(config.getoption(OPTION)).split("/"))
    others = {item for item in items if _is_shared(item) and _share(item, count) != index}
    if others:
        config.hook.pytest_deselected(items=[item for item in items if item in others])
        items[:] = [item for item in items if item not in others]


def _is_shared(item: pytest.Item) -> bool:
    if item.get_closest_marker("both") is not None:
        return False
    return item.nodeid.startswith(_SHARED) or _release(item) is not None


def _share(item: pytest.Item, count: int) -> int:
    """Return whose it is. Of a file that is there for each release, a share has one release, all of it."""
    release = _release(item)
    if release is None:
        return _number(item.nodeid) % count
    return (_number(item.path.name) + DEBIAN.index(release)) % count


def _release(item: pytest.Item) -> Release | None:
    """Return the release that the test is for: its parameter, or its fixture's."""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return next((value for value in parameters if isinstance(value, Release)), None)


def _number(name: str) -> int:
    return hashlib.sha256(name.encode()).digest()[6]  # any would do; this one shares the time evenly
