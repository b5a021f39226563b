"""Write all manual pages, and the scripts for completion, into a directory. Run when the packages are built.

Pages come from where the program itself has its texts: commands from click, keys from their rules and
units/agent.yml. Beside this file is what the program does not say, in sections: NAME.SECTION.
A page for a new format is one line in ``_pages``.
"""

import os
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from command_pages import Manual
from config_page import config_page
from roff import Page, literal, prose
from runtime_page import runtime_page
from workflow_page import workflow_page

from joblet_agent.__main__ import TOOLS
from joblet_agent.command_line import tree
from rnx import __version__
from rnx.cli import cli
from rnx.commands.check import MAY
from rnx.config import SEARCHED
from rnx.shells import script

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
_SCRIPTS = {"bash": "{}", "zsh": "_{}", "fish": "{}.fish"}
"""How each shell wants the file of a program to be called."""


def main(place: Path) -> None:
    """Write everything; the date of the pages is SOURCE_DATE_EPOCH."""
    place.mkdir(parents=True, exist_ok=True)
    moment = os.environ.get("SOURCE_DATE_EPOCH")
    day = (datetime.fromtimestamp(int(moment), UTC) if moment else datetime.now(UTC)).date()
    written = {path.name for path in HERE.glob("*.[1-8]")}
    for page, others in _pages():
        if page.file in written:
            page.add_written(HERE / page.file)
            written.remove(page.file)
        (place / page.file).write_text(page.text(day, __version__), encoding="utf-8")
        for other in others:
            link = f".so man{page.section}/{page.file}\n"
            (place / f"{other}.{page.section}").write_text(link, encoding="utf-8")
    assert not written, f"there is no page for {written}"
    for shell, name in _SCRIPTS.items():
        (place / shell).mkdir(exist_ok=True)
        for program in ("rnx", "joblet-agent"):
            (place / shell / name.format(program)).write_text(script(program, shell), encoding="utf-8")


def _pages() -> Iterator[tuple[Page, list[str]]]:
    """Yield the pages, each with its other names."""
    statuses = {name: _exit_statuses(place) for name, place in TOOLS.items()}
    for manual in (
        Manual(cli, "rnx", "1", "User commands", {}),
        Manual(tree(TOOLS), "joblet-agent", "8", "System administration", statuses),
    ):
        pages, others = manual.pages()
        for page in pages:
            if page.name == "rnx":
                page.add("PERMISSION", prose(f"By the role in the certificate: {_roles()}."))
                page.add("PERMISSION", prose("Who may use the local socket may do everything."))
                page.add("FILES", _client_files())
            yield page, [name for name, theirs in others.items() if theirs is page]
    yield config_page((CHECKOUT / "units/agent.yml").read_text(encoding="utf-8")), []
    yield runtime_page(), []
    yield workflow_page(), []


def _roles() -> str:
    return "; ".join(f"`{role}` {text}" for role, text in MAY.items())


def _client_files() -> list[str]:
    places = [line for place in SEARCHED for line in (".br", f"\\fI{literal(place)}\\fR")]
    return [
        *places[1:],
        ".PP",
        *prose("The first of these that can be read says which agents there are, and holds a key."),
    ]


def _exit_statuses(place: str) -> str:
    """Return what the tool's ``run`` says of them, which is the second paragraph of its docstring."""
    paragraphs = re.split(r"\n\s*\n", import_module(place).run.__doc__ or "")
    return " ".join(paragraphs[1].split())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
