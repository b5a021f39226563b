"""A fake agent on a socket of its own, and the program run inside the test's process."""

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rnx.entry import run_program
from tests.unit.rnx.fake_agent import FakeAgent


@dataclass(frozen=True)
class Result:
    """What a command line did."""

    status: int
    out: str
    err: str


Rnx = Callable[..., Result]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("RNX_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAgent]:
    # The path of a socket has at most 107 bytes, which tmp_path may exceed.
    with tempfile.TemporaryDirectory(prefix="rnx-") as directory:
        fake = FakeAgent(Path(directory) / "agent.sock")
        fake.start()
        monkeypatch.setenv("RNX_ADDRESS", fake.address)
        yield fake
        fake.stop()


@pytest.fixture
def rnx(capfd: pytest.CaptureFixture[str]) -> Rnx:
    def run(*words: str) -> Result:
        status = run_program(words)
        out, err = capfd.readouterr()
        return Result(int(status), out, err)

    return run
