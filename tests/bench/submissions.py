"""Submissions into the queue while every slot is taken."""

from tests.bench.agent_service import AgentService
from tests.bench.commands import FOR_LONG, NOTHING
from tests.bench.measures import Bound, Row, median
from tests.bench.turns import agent_client

_SLOTS, _WORKERS = 4, 16
_ROUNDS, _JOBS = 5, 1000


def run(service: AgentService) -> list[Row]:
    """Measure accepted RunJob calls of 16 parallel clients with ``jobs.max_concurrent`` reached.

    Each is durable in the store before it is answered, so the disk is part of it.
    """
    service.start(f"jobs:\n  max_concurrent: {_SLOTS}\n")
    with agent_client() as client:
        client.ask("submit", command=FOR_LONG, jobs=_SLOTS, workers=_SLOTS)
        rates = [client.ask("submit", command=NOTHING, jobs=_JOBS, workers=_WORKERS) for _ in range(_ROUNDS)]
    service.clear_jobs()
    return [
        Row(
            "submissions",
            f"accepted, 16 clients, median of {_ROUNDS} x {_JOBS}",
            median(rates),
            "jobs/s",
            Bound(500, is_least=True),
        ),
        Row("submissions", "slowest round", min(rates), "jobs/s"),
    ]
