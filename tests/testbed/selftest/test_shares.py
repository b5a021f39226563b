"""Tests are divided between machines: each has its share, and what has to be on both."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.testbed import CHECKOUT

_CONFTEST = """
from tests import shares

def pytest_addoption(parser):
    shares.add_option(parser)

def pytest_configure(config):
    config.addinivalue_line("markers", "both")

def pytest_collection_modifyitems(config, items):
    shares.keep_share(config, items)
"""
_TESTS = """
import pytest

@pytest.mark.parametrize("number", range(20))
def test_one(number): pass

@pytest.mark.both
@pytest.mark.parametrize("number", range(3))
def test_both(number): pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text(_CONFTEST)
    (tmp_path / "tests" / "e2e").mkdir(parents=True)
    (tmp_path / "tests" / "e2e" / "test_some.py").write_text(_TESTS)
    return tmp_path


def ran(folder: Path, *options: str) -> set[str]:
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", *options]
    output = subprocess.run(
        [*command, "--rootdir=.", "."],
        cwd=folder,
        env={"PYTHONPATH": str(CHECKOUT)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return {line for line in output.splitlines() if "::" in line}


def test_every_test_is_one_machine_s_but_for_those_of_both(folder: Path) -> None:
    everything = ran(folder)
    first, second = ran(folder, "--share=0/2"), ran(folder, "--share=1/2")
    assert len(everything) == 23
    assert first | second == everything
    assert {name.split("[")[0] for name in first & second} == {"tests/e2e/test_some.py::test_both"}
    assert len(first & second) == 3
    assert min(len(first), len(second)) > 3 + 4  # none has nearly all of them
