"""What jobs use, for the eye and for programs: samples, the table of running jobs, final figures."""

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from rnx.output import Column, clean, table
from rnx.views import short_command

_WIDTH = 72
_USEC = 1e6
_UNCOUNTED = "not counted, it is on the host's own network"
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_EVENT_KEYS = (
    "timestamp",
    "job_uuid",
    "cpu_percent",
    "memory_bytes",
    "memory_limit",
    "disk_read_bytes",
    "disk_write_bytes",
    "net_recv_bytes",
    "net_sent_bytes",
    "gpu_percent",
    "gpu_memory_bytes",
    "cpu_usec",
    "memory_peak",
    "tasks",
    "cpu_pressure",
    "memory_pressure",
    "io_pressure",
    "disk_read_ops",
    "disk_write_ops",
    "disk_read_rate",
    "disk_write_rate",
    "sample_seconds",
    "memory_anon",
    "memory_file",
    "memory_kernel",
    "net_uncounted",
)
_CAMEL = {key: re.sub("_(.)", lambda found: found[1].upper(), key) for key in _EVENT_KEYS}


def show_size(size: float) -> str:
    """Return a number of bytes in binary units: 512 B, 1.5 MiB."""
    for unit in _UNITS:
        if size < 1024 or unit == _UNITS[-1]:  # noqa: PLR2004 - the step of binary units
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def event_data(event: Any) -> dict[str, object]:
    """Return a sample (JobMetricsEvent) with all its fields by their names on the wire."""
    return {key: getattr(event, key) for key in _EVENT_KEYS}


