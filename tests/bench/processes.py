"""What the kernel says of a process: memory, processor time, wake-ups."""

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

_KIB = 1024


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident bytes of a process; ``pss`` counts shared pages by their share."""

    rss: int
    pss: int


@dataclass(frozen=True, slots=True)
class Activity:
    """What a process has done so far."""

    wake_ups: Counter[str]
    """How often its threads gave up the processor themselves, that is, came back from waiting; by name."""
    cpu_seconds: float


def memory(pid: int) -> Memory:
    """Return the memory of the process now."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return Memory(_kibibytes("Rss", text) * _KIB, _kibibytes("Pss", text) * _KIB)


def activity(pid: int) -> Activity:
    """Return wake-ups and processor time since the process started."""
    wake_ups: Counter[str] = Counter()
    for task in Path(f"/proc/{pid}/task").iterdir():
        status = (task / "status").read_text(encoding="ascii")
        switches = re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.M)
        wake_ups[(task / "comm").read_text(encoding="ascii").strip()] += int(switches[0])
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])  # utime and stime of proc_pid_stat(5)
    return Activity(wake_ups, ticks / os.sysconf("SC_CLK_TCK"))


def thread_count(pid: int) -> int:
    """Return how many threads the process has."""
    return len(os.listdir(f"/proc/{pid}/task"))


def _kibibytes(key: str, text: str) -> int:
    return int(re.findall(rf"^{key}:\s+(\d+) kB", text, re.M)[0])
