"""A look at one node: does it answer, as whom does it know us, until when, and what time is it there."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from rnx.config import Target, resolve
from rnx.exits import RnxError

MOST_CLOCK_DIFFERENCE = timedelta(seconds=5)
"""From here on times of jobs mislead, and new certificates may not be valid yet."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look at a node found; ``error`` says why nothing of the rest was."""

    node: str
    address: str = ""
    error: RnxError | None = None
    version: str = ""
    caller: str = ""
    role: str = ""
    expires: datetime | None = None
    clock: timedelta | None = None
    """How far the agent's clock is ahead of ours; None if the agent does not tell."""


def look(config: str, node: str) -> Finding:
    """Connect to the node and ask; what goes wrong is in the finding. Permission: read."""
    try:
        target = resolve(config, node, os.environ)
    except RnxError as error:
        return Finding(node, error=error)
    try:
        return _asked(node, target)
    except RnxError as error:
        return Finding(node, target.address, error)


def _asked(node: str, target: Target) -> Finding:
    from rnx.client import SHORT, Client, pb  # noqa: PLC0415 - gRPC is half of the start-up time

    with Client(target) as client:
        begun = datetime.now(UTC)
        reply = client.call(client.agent.GetNode, pb.GetNodeRequest(), SHORT)
        between = begun + (datetime.now(UTC) - begun) / 2
    expires = None
    if target.credentials is not None:
        from rnx.certificate import check_own  # noqa: PLC0415 - ssl

        expires = check_own(target.credentials).until
    return Finding(
        node,
        target.address,
        version=reply.version,
        caller=reply.caller_name,
        role=reply.caller_role,
        expires=expires,
        clock=datetime.fromisoformat(reply.time) - between if reply.time else None,
    )
