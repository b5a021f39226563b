import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from joblet_agent.systemd.explain import explain_unit
from joblet_agent.systemd.properties import LAUNCHER, unit_properties
from tests.unit.systemd.plans import JOB, RELEASES, WORKFLOW, WORKFLOW_SLICE, plan, settings


@pytest.mark.parametrize("version", RELEASES)
def test_every_property_is_explained(version: int) -> None:
    explanation = explain_unit(plan(), settings(version))
    assert explanation.unit == f"joblet-job-{JOB}.service"
    assert len(explanation.properties) == len(unit_properties(plan(), settings(version)))
    assert all(told.name and told.origin and told.documentation for told in explanation.properties)


def test_people_see_the_spelling_of_unit_files() -> None:
    told = {entry.name: entry.value for entry in explain_unit(plan("echo", "a b"), settings(257)).properties}
    assert told["TimeoutStopSec"] == "10s"
    assert told["UMask"] == "0022"
    assert told["PrivateNetwork"] == "yes"
    assert told["StandardOutput"] == "append:/var/lib/joblet/jobs/x/output.log"
    assert told["RestrictNamespaces"] == "mnt pid"
    assert told["CapabilityBoundingSet"] == "CAP_SETGID CAP_SETUID CAP_SETPCAP CAP_SYS_ADMIN"
    assert told["SystemCallFilter"].startswith("~@clock ")
    assert told["BindPaths"] == "/var/lib/joblet/jobs/x/work:/work:norbind"
    assert told["ExecStart"] == LAUNCHER


def test_the_slice_of_a_workflow_is_explained() -> None:
    explanation = explain_unit(replace(plan(), workflow_id=WORKFLOW), settings(257))
    (told,) = [entry for entry in explanation.properties if entry.name == "Slice"]
    assert (told.value, told.origin) == (WORKFLOW_SLICE, "jobs of a workflow are in one slice")
    assert told.documentation == "systemd.resource-control(5)"
    assert f"--property=Slice={WORKFLOW_SLICE}" in shlex.split(explanation.systemd_run)


@pytest.mark.parametrize("version", RELEASES)
def test_the_command_line_is_one_that_a_shell_reads_back(version: int) -> None:
    words = shlex.split(explain_unit(plan("sh", "-c", "echo 'x' \"y\"\n$Z"), settings(version)).systemd_run)
    assert words[0] == "systemd-run"
    assert words[words.index("--") + 1 :] == [LAUNCHER]
    for word in (
        "JOBLET_LAUNCH=100001 100001 3",
        "JOBLET_ARG_0=sh",
        "JOBLET_ARG_1=-c",
        "JOBLET_ARG_2=echo 'x' \"y\"\n$Z",
    ):
        assert f"--setenv={word}" in words


def test_variables_are_told_to_whoever_may_ask() -> None:
    words = shlex.split(explain_unit(plan("env", environment={"A": "1 2"}), settings(257)).systemd_run)
    assert "--setenv=JOBLET_ENV_A=1 2" in words


def test_c3_secrets_are_named_and_starred() -> None:
    spec = replace(plan().spec, secret_environment=("KEY",), secret_files=("key.pem",))
    secret = replace(
        plan(), spec=spec, environment={"KEY": "***"}, credentials=Path("/run/joblet/credentials/x")
    )
    explanation = explain_unit(secret, settings(257))
    told = {entry.name: entry.value for entry in explanation.properties}
    assert "/run/joblet/credentials/x:/run/secrets:norbind" in told["BindReadOnlyPaths"].split()
    assert "*** stands for the secret variables: KEY" in explanation.notes
    assert "/run/secrets has the secret files: key.pem" in explanation.notes
    assert "--setenv=JOBLET_ENV_KEY=***" in shlex.split(explanation.systemd_run)


@pytest.mark.parametrize("version", RELEASES)
def test_a_job_without_secret_files_pays_for_no_mount(version: int) -> None:
    told = {entry.name: entry.value for entry in explain_unit(plan(), settings(version)).properties}
    assert "/run/secrets" not in told["BindReadOnlyPaths"]
