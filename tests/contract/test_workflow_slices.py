"""The suite of workflows' slices on the fake. On systemd it is in tests/integration/systemd."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from joblet_agent.model.job import JobSpec
from tests.contract.unit_manager_cases import Units
from tests.contract.workflow_slices_cases import WorkflowSlicesContract
from tests.fakes.unit_manager import FakeUnitManager


class TestFakeWorkflowSlices(WorkflowSlicesContract):
    @pytest.fixture(autouse=True)
    def _files_stay_ours(self, monkeypatch: pytest.MonkeyPatch) -> None:
        if os.getuid() != 0:  # only root may give files away
            monkeypatch.setattr(os, "chown", lambda *_arguments, **_options: None)

    @asynccontextmanager
    async def opened(self, home: Path) -> AsyncIterator[Units]:
        manager = FakeUnitManager()
        yield Units(manager, manager.slices, home)

    def sleeps(self) -> JobSpec:
        return JobSpec("sleep")
