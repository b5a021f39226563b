"""Records of the jobs' users: what is written, and that nothing of them is left behind."""

import json
import stat
from pathlib import Path

import pytest

from joblet_agent.errors import LaunchFailed
from joblet_agent.model.job import JobId
from joblet_agent.systemd import users
from joblet_agent.systemd.users import UserRecords
from tests.unit.systemd.plans import JOB

OTHER = JobId("7f3a0000-0001-4000-8000-000000000001")


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_a_record_is_found_by_number_and_by_name(tmp_path: Path) -> None:
    UserRecords(tmp_path).write(JOB, 70_001)
    for key in ("70001", "joblet-7f3a0000-0000"):
        user = json.loads((tmp_path / f"{key}.user").read_text())
        assert (user["userName"], user["uid"], user["gid"]) == ("joblet-7f3a0000-0000", 70_001, 70_001)
        assert (user["shell"], user["locked"]) == ("/usr/sbin/nologin", True)
        group = json.loads((tmp_path / f"{key}.group").read_text())
        assert (group["groupName"], group["gid"]) == ("joblet-7f3a0000-0000", 70_001)
    assert stat.S_IMODE((tmp_path / "70001.user").stat().st_mode) == 0o644


def test_a_job_that_starts_again_has_one_record(tmp_path: Path) -> None:
    records = UserRecords(tmp_path)
    records.write(JOB, 70_001)
    records.write(JOB, 70_002)
    assert {name for name in names(tmp_path) if name[0] == "7"} == {"70002.user", "70002.group"}


def test_nothing_is_left_of_a_job_that_has_gone(tmp_path: Path) -> None:
    records = UserRecords(tmp_path)
    records.write(JOB, 70_001)
    records.write(OTHER, 70_002)
    records.remove(JOB)
    records.remove(JOB)
    assert {name.split(".")[0] for name in names(tmp_path)} == {"70002", "joblet-7f3a0000-0001"}


def test_a_unit_that_is_left_over_does_not_take_the_record_of_the_next_job(tmp_path: Path) -> None:
    """Its job has ended, so its uid was free when the agent was started."""
    records = UserRecords(tmp_path)
    records.write(JOB, 70_001)
    records.write(OTHER, 70_001)
    records.remove(JOB)
    user = json.loads((tmp_path / "70001.user").read_text())
    assert user["userName"] == "joblet-7f3a0000-0001"
    assert {name.split(".")[0] for name in names(tmp_path)} == {"70001", "joblet-7f3a0000-0001"}


def test_an_agent_that_starts_keeps_the_records_of_running_jobs_only(tmp_path: Path) -> None:
    foreign = {"1000.user", "joe.user", "joblet-of-somebody.user"}
    for name in foreign:
        (tmp_path / name).write_text("{}")
    (tmp_path / "joblet-00000000-0000.user").write_text('{"userName": ')  # a crash in the middle of a line
    records = UserRecords(tmp_path)
    records.write(JOB, 70_001)
    records.write(OTHER, 70_002)
    UserRecords(tmp_path).keep_only([OTHER])
    assert {name.split(".")[0] for name in names(tmp_path) - foreign} == {"70002", "joblet-7f3a0000-0001"}
    assert foreign <= names(tmp_path)


def test_a_record_that_cannot_be_written_refuses_the_start(tmp_path: Path) -> None:
    with pytest.raises(LaunchFailed, match="the record of the job's user"):
        UserRecords(tmp_path / "absent").write(JOB, 70_001)


def test_a_host_that_does_not_read_the_records_is_found_out(tmp_path: Path) -> None:
    """It is the directory of a test: no host reads it."""
    assert "does not read" in UserRecords(tmp_path).trouble()
    assert names(tmp_path) == set()
    assert "cannot write" in UserRecords(tmp_path / "absent").trouble()


@pytest.mark.parametrize(
    ("switch", "told"),
    [
        ("passwd: files systemd\ngroup: files sss # ldap\n", "sss"),
        ("passwd: files\ngroup: files [SUCCESS=merge] systemd\ninitgroups: ldap\n", "ldap"),
    ],
)
def test_no_start_waits_for_a_directory_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, switch: str, told: str
) -> None:
    file = tmp_path / "nsswitch.conf"
    file.write_text(switch)
    monkeypatch.setattr(users, "_SWITCH", file)
    assert f"would ask {told} for" in UserRecords(tmp_path).trouble()
