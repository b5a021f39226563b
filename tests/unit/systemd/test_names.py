import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.model.job import JobId
from joblet_agent.systemd.names import is_our_path, job_of_path, job_of_unit, unit_name, unit_path

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
