import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.jobs.metrics.usage import (
    pieced_together,
    split_report,
    summary,
    with_memory_peak,
)
from joblet_agent.model.job import JobState, Outcome, Reason
from joblet_agent.model.metrics import Sample, Usage

LINE = "usage cpu_stalled_usec=7 cpu_usec=1500 memory_peak=4096 read_bytes=1 write_ops=2\n"
USAGE = Usage(cpu_usec=1500, memory_peak=4096, read_bytes=1, write_ops=2, cpu_stalled_usec=7)


@pytest.mark.parametrize(
    ("report", "told", "usage"),
    [
        ("", "", None),
        ("0 launched\n", "0 launched\n", None),
        ("0 launched\n" + LINE, "0 launched\n", USAGE),
        ("0 launched\n" + LINE + "2 No such file\n", "0 launched\n2 No such file\n", USAGE),
        ("0 launched\nusage cpu_us", "0 launched\n", None),  # killed while it wrote
        ("0 launched\nusage \n", "0 launched\n", Usage()),
        ("usage x=1 cpu_usec=-1 memory_peak=²\n", "", Usage()),
        (f"usage cpu_usec={10**30}\n", "", Usage(cpu_usec=2**63 - 1)),
    ],
)
def test_the_line_of_figures_is_taken_out_of_the_report(report: str, told: str, usage: Usage | None) -> None:
    assert split_report(report) == (told, usage)


@given(st.text())
def test_no_report_breaks_it(report: str) -> None:
    told, _ = split_report(f"0 launched\n{report}")
    assert told.startswith("0 launched\n")


def test_of_a_killed_job_the_highest_figure_counts() -> None:
    accounted = Usage(cpu_usec=900, memory_peak=0, read_bytes=50)
    last = Sample(1, cpu_usec=700, memory=5, memory_peak=9, read_bytes=60)
    assert pieced_together(accounted, last) == Usage(
        cpu_usec=900, memory_peak=9, read_bytes=60, is_partial=True
    )
    assert pieced_together(accounted, None) == Usage(cpu_usec=900, read_bytes=50, is_partial=True)


def test_out_of_memory_tells_the_peak() -> None:
    killed = Outcome(JobState.FAILED, Reason.OOM_KILL, -1, 9, "out of memory")
    assert with_memory_peak(killed, Usage(memory_peak=512 << 20)).message == "out of memory, peak 512 MiB"
    assert with_memory_peak(killed, Usage()) is killed
    assert with_memory_peak(killed, None) is killed
    done = Outcome(JobState.COMPLETED)
    assert with_memory_peak(done, Usage(memory_peak=1)) is done


def test_texts() -> None:
    assert summary(Usage()) == ""
    assert summary(Usage(cpu_usec=1_020_000, memory_peak=104 << 20)) == "1.02 s of CPU, memory peak 104 MiB"
