"""Ours serves the published clients: their methods and fields are there, with path, number and type.

Needs the package index on the first run; later runs use the cached environments.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.compat.definition import Definition, Difference, differences, load
from tests.compat.sdk import sdk_environment

pytestmark = pytest.mark.compat

ROOT = Path(__file__).resolve().parents[2]

NEWEST = "2.5.2"  # definition 2.5.9, the base of ours
# 2.2.0 has definition 2.3.0 without workflows, 2.1.1 has it with them.
VERSIONS = (NEWEST, "2.2.0", "2.1.1")


@dataclass(frozen=True, slots=True)
class Decision:
    """A difference that was decided on; `place` is the difference's, or a message with all its fields."""

    version: str
    place: str
    reason: str

    def covers(self, version: str, difference: Difference) -> bool:
        inside = difference.place == self.place or difference.place.startswith(f"{self.place}.")
        return version == self.version and inside


METRICS_REASON = (
    "GetJobMetrics and StreamJobMetrics kept their paths but not their reply: ours is JobMetricsEvent, "
    "as in definition 2.5.3 and later"
)
DECISIONS = (
    Decision("2.2.0", "joblet.JobMetricsSample", METRICS_REASON),
    Decision("2.1.1", "joblet.JobMetricsSample", METRICS_REASON),
)

# Fields of earlier definitions that the newest one dropped, and ours keeps under their numbers.
DROPPED_FIELDS = {
    "GetJobStatusResponse": [2, 21, 22],
    "HostInfo": [3, 4, 5, 7, 9, 10],
    "Job": [2],
    "ProcessInfo": [10],
    "RunJobRequest": [1, 15, 16, 17],
    "RunJobResponse": [3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Definition:
    """The definition in proto/ as it is now, not as it was when the package was last generated."""
    directory = tmp_path_factory.mktemp("ours")
    command = [sys.executable, str(ROOT / "proto" / "generate.py"), str(directory / "pb")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert result.returncode == 0, result.stderr
    return load(Path(sys.executable), "pb.joblet_pb2", directory)


@cache
def published(version: str) -> Definition:
    return load(sdk_environment(version), "joblet.proto.joblet_pb2")


@pytest.mark.parametrize("version", VERSIONS)
def test_serves_published_client(version: str, ours: Definition) -> None:
    theirs = published(version)
    assert theirs.methods
    unexpected = [
        f"{difference.place}: {difference.text}"
        for difference in differences(theirs, ours)
        if not any(decision.covers(version, difference) for decision in DECISIONS)
    ]
    assert unexpected == []


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda decision: f"{decision.version}-{decision.place}")
def test_decision_is_needed(decision: Decision, ours: Definition) -> None:
    found = differences(published(decision.version), ours)
    assert any(decision.covers(decision.version, difference) for difference in found), decision.reason


def test_has_the_names_of_the_newest_definition(ours: Definition) -> None:
    """Names are not on the wire, but in JSON, reflection and clients that load a definition at run time."""
    theirs = published(NEWEST)
    renamed = [
        f"{message}.{number}: {field.name}"
        for message, fields in theirs.messages.items()
        for number, field in fields.items()
        if ours.messages.get(message, {}).get(number) != field
    ]
    assert renamed == []
    assert theirs.messages.keys() - ours.messages.keys() == set()
    assert {path: ours.methods.get(path) for path in theirs.methods} == theirs.methods


def test_own_fields_are_numbered_from_100(ours: Definition) -> None:
    """Below 100 a message has the newest definition's fields, those it dropped, and none of ours."""
    kept = {}
    for message, fields in published(NEWEST).messages.items():
        more = ours.messages[message].keys() - fields.keys()
        if numbers := sorted(number for number in more if number < 100):
            kept[message.removeprefix("joblet.")] = numbers
    assert kept == DROPPED_FIELDS
