"""From the file to ``AgentConfig``. Whatever is wrong ends as one InvalidConfig that names every fault."""

import difflib
import stat
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from joblet_agent.config.document import DocumentError, Scalar, Section, Value, is_nothing, parse_document
from joblet_agent.config.rules import Rule
from joblet_agent.config.values import AgentConfig
from joblet_agent.errors import InvalidConfig
from joblet_agent.model.profile import Profile

DEFAULT_PATH = Path("/etc/joblet/agent.yml")
MOST_BYTES = 1_000_000

_MOST_PROBLEMS = 20
_MOST_SHOWN = 60
_HINT = "the agent.yml that comes with the agent lists every key with its default"
_LARGEST_ID = 2**32 - 2

T = TypeVar("T")
Report = Callable[[int, str, str], None]
"""Takes line, key (with its sections) and what is wrong."""


def load_config(path: Path | None = None) -> AgentConfig:
    """Read the configuration; without ``path`` from DEFAULT_PATH, which need not exist.

    Keys that the file does not set have their defaults (values.py). Raises InvalidConfig.
    """
    text = _read(path or DEFAULT_PATH, must_exist=path is not None)
    problems: list[str] = []

    def report(line: int, key: str, problem: str) -> None:
        problems.append(": ".join(part for part in (f"{path or DEFAULT_PATH}:{line}", key, problem) if part))

    config = _parse(text, report)
    if problems:
        raise InvalidConfig(_summary(problems), reason="INVALID_CONFIG", hint=_HINT)
    return config


def _parse(text: str, report: Report) -> AgentConfig:
    try:
        document = parse_document(text)
    except DocumentError as error:
        report(error.line, "", str(error))
        return AgentConfig()
    config = _section(AgentConfig, document, "", report)
    for key, problem in _contradictions(config):
        report(_line_of(document, key), key, problem)
    return config


def _section(kind: type[T], section: Section, prefix: str, report: Report) -> T:
    """Build the dataclass from the section; what is wrong is reported and keeps its default."""
    rules = get_type_hints(kind, include_extras=True)
    values = {}
    for name, value in section.entries.items():
        line, key = section.lines[name], prefix + name
        if name not in rules:
            report(line, prefix + _shown_key(name), _unknown(name, list(rules)))
        elif is_dataclass(rules[name]):
            values[name] = _subsection(rules[name], value, key, report)
        else:
            values[name] = _scalar(rules[name], value, key, report)
    return kind(**{name: value for name, value in values.items() if value is not None})


def _subsection(kind: type[T], value: Value, key: str, report: Report) -> T | None:
    if isinstance(value, Section):
        return _section(kind, value, f"{key}.", report)
    if not is_nothing(value):
        report(value.line, key, f"expected keys of the section, not {_shown(value.text)}")
    return None


def _scalar(hint: Any, value: Value, key: str, report: Report) -> object:
    rule: Rule = hint.__metadata__[0]
    if isinstance(value, Section):
        report(value.line, key, "expected a value, not a section")
        return None
    try:
        return rule.read(value)
    except ValueError as error:
        report(value.line, key, f"{error}, not {_shown(value.text)}")
        return None


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name[:100], known, n=1)
    return f"unknown key, did you mean {near[0]}?" if near else f"unknown key; known are {', '.join(known)}"


def _contradictions(config: AgentConfig) -> Iterator[tuple[str, str]]:
    """Yield key and problem where values that are fine alone do not fit together."""
    jobs = config.jobs
    if jobs.uid_count < jobs.max_concurrent:
        yield (
            "jobs.uid_count",
            f"expected at least jobs.max_concurrent, which is {jobs.max_concurrent}, not {jobs.uid_count}",
        )
    if jobs.uid_first + jobs.uid_count - 1 > _LARGEST_ID:
        yield (
            "jobs.uid_first",
            f"expected room for {jobs.uid_count} ids up to {_LARGEST_ID}, not {jobs.uid_first}",
        )

    if jobs.default_profile is Profile.PRIVILEGED or not config.profiles.offers(jobs.default_profile):
        yield (
            "jobs.default_profile",
            "expected default or strict, whichever is switched on below profiles, "
            f"not {jobs.default_profile}",
        )


def _line_of(document: Section, key: str) -> int:
    """Return the line of the key or, where the file leaves it out, of the section that it belongs to."""
    line, value = document.line, document
    for name in key.split("."):
        line = value.lines.get(name, line)
        inner = value.entries.get(name, Scalar("", is_plain=True, line=line))
        if isinstance(inner, Section):
            value = inner
    return line


def _read(path: Path, *, must_exist: bool) -> str:
    try:
        content = _content(path)
    except FileNotFoundError as error:
        if not must_exist:
            return ""
        raise InvalidConfig(
            f"cannot read the configuration {path}: no such file", reason="CONFIG_NOT_FOUND"
        ) from error
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise InvalidConfig(
            f"cannot read the configuration {path}: {words}", reason="CONFIG_UNREADABLE"
        ) from error
    if len(content) > MOST_BYTES:
        raise InvalidConfig(
            f"cannot use the configuration {path}: it has more than {MOST_BYTES} bytes",
            reason="INVALID_CONFIG",
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidConfig(_summary([f"{path}:{line}: not UTF-8"]), reason="INVALID_CONFIG") from error


def _content(path: Path) -> bytes:
    """Return at most one byte more than is allowed, and of a file only: a FIFO would wait for ever."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("not a file")
    with path.open("rb") as file:
        return file.read(MOST_BYTES + 1)


def _summary(problems: list[str]) -> str:
    more = len(problems) - _MOST_PROBLEMS
    lines = [*problems[:_MOST_PROBLEMS], *([f"and {more} more"] if more > 0 else [])]
    return "cannot use the configuration:\n" + "\n".join(lines)


def _shown(text: str) -> str:
    """Quote what the file says, short and without control characters."""
    return repr(text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…")


def _shown_key(name: str) -> str:
    return name if name.isidentifier() and len(name) <= _MOST_SHOWN else _shown(name)
