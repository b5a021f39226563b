"""``ports.NetworkStore`` in the file of the job store."""

import json
import logging
import sqlite3
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, TypeAlias

from joblet_agent.model.network import Network
from joblet_agent.ports import StoredNetwork
from joblet_agent.store.fields import time_of, usec_of
from joblet_agent.store.worker import Worker

_Row: TypeAlias = tuple[str, int, int, bytes]

# What a newer agent has added to the network stays; one that is made anew under the name begins without.
_SAVE = """
    INSERT INTO networks (name, created_usec, removed, network) VALUES (?, ?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET removed = excluded.removed, created_usec = excluded.created_usec,
    network = CASE WHEN created_usec = excluded.created_usec AND json_valid(CAST(network AS TEXT))
    THEN CAST(json_patch(CAST(network AS TEXT), CAST(excluded.network AS TEXT)) AS BLOB)
    ELSE excluded.network END
"""
_ALL = "SELECT name, created_usec, removed, network FROM networks ORDER BY created_usec, name"

_log = logging.getLogger(__name__)


class SqliteNetworkStore:
    """Networks in the file of the job store, which owns the threads."""

    def __init__(self, writer: Worker, reader: Worker) -> None:
        self._writer = writer
        self._reader = reader

    async def save(self, stored: StoredNetwork) -> None:
        """See ports.NetworkStore."""
        row = _row_of(stored)
        await self._writer.do(lambda connection: connection.execute(_SAVE, row).close())

    async def delete(self, name: str) -> None:
        """See ports.NetworkStore."""
        await self._writer.do(
            lambda connection: connection.execute("DELETE FROM networks WHERE name = ?", (name,)).close()
        )

    async def all(self) -> Sequence[StoredNetwork]:
        """See ports.NetworkStore. A broken row stays where it is."""
        networks = []
        for row in await self._reader.do(lambda connection: connection.execute(_ALL).fetchall()):
            try:
                networks.append(_stored_of(row))
            except (ValueError, KeyError, TypeError, OverflowError) as error:
                _log.error("network %r is broken and is not there: %s", row[0], error)
        return networks

    async def host_range(self, fresh: IPv6Network) -> IPv6Network:
        """See ports.NetworkStore."""

        def act(connection: sqlite3.Connection) -> str:
            sql = "INSERT OR IGNORE INTO host_ranges (number, range6) VALUES (1, ?)"
            connection.execute(sql, (str(fresh),)).close()
            (text,) = connection.execute("SELECT range6 FROM host_ranges WHERE number = 1").fetchone()
            return str(text)

        text = await self._writer.do(act)
        try:
            return IPv6Network(text)
        except ValueError as error:
            _log.error("the IPv6 range of this host's networks is broken, and another one is used: %s", error)
            return fresh


def _row_of(stored: StoredNetwork) -> _Row:
    network = stored.network
    assert network.created_at is not None, "built-in ones are not stored"
    fields = {
        "bridge": network.bridge,
        "range4": str(network.range4),
        "range6": str(network.range6),
        "is_internal": network.is_internal,
        "is_isolated": network.is_isolated,
        "mtu": network.mtu,
        "dns": [str(address) for address in network.dns],
        "bandwidth": network.bandwidth,
    }
    return network.name, usec_of(network.created_at), int(stored.is_removed), json.dumps(fields).encode()


def _stored_of(row: _Row) -> StoredNetwork:
    name, created, removed, text = row
    fields: dict[str, Any] = json.loads(text)
    network = Network(
        name=name,
        bridge=str(fields["bridge"]),
        range4=IPv4Network(fields["range4"]),
        range6=IPv6Network(fields["range6"]),
        is_internal=bool(fields["is_internal"]),
        is_isolated=bool(fields["is_isolated"]),
        mtu=int(fields["mtu"]),
        dns=tuple(ip_address(address) for address in fields["dns"]),
        bandwidth=int(fields["bandwidth"]),
        created_at=time_of(created),
    )
    return StoredNetwork(network, bool(removed))
