"""Resident memory of the agent: idle, with 500 running jobs, and for each of them."""

from tests.bench.agent_service import AgentService
from tests.bench.crowd import CROWD, start_crowd, wait_for_crowd
from tests.bench.measures import Bound, Row
from tests.bench.processes import memory, thread_count
from tests.bench.turns import agent_client

_MB, _KB = 1e6, 1e3
_WARM_UPS = 50


def run(service: AgentService) -> list[Row]:
    """Measure the main process of the unit.

    Idle is after 50 jobs have come and gone, so that what is loaded late counts as idle and not as a
    job's share. A job's share is the growth to 500 running ones.
    """
    service.start()
    fresh = memory(service.pid)
    with agent_client() as client:
        client.ask("rate", jobs=_WARM_UPS, workers=16)
    idle = memory(service.pid)
    start_crowd()
    wait_for_crowd()
    crowded = memory(service.pid)
    threads = thread_count(service.pid)
    service.restart()
    wait_for_crowd()
    adopted = memory(service.pid)
    service.clear_jobs()
    return [
        Row("memory", "just started, RSS", fresh.rss / _MB, "MB"),
        Row("memory", f"idle after {_WARM_UPS} jobs, RSS", idle.rss / _MB, "MB", Bound(50)),
        Row("memory", "idle, PSS", idle.pss / _MB, "MB"),
        Row("memory", f"{CROWD} running jobs, RSS", crowded.rss / _MB, "MB", Bound(90)),
        Row("memory", f"{CROWD} running jobs, PSS", crowded.pss / _MB, "MB"),
        Row("memory", "per running job", (crowded.rss - idle.rss) / CROWD / _KB, "KB", Bound(80)),
        Row("memory", f"{CROWD} jobs adopted at a restart, RSS", adopted.rss / _MB, "MB"),
        Row("memory", "threads", threads, ""),
    ]
