"""Ids as callers give them: whole, or shortened to their first characters. Pure."""

import re

from joblet_agent.errors import InvalidRequest, NotFound
from joblet_agent.jobs.check import quoted

_PREFIX = re.compile(r"[0-9a-f-]{1,36}")


def is_id_prefix(text: str) -> bool:
    """Say whether an id can begin with the text, in lower case."""
    return _PREFIX.fullmatch(text) is not None


def id_prefix(given: str, noun: str) -> str:
    """Return what somebody gave as the id of a ``noun``, or the beginning of one, as the store has it.

    Raises InvalidRequest (INVALID_JOB_ID, …) for what no id can begin with.
    """
    text = given.strip().lower()
    if not is_id_prefix(text):
        raise InvalidRequest(
            f"not a {noun} id: {quoted(given)}",
            reason=f"INVALID_{noun.upper()}_ID",
            hint=f"ids are UUIDs, and their first characters are enough; see: {_LISTS[noun]}",
        )
    return text


def not_found(shown: str, noun: str) -> NotFound:
    """Return the error for an id that no ``noun`` has, or none that the caller may know of."""
    return NotFound(
        f"no {noun} with id {shown}", reason=f"{noun.upper()}_NOT_FOUND", hint=f"see: {_LISTS[noun]}"
    )


_LISTS = {"job": "rnx list", "schedule": "rnx schedule list", "workflow": "rnx workflow list"}
