import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import yaml

from joblet_agent.pb import joblet_pb2 as pb
from rnx.usage import show_size
from tests.unit.rnx.conftest import Rnx
from tests.unit.rnx.fake_agent import UUID, FakeAgent, failure

MIB = 1 << 20


def event(number: int = 1, **more: Any) -> pb.JobMetricsEvent:
    fields: dict[str, Any] = {
        "timestamp": number * 5 * 10**9,
        "job_uuid": UUID,
        "cpu_percent": 50.0,
        "cpu_usec": 2_500_000,
    }
    return pb.JobMetricsEvent(**fields | {"sample_seconds": 5.0} | more)


def samples(request: Any, _: Any) -> Iterator[pb.JobMetricsEvent]:
    yield from (event(number) for number in (1, 2) if event(number).timestamp >= request.start_time)


def test_metrics_shows_each_sample_as_blocks(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["GetJobMetrics"] = event(
        memory_bytes=3 * MIB // 2, memory_limit=512 * MIB, disk_read_bytes=MIB, disk_read_ops=3, tasks=4
    )
    lines = rnx("job", "metrics", UUID).out.splitlines()
    assert lines[0].startswith("═══ Metrics Sample at ")
    assert lines[0].endswith("═══")
    assert lines[1:3] == [f"Job ID: {UUID}", "Sample Interval: 5s"]
    blocks = ["CPU:", "Memory:", "I/O:", "Network:", "Processes:", "GPU:", "Resource Limits:"]
    assert [line for line in lines[3:] if line and not line.startswith(" ")] == blocks
    assert {
        "  Usage: 50.0% of one core",
        "  Time: 2.50s",
        "  Current: 1.5 MiB",
        "  Read: 1.0 MiB in 3 operations, 0 B/s",
        "  Tasks: 4",
        "  Memory: 512.0 MiB",
    } < set(lines)
    assert agent.asked("GetJobMetrics") == [pb.GetJobMetricsRequest(job_uuid=UUID, follow=True)]


def test_traffic_that_nobody_counts_is_told_and_not_zero(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["GetJobMetrics"] = event(net_uncounted=True)
    words = "not counted, it is on the host's own network"
    assert f"Network:\n  Traffic: {words}\n" in rnx("job", "metrics", UUID).out
    for use in ({"metrics": event(net_uncounted=True)}, {"usage": pb.JobUsage(net_uncounted=True)}):
        agent.answers["GetJobStatus"] = pb.GetJobStatusResponse(uuid=UUID, status="RUNNING", **use)
        assert f"  Network: {words}\n" in rnx("status", UUID).out


def test_metrics_json_is_one_object_after_the_other(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["GetJobMetrics"] = samples
    out = rnx("job", "metrics", "--no-follow", "--json", UUID).out
    decoder, found = json.JSONDecoder(), []
    while out := out.lstrip():
        value, end = decoder.raw_decode(out)
        found.append(value)
        out = out[end:]
    assert [each["timestamp"] for each in found] == [5 * 10**9, 10**10]
    assert found[0].keys() == {field.name for field in pb.JobMetricsEvent.DESCRIPTOR.fields}
    assert agent.asked("GetJobMetrics") == [pb.GetJobMetricsRequest(job_uuid=UUID)]
    documents = list(yaml.safe_load_all(rnx("job", "metrics", "-o", "yaml", UUID).out))
    assert [each["cpu_percent"] for each in documents] == [50.0, 50.0]


def test_metrics_goes_on_where_the_connection_broke(agent: FakeAgent, rnx: Rnx) -> None:
    def breaks_once(request: Any, context: Any) -> Iterator[pb.JobMetricsEvent]:
        if not request.start_time:
            yield event(1)
            context.abort(grpc.StatusCode.UNAVAILABLE, "the agent is stopping")
        yield from samples(request, context)

    agent.answers["GetJobMetrics"] = breaks_once
    documents = yaml.safe_load_all(rnx("job", "metrics", "-o", "yaml", UUID).out)
    assert [each["timestamp"] for each in documents] == [5 * 10**9, 10**10]


def test_a_job_without_samples_is_an_error(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["GetJobMetrics"] = lambda *_: iter(())
    result = rnx("job", "metrics", UUID)
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith(f"rnx: no metrics available for job {UUID}\n")
    agent.answers["GetJobMetrics"] = failure(grpc.StatusCode.NOT_FOUND, "no job with id x", "JOB_NOT_FOUND")
    assert rnx("job", "metrics", "x").err == "rnx: no job with id x\n"


def test_top_is_printed_once_where_there_is_no_terminal(agent: FakeAgent, rnx: Rnx) -> None:
    busy = pb.RunningMetrics(
        metrics=event(cpu_percent=150.0, memory_bytes=MIB, tasks=3),
        name="n",
        command="sh",
        args=["-c", "x\ny"],
    )
    fresh = pb.RunningMetrics(metrics=pb.JobMetricsEvent(job_uuid="id-2"), command="\x1b[31mred")
    agent.answers["GetRunningMetrics"] = pb.GetRunningMetricsResponse(jobs=[fresh, busy], interval_seconds=5)
    lines = rnx("job", "top", UUID[:8]).out.splitlines()
    assert lines[0].split() == ["ID", "NAME", "CPU", "%", "MEMORY", "READ/S", "WRITE/S", "TASKS", "COMMAND"]
    assert lines[2].split() == [UUID, "n", "150.0", "1.0", "MiB", "0", "B", "0", "B", "3", "sh", "-c", "x..."]
    assert lines[3].split() == ["id-2", "-", "-", "-", "-", "-", "-", "\\x1b[31mred"]
    assert agent.asked("GetRunningMetrics") == [pb.GetRunningMetricsRequest(job_uuids=[UUID[:8]])]
    found = json.loads(rnx("job", "top", "--json").out)
    assert [(each["id"], each["cpu_percent"]) for each in found] == [(UUID, 150.0), ("id-2", 0.0)]
    assert found[0]["args"] == ["-c", "x\ny"]
    agent.answers["GetRunningMetrics"] = pb.GetRunningMetricsResponse()
    assert rnx("job", "top").out == "No running jobs\n"
    assert rnx("job", "top", "--json").out == "[]\n"


def test_top_is_drawn_again_on_a_terminal_until_ctrl_c(
    agent: FakeAgent, rnx: Rnx, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            raise KeyboardInterrupt

    agent.answers["GetRunningMetrics"] = pb.GetRunningMetricsResponse(interval_seconds=2.5)
    monkeypatch.setattr("rnx.commands.metrics.time.sleep", sleep)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    result = rnx("job", "top")
    assert (result.status, pauses) == (0, [2.5, 2.5])
    assert result.out.count("\x1b[HNo running jobs\x1b[K\x1b[J") == 2


STATUS: dict[str, Any] = {"uuid": UUID, "command": "true", "status": "FAILED"}


def test_status_shows_what_the_job_used(agent: FakeAgent, rnx: Rnx) -> None:
    usage = pb.JobUsage(
        cpu_usec=1_020_000,
        memory_peak=104 * MIB,
        disk_write_bytes=MIB,
        disk_write_ops=2,
        cpu_stalled_usec=30_000,
        partial=True,
    )
    agent.answers["GetJobStatus"] = pb.GetJobStatusResponse(**STATUS, usage=usage)
    text = rnx("status", UUID).out
    assert (
        "Resource Usage:\n"
        "  CPU Time: 1.02s\n"
        "  Peak Memory: 104.0 MiB\n"
        "  Disk Written: 1.0 MiB in 2 operations\n"
        "  Waited: 0.03s for CPU\n"
        "  Partial: yes, it was killed; what it used last is missing\n"
    ) in text
    data = json.loads(rnx("status", "--json", UUID).out)["usage"]
    assert (data["cpuUsec"], data["memoryPeak"], data["partial"]) == (1_020_000, 104 * MIB, True)
    agent.answers["GetJobStatus"] = pb.GetJobStatusResponse(**STATUS)
    assert "Resource Usage:" not in rnx("status", UUID).out
    assert "usage" not in json.loads(rnx("status", "--json", UUID).out)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**62, "4096.0 PiB")]
)
def test_sizes_are_in_binary_units(size: int, text: str) -> None:
    assert show_size(size) == text


def test_status_of_a_running_job_shows_what_it_uses_now(agent: FakeAgent, rnx: Rnx) -> None:
    metrics = pb.JobMetricsEvent(
        job_uuid=UUID,
        cpu_usec=1_500_000,
        cpu_percent=12.5,
        memory_bytes=3 << 20,
        memory_anon=2 << 20,
        memory_file=1 << 20,
        memory_peak=4 << 20,
        tasks=3,
        io_pressure=1.25,
        disk_read_ops=2,
        disk_read_bytes=2048,
        disk_read_rate=512,
    )
    agent.answers["GetJobStatus"] = pb.GetJobStatusResponse(uuid=UUID, status="RUNNING", metrics=metrics)
    shown = rnx("status", UUID).out.partition("Resource Usage:\n")[2].partition("\n\n")[0].splitlines()
    assert shown == [
        "  CPU Time: 1.50s, now 12.5% of one core",
        "  Memory: 3.0 MiB (2.0 MiB its own, 1.0 MiB page cache), peak 4.0 MiB",
        "  Disk Read: 2.0 KiB in 2 operations, 512 B/s",
        "  Tasks: 3",
        "  Pressure: I/O 1.25%",
    ]
    data = json.loads(rnx("status", "--json", UUID).out)["metrics"]
    assert (data["cpuUsec"], data["memoryFile"], data["ioPressure"]) == (1_500_000, 1 << 20, 1.25)
    assert "jobUuid" not in data