def event_text(event: Any) -> str:
    """Return a sample as blocks below a line that tells its time."""
    moment = datetime.fromtimestamp(event.timestamp // 1_000_000_000).astimezone()
    title = f"═══ Metrics Sample at {moment:%H:%M:%S} "
    limit = show_size(event.memory_limit) if event.memory_limit else "none"
    blocks = {
        "CPU:": [
            f"Usage: {event.cpu_percent:.1f}% of one core",
            f"Time: {event.cpu_usec / _USEC:.2f}s",
            f"Pressure: {event.cpu_pressure:.2f}%",
        ],
        "Memory:": [
            f"Current: {_memory(event)}",
            f"Peak: {show_size(event.memory_peak)}",
            f"Pressure: {event.memory_pressure:.2f}%",
        ],
        "I/O:": [
            f"Read: {_at_rate(event.disk_read_bytes, event.disk_read_ops, event.disk_read_rate)}",
            f"Written: {_at_rate(event.disk_write_bytes, event.disk_write_ops, event.disk_write_rate)}",
            f"Pressure: {event.io_pressure:.2f}%",
        ],
        "Network:": [
            f"Received: {show_size(event.net_recv_bytes)}",
            f"Sent: {show_size(event.net_sent_bytes)}",
        ]
        if not event.net_uncounted
        else [f"Traffic: {_UNCOUNTED}"],
        "Processes:": [f"Tasks: {event.tasks}"],
        "GPU:": [f"Usage: {event.gpu_percent:.1f}%", f"Memory: {show_size(event.gpu_memory_bytes)}"],
        "Resource Limits:": [f"Memory: {limit}"],
    }
    return "\n".join(
        [
            title + "═" * (_WIDTH - len(title)),
            f"Job ID: {clean(event.job_uuid)}",
            f"Sample Interval: {event.sample_seconds:.0f}s",
            *(line for name, lines in blocks.items() for line in (name, *(f"  {each}" for each in lines))),
            "",
        ]
    )


def top_data(job: Any) -> dict[str, object]:
    """Return a running job (RunningMetrics) for programs."""
    event = job.metrics
    return {
        "id": event.job_uuid,
        "name": job.name,
        "command": job.command,
        "args": list(job.args),
        "start_time": job.start_time,
        **{key: value for key, value in event_data(event).items() if key != "job_uuid"},
    }


def top_table(jobs: Iterable[Any]) -> str:
    """Return the table of running jobs; what has not been sampled yet is a dash."""
    rows = [_row(job) for job in jobs]
    if not rows:
        return "No running jobs"
    titles = ("CPU %", "MEMORY", "READ/S", "WRITE/S", "TASKS")
    columns = (Column("ID", 38), Column("NAME", 25), *map(Column, titles), Column("COMMAND"))
    return table(columns, rows)


def use_data(event: Any) -> dict[str, object]:
    """Return what a running job uses (JobMetricsEvent) for ``status --json``, with its kind of keys."""
    return {_CAMEL[key]: value for key, value in event_data(event).items() if key != "job_uuid"}


def use_lines(event: Any) -> list[str]:
    """Return what a running job uses now, one a line; what nobody counts is left out."""
    pressure = {"CPU": event.cpu_pressure, "memory": event.memory_pressure, "I/O": event.io_pressure}
    peak = f", peak {show_size(event.memory_peak)}" if event.memory_peak else ""
    figures = {
        "CPU Time": f"{event.cpu_usec / _USEC:.2f}s, now {event.cpu_percent:.1f}% of one core",
        "Memory": event.memory_bytes and f"{_memory(event)}{peak}",
        "Disk Read": event.disk_read_ops
        and _at_rate(event.disk_read_bytes, event.disk_read_ops, event.disk_read_rate),
        "Disk Written": event.disk_write_ops
        and _at_rate(event.disk_write_bytes, event.disk_write_ops, event.disk_write_rate),
        "Network": event.net_uncounted and _UNCOUNTED,
        "Network Received": event.net_recv_bytes and show_size(event.net_recv_bytes),
        "Network Sent": event.net_sent_bytes and show_size(event.net_sent_bytes),
        "Tasks": event.tasks,
        "Pressure": ", ".join(f"{what} {share:.2f}%" for what, share in pressure.items() if share),
    }
    return [f"{name}: {text}" for name, text in figures.items() if text]


def usage_data(usage: Any) -> dict[str, object]:
    """Return final figures (JobUsage) for programs."""
    return {
        "cpuUsec": usage.cpu_usec,
        "memoryPeak": usage.memory_peak,
        "diskReadBytes": usage.disk_read_bytes,
        "diskWriteBytes": usage.disk_write_bytes,
        "diskReadOps": usage.disk_read_ops,
        "diskWriteOps": usage.disk_write_ops,
        "netRecvBytes": usage.net_recv_bytes,
        "netSentBytes": usage.net_sent_bytes,
        "netUncounted": usage.net_uncounted,
        "cpuStalledUsec": usage.cpu_stalled_usec,
        "memoryStalledUsec": usage.memory_stalled_usec,
        "ioStalledUsec": usage.io_stalled_usec,
        "partial": usage.partial,
    }


def usage_lines(usage: Any) -> list[str]:
    """Return final figures, one a line; what nobody counted is left out."""
    stalled = {
        "CPU": usage.cpu_stalled_usec,
        "memory": usage.memory_stalled_usec,
        "I/O": usage.io_stalled_usec,
    }
    waited = ", ".join(f"{usec / _USEC:.2f}s for {what}" for what, usec in stalled.items() if usec)
    figures = {
        "CPU Time": f"{usage.cpu_usec / _USEC:.2f}s",
        "Peak Memory": usage.memory_peak and show_size(usage.memory_peak),
        "Disk Read": usage.disk_read_ops and _total(usage.disk_read_bytes, usage.disk_read_ops),
        "Disk Written": usage.disk_write_ops and _total(usage.disk_write_bytes, usage.disk_write_ops),
        "Network": usage.net_uncounted and _UNCOUNTED,
        "Network Received": usage.net_recv_bytes and show_size(usage.net_recv_bytes),
        "Network Sent": usage.net_sent_bytes and show_size(usage.net_sent_bytes),
        "Waited": waited,
    }
    partial = ["Partial: yes, it was killed; what it used last is missing"] if usage.partial else []
    return [*(f"{name}: {text}" for name, text in figures.items() if text), *partial]


def _row(job: Any) -> list[str]:
    event = job.metrics
    known = ["-"] * 5
    if event.timestamp:
        known = [
            f"{event.cpu_percent:.1f}",
            show_size(event.memory_bytes),
            show_size(event.disk_read_rate),
            show_size(event.disk_write_rate),
            str(event.tasks),
        ]
    return [event.job_uuid, job.name, *known, short_command(job.command, job.args)]


def _memory(event: Any) -> str:
    """Return the memory in use, and whose it is as far as the host tells."""
    parts = {"its own": event.memory_anon, "page cache": event.memory_file, "kernel": event.memory_kernel}
    told = ", ".join(f"{show_size(size)} {what}" for what, size in parts.items() if size)
    return f"{show_size(event.memory_bytes)} ({told})" if told else show_size(event.memory_bytes)


def _at_rate(size: int, operations: int, rate: float) -> str:
    return f"{_total(size, operations)}, {show_size(rate)}/s"


def _total(size: int, operations: int) -> str:
    return f"{show_size(size)} in {operations} operations"
