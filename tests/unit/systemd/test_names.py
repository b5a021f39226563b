import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.model.job import JobId
from joblet_agent.systemd.names import (
    control_group,
    is_our_path,
    job_of_path,
    job_of_unit,
    slice_of,
    unit_name,
    unit_path,
    workflow_of_slice,
    workflow_slice,
)

IDS = st.uuids().map(lambda uuid: JobId(str(uuid)))


def encoded(name: str) -> str:
    """What systemd makes of a unit's name: systemd-mapping 3.2.4."""
    return "".join(
        chr(byte) if chr(byte).isalnum() and not (first and chr(byte).isdigit()) else f"_{byte:02x}"
        for first, byte in zip([True, *[False] * len(name.encode())], name.encode(), strict=False)
    )


@given(IDS)
def test_round_trip(job_id: JobId) -> None:
    assert job_of_unit(unit_name(job_id)) == job_id
    assert job_of_path(unit_path(job_id)) == job_id
    assert is_our_path(unit_path(job_id))


@given(IDS)
def test_paths_are_systemds(job_id: JobId) -> None:
    assert unit_path(job_id) == "/org/freedesktop/systemd1/unit/" + encoded(unit_name(job_id))


ID = JobId("7f3a0000-0000-4000-8000-00000000000a")


@pytest.mark.parametrize(  # A5
    "name",
    [
        "",
        "joblet-agent.service",
        "joblet-job-.service",
        f"joblet-job-{ID}.timer",
        f"joblet-job-{ID}.service.service",
        f"joblet-job-{ID}@x.service",
        f"joblet-job-{ID}\n.service",
        f"joblet-job-{ID} .service",
        f"xjoblet-job-{ID}.service",
        f"joblet-job-{ID.upper()}.service",
        f"joblet-job-{ID.replace('-', '_')}.service",
        f"joblet-job-{ID.replace('-', chr(92) + 'x2d')}.service",
        f"joblet-job-{ID[:-1]}%i.service",
        f"joblet-job-{ID}-{ID}.service",
        "joblet-job-../../x.service",
        "joblet-job-" + "a" * 300 + ".service",
        "joblet-job-" + "\u0660" * 8 + ID[8:] + ".service",
        "joblet-job-service",
        "joblet-job-.servic",
    ],
)
def test_what_is_no_jobs_unit(name: str) -> None:
    assert job_of_unit(name) is None
    assert job_of_path("/org/freedesktop/systemd1/unit/" + encoded(name)) is None


@pytest.mark.parametrize(
    "path", ["", "/", "/org/freedesktop/systemd1", unit_path(ID)[:-1], unit_path(ID) + "/x"]
)
def test_paths_of_other_things(path: str) -> None:
    assert job_of_path(path) is None


@given(st.text())
def test_any_text_is_a_name_or_none(text: str) -> None:
    for found in (job_of_unit(text), job_of_path(text)):
        assert found is None


@given(IDS)
def test_a_workflows_slice_is_right_below_that_of_all_jobs(workflow_id: str) -> None:
    name = workflow_slice(workflow_id)
    assert workflow_of_slice(name) == workflow_id
    assert name.startswith("joblet-jobs-")
    assert name.count("-") == 2
    assert slice_of(workflow_id) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "joblet-jobs.slice",
        "joblet-jobs-.slice",
        "joblet-jobs-tenant.slice",
        f"joblet-jobs-{'a' * 31}.slice",
        f"joblet-jobs-{'a' * 33}.slice",
        f"joblet-jobs-{'A' * 32}.slice",
        f"joblet-jobs-{'a' * 32}.slice\n",
        f"joblet-jobs-{'a' * 32}.service",
        f"joblet-jobs-{'a' * 32}-x.slice",
        f"joblet-jobs-{ID}.slice",
        f"xjoblet-jobs-{'a' * 32}.slice",
        "joblet-jobs-" + "\u0660" * 32 + ".slice",
    ],
)
def test_what_is_no_workflows_slice(name: str) -> None:
    assert workflow_of_slice(name) is None


def test_control_groups() -> None:
    jobs = "/sys/fs/cgroup/joblet.slice/joblet-jobs.slice"
    assert slice_of("") == "joblet-jobs.slice"
    assert str(control_group(ID)) == f"{jobs}/joblet-job-{ID}.service"
    inner = f"joblet-jobs-{ID.replace('-', '')}.slice/joblet-job-{ID}.service"
    assert str(control_group(ID, workflow_id=ID)) == f"{jobs}/{inner}"
    assert str(control_group(ID, "/machine", ID)) == f"{jobs.replace('cgroup', 'cgroup/machine')}/{inner}"
