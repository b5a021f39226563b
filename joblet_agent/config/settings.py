"""What one document sets, key by key, each with its line; what is wrong is reported, and not set."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from typing import Any, get_type_hints

from joblet_agent.config.document import Scalar, Section, Value, is_nothing
from joblet_agent.config.rules import Rule
from joblet_agent.config.values import AgentConfig

_MOST_SHOWN = 60

Report = Callable[[int, str, str], None]
"""Takes line, key (with its sections) and what is wrong."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A value, and the line that it stands in."""

    value: object
    line: int


def read_settings(document: Section, report: Report) -> dict[str, Setting]:
    """Return what the document sets, by key with its sections: ``jobs.max_waiting``."""
    settings: dict[str, Setting] = {}
    _read_section(AgentConfig, document, "", settings, report)
    return settings


def _read_section(
    kind: type, section: Section, prefix: str, settings: dict[str, Setting], report: Report
) -> None:
    rules = get_type_hints(kind, include_extras=True)
    for name, value in section.entries.items():
        line, key = section.lines[name], prefix + name
        if name not in rules:
            report(line, prefix + _shown_key(name), _unknown(name, list(rules)))
        elif not is_dataclass(rules[name]):
            _read_value(rules[name], value, key, settings, report)
        elif isinstance(value, Section):
            _read_section(rules[name], value, f"{key}.", settings, report)
        elif not is_nothing(value):
            report(value.line, key, f"expected keys of the section, not {_shown(value.text)}")


def _read_value(hint: Any, value: Value, key: str, settings: dict[str, Setting], report: Report) -> None:
    rule: Rule = hint.__metadata__[0]
    match value:
        case Section(line=line):
            report(line, key, "expected a value, not a section")
        case Scalar(text=text, line=line):
            try:
                settings[key] = Setting(rule.read(value), line)
            except ValueError as error:
                report(line, key, f"{error}, not {_shown(text)}")


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name[:100], known, n=1)
    return f"unknown key, did you mean {near[0]}?" if near else f"unknown key; known are {', '.join(known)}"


def _shown(text: str) -> str:
    """Quote what the file says, short and without control characters."""
    return repr(text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…")


def _shown_key(name: str) -> str:
    return name if name.isidentifier() and len(name) <= _MOST_SHOWN else _shown(name)
