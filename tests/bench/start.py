"""From the request to the job's first instruction, against the same start by the bare client."""

from itertools import chain

from tests.bench.agent_service import AgentService
from tests.bench.measures import Bound, Row, compared, median
from tests.bench.turns import both_clients

_ROUNDS, _JOBS = 6, 40


def run(service: AgentService) -> list[Row]:
    """Measure jobs one after the other that print the time at once, in the default sandbox.

    Agent: from before RunJob is sent. Bare: from before StartTransientUnit is marshalled, with the
    files of the job prepared already.
    """
    with both_clients(service) as turns:
        series = turns.take(_ROUNDS, lambda client: client.ask("first_instructions", jobs=_JOBS))
    ours, theirs = (list(chain.from_iterable(rounds)) for rounds in series)
    return [
        *compared("start", "request to first instruction", "ms", ours, theirs),
        Row("start", "agent p50", median(ours), "ms", Bound(30)),
        Row("start", "agent p50 : bare p50", median(ours) / median(theirs), "x", Bound(1.25)),
    ]
