"""The limits of a job as properties of its unit: what a start sets, and what can be changed while it runs.

Pure. A limit that is not set gives no property at a start, and ``infinity`` in a change, so that a change
also takes a limit away.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from joblet_agent.cpu_list import format_cpu_list, parse_cpu_list
from joblet_agent.model.resources import NOTHING, Resources
from joblet_agent.systemd.property import Property, Value
from joblet_agent.units import format_bytes

_INFINITY: Final = 2**64 - 1
_USEC_PER_PERCENT: Final = 10_000
_SIZES: Final = ("MemoryMax", "MemoryHigh", "MemorySwapMax")
_RATES: Final = ("IOReadBandwidthMax", "IOWriteBandwidthMax")
_CONTROL: Final = "systemd.resource-control(5)"

Rows = list[Property]


def limit_properties(resources: Resources, disks: Sequence[Path], names: Collection[str] = ()) -> Rows:
    """Return the properties of the limits that are set; of those in ``names``, set or not.

    ``disks`` are directories; systemd finds the disks that they are on.
    """
    return [
        entry
        for name, rows in _ROWS.items()
        if name in names or (not names and getattr(resources, name) != getattr(NOTHING, name))
        for entry in rows(resources, disks)
    ]


def ceilings_of(read: Mapping[str, Any]) -> dict[str, str]:
    """Return the ceilings among the properties of a slice, in the spelling of unit files."""
    ceilings = {
        "CPUQuota": _set(read, "CPUQuotaPerSecUSec", lambda usec: f"{usec // _USEC_PER_PERCENT}%"),
        "AllowedCPUs": cpus_of_mask(bytes(read.get("AllowedCPUs", b""))),
        **{name: _set(read, name, format_bytes) for name in _SIZES},
        **{name: _set(read, name, str) for name in ("TasksMax", "CPUWeight", "IOWeight")},
        **{name: "\n".join(f"{path} {rate}" for path, rate in read.get(name, [])) for name in _RATES},
    }
    return {name: text for name, text in ceilings.items() if text}


def _set(read: Mapping[str, Any], name: str, text: Callable[[Any], str]) -> str:
    value = read.get(name, _INFINITY)
    return "" if value == _INFINITY else text(value)


def cpus_of_mask(mask: bytes) -> str:
    """Return the list of CPUs that a bit mask of the bus says."""
    return format_cpu_list([number for number in range(8 * len(mask)) if mask[number // 8] >> number % 8 & 1])


def _cpu(resources: Resources, _disks: Sequence[Path]) -> Rows:
    usec = resources.max_cpu * _USEC_PER_PERCENT or _INFINITY
    return [Property("CPUQuotaPerSecUSec", "t", usec, "--max-cpu", _CONTROL)]


def _memory(resources: Resources, _disks: Sequence[Path]) -> Rows:
    # No MemoryHigh= below it: near that a job is slowed down until it stands still, which looks like a hang
    # and never ends. At MemoryMax= it ends, and its record says why.
    most = resources.max_memory or _INFINITY
    swap = 0 if resources.max_memory else _INFINITY
    return [
        Property("MemoryMax", "t", most, "--max-memory", _CONTROL),
        Property("MemorySwapMax", "t", swap, "--max-memory is a ceiling of all memory", _CONTROL),
    ]


def _io(resources: Resources, disks: Sequence[Path]) -> Rows:
    # Any path names the disk it is on: systemd looks behind partitions and encrypted volumes.
    pairs: list[Value] = [[str(path), resources.max_io_bps or _INFINITY] for path in disks]
    return [
        Property("IOReadBandwidthMax", "a(st)", pairs, "--max-iobps", _CONTROL),
        Property("IOWriteBandwidthMax", "a(st)", pairs, "--max-iobps", _CONTROL),
    ]


def _cores(resources: Resources, _disks: Sequence[Path]) -> Rows:
    cpus = parse_cpu_list(resources.cpu_cores) if resources.cpu_cores else ()
    mask = bytearray(max(cpus) // 8 + 1 if cpus else 0)
    for cpu in cpus:
        mask[cpu // 8] |= 1 << cpu % 8
    return [Property("AllowedCPUs", "ay", bytes(mask), "--cpu-cores", _CONTROL)]


def _timeout(resources: Resources, _disks: Sequence[Path]) -> Rows:
    usec = resources.timeout // timedelta(microseconds=1)
    return [Property("RuntimeMaxUSec", "t", usec, "--timeout", "systemd.service(5)")]


def _nice(resources: Resources, _disks: Sequence[Path]) -> Rows:
    return [Property("Nice", "i", resources.nice, "--nice", "systemd.exec(5)")]


def _tasks(resources: Resources, _disks: Sequence[Path]) -> Rows:
    return [Property("TasksMax", "t", resources.max_tasks or _INFINITY, "--max-tasks", _CONTROL)]


def _cpu_weight(resources: Resources, _disks: Sequence[Path]) -> Rows:
    return [Property("CPUWeight", "t", resources.cpu_weight or _INFINITY, "--cpu-weight", _CONTROL)]


def _io_weight(resources: Resources, _disks: Sequence[Path]) -> Rows:
    return [Property("IOWeight", "t", resources.io_weight or _INFINITY, "--io-weight", _CONTROL)]


# Weights: 2^64-1 is "not set" (CGROUP_WEIGHT_INVALID in systemd's basic/cgroup-util.h).
_ROWS: Mapping[str, Callable[[Resources, Sequence[Path]], Rows]] = {
    "max_cpu": _cpu,
    "cpu_cores": _cores,
    "max_memory": _memory,
    "max_io_bps": _io,
    "max_tasks": _tasks,
    "timeout": _timeout,
    "nice": _nice,
    "cpu_weight": _cpu_weight,
    "io_weight": _io_weight,
}
