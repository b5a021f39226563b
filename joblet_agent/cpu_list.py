"""Lists of CPUs as the kernel writes them: ``0-3,6``. Pure."""

import re
from collections.abc import Collection

MOST_CPUS = 8192
"""Numbers of CPUs are below this: the most that Linux can be built for (NR_CPUS)."""

_CPU_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_MOST_LIST = 4096


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
