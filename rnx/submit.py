"""Sending a job or a workflow to the agent, once."""

from collections.abc import Callable
from typing import Any

from rnx.client import LONG, Client
from rnx.exits import Unreachable


def submit(client: Client, request: Any) -> Any:
    """Return the agent's answer to a RunJobRequest."""
    return submit_to(client, client.jobs.RunJob, request)


def submit_to(client: Client, method: Callable[..., Any], request: Any) -> Any:
    """Return what a method that starts something answers to a request with a token.

    One with a token is sent again while the agent is away: whatever became of the tries before, it is started
    once. Without a token nobody knows, so the loss is the caller's to hear of.
    """
    if not request.token:
        return client.call(method, request, LONG)
    from rnx.attach import Patience  # noqa: PLC0415

    patience = Patience()
    while True:
        try:
            return client.call(method, request, LONG)
        except Unreachable as lost:
            patience.wait(lost)
