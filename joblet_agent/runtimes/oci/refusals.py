"""What is said of an archive that cannot be used. Names in it come from strangers."""

from joblet_agent.errors import InvalidRequest, LimitReached

_MOST_SHOWN = 300


def shown(name: str) -> str:
    """Return the name as it can be printed: without control characters, and not at any length."""
    text = ascii(name)[1:-1]
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def broken(what: str) -> InvalidRequest:
    """Return the error for an archive that is not what it says, or not whole."""
    return InvalidRequest(
        f"cannot read image: {what}",
        reason="RUNTIME_ARCHIVE_BROKEN",
        hint="fetch or copy the archive again, and compare its checksum",
    )


def refused(what: str, hint: str | None = None) -> InvalidRequest:
    """Return the error for an archive that is whole, and holds what no runtime may have."""
    return InvalidRequest(f"cannot use image: {what}", reason="RUNTIME_ARCHIVE_REFUSED", hint=hint)


def too_large(what: str) -> LimitReached:
    """Return the error for more than may be unpacked."""
    return LimitReached(
        f"cannot use image: {what}",
        reason="RUNTIME_TOO_LARGE",
        hint="an image with less in it, or a larger limit in the agent's configuration",
    )
