"""Sending a job to the agent, once."""

from typing import Any

from rnx.client import LONG, Client
from rnx.exits import Unreachable


def submit(client: Client, request: Any) -> Any:
    """Return the agent's answer to a RunJobRequest.

    One with a token is sent again while the agent is away: whatever became of the tries before, there is one
    job. Without a token nobody knows, so the loss is the caller's to hear of.
    """
    if not request.token:
        return client.call(client.jobs.RunJob, request, LONG)
    from rnx.attach import Patience  # noqa: PLC0415

    patience = Patience()
    while True:
        try:
            return client.call(client.jobs.RunJob, request, LONG)
        except Unreachable as lost:
            patience.wait(lost)
