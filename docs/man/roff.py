"""A manual page as man(7) has it: sections in their usual order, and texts that cannot become requests."""

import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

_HEADINGS = (
    "NAME",
    "SYNOPSIS",
    "DESCRIPTION",
    "OPTIONS",
    "COMMANDS",
    "KEYS",
    "OTHER UNITS",
    "PERMISSION",
    "EXIT STATUS",
    "ENVIRONMENT",
    "FILES",
    "EXAMPLES",
    "SEE ALSO",
)
# groff_char(7): what would be typeset as another character, or begin an escape.
_SPECIAL = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti", '"': "\\(dq"}
_SPECIAL |= {"…": "..."}
_WIDTH = 78


@dataclass
class Page:
    """One page; ``references`` are other pages, each as name and section."""

    name: str
    section: str
    manual: str
    parts: dict[str, list[str]] = field(default_factory=dict)
    references: set[tuple[str, str]] = field(default_factory=set)

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{self.name}.{self.section}"

    def add(self, heading: str, lines: Iterable[str]) -> None:
        """Put lines at the end of a section."""
        part = self.parts.setdefault(heading, [])
        if part and heading != "SEE ALSO":
            part.append(".PP")
        part += lines

    def add_written(self, path: Path) -> None:
        """Add what a file of hand-written sections has; lines of SEE ALSO are ``name section``."""
        heading = ""
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith(".SH "):
                heading = line.removeprefix(".SH ")
                if heading != "SEE ALSO":
                    self.add(heading, [])
            elif heading == "SEE ALSO":
                name, section = line.split()
                self.references.add((name, section))
            else:
                self.parts[heading].append(line)

    def text(self, day: date, version: str) -> str:
        """Return the whole page."""
        lines = [
            f'.TH "{literal(self.name.upper())}" {self.section} {day} "Joblet {version}" "{self.manual}"'
        ]
        lines += [".nh", ".ad l"]  # what is to be typed stays in one piece
        unknown = self.parts.keys() - set(_HEADINGS)
        assert not unknown, f"{self.file}: unknown sections {unknown}"
        for heading in _HEADINGS:
            if part := self.parts.get(heading):
                lines += [f".SH {heading}", *part]
        if self.references:
            found = sorted(self.references - {(self.name, self.section)}, key=lambda each: (each[1], each[0]))
            ends = [","] * (len(found) - 1) + [""]
            lines += [".SH SEE ALSO"]
            lines += [
                f".BR {literal(name)} ({section}){end}"
                for (name, section), end in zip(found, ends, strict=True)
            ]
        return "\n".join(lines) + "\n"


def literal(text: str) -> str:
    """Return a text in which nothing is special."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def bold(text: str) -> str:
    """Return a text in bold."""
    return f"\\fB{literal(text)}\\fR"


def italic(text: str) -> str:
    """Return a text in italics, for what stands for something else."""
    return f"\\fI{literal(text)}\\fR"


def placeholders(text: str) -> str:
    """Return a text whose words in capitals are in italics: ``HOST[:PORT]``."""
    return re.sub(
        r"[A-Z][A-Z_]*|[^A-Z]+", lambda word: (italic if word[0].isupper() else literal)(word[0]), text
    )


def prose(text: str) -> list[str]:
    """Return a paragraph in lines; what is between backticks is bold."""
    parts = re.split(r"``?([^`]+)``?", " ".join(text.split()))
    whole = "".join((bold if place % 2 else literal)(part) for place, part in enumerate(parts))
    lines = textwrap.wrap(whole, _WIDTH, break_long_words=False, break_on_hyphens=False)
    return [f"\\&{line}" if line.startswith(".") else line for line in lines]


def example(text: str) -> list[str]:
    """Return lines that are shown as they are."""
    return [".EX", *(literal(line) for line in text.splitlines()), ".EE"]
