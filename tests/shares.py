"""Which machine runs a long test: ``make test`` has no time for all of them on each release."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from tests.testbed import DEBIAN

if TYPE_CHECKING:
    import pytest  # make test itself runs without it

OPTION = "--share"


def add_option(parser: pytest.Parser) -> None:
    """Add ``--share=I/N``: run part I of N, from 0 on, of the tests that are marked ``long``."""
    parser.addoption(OPTION, default="0/1", metavar="I/N", help="of tests marked long, run this part")


def keep_share(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is another machine's. The same name is always the same machine's."""
    index, count = (int(word) for word in str(config.getoption(OPTION)).split("/"))
    others = [item for item in items if item.get_closest_marker("long") and _share(item, count) != index]
    if others:
        config.hook.pytest_deselected(items=others)
        left_out = set(others)
        items[:] = [item for item in items if item not in left_out]


def _share(item: pytest.Item, count: int) -> int:
    """Return whose it is; of a file whose tests are there for each release, one machine has one release's."""
    parameters = getattr(item, "callspec").params.values() if hasattr(item, "callspec") else ()  # noqa: B009
    for release in (value for value in parameters if value in DEBIAN):
        return (_number(item.path.name) + DEBIAN.index(release)) % count
    return _number(item.nodeid) % count


def _number(name: str) -> int:
    return hashlib.sha256(name.encode()).digest()[0]
