"""Metrics on the wire: proto to model values and back, without logic."""

from joblet_agent.model.job import JobRecord
from joblet_agent.model.metrics import MetricsQuery, Reading
from joblet_agent.model.network import BuiltIn
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.convert import rfc3339


def metrics_query_from_proto(request: pb.GetJobMetricsRequest) -> MetricsQuery:
    """Return which samples are wanted."""
    return MetricsQuery(
        start_ns=request.start_time, end_ns=request.end_time, limit=request.limit, follow=request.follow
    )


def reading_to_proto(record: JobRecord, reading: Reading) -> pb.JobMetricsEvent:
    """Return one sample of a job."""
    sample = reading.sample
    return pb.JobMetricsEvent(
        timestamp=sample.taken_ns,
        job_uuid=record.id,
        cpu_percent=reading.cpu_percent,
        memory_bytes=sample.memory,
        memory_limit=sample.memory_limit,
        memory_anon=sample.memory_anon,
        memory_file=sample.memory_file,
        memory_kernel=sample.memory_kernel,
        disk_read_bytes=sample.read_bytes,
        disk_write_bytes=sample.write_bytes,
        net_recv_bytes=sample.recv_bytes,
        net_sent_bytes=sample.sent_bytes,
        net_uncounted=record.spec.network == BuiltIn.HOST,
        cpu_usec=sample.cpu_usec,
        memory_peak=sample.memory_peak,
        tasks=sample.tasks,
        cpu_pressure=sample.cpu_pressure,
        memory_pressure=sample.memory_pressure,
        io_pressure=sample.io_pressure,
        disk_read_ops=sample.read_ops,
        disk_write_ops=sample.write_ops,
        disk_read_rate=reading.read_rate,
        disk_write_rate=reading.write_rate,
        sample_seconds=reading.seconds,
    )


def running_to_proto(record: JobRecord, reading: Reading | None) -> pb.RunningMetrics:
    """Return the newest sample of a running job, and which job it is."""
    event = reading_to_proto(record, reading) if reading else pb.JobMetricsEvent(job_uuid=record.id)
    return pb.RunningMetrics(
        metrics=event,
        name=record.spec.name,
        command=record.spec.command,
        args=record.spec.args,
        start_time=rfc3339(record.started_at),
    )
