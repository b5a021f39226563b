"""agent.yml(5): what units/agent.yml tells of the keys, with what the program itself takes and assumes."""

import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field

from roff import Page, bold, literal, prose

from joblet_agent.config import AgentConfig
from joblet_agent.config.keys import Key, every_key
from joblet_agent.config.rules import Change

_KEY = re.compile(r"#((?:  )*)([a-z_]+):(?: .*)?")
_COMMENT = re.compile(r" *# (.*)")
_COUNTS = {Change.LIVE: "A reload applies it.", Change.RESTART: "A restart applies it."}


@dataclass
class _Group:
    """What one comment is about: keys with their sections, or the section that begins."""

    text: str
    section: str = ""
    keys: list[str] = field(default_factory=list)


def config_page(commented: str) -> Page:
    """Return the page; ``commented`` is the text of units/agent.yml."""
    page = Page("agent.yml", "5", "File formats")
    page.add("NAME", ["agent.yml \\- configuration of joblet\\-agent"])
    page.add("SYNOPSIS", [".I /etc/joblet/agent.yml", ".br", ".I /etc/joblet/agent.d/*.yml"])
    head, _, rest = commented.partition("\n\n")
    for paragraph in re.split(r"^#\n", head, flags=re.MULTILINE):
        page.add("DESCRIPTION", prose(re.sub("^# ", "", paragraph, flags=re.MULTILINE)))
    keys = {key.name: key for key in every_key()}
    groups = list(_groups(rest, keys.keys()))
    told = {name for group in groups for name in group.keys}
    assert told == keys.keys(), f"units/agent.yml and the program differ: {told ^ keys.keys()}"
    for group in groups:
        page.parts.setdefault("KEYS", []).extend(_told(group, [keys[name] for name in group.keys]))
    return page


def _groups(text: str, known: Container[str]) -> Iterator[_Group]:
    """Yield what the comments are about, in the order of the file."""
    group, comment, sections = _Group(""), list[str](), list[str]()
    for line in text.splitlines():
        if match := _KEY.fullmatch(line):
            sections[len(match[1]) // 2 :] = [match[2]]
            name = ".".join(sections)
            is_key = name in known
            if comment or not is_key:
                yield group
                group = _Group(" ".join(comment), section="" if is_key else name)
                comment = []
            if is_key:
                group.keys.append(name)
        elif match := _COMMENT.fullmatch(line):
            comment.append(match[1])
    yield group


def _told(group: _Group, keys: Sequence[Key]) -> Iterator[str]:
    if group.section and "." not in group.section:
        yield f".SS {literal(group.section)}"
    text = prose(group.text)
    if group.section and text:
        if "." in group.section:
            yield ".PP"
        yield from text
        text = []
    for number, key in enumerate(keys):
        yield ".TQ" if number and text else ".TP"
        yield bold(key.name)
        if not text:
            yield from _rule(key)
    if not text:
        return
    yield from text
    for key in keys:
        yield ".br"
        yield from _rule(key, named=len(keys) > 1)


def _rule(key: Key, *, named: bool = False) -> Iterator[str]:
    expected = key.rule.expected
    name = f"`{key.name.rpartition('.')[2]}`: " if named else ""
    what = expected if named else expected[0].upper() + expected[1:]
    yield from prose(f"{name}{what}; default: {key.text(AgentConfig())}. {_COUNTS[key.change]}")
