"""Jobs per second from parallel clients, against the same units by the bare client."""

from tests.bench.agent_service import AgentService
from tests.bench.measures import Bound, Row, median
from tests.bench.turns import both_clients

_ROUNDS, _JOBS, _WORKERS = 8, 160, 16


def run(service: AgentService) -> list[Row]:
    """Measure ``/bin/true`` in the default sandbox, 16 at a time, until each end is known.

    Agent: RunJob, then the log until the stream ends, which it does when the outcome is stored. Bare:
    start and signal; releases go on beside the next starts, as they do in the agent.
    """
    with both_clients(service) as turns:
        ours, theirs = turns.take(_ROUNDS, lambda client: client.ask("rate", jobs=_JOBS, workers=_WORKERS))
    ratio = median([our / their for our, their in zip(ours, theirs, strict=True)])
    return [
        Row("throughput", "agent, median of rounds", median(ours), "jobs/s"),
        Row("throughput", "bare, median of rounds", median(theirs), "jobs/s"),
        Row("throughput", "agent : bare, median of rounds", ratio, "x", Bound(0.8, is_least=True)),
    ]
