"""How late a follower sees a line."""

from tests.bench.agent_service import AgentService
from tests.bench.measures import Bound, Row, percentile
from tests.bench.turns import agent_client

_LINES, _PAUSE = 400, 0.05


def run(service: AgentService) -> list[Row]:
    """Measure from the time that a job prints to the arrival of that line at its follower."""
    service.start()
    with agent_client() as client:
        delays = client.ask("line_delays", lines=_LINES, pause=_PAUSE)
    service.clear_jobs()
    return [
        Row("follow", f"one line, {len(delays)} lines, p50", percentile(delays, 50), "ms"),
        Row("follow", "one line, p99", percentile(delays, 99), "ms", Bound(20)),
        Row("follow", "one line, most", max(delays), "ms"),
    ]
