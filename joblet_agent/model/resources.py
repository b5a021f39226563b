"""What one job may use of the host. Pure.

Zero, no time and an empty text mean: not set. What a job gets then is decided in jobs/limits.py.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from joblet_agent.model.units import parse_duration

INT32_MAX = 2**31 - 1
MOST_CPUS = 8192
"""Numbers of CPUs are below this: the most that Linux can be built for (NR_CPUS)."""
LEAST_TASKS = 3
"""The launcher and its init take two (units/joblet-launch), the command is the third."""
MOST_TASKS = 4_194_304
"""The kernel's PID_MAX_LIMIT on 64-bit systems."""
MOST_NICE = 19
MOST_WEIGHT = 10_000
"""Of cpu.weight and io.weight; the least is 1."""
LONGEST_TIME = timedelta(days=36500)

_CPU_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_MOST_LIST = 4096


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits of one job."""

    max_cpu: int = 0
    """Percent of one core: 250 is two and a half cores."""
    max_memory: int = 0
    """Bytes; there is no swap beside it."""
    max_io_bps: int = 0
    """Bytes per second, of reads and of writes, on each block device."""
    cpu_cores: str = ""
    """CPUs as the kernel writes a list of them: ``0-3,6``."""
    max_tasks: int = 0
    """Processes and threads, two of them the launcher's."""
    timeout: timedelta = timedelta(0)
    nice: int = 0
    cpu_weight: int = 0
    io_weight: int = 0


NOTHING = Resources()


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """Return the CPUs of ``0-3``, ``0,2,4``, ``0-1,6``, each once and in order.

    Raises ValueError with what it expects.
    """
    cpus: set[int] = set()
    if len(text) > _MOST_LIST:
        raise ValueError(f"expected at most {_MOST_LIST} characters")
    for part in text.split(","):
        match = _CPU_RANGE.fullmatch(part.strip())
        if match is None:
            raise ValueError("expected CPUs such as 0-3, 0,2,4 or 0-1,6")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"expected ranges that rise, not {part.strip()}")
        if last >= MOST_CPUS:
            raise ValueError(f"expected CPUs below {MOST_CPUS}")
        cpus.update(range(first, last + 1))
    return tuple(sorted(cpus))


def format_cpu_list(cpus: Collection[int]) -> str:
    """Return the shortest list that ``parse_cpu_list`` reads back; the kernel writes the same."""
    ranges: list[list[int]] = []
    for cpu in sorted(cpus):
        if ranges and ranges[-1][1] == cpu - 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in ranges)


def parse_timeout(text: str) -> timedelta:
    """Return the time limit that ``30s``, ``5m`` or ``1h30m`` says; ValueError for none, and for zero."""
    timeout = parse_duration(text)
    if not timedelta(0) < timeout <= LONGEST_TIME:
        raise ValueError(f"expected more than 0s and at most {LONGEST_TIME.days}d")
    return timeout
