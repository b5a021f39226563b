"""What the agent does while nobody asks it for anything."""

import re
import shutil
import subprocess
import time
from collections import Counter

from tests.bench.agent_service import AgentService
from tests.bench.measures import Bound, Row
from tests.bench.processes import activity
from tests.bench.turns import agent_client

_SECONDS = 60
_TRACED_SECONDS = 30
# Names that gRPC's core gives its threads; a kernel thread name has 15 characters.
_OF_GRPC = ("grpc_", "timer_manager", "event_engine", "lifeguard", "default-execut", "resolver-execut")


def run(service: AgentService) -> list[Row]:
    """Measure voluntary context switches of all threads, and the processor time, over a minute.

    Nothing but the watchdog may wake it, which is kept quiet twice in WatchdogSec=; one more for a
    minute that begins in the middle. The note names the system calls of another half minute, by strace.
    """
    service.start()
    with agent_client() as client:
        client.ask("rate", jobs=20, workers=4)
    before = activity(service.pid)
    time.sleep(_SECONDS)
    after = activity(service.pid)
    note = _system_calls(service.pid)
    keep_alives = _SECONDS * 2 / service.watchdog_seconds
    service.clear_jobs()
    woken = after.wake_ups - before.wake_ups
    agents = sum(count for name, count in woken.items() if not name.startswith(_OF_GRPC))
    return [
        Row("idle", f"wake-ups in {_SECONDS} s", woken.total(), "", Bound(keep_alives + 1), note),
        Row("idle", "of these by threads of gRPC's core", woken.total() - agents, "", note=_told(woken)),
        Row("idle", "of these by threads of Python", agents, ""),
        Row("idle", f"processor time in {_SECONDS} s", (after.cpu_seconds - before.cpu_seconds) * 1e3, "ms"),
    ]


def _told(woken: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in woken.most_common())


def _system_calls(pid: int) -> str:
    if shutil.which("strace") is None:
        return ""
    traced = ["timeout", "--signal=INT", str(_TRACED_SECONDS), "strace", "-f", "-c", "-p", str(pid)]
    summary = subprocess.run(traced, check=False, capture_output=True, text=True).stderr
    calls = re.findall(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?([a-z_0-9]+)$", summary, re.M)
    listed = ", ".join(f"{count} {name}" for count, name in calls if name != "total")
    return f"system calls in {_TRACED_SECONDS} s: {listed or 'none'}"
