"""Control groups made of ordinary files."""

from collections.abc import Sequence
from pathlib import Path

FILES = {
    "cpu.stat": "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\nnr_periods 0\n",
    "memory.current": "1048576\n",
    "memory.peak": "2097152\n",
    "memory.max": "536870912\n",
    "memory.stat": "anon 700000\nfile 300000\nkernel 48576\nkernel_stack 16384\ninactive_anon 5\n",
    "io.stat": "8:0 rbytes=1000 wbytes=200 rios=10 wios=1 dbytes=5 dios=5\n"
    "7:1 \n253:0 rbytes=100 wbytes=20 rios=1 wios=1 dbytes=0 dios=0\n",
    "pids.current": "3\n",
    "cpu.pressure": "some avg10=1.50 avg60=0.00 avg300=0.00 total=100\n"
    "full avg10=9.00 avg60=0.00 avg300=0.00 total=1\n",
    "memory.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    "io.pressure": "some avg10=22.07 avg60=1.00 avg300=0.00 total=7\n",
}


def make_group(path: Path, *, without: Sequence[str] = ()) -> None:
    """Make a group, without the files whose names begin with one of these."""
    path.mkdir(parents=True)
    for name, text in FILES.items():
        if not name.startswith(tuple(without)):
            (path / name).write_text(text)


def set_cpu(path: Path, usec: int) -> None:
    """Let the group have used so much CPU time."""
    (path / "cpu.stat").write_text(f"usage_usec {usec}\n")
