"""Agent and bare client in turns, so that what else the machine does hits both alike."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tests.bench.agent_service import ADDRESS, RUN, AgentService
from tests.bench.clients import Client

T = TypeVar("T")


def agent_client() -> Client:
    """Start a client of the agent."""
    return Client("agent_client", ADDRESS)


@contextmanager
def both_clients(service: AgentService, keys: str = "") -> Iterator["Turns"]:
    """Start both clients, and the agent with these keys in its configuration."""
    service.start(keys)  # makes the root directory that both use
    with agent_client() as agent, Client("bare_client", str(RUN / "root")) as bare:
        yield Turns(service, agent, bare, keys)
    service.clear_jobs()


class Turns:
    """Asks the agent's client and the bare one in turns.

    The agent does not run while the bare client is asked: it hears every signal of systemd, and what
    that takes would be counted against the bare client.
    """

    def __init__(self, service: AgentService, agent: Client, bare: Client, keys: str) -> None:
        self._service = service
        self._agent = agent
        self._bare = bare
        self._keys = keys

    def ask_agent(self, question: Callable[[Client], T]) -> T:
        """Ask the agent's client."""
        self._service.start(self._keys)
        return question(self._agent)

    def ask_bare(self, question: Callable[[Client], T]) -> T:
        """Ask the bare client."""
        self._service.stop()
        return question(self._bare)

    def take(self, rounds: int, question: Callable[[Client], T]) -> tuple[list[T], list[T]]:
        """Ask both the same for some rounds; return the answers of the agent's client and of the bare one."""
        pairs = [(self.ask_agent(question), self.ask_bare(question)) for _ in range(rounds)]
        return [ours for ours, _ in pairs], [theirs for _, theirs in pairs]
