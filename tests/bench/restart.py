"""How soon a restarted agent answers again and has all of 500 running jobs."""

import time

from tests.bench.agent_service import AgentService
from tests.bench.crowd import CROWD, start_crowd, wait_for_crowd
from tests.bench.measures import Bound, Row, median

_ROUNDS = 3


def run(service: AgentService) -> list[Row]:
    """Measure from the order to restart, and from the kill, to the answer that all jobs are RUNNING.

    A kill has the unit's RestartSec= in it.
    """
    service.start()
    start_crowd()
    wait_for_crowd()
    restarts, kills = [], []
    for _ in range(_ROUNDS):
        begin = time.perf_counter()
        service.restart()
        wait_for_crowd()
        restarts.append(time.perf_counter() - begin)
        pid = service.pid
        begin = time.perf_counter()
        service.kill()
        wait_for_crowd()
        kills.append(time.perf_counter() - begin)
        if service.pid == pid:
            raise SystemExit("bench: the killed agent still runs")
    service.clear_jobs()
    return [
        Row("restart", f"systemctl restart with {CROWD} jobs, median", median(restarts), "s", Bound(2)),
        Row("restart", f"kill -9 with {CROWD} jobs, median", median(kills), "s", Bound(2)),
        Row("restart", "slowest", max(*restarts, *kills), "s"),
    ]
