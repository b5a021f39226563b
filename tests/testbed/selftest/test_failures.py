"""What failed is told in a line each, wherever a test failed and however deep."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.runs import failures
from tests.runs.outcome import of_pytest
from tests.testbed import CHECKOUT

TESTS = """
import pytest

def helper(value):
    assert value == 1, f"it is {value}"

@pytest.fixture
def broken():
    raise ValueError("not to be had")

@pytest.fixture
def messy():
    yield
    helper(3)

def test_good(): pass

def test_deep():
    helper(2)

def test_setup(broken): pass

def test_teardown(messy): pass
"""
CONFTEST = """
from tests.runs import failures

def pytest_terminal_summary(terminalreporter):
    failures.write(terminalreporter)
"""
EXPECTED = [
    "test_it.py::test_deep, line 19 > 5: AssertionError: it is 2",
    "test_it.py::test_setup (setup), line 9: ValueError: not to be had",
    "test_it.py::test_teardown (teardown), line 14 > 5: AssertionError: it is 3",
]


@pytest.mark.parametrize("style", ["long", "native"])
def test_each_failed_test_has_a_line(tmp_path: Path, style: str) -> None:
    for name, text in (("test_it.py", TESTS), ("conftest.py", CONFTEST)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--tb={style}", "--rootdir=.", "."]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(CHECKOUT)}, capture_output=True, text=True, check=False
    )
    told = [line for line in map(failures.read, done.stdout.splitlines()) if line]
    assert told == EXPECTED, done.stdout + done.stderr
    assert done.returncode == 1


def test_a_run_that_ended_badly_without_a_failed_test_says_so() -> None:
    assert of_pytest(None, -9).failures == ("no test is counted as failed, but the exit status is -9",)


def test_a_part_in_which_everything_fails_does_not_hide_the_others() -> None:
    assert failures.shown("unit", ("a", "b", "c"), most=2) == ["unit: a", "unit: b", "unit: and 1 more"]
