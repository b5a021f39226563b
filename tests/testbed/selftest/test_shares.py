"""Long tests are divided between machines: each has one, the others have none of it."""

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
    config.addinivalue_line("markers", "long")

def pytest_collection_modifyitems(config, items):
    shares.keep_share(config, items)
"""
_TESTS = """
import pytest

@pytest.mark.long
@pytest.mark.parametrize("number", range(20))
def test_long(number): pass

@pytest.mark.parametrize("number", range(3))
def test_short(number): pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text(_CONFTEST)
    (tmp_path / "test_some.py").write_text(_TESTS)
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


def test_every_long_test_is_one_machine_s_and_every_other_is_of_all(folder: Path) -> None:
    everything = ran(folder)
    first, second = ran(folder, "--share=0/2"), ran(folder, "--share=1/2")
    assert len(everything) == 23
    assert first | second == everything
    assert {name.split("[")[0] for name in first & second} == {"test_some.py::test_short"}
    assert len(first & second) == 3
    assert min(len(first), len(second)) > 3 + 4  # none has nearly all of them
