"""joblet-runtime(5): the keys of a runtime's definition, as the program itself knows them."""

from collections.abc import Iterator

from roff import Page, prose
from workflow_page import told

from joblet_agent.runtime_file.keys import FILE, KEYS
from joblet_agent.runtime_file.languages import LANGUAGES, NAMES


def runtime_page() -> Page:
    """Return the page."""
    page = Page("joblet-runtime", "5", "File formats")
    page.add("NAME", ["joblet\\-runtime \\- definitions of runtimes, and their lock files"])
    keys = page.parts.setdefault("KEYS", [])
    for key in KEYS:
        keys += told("", [key])
        if key.name == "files":
            keys += told("files.", FILE.keys)
    page.parts["KEYS"] += [".SS Languages", *_languages()]
    return page


def _languages() -> Iterator[str]:
    for name in NAMES:
        versions = [f"{each.version} ({each.suite})" for each in LANGUAGES.values() if each.name == name]
        yield ".PP"
        yield from prose(f"`{name}`: {', '.join(versions)}.")
