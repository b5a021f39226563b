"""What one job may use of the host. Pure.

Zero, no time and an empty text mean: not set. What a job gets then is decided in jobs/limits.py.
"""

from dataclasses import dataclass
from datetime import timedelta

INT32_MAX = 2**31 - 1
LEAST_TASKS = 3
"""The launcher and its init take two (units/joblet-launch), the command is the third."""
MOST_TASKS = 4_194_304
"""The kernel's PID_MAX_LIMIT on 64-bit systems."""
MOST_NICE = 19
MOST_WEIGHT = 10_000
"""Of cpu.weight and io.weight; the least is 1."""


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
    work_size: int = 0
    """Bytes of the workspace, ``/work``."""


NOTHING = Resources()
