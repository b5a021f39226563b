"""Which runtime is meant by what is asked for."""

from pathlib import Path

import pytest

from joblet_agent.errors import InvalidRequest
from joblet_agent.model.runtime import Runtime, RuntimeFacts
from joblet_agent.runtimes.catalog import RuntimeCatalog
from joblet_agent.runtimes.store import RuntimeStore
from tests.fakes.clock import BEGINNING, FakeClock


class Installed(RuntimeStore):
    """A store that has these and no disk."""

    def __init__(self, *specs: str, architectures: tuple[str, ...] = ()) -> None:
        super().__init__(Path("/nowhere"), FakeClock())
        for spec in specs:
            name, _, version = spec.partition("@")
            facts = RuntimeFacts(name, version or "1.0.0", architectures=architectures)
            self._runtimes[facts.name, facts.version] = Runtime(facts, "0" * 64, 1, 1, BEGINNING)


def resolved(text: str, *specs: str) -> str:
    return str(RuntimeCatalog(Installed(*specs)).resolve(text).facts)


def refused(text: str, *specs: str, reason: str) -> str:
    with pytest.raises(InvalidRequest) as caught:
        resolved(text, *specs)
    assert caught.value.reason == reason
    return f"{caught.value} / {caught.value.hint}"


@pytest.mark.parametrize(
    ("text", "installed", "meant"),
    [
        ("python:3.11-ml", ["python-3.11", "python-3.11-ml"], "python-3.11-ml@1.0.0"),
        ("python-3.11-ml", ["python-3.11", "python-3.11-ml"], "python-3.11-ml@1.0.0"),
        ("python:3.11", ["python-3.11", "python-3.11-ml"], "python-3.11@1.0.0"),
        ("java:17", ["openjdk-17", "openjdk-21"], "openjdk-17@1.0.0"),
        ("java:21", ["openjdk-17", "openjdk-21"], "openjdk-21@1.0.0"),
        ("java:17@2.0.0", ["openjdk-17@1.0.0", "openjdk-17@2.0.0", "openjdk-17@3.0.0"], "openjdk-17@2.0.0"),
        ("java:17", ["openjdk-17", "java-17@0.1.0"], "java-17@0.1.0"),
        ("go", ["go-1.9", "go-1.24", "go-1.24-cgo"], "go-1.24@1.0.0"),
        ("golang", ["go-1.9", "go-1.24"], "go-1.24@1.0.0"),
        ("golang:1.24", ["go-1.9", "go-1.24"], "go-1.24@1.0.0"),
        ("golang:1.24", ["go-1.24", "golang-1.24"], "golang-1.24@1.0.0"),
        ("go", ["go-1.24", "go@0.1.0"], "go@0.1.0"),
        ("node:18", ["node-18", "node-20"], "node-18@1.0.0"),
        ("tool", ["tool@1.9.0", "tool@1.10.0", "tool@1.2.0"], "tool@1.10.0"),
        ("tool@latest", ["tool@1.9.0", "tool@1.10.0"], "tool@1.10.0"),
        ("tool", ["tool@1.0.0", "tool@2.0.0-rc.1"], "tool@1.0.0"),
        ("tool@2.0.0-rc.1", ["tool@1.0.0", "tool@2.0.0-rc.1"], "tool@2.0.0-rc.1"),
    ],
)
def test_what_is_meant(text: str, installed: list[str], meant: str) -> None:
    assert resolved(text, *installed) == meant
    assert resolved(text, *reversed(installed)) == meant


@pytest.mark.parametrize(
    ("text", "installed", "told"),
    [
        ("pyton-3.11", ["python-3.11", "node-20"], "did you mean python-3.11?"),
        ("python:3.12", ["python-3.11", "node-20"], "did you mean python-3.11?"),
        ("python", ["python-3.11"], "did you mean python-3.11?"),
        ("java", ["openjdk-17"], "none of this name"),
        ("go-1.24-cgo", ["go-1.24"], "did you mean go-1.24?"),
        ("go", ["go-1.24-cgo"], "none of this name"),
        ("zzz", ["python-3.11"], "see: rnx runtime list"),
        ("tool", [], "see: rnx runtime list"),
        ("tool@3.0.0", ["tool@1.0.0", "tool@2.0.0"], "there is tool@1.0.0, tool@2.0.0"),
        ("tool@1.0.0+b", ["tool@1.0.0"], "there is tool@1.0.0"),
        ("tool", ["tool@2.0.0-rc.1"], "there is tool@2.0.0-rc.1"),
    ],
)
def test_nothing_else_is_guessed(text: str, installed: list[str], told: str) -> None:
    assert told in refused(text, *installed, reason="RUNTIME_UNKNOWN")


@pytest.mark.parametrize(
    ("text", "installed", "meanings"),
    [
        ("java:21", ["openjdk-21", "graalvmjdk-21"], "graalvmjdk-21 or openjdk-21"),
        ("golang", ["go-1.24", "golang-1.24", "go-1.23"], "go-1.24 or golang-1.24"),
    ],
)
def test_an_alias_with_two_meanings_is_refused_with_both(
    text: str, installed: list[str], meanings: str
) -> None:
    assert meanings in refused(text, *installed, reason="RUNTIME_AMBIGUOUS")


def test_an_architecture_is_that_of_the_runtime() -> None:
    catalog = RuntimeCatalog(Installed("node-18", architectures=("amd64",)))
    assert catalog.resolve("node:18@x86_64").facts.name == "node-18"
    with pytest.raises(InvalidRequest, match="no version for arm64"):
        catalog.resolve("node:18@arm64")
    assert resolved("node:18@arm64", "node-18") == "node-18@1.0.0"
