import pytest

from tests.vm.rnx import Rnx

pytestmark = pytest.mark.vm


def test_first_job_runs_and_its_output_is_read_back(rnx: Rnx) -> None:
    job = rnx.run("echo", "Hello, Joblet!")
    assert rnx.log(job) == "Hello, Joblet!\n"
    assert rnx.status(job)["status"] == "COMPLETED"


def test_attached_job_gives_its_output_and_exit_status(rnx: Rnx) -> None:
    assert rnx.attach("sh", "-c", "echo out; exit 7") == (7, "out\n")
