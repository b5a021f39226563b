"""For all tests."""

import signal

import pytest
from hypothesis import settings

import joblet_agent.systemd  # noqa: F401 - imports dbus-next as the agent does, before a test imports it alone

# No test asserts timings: the first example may come while the machine is busy.
settings.register_profile("joblet", deadline=None)
settings.load_profile("joblet")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "testbed: boots machines to test the testbed itself")
    # A run that is told to end leaves its fixtures, as with Ctrl-C: machines are gone before it is.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A shell that starts a run in the background lets it ignore Ctrl-C, and its children would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
