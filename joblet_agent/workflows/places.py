"""Paths in a workflow's file, of uploads and of outputs. Pure."""

from joblet_agent.jobs.upload_check import path_parts

_WORK = "/work/"


def parts_of(path: str, *, doing: str = "take files") -> tuple[str, ...]:
    """Return the names in a path below ``/work``, which may begin with that or ``./``, and end with a slash.

    Raises InvalidRequest (``cannot {doing}: …``) for what is no such path.
    """
    below = path.removeprefix(_WORK).rstrip("/")
    while below.startswith("./"):
        below = below[2:]
    return path_parts(below, doing=doing)
