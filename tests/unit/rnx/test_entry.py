import tomllib
from pathlib import Path

import pytest

import joblet_agent
import rnx as package
from rnx import entry
from tests.unit.rnx.conftest import Rnx


def test_the_version_is_the_projects() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    place = project["tool"]["hatch"]["version"]["path"]
    assert joblet_agent.__file__.endswith(f"/{place}")  # in machines the installed one
    assert package.__version__ == joblet_agent.__version__


@pytest.mark.parametrize(("words", "status"), [(["list"], 1), (["run", "x"], 1), (["run", "-a", "x"], 125)])
def test_a_fault_of_ours_says_so(
    rnx: Rnx, monkeypatch: pytest.MonkeyPatch, words: list[str], status: int
) -> None:
    def fault(_: object) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(entry, "_dispatch", fault)
    result = rnx(*words)
    assert result.status == status
    assert "ZeroDivisionError" in result.err
    assert "this is a fault in rnx; please report it" in result.err
    assert result.out == ""


def test_ctrl_c_has_the_status_that_shells_expect(rnx: Rnx, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(entry, "_dispatch", interrupted)
    assert rnx("list").status == 130
