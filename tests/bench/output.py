"""A job that writes 1 GiB: with the agent, without it, and with a follower."""

from tests.bench.agent_service import AgentService
from tests.bench.clients import Client
from tests.bench.commands import GIB, writes
from tests.bench.measures import Bound, Row, median
from tests.bench.turns import Turns, both_clients

_ROUNDS = 8
_KEYS = "logs:\n  max_size: 4GiB\n"
_MEGABYTE = 1e6
_SOURCES = {
    "zeros": f"dd if=/dev/zero bs=64k count={GIB // 65536} status=none",
    "short lines": f"yes 'a line of output as programs write it' | head -c {GIB}",
}


def run(service: AgentService) -> list[Row]:
    """Measure the time that the job itself sees, from before its first byte to after its last.

    The bounds are for 1 GiB in blocks of 64 KiB; lines are reported beside it, because the agent looks
    at each of them for the journal. The follower's rate is from the request to the end of the stream.
    """
    with both_clients(service, _KEYS) as turns:
        return [*_blocks(turns), *_lines(turns)]


def _blocks(turns: Turns) -> list[Row]:
    command = writes(_SOURCES["zeros"])
    alone, bare, followed, rates = [], [], [], []
    for _ in range(_ROUNDS):
        alone.append(turns.ask_agent(lambda client: _seconds(client, command)))
        bare.append(turns.ask_bare(lambda client: float(client.ask("write", command=command))))
        answer = turns.ask_agent(lambda client: client.ask("write", command=command, follow=True))
        followed.append(answer["seconds"])
        rates.append(answer["bytes"] / answer["follow_seconds"] / _MEGABYTE)
        _check_bytes(answer["bytes"])
    return [
        Row("output", "1 GiB in blocks, bare, median", median(bare), "s"),
        Row("output", "1 GiB in blocks, agent, median", median(alone), "s"),
        Row("output", "1 GiB in blocks, agent and one follower, median", median(followed), "s"),
        Row("output", "agent : bare, medians", median(alone) / median(bare), "x", Bound(1.05)),
        Row("output", "agent and one follower : bare, medians", median(followed) / median(bare), "x"),
        Row("output", "follower, median", median(rates), "MB/s", Bound(200, is_least=True)),
    ]


def _lines(turns: Turns) -> list[Row]:
    command = writes(_SOURCES["short lines"])
    alone, bare = [], []
    for _ in range(_ROUNDS // 4):
        alone.append(turns.ask_agent(lambda client: _seconds(client, command)))
        bare.append(turns.ask_bare(lambda client: float(client.ask("write", command=command))))
    return [
        Row("output", "1 GiB in short lines, bare, least", min(bare), "s"),
        Row("output", "1 GiB in short lines, agent, least", min(alone), "s"),
        Row("output", "short lines, agent : bare", min(alone) / min(bare), "x"),
    ]


def _seconds(client: Client, command: list[str]) -> float:
    return float(client.ask("write", command=command, follow=False)["seconds"])


def _check_bytes(received: float) -> None:
    if received < GIB:
        raise SystemExit(f"bench: the follower got {received:.0f} bytes of {GIB}")
