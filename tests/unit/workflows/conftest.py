"""Job files for tests that do not run as root."""

import os

import pytest


@pytest.fixture(autouse=True)
def _files_stay_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only root may give files away; who owns a job's files is looked at in tests/integration."""
    if os.getuid() != 0:
        monkeypatch.setattr(os, "chown", lambda *_arguments, **_options: None)
