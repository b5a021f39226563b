"""The rules of jobs' networks in the kernel (firewall.Firewall), by libnftables. Blocking; for one thread."""

import json
import logging
from collections.abc import Sequence
from typing import Any

from joblet_agent.errors import HostUnavailable
from joblet_agent.model.network import Attachment, IPAddress, Network, Transport
from joblet_agent.netlink.connections import forget_connections_to, forget_datagrams_to
from joblet_agent.netlink.other_firewalls import obstacles
from joblet_agent.netlink.rule_monitor import RuleMonitor
from joblet_agent.netlink.ruleset import FAMILY, TABLE, removal, ruleset

_log = logging.getLogger(__name__)


class NftablesFirewall:
    """Our table, and an ear for those who change it.

    Whose a change is cannot be told by its process id, which is that of another PID namespace in a
    container. So transactions are counted: one for each that we made, in whatever order, is ours. If another
    came in between, one of ours is taken for it and the table is put back once too often.
    """

    def __init__(self, library: Any, monitor: RuleMonitor) -> None:
        """Take nftables.Nftables, and the ear of the same network namespace."""
        self.last_program = ""
        self._monitor = monitor
        self._library = library
        self._library.set_json_output(True)
        self._own = 0
        self._is_damaged = False
        self._bridges: tuple[str, ...] = ()
        self._obstacles: Sequence[str] | None = None
        self._addresses: set[IPAddress] = set()
        self._datagrams: set[int] = set()

    def apply(self, networks: Sequence[Network], attachments: Sequence[Attachment]) -> None:
        """See Firewall."""
        self._run(ruleset(networks, attachments), "set the rules of networks")
        self._own += 1
        self._is_damaged = False
        self._forget_connections(attachments)
        bridges = tuple(network.bridge for network in networks)
        if bridges != self._bridges:
            self._bridges = bridges
            self._obstacles = None

    def remove(self) -> None:
        """Leave nothing of ours."""
        self._run(removal(), "remove the rules of networks")
        self._own += 1

    def fileno(self) -> int:
        """See Firewall."""
        return self._monitor.fileno()

    def was_changed(self) -> bool:
        """See Firewall."""
        transactions = self._monitor.read()
        if transactions is None:
            self._own = 0
            self._obstacles = None
            self._is_damaged = True
            self.last_program = ""
        for transaction in transactions or ():
            if (FAMILY, TABLE) not in transaction.tables:
                self._obstacles = None
            elif self._own:
                self._own -= 1
            else:
                self._obstacles = None
                self._is_damaged = True
                self.last_program = transaction.program
        return self._is_damaged

    def obstacles(self) -> Sequence[str]:
        """See Firewall."""
        if self._obstacles is None:
            listed = self._run({"nftables": [{"list": {"ruleset": None}}]}, "read the rules of the host")
            self._obstacles = obstacles(listed, self._bridges)
        return self._obstacles

    def close(self) -> None:
        """See Firewall."""
        self._monitor.close()

    def _forget_connections(self, attachments: Sequence[Attachment]) -> None:
        """Forget those to jobs whose ports are no longer published, and those of before a port was."""
        addresses = {
            address
            for attachment in attachments
            if attachment.ports
            for address in (attachment.address4, attachment.address6)
        }
        datagrams = {
            port.host_port
            for attachment in attachments
            for port in attachment.ports
            if port.transport is Transport.UDP
        }
        try:
            for address in self._addresses - addresses:
                forget_connections_to(address)
            for port in datagrams - self._datagrams:
                forget_datagrams_to(port)
        except OSError as error:
            _log.warning("cannot forget connections to published ports: %s", error.strerror or error)
        self._addresses = addresses
        self._datagrams = datagrams

    def _run(self, commands: dict[str, Any], what: str) -> list[dict[str, Any]]:
        status, output, error = self._library.cmd(json.dumps(commands))
        if status != 0:
            words = " ".join(str(error).split())
            raise HostUnavailable(
                f"cannot {what}: {words}",
                reason="NETWORK_RULES_REFUSED",
                hint="see: journalctl -u joblet-networks.service; the kernel must have nf_tables",
            )
        return list(json.loads(output)["nftables"]) if output else []
