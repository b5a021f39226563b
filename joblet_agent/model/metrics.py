"""What jobs use of the host: samples while they run, and the final figures.

A figure that the host does not count (a controller that is not there, an older kernel) is 0.
Sizes are bytes, counters go up from the start of the job.
"""

from dataclasses import dataclass, fields

_NS_PER_SECOND = 1e9
_USEC_PER_SECOND = 1e6


@dataclass(frozen=True, slots=True)
class Sample:
    """What a job had used at one moment."""

    taken_ns: int
    """Unix nanoseconds; the samples of a job ascend."""
    cpu_usec: int = 0
    memory: int = 0
    """In use now, page cache included."""
    memory_peak: int = 0
    memory_limit: int = 0
    """The job's own ceiling; 0 for none."""
    memory_anon: int = 0
    """Of ``memory`` what its processes hold that is in no file, ``anon`` of memory.stat; below likewise."""
    memory_file: int = 0
    """Page cache: what the kernel can take back if it has to."""
    memory_kernel: int = 0
    read_bytes: int = 0
    write_bytes: int = 0
    read_ops: int = 0
    write_ops: int = 0
    recv_bytes: int = 0
    sent_bytes: int = 0
    tasks: int = 0
    """Processes and threads now."""
    cpu_pressure: float = 0.0
    """Percent of the last ten seconds in which some task waited for a CPU; memory and io likewise."""
    memory_pressure: float = 0.0
    io_pressure: float = 0.0


@dataclass(frozen=True, slots=True)
class Reading:
    """A sample, and what happened since the one before it (since the start, for the first)."""

    sample: Sample
    seconds: float
    """Since the sample before."""
    cpu_percent: float
    """Of one core."""
    read_rate: float
    """Bytes per second."""
    write_rate: float

    @classmethod
    def between(cls, before: Sample, now: Sample) -> "Reading":
        """Return the reading of ``now``; ``before`` is the sample that precedes it."""
        seconds = max(now.taken_ns - before.taken_ns, 0) / _NS_PER_SECOND

        def rate(end: int, begin: int) -> float:
            return max(end - begin, 0) / seconds if seconds else 0.0

        return cls(
            sample=now,
            seconds=seconds,
            cpu_percent=100 * rate(now.cpu_usec, before.cpu_usec) / _USEC_PER_SECOND,
            read_rate=rate(now.read_bytes, before.read_bytes),
            write_rate=rate(now.write_bytes, before.write_bytes),
        )


@dataclass(frozen=True, slots=True)
class MetricsQuery:
    """Which samples are wanted."""

    start_ns: int = 0
    """First time wanted, Unix ns."""
    end_ns: int = 0
    """Last time wanted; 0 for no bound."""
    limit: int = 0
    """Most samples, the first ones of the range; 0 for all."""
    follow: bool = False
    """Behind what is stored, go on until the job has ended."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a job used from its start to its end."""

    cpu_usec: int = 0
    memory_peak: int = 0
    read_bytes: int = 0
    write_bytes: int = 0
    read_ops: int = 0
    write_ops: int = 0
    recv_bytes: int = 0
    sent_bytes: int = 0
    cpu_stalled_usec: int = 0
    """Time in which some task of the job waited for a CPU; memory and io likewise."""
    memory_stalled_usec: int = 0
    io_stalled_usec: int = 0
    is_partial: bool = False
    """The job was killed before it could be asked: what systemd and the last sample know, perhaps too low."""


FIGURES = tuple(field.name for field in fields(Usage) if field.name != "is_partial")
"""The names of the figures of a Usage."""
