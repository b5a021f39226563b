"""An agent of each release for the published clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.testbed import DEBIAN, Machine, boot
from tests.testbed.install import install_package


@pytest.fixture(scope="session", params=DEBIAN, ids=lambda release: release.value)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine with an agent that was installed just now."""
    with boot(request.param) as booted:
        install_package(booted)
        yield booted
