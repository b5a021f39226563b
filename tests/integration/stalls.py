"""What systemd, the bus daemon and this process are at when systemd does not answer, for a test's report."""

import contextlib
import logging
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

_STATES = ("wchan", "syscall", "stack")
_SOCKETS = ("ss", "--unix", "--processes", "--no-header")


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Print it whenever a connection to the bus is given up within the block."""
    handler = _Teller()
    logger = logging.getLogger("joblet_agent.systemd.bus")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Teller(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if "has not answered" not in record.getMessage():
            return
        print(record.getMessage())
        for process in (1, *_bus_daemons()):
            _tell_process(process)
        for thread in sorted(Path("/proc/self/task").iterdir()):
            _tell_states(thread, "this process")
        queued = subprocess.run(_SOCKETS, check=False, capture_output=True, text=True).stdout.splitlines()
        print(*(line for line in queued if line.split()[2:4] != ["0", "0"]), sep="\n")


def _bus_daemons() -> list[int]:
    found = subprocess.run(["pgrep", "-x", "dbus-daemon"], check=False, capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


def _tell_process(process: int) -> None:
    _tell_states(Path(f"/proc/{process}"), Path(f"/proc/{process}/comm").read_text(encoding="ascii").strip())


def _tell_states(folder: Path, name: str) -> None:
    told = []
    for state in _STATES:
        with contextlib.suppress(OSError):
            told.append(f"{state}: {(folder / state).read_text(encoding='ascii').strip()}")
    with contextlib.suppress(OSError):
        fields = (folder / "stat").read_text(encoding="ascii").rpartition(")")[2].split()
        seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        told.append(f"state: {fields[0]}, CPU: {seconds:.2f} s")
    print(f"{name} {folder.name}", *told, sep="\n    ")
