"""Outputs of jobs in what others run."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.errors import InvalidRequest
from joblet_agent.model.job import JobRecord, JobSpec, JobState, new_job_id
from joblet_agent.workflow_file.outputs import OutputName, outputs_in, parse_output
from joblet_agent.workflow_file.variables import replaced
from joblet_agent.workflows.resolve import resolved

OUTPUTS = {"build": {"VERSION": "1.2", "DIR": "/data"}, "a.b": {"K": "dotted"}}


def template(spec: JobSpec) -> JobRecord:
    return JobRecord(new_job_id(), spec, JobState.PENDING, datetime(2026, 1, 1, tzinfo=UTC))


def resolved_spec(spec: JobSpec) -> JobSpec:
    return resolved(template(spec), OUTPUTS).spec


def test_outputs_are_put_in_wherever_they_may_be() -> None:
    spec = JobSpec(
        "deploy-${jobs.build.VERSION}",
        ("--version=${jobs.build.VERSION}", "${HOME}"),
        environment={"V": "v${jobs.build.VERSION}", "W": "${jobs.a.b.K}"},
        work_dir="${jobs.build.DIR}/x",
        network="none",
    )
    assert resolved_spec(spec) == JobSpec(
        "deploy-1.2",
        ("--version=1.2", "${HOME}"),
        environment={"V": "v1.2", "W": "dotted"},
        work_dir="/data/x",
        network="none",
    )


def test_a_job_without_references_stays_the_same() -> None:
    record = template(JobSpec("x", ("${HOME}",)))
    assert resolved(record, {}) is record


def test_a_doubled_dollar_is_the_text_itself() -> None:
    written = "echo $${jobs.build.VERSION} ${jobs.build.VERSION}"
    assert resolved_spec(JobSpec("sh", (replaced(written, lambda _name: None),))).args == (
        "echo ${jobs.build.VERSION} 1.2",
    )


def test_an_output_is_not_looked_at_again() -> None:
    found = resolved(
        template(JobSpec("echo", ("${jobs.a.X}",))), {"a": {"X": "${jobs.b.Y}"}, "b": {"Y": "no"}}
    )
    assert found.spec.args == ("${jobs.b.Y}",)


@pytest.mark.parametrize("outputs", [{}, {"build": {}}, {"other": {"VERSION": "1"}}])
def test_an_output_that_there_is_not_is_named_with_its_job(outputs: dict[str, dict[str, str]]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        resolved(template(JobSpec("${jobs.build.VERSION}")), outputs)
    assert caught.value.reason == "OUTPUT_MISSING"
    assert "${jobs.build.VERSION} has no value: job 'build' has not written VERSION" in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (JobSpec("${jobs.a.EMPTY}"), "COMMAND_REQUIRED"),
        (JobSpec("x", work_dir="${jobs.a.PLACE}"), "BAD_WORK_DIR"),
        (JobSpec("x", environment={"V": "${jobs.a.LONG}"}), "VARIABLE_TOO_LONG"),
    ],
)
def test_what_comes_out_is_checked_again(spec: JobSpec, reason: str) -> None:
    outputs = {"a": {"EMPTY": "", "PLACE": "relative", "LONG": "x" * 32769}}
    with pytest.raises(InvalidRequest) as caught:
        resolved(template(spec), outputs)
    assert caught.value.reason == reason


@given(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}", fullmatch=True), st.sampled_from(["K", "_k9"]))
def test_every_name_of_a_job_can_be_referred_to(job: str, key: str) -> None:
    name = OutputName(job, key)
    assert list(outputs_in(f"a {name} b")) == [name]
    assert parse_output(f"jobs.{job}.{key}") == name
