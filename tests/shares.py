"""Which machine runs a long test: ``make test`` has no time for all of them on each release."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

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
    return zlib.crc32(item.nodeid.encode()) % count
