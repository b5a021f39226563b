"""What it takes to sample 500 running jobs every five seconds."""

import time

from tests.bench.agent_service import AgentService
from tests.bench.crowd import CROWD, start_crowd, wait_for_crowd
from tests.bench.measures import Bound, Row
from tests.bench.processes import activity, memory

_SECONDS = 40
_SETTLING_SECONDS = 10


def run(service: AgentService) -> list[Row]:
    """Measure the agent's processor time with 500 sleeping jobs, with and without samples.

    The difference is what samples cost; the rest is what the agent does for nothing. Its memory holds
    a reading of every job.
    """
    with_samples, resident = _share(service, "")
    without, _ = _share(service, "metrics:\n  enabled: false\n")
    service.clear_jobs()
    share = f"of one core, {CROWD} jobs sampled every 5 s"
    return [
        Row("metrics", share, with_samples, "%", Bound(3)),
        Row("metrics", "of these without samples", without, "%"),
        Row("metrics", "one sample of one job", with_samples / 100 * 5 / CROWD * 1e6, "us"),
        Row("metrics", "agent with samples, RSS", resident / 1e6, "MB", Bound(90)),
    ]


def _share(service: AgentService, keys: str) -> tuple[float, int]:
    """Return the percent of a core that the agent takes, and its resident bytes."""
    service.start(keys)
    start_crowd()
    wait_for_crowd()
    time.sleep(_SETTLING_SECONDS)
    before, began = activity(service.pid), time.monotonic()
    time.sleep(_SECONDS)
    after, ended = activity(service.pid), time.monotonic()
    resident = memory(service.pid).rss
    service.clear_jobs()
    return 100 * (after.cpu_seconds - before.cpu_seconds) / (ended - began), resident
