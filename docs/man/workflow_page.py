"""joblet-workflow(5): the keys of a workflow file, as the program itself knows them."""

from collections.abc import Iterator

from roff import Page, bold, prose

from joblet_agent.workflow_file.keys import FILE, JOB_KEYS, WORKFLOW_KEYS
from joblet_agent.yaml_file.kinds import Key, SectionOf


def workflow_page() -> Page:
    """Return the page."""
    page = Page("joblet-workflow", "5", "File formats")
    page.add("NAME", ["joblet\\-workflow \\- files of jobs that depend on one another"])
    own = [key for key in FILE.keys if key not in WORKFLOW_KEYS]
    page.add("KEYS", [".SS The file and its workflows", *told("", [*WORKFLOW_KEYS, *own])])
    page.parts["KEYS"] += [".SS A job", *told("", JOB_KEYS)]
    return page


def told(prefix: str, keys: list[Key] | tuple[Key, ...]) -> Iterator[str]:
    """Yield what each key means, with those inside it."""
    for key in keys:
        if key.refused:
            continue
        yield ".TP"
        yield bold(prefix + key.name)
        yield from prose(key.meaning)
        if isinstance(key.kind, SectionOf):
            yield from told(f"{prefix}{key.name}.", key.kind.keys)
