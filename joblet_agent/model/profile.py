"""How far a job is kept apart from its host.

What each one means is told to people in docs/jobs.md and to systemd in systemd/sandbox.py.
"""

from enum import StrEnum


class Profile(StrEnum):
    """Profiles by their text on the wire, in the configuration and in records."""

    DEFAULT = "default"
    STRICT = "strict"
    PRIVILEGED = "privileged"
    """Root with the host's capabilities and devices: for administrators, and no protection from the job."""
