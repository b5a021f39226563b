"""What the value of a key may be that names networks and hosts (see rules.py)."""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from joblet_agent.config.document import Scalar
from joblet_agent.config.texts import text_of, written
from joblet_agent.model.host import is_address, is_host_name


@dataclass(frozen=True, slots=True)
class Range4:
    """A private IPv4 range with room for jobs."""

    least: int
    most: int

    @property
    def expected(self) -> str:
        """Name the form, with an example."""
        return f"an IPv4 range from /{self.least} to /{self.most}, such as 172.20.0.0/16"

    def read(self, scalar: Scalar) -> IPv4Network:
        """Read ``172.20.0.0/16``; an address within a range is none."""
        try:
            found = IPv4Network(text_of(scalar))
        except ValueError:
            raise ValueError(f"expected {self.expected}") from None
        if str(found) != scalar.text or not self.least <= found.prefixlen <= self.most:
            raise ValueError(f"expected {self.expected}")
        if not found.is_private or found.is_loopback or found.is_link_local or found.is_unspecified:
            raise ValueError("expected a range of private addresses")
        return found

    def write(self, value: IPv4Network) -> str:
        """Write address and prefix."""
        return written(str(value))


@dataclass(frozen=True, slots=True)
class Range6:
    """An IPv6 range of a fixed prefix, or nothing."""

    prefix: int

    @property
    def expected(self) -> str:
        """Name the form."""
        return f"an IPv6 range with the prefix /{self.prefix}, or nothing"

    def read(self, scalar: Scalar) -> IPv6Network | None:
        """Read ``fd12:3456:789a::/48``; None for the empty text."""
        text = text_of(scalar)
        if not text:
            return None
        try:
            found = IPv6Network(text)
        except ValueError:
            found = None
        if found is None or found.prefixlen != self.prefix or found.is_link_local or found.is_multicast:
            raise ValueError(f"expected {self.expected}")
        return found

    def write(self, value: IPv6Network | None) -> str:
        """Write address and prefix, or the empty text."""
        return written("" if value is None else str(value))


@dataclass(frozen=True, slots=True)
class Hosts:
    """Any number of DNS names and IP addresses."""

    @property
    def expected(self) -> str:
        """Name the form."""
        return "DNS names and IP addresses, separated by spaces"

    def read(self, scalar: Scalar) -> tuple[str, ...]:
        """Read one text with all of them; each counts once, addresses in their shortest form."""
        words = text_of(scalar).split()
        if not all(is_host_name(word) or (is_address(word) and "%" not in word) for word in words):
            raise ValueError(f"expected {self.expected}")
        return tuple(dict.fromkeys(str(ip_address(word)) if is_address(word) else word for word in words))

    def write(self, value: tuple[str, ...]) -> str:
        """Write them with a space between."""
        return written(" ".join(value))
