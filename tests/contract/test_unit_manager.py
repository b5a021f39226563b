"""The suite of unit managers on the fake. On systemd it is in tests/integration/systemd."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from joblet_agent.model.job import JobSpec
from tests.contract.unit_manager_cases import UnitManagerContract, Units
from tests.fakes.unit_manager import FakeUnitManager


class TestFakeUnitManager(UnitManagerContract):
    def setup_method(self) -> None:
        self._manager = FakeUnitManager()

    @pytest.fixture(autouse=True)
    def _files_stay_ours(self, monkeypatch: pytest.MonkeyPatch) -> None:
        if os.getuid() != 0:  # only root may give files away
            monkeypatch.setattr(os, "chown", lambda *_arguments, **_options: None)

    @asynccontextmanager
    async def opened(self, home: Path) -> AsyncIterator[Units]:
        yield Units(self._manager, self._manager.slices, home)

    def exits(self, number: int) -> JobSpec:
        return JobSpec("exit", (str(number),))

    def is_killed_by(self, number: int) -> JobSpec:
        return JobSpec("signal", (str(number),))

    def sleeps(self) -> JobSpec:
        return JobSpec("sleep")

    def is_missing(self) -> JobSpec:
        return JobSpec("missing")
