"""The text of a workflow file without the values of its secrets. Pure.

Secret values are found among the parser's events and replaced at their marks, so comments and the form of
the rest stay. Then the result is read: unless it says the same but for these values, nothing is shown. Where
a file has what no workflow may have, aliases for instance, more is hidden than need be.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    Event,
    MappingStartEvent,
    ScalarEvent,
)

from joblet_agent.yaml_file.nodes import DEEPEST, LOADER

MASK = "***"
NOTHING_SHOWN = "# its secrets cannot be told from the rest of this workflow's text, so none of it is shown\n"

_SECTION = "secret_environment"
_BREAKS = "\r\n\x85\u2028\u2029"
"""What ends a line in YAML."""


def masked(text: str) -> str:
    """Return the text with ``***`` in place of each secret value, or NOTHING_SHOWN where that is not sure."""
    if _SECTION not in text and "\\" not in text:  # a key with escapes is the only other spelling
        return text
    start = "\ufeff" if text.startswith("\ufeff") else ""  # marks count from behind it
    end = "" if text.endswith("\n") else "\n"  # without one, those of a block scalar at the end are wrong
    whole = text.removeprefix(start) + end
    try:
        events = list(_events(whole))
        secret = _secret_scalars(events)
        result = _replaced(whole, events, secret)
        if _sense(events, secret) != _sense(_events(result), frozenset()):
            return NOTHING_SHOWN
    except (_NotSure, yaml.YAMLError, ValueError, OverflowError):  # for the last two see nodes.parse
        return NOTHING_SHOWN
    return start + result.removesuffix(end)


class _NotSure(Exception):
    """An alias stands for a secret that is elsewhere, or the file is deeper than any workflow."""


def _events(text: str) -> Iterator[Any]:
    """Parse the text as far as it can be a workflow: what nested lists take grows with their square."""
    depth = 0
    for event in yaml.parse(text, Loader=LOADER):
        if isinstance(event, CollectionStartEvent):
            depth += 1
        elif isinstance(event, CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST + 1:
            raise _NotSure
        yield event


@dataclass(slots=True)
class _Collection:
    """A map or list that has begun."""

    is_map: bool = False
    has_secrets: bool = False
    """It is the value of ``secret_environment``: its values are secret, its keys are not."""
    is_secret: bool = False
    """Everything in it is."""
    is_at_key: bool = True
    is_before_section: bool = False
    """The key that came last is ``secret_environment``."""

    def is_section_next(self) -> bool:
        return self.is_map and not self.is_at_key and self.is_before_section

    def is_secret_next(self) -> bool:
        return self.is_secret or (self.has_secrets and not self.is_at_key)

    def pass_node(self, event: Event) -> None:
        """Take note of a node that has begun."""
        if self.is_map and self.is_at_key:
            is_section = isinstance(event, ScalarEvent) and event.value == _SECTION
            self.is_before_section = is_section or isinstance(event, AliasEvent)
        self.is_at_key = not self.is_at_key


def _secret_scalars(events: Sequence[Any]) -> frozenset[int]:
    """Return the numbers of the events that are to be hidden."""
    secret = set()
    above = [_Collection()]
    for number, event in enumerate(events):
        if isinstance(event, CollectionEndEvent):
            above.pop()
            continue
        if not isinstance(event, AliasEvent | ScalarEvent | CollectionStartEvent):
            continue
        place: Any = event
        is_section, is_secret = above[-1].is_section_next(), above[-1].is_secret_next()
        above[-1].pass_node(event)
        if isinstance(event, CollectionStartEvent):
            is_map = isinstance(event, MappingStartEvent)
            hides_all = is_secret or (is_section and not is_map)
            above.append(_Collection(is_map, has_secrets=is_section and is_map, is_secret=hides_all))
        elif is_section or is_secret:
            if isinstance(event, AliasEvent):
                raise _NotSure
            if place.end_mark.index > place.start_mark.index:  # else there is nothing to hide
                secret.add(number)
    return frozenset(secret)


def _replaced(text: str, events: Sequence[Any], secret: frozenset[int]) -> str:
    pieces = []
    end = 0
    for number in sorted(secret):
        event = events[number]
        pieces.append(text[end : event.start_mark.index])
        end = event.end_mark.index
        anchor = f"&{event.anchor} " if event.anchor else ""
        line_end = "\n" if text[end - 1] in _BREAKS else ""  # a block scalar has the end of its last line
        pieces.append(f'{anchor}"{MASK}"{line_end}')
    return "".join((*pieces, text[end:]))


def _sense(events: Iterator[Any] | Sequence[Any], secret: frozenset[int]) -> list[tuple[object, ...]]:
    """Return what the events say, to be compared."""
    return [
        (type(event), event.anchor, MASK if number in secret else getattr(event, "value", None))
        if hasattr(event, "anchor")
        else (type(event),)
        for number, event in enumerate(events)
    ]
