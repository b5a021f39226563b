"""The final figures of a job: from its launcher's report, or from whatever else knows some of them. Pure."""

from dataclasses import replace

from joblet_agent.jobs.metrics.link import Traffic
from joblet_agent.model.job import Outcome, Reason
from joblet_agent.model.metrics import FIGURES, Sample, Usage
from joblet_agent.units import readable_bytes

_PREFIX = "usage "
_COUNTERS = (
    "cpu_usec",
    "memory_peak",
    "read_bytes",
    "write_bytes",
    "read_ops",
    "write_ops",
    "recv_bytes",
    "sent_bytes",
)
_LARGEST = 2**63 - 1


def split_report(report: str) -> tuple[str, Usage | None]:
    """Return the launcher's report (units/joblet-launch) without its line of figures, and the figures.

    None if there is no such line, or half of one: the launcher was killed.
    """
    lines = report.splitlines(keepends=True)
    told = [line for line in lines if not line.startswith(_PREFIX)]
    figures = [line for line in lines if line.startswith(_PREFIX) and line.endswith("\n")]
    return "".join(told), _usage(figures[-1]) if figures else None


def _usage(line: str) -> Usage:
    found = dict.fromkeys(FIGURES, 0)
    for word in line.split()[1:]:
        name, _, number = word.partition("=")
        if name in FIGURES and number.isascii() and number.isdigit():
            found[name] = min(int(number), _LARGEST)
    return Usage(**found, is_partial=False)


def pieced_together(accounted: Usage, last: Sample | None) -> Usage:
    """Return the usage of a job whose launcher was killed: of each figure the highest that anybody knows."""
    sources: list[Usage | Sample] = [accounted] if last is None else [accounted, last]
    highest = {name: max(getattr(source, name) for source in sources) for name in _COUNTERS}
    return Usage(**highest, is_partial=True)


def with_traffic(usage: Usage, traffic: Traffic) -> Usage:
    """Return the usage with what went over the job's link until its end."""
    return replace(
        usage,
        recv_bytes=max(usage.recv_bytes, traffic.received),
        sent_bytes=max(usage.sent_bytes, traffic.sent),
    )


def with_memory_peak(outcome: Outcome, usage: Usage | None) -> Outcome:
    """Return the outcome, telling a job that was out of memory how much it had."""
    if outcome.reason is not Reason.OOM_KILL or usage is None or not usage.memory_peak:
        return outcome
    return replace(outcome, message=f"{outcome.message}, peak {readable_bytes(usage.memory_peak)}")


def summary(usage: Usage) -> str:
    """Return what a person wants to know first, in a few words; empty if nothing was counted."""
    parts = [f"{usage.cpu_usec / 1e6:.3g} s of CPU"] if usage.cpu_usec else []
    if usage.memory_peak:
        parts.append(f"memory peak {readable_bytes(usage.memory_peak)}")
    return ", ".join(parts)
