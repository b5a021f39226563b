"""What went over a job's link to its network: the counters of the host's end (sysfs-class-net-statistics).

They are of the namespace's pair of devices, so nothing of the job can change them, and they are there until
the job is detached. Blocking, some microseconds. Bytes are those of frames, with headers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from joblet_agent.model.ids import JobId

_INTERFACES = Path("/sys/class/net")


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes, since the job was attached."""

    received: int = 0
    sent: int = 0


class Links:
    """The links of jobs."""

    def __init__(self, interface: Callable[[JobId], str], directory: Path = _INTERFACES) -> None:
        """``interface`` names the host's end of a job's link; ``directory`` has one for each interface."""
        self._interface = interface
        self.directory = directory

    def traffic(self, job_id: JobId) -> Traffic:
        """Return what went over the job's link; nothing if it has none."""
        counters = self.directory / self._interface(job_id) / "statistics"
        # What the job sends is what the host's end receives.
        return Traffic(received=_number(counters / "tx_bytes"), sent=_number(counters / "rx_bytes"))


def _number(path: Path) -> int:
    try:
        return int(path.read_bytes())
    except (OSError, ValueError):  # it is going just now, or there is none
        return 0
