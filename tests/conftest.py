"""For all tests."""

from __future__ import annotations

import signal

import pytest
from hypothesis import HealthCheck, settings

import joblet_agent.systemd  # noqa: F401 - imports dbus-next as the agent does, before a test imports it alone
from tests import shares
from tests.runs import failures
from tests.sizes import IS_FULL

# No test asserts timings: the first example may come while the machine is busy. A run has the examples that
# the run before it had: what fails is the change's doing. With JOBLET_TEST_FULL=1 they are new ones.
_SLOW = [HealthCheck.too_slow]
settings.register_profile("joblet", deadline=None, derandomize=True, suppress_health_check=_SLOW)
settings.register_profile("soak", deadline=None, suppress_health_check=_SLOW)
settings.load_profile("soak" if IS_FULL else "joblet")


def pytest_addoption(parser: pytest.Parser) -> None:
    shares.add_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "testbed: boots machines to test the testbed itself")
    # A run that is told to end leaves its fixtures, as with Ctrl-C: machines are gone before it is.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A shell that starts a run in the background lets it ignore Ctrl-C, and its children would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    shares.keep_share(config, items)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Keep names of tests readable: pytest writes them in every line about a test."""
    return f"{val[:20]!r}-long" if isinstance(val, str | bytes) and len(val) > 200 else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    failures.write(terminalreporter)
