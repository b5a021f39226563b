"""What goes wrong when something is fetched."""

from joblet_agent.errors import HostUnavailable, LimitReached
from joblet_agent.model.web import shown_address

__all__ = ["FAILED", "Aborted", "failure", "too_large"]

FAILED = "RUNTIME_DOWNLOAD_FAILED"
_MOST_WORDS = 200


class Aborted(Exception):
    """It is not wanted any more."""


def failure(address: str, why: str) -> HostUnavailable:
    """Return the error of something that could not be fetched."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in why[:_MOST_WORDS])
    return HostUnavailable(
        f"cannot fetch {shown_address(address)}: {shown}",
        reason=FAILED,
        hint="it must be reachable from the agent's host, if need be by runtimes.proxy of its configuration",
    )


def too_large(address: str, most_bytes: int) -> LimitReached:
    """Return the error of something that is larger than it may be."""
    return LimitReached(
        f"cannot fetch {shown_address(address)}: it has more than {most_bytes} bytes",
        reason="RUNTIME_TOO_LARGE",
        hint="an archive may have as much as its index says, and runtimes.max_size of the configuration",
    )
