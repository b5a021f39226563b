"""The counters of a job's link."""

from pathlib import Path

import pytest

from joblet_agent.jobs.metrics.link import Links, Traffic
from joblet_agent.model.ids import JobId

JOB = JobId("7f3a0000-0000-4000-8000-000000000000")


def test_what_the_job_sends_is_what_the_hosts_end_receives(tmp_path: Path) -> None:
    counters = tmp_path / "jb-7f3a" / "statistics"
    counters.mkdir(parents=True)
    (counters / "rx_bytes").write_text("18446744073709551615\n")
    (counters / "tx_bytes").write_text("7\n")
    links = Links(lambda job_id: f"jb-{job_id[:4]}", tmp_path)
    assert links.traffic(JOB) == Traffic(received=7, sent=2**64 - 1)


@pytest.mark.parametrize("there", ["", "statistics", "statistics/rx_bytes/"])
def test_a_job_without_a_link_has_no_traffic(tmp_path: Path, there: str) -> None:
    (tmp_path / "jb" / there).mkdir(parents=True)
    assert Links(lambda _job_id: "jb", tmp_path).traffic(JOB) == Traffic()
