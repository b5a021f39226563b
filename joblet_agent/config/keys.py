"""Every key by its name, for those who go through all of them: what shows, compares and documents values."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from functools import cache
from operator import attrgetter
from typing import get_type_hints

from joblet_agent.config.rules import Change, Count, Rule, Switch
from joblet_agent.config.values import AgentConfig


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the configuration file."""

    name: str
    """With its sections: ``jobs.max_waiting``."""
    rule: Rule
    """Its type, and what its value may be."""
    default: object
    change: Change
    """When a new value counts."""

    def of(self, config: AgentConfig) -> object:
        """Return the key's value."""
        return attrgetter(self.name)(config)

    def text(self, config: AgentConfig) -> str:
        """Return the value as it can stand in the file."""
        return self.rule.write(self.of(config))

    def plain(self, config: AgentConfig) -> str | int | bool:
        """Return the value as JSON has it: numbers, true and false are themselves, the rest is text."""
        value, text = self.of(config), self.text(config)
        if isinstance(value, int) and (isinstance(self.rule, Count) or self.rule == Switch()):
            return value
        return str(json.loads(text)) if text.startswith('"') else text


@cache
def every_key() -> tuple[Key, ...]:
    """Return all keys, in the order of ``agent.yml``.

    The one list of them: ``config show``, reload, the tests of docs/operations.md and agent.yml, and the
    manual page go by it. What people are told of a key is the comment in units/agent.yml.
    """
    return tuple(_keys(AgentConfig, "", AgentConfig()))


def _keys(kind: type, prefix: str, defaults: AgentConfig) -> Iterator[Key]:
    for name, hint in get_type_hints(kind, include_extras=True).items():
        key = prefix + name
        if is_dataclass(hint):
            yield from _keys(hint, f"{key}.", defaults)  # type: ignore[arg-type]
        else:
            rule, *marks = hint.__metadata__
            change = next((mark for mark in marks if isinstance(mark, Change)), Change.LIVE)
            yield Key(key, rule, attrgetter(key)(defaults), change)
