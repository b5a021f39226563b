"""How the values of a running agent change: here, in place, and nowhere else.

Services hold the sections of one ``AgentConfig`` and read from them when they need a value, so that nobody
has to be told. They must not keep a copy of a value that may change, nor change one.
"""

from dataclasses import dataclass
from operator import attrgetter

from joblet_agent.config.contradictions import find_contradictions
from joblet_agent.config.keys import Key, every_key
from joblet_agent.config.load import build
from joblet_agent.config.rules import Change
from joblet_agent.config.values import AgentConfig


@dataclass(frozen=True, slots=True)
class Difference:
    """A key whose value is another one now."""

    key: Key
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.key.name}: {self.before} → {self.after}"


@dataclass(frozen=True, slots=True)
class Adopted:
    """What has become of a configuration that was read again."""

    changed: tuple[Difference, ...]
    """Those that count from now on."""
    needs_restart: tuple[Difference, ...]
    """Those that keep their value until the agent is started again, ``before``."""


def adopt(running: AgentConfig, wanted: AgentConfig) -> Adopted:
    """Let the running configuration have the wanted values, as far as it can without a restart.

    Values that are live, but contradict one that is not, wait for the restart, too.
    """
    differences = [
        Difference(key, key.text(running), key.text(wanted))
        for key in every_key()
        if key.of(running) != key.of(wanted)
    ]
    live = [each for each in differences if each.key.change is Change.LIVE]
    while waiting := _contradicting(running, wanted, live):
        live = [each for each in live if each.key.name not in waiting]
    for each in live:
        set_value(running, each.key.name, each.key.of(wanted))
    return Adopted(tuple(live), tuple(each for each in differences if each not in live))


def set_value(config: AgentConfig, key: str, value: object) -> None:
    """Change one value, for all who hold its section."""
    section, _, name = key.rpartition(".")
    holder = attrgetter(section)(config) if section else config
    object.__setattr__(holder, name, value)  # frozen: nobody else shall


def _contradicting(running: AgentConfig, wanted: AgentConfig, live: list[Difference]) -> set[str]:
    """Return which of the live ones do not fit what stays as it is."""
    names = {each.key.name for each in live}
    mixed = build({key.name: key.of(wanted if key.name in names else running) for key in every_key()})
    return names & {name for one in find_contradictions(mixed) for name in one.keys}
