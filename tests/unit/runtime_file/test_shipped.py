"""The definitions that come with the package are right, and all of them are there."""

from pathlib import Path

import pytest

from joblet_agent.runtime_file import load
from joblet_agent.runtime_file.languages import LANGUAGES, SUITES, Language

PLACE = Path(__file__).resolve().parents[3] / "units/runtimes"
if not PLACE.is_dir():  # a machine has what the package installs
    PLACE = Path("/usr/share/joblet/definitions")
SHIPPED = sorted(PLACE.glob("*.yaml"))


def test_they_are_all_there() -> None:
    assert sorted(path.stem for path in SHIPPED) == [
        *("go-1.24", "node-18", "node-20", "openjdk-17", "openjdk-21"),
        *("python-3.11", "python-3.11-ml", "python-3.12", "python-3.13"),
    ]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_each_is_right_and_pinned(path: Path) -> None:
    found = load(path.read_text(encoding="utf-8"), path.name)
    assert found.name == path.stem
    assert found.test
    assert found.description
    assert [each for each in found.warnings if "lock" not in each] == []


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=lambda each: f"{each.name}-{each.version}")
def test_each_language_has_all_that_a_build_needs(language: Language) -> None:
    assert language.suite in SUITES
    assert language.packages
    assert language.test
    assert language.environment["PATH_PREPEND"].startswith("/opt/runtime/")
    assert not any(name.startswith("JOBLET_") for name in language.environment)
    assert not any(each.startswith(("/", "..")) for each in language.directories)


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_pythons_have_what_wheels_expect_of_the_system(version: str) -> None:
    assert {"libstdc++6", "libgomp1"} <= set(LANGUAGES["python", version].packages)
