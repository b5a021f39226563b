"""What ``make runtimes`` measures of the runtime for machine learning: imports, and memory of many jobs."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path

from tests.testbed import Machine

RUNTIME = "python-3.11-ml"
JOBS = 4
_TRIES = 5
_IMPORT = """
import time
begun = time.monotonic()
import matplotlib.pyplot, numpy, pandas, scipy.optimize, scipy.stats, sklearn.ensemble
print(time.monotonic() - begun, flush=True)
"""
_STAYS = _IMPORT + "time.sleep(1000)\n"


def imports(machine: Machine) -> tuple[float, float]:
    """Return seconds of the import in a job, and in the same files without a sandbox: medians, by turns.

    Outside, too, /tmp is empty: matplotlib makes its list of fonts there, and would find it the next time.
    """
    info = json.loads(machine.run("rnx", "runtime", "info", RUNTIME, "--json").stdout)
    own = [f"{name}={value}" for name, value in info["environment"].items()]
    tree = f"/var/lib/joblet/runtimes/trees/{info['digest']}"
    script = 'mount --bind "$0" "$0"; mount -t tmpfs tmpfs "$0/tmp"; exec chroot "$0" env -i HOME=/tmp "$@"'
    outside = ("unshare", "--mount", "sh", "-ec", script, tree, *own, "python", "-c", _IMPORT)
    inside = ("rnx", "run", "--attach", f"--runtime={RUNTIME}", "--env=HOME=/tmp", "python", "-c", _IMPORT)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(_TRIES + 1):
        for command, found in zip((inside, outside), times, strict=True):
            found.append(float(machine.run(*command).stdout.split()[-1]))
    first, second = (statistics.median(found[1:]) for found in times)  # the first one reads from the disk
    return first, second


def page_cache(machine: Machine) -> tuple[int, int]:
    """Return the bytes of files in memory that one job needs, and ``JOBS`` jobs at once. Drops all others."""
    machine.run("sync")
    Path("/proc/sys/vm/drop_caches").write_text("3", encoding="ascii")
    before = _cached()
    jobs = [_started(machine)]
    one = _cached() - before
    jobs += [_started(machine) for _ in range(JOBS - 1)]
    all_of_them = _cached() - before
    for job in jobs:
        machine.run("rnx", "job", "stop", "--force", job, check=False)
    return one, all_of_them


def _started(machine: Machine) -> str:
    command = ("rnx", "run", "--detach", f"--runtime={RUNTIME}", "--env=HOME=/tmp", "python", "-c", _STAYS)
    job = machine.run(*command).stdout.split()[-1]
    said = f"until rnx job log --no-follow {job} | grep -q .; do sleep 0.2; done"
    machine.run("sh", "-c", said, timeout=120)
    return job


def _cached() -> int:
    """Bytes of files that the kernel keeps in memory, without those that are nowhere else."""
    text = Path("/proc/meminfo").read_text(encoding="ascii")
    kib = {name: int(value) for name, value in re.findall(r"^(Cached|Shmem): +(\d+) kB", text, re.MULTILINE)}
    return (kib["Cached"] - kib["Shmem"]) * 1024
