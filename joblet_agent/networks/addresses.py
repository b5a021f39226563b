"""Addresses of one network. Pure.

A job has one number on its network, that of its IPv4 and of its IPv6 address alike: one free number is two
free addresses. Number 1 is the gateway.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from joblet_agent.errors import LimitReached

_FIRST = 2


class AddressPool:
    """Hands out the first free pair of addresses; none is given twice before it was given back."""

    def __init__(self, network: str, range4: IPv4Network, range6: IPv6Network) -> None:
        self._network = network
        self._range4, self._range6 = range4, range6
        # The last address of an IPv4 range is its broadcast address.
        self._last = min(range4.num_addresses - 2, range6.num_addresses - 1)
        self._taken: set[int] = set()
        self._lowest = _FIRST

    @property
    def size(self) -> int:
        """How many jobs have room."""
        return self._last - _FIRST + 1

    def take(self) -> tuple[IPv4Address, IPv6Address]:
        """Return the first free addresses. Raises LimitReached."""
        number = self._lowest
        while number in self._taken:
            number += 1
        if number > self._last:
            raise LimitReached(
                f"cannot start job: all {self.size} addresses of the network {self._network} "
                f"({self._range4}) are in use",
                reason="NO_FREE_ADDRESS",
                hint="wait until a job on it has ended, or make a network with a larger range",
            )
        self._taken.add(number)
        self._lowest = number + 1
        return self._range4[number], self._range6[number]

    def keep(self, address: IPv4Address) -> bool:
        """Mark the addresses of a job that was found; False for one that is not of this range."""
        if address not in self._range4:
            return False
        self._taken.add(self._number(address))
        return True

    def give_back(self, address: IPv4Address) -> None:
        """Free the addresses; what was not taken is ignored."""
        if address in self._range4 and (number := self._number(address)) in self._taken:
            self._taken.remove(number)
            self._lowest = min(self._lowest, number)

    def _number(self, address: IPv4Address) -> int:
        return int(address) - int(self._range4.network_address)
