"""What the service needs of the firewall; nftables.py has the real one."""

from collections.abc import Sequence
from typing import Protocol

from joblet_agent.model.network import Attachment, Network


class Firewall(Protocol):
    """The one table of ours. All methods but ``fileno`` are called in the service's one working thread."""

    def apply(self, networks: Sequence[Network], attachments: Sequence[Attachment]) -> None:
        """Let exactly the rules for these be in force, in one transaction; what was there does not matter.

        Called when networks or published ports change, and when ``was_changed`` said so. Raises
        HostUnavailable with the kernel's words; then the rules are as they were.
        """
        ...

    def fileno(self) -> int:
        """Return a descriptor that can be read when somebody changed rules of the host."""
        ...

    def was_changed(self) -> bool:
        """Read what is there, without waiting; say whether our table may not be what was applied."""
        ...

    @property
    def last_program(self) -> str:
        """The program that changed our table last; empty if that is not known."""
        ...

    def obstacles(self) -> Sequence[str]:
        """Return what other firewalls of the host keep from our networks, a sentence for each of them."""
        ...

    def close(self) -> None:
        """Close what is open; the rules stay."""
        ...
