"""Reads indexes, and decides by the configuration whether what they say counts."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from joblet_agent.config.values import RuntimesConfig, Trust
from joblet_agent.errors import NotFound, WrongState
from joblet_agent.model.web import shown_address
from joblet_agent.ports import Clock
from joblet_agent.runtimes.index.entries import Index, IndexEntry, Offered
from joblet_agent.runtimes.index.fetching import Fetcher
from joblet_agent.runtimes.index.places import SIGNATURE_SUFFIX, archive_address, index_addresses
from joblet_agent.runtimes.index.reading import read
from joblet_agent.runtimes.index.signatures import MOST_SIGNATURE_BYTES, NAMESPACE, verify
from joblet_agent.runtimes.index.signers import read_signers
from joblet_agent.runtimes.index.strict_json import MOST_BYTES
from joblet_agent.runtimes.names import SemanticVersion

__all__ = ["LoadedIndex", "RuntimeIndexes"]


@dataclass(frozen=True, slots=True)
class LoadedIndex:
    """An index that counts."""

    address: str
    index: Index
    signer: str
    """Who has signed it; empty where no signature is asked for."""

    def offered(self) -> tuple[Offered, ...]:
        """Return what it offers, by name."""
        entries = (entries for _, entries in sorted(self.index.runtimes.items()) if entries)
        return tuple(_offered(highest_first(each)) for each in entries)


class RuntimeIndexes:
    """Indexes, as callers name them."""

    def __init__(self, config: RuntimesConfig, fetcher: Fetcher, clock: Clock) -> None:
        self._config = config
        self._fetcher = fetcher
        self._clock = clock

    async def load(self, wanted: str) -> LoadedIndex:
        """Fetch the index that is meant: an address, ``OWNER/REPO``, or empty for the configured one.

        With ``runtimes.require: signature`` it must be signed. Raises InvalidRequest, NotFound,
        HostUnavailable, LimitReached, WrongState.
        """
        address, data = await self._fetched(*index_addresses(wanted, self._config.registry))
        signer = ""
        if self._config.require is Trust.SIGNATURE:
            signer = await self._signer(address, data)
        index = await asyncio.to_thread(read, data, shown_address(address))
        return LoadedIndex(address, index, signer)

    async def _fetched(self, address: str, *others: str) -> tuple[str, bytes]:
        """Return the first of them that there is, and its text."""
        try:
            return address, await self._fetcher.small(address, MOST_BYTES)
        except NotFound:
            for other in others:
                with suppress(NotFound):
                    return other, await self._fetcher.small(other, MOST_BYTES)
            raise

    async def _signer(self, address: str, data: bytes) -> str:
        signers = await asyncio.to_thread(read_signers, self._config.keys)
        parts = urlsplit(address)
        place = parts._replace(path=parts.path + SIGNATURE_SUFFIX).geturl()
        try:
            signature = await self._fetcher.small(place, MOST_SIGNATURE_BYTES)
        except NotFound as error:
            raise WrongState(
                f"cannot trust {shown_address(address)}: it has no signature",
                reason="RUNTIME_SIGNATURE_MISSING",
                hint=f"runtimes.require asks for one: ssh-keygen -Y sign -n {NAMESPACE} -f KEY registry.json",
            ) from error
        check = partial(verify, data, signature, signers, self._clock.now(), shown_address(address))
        return (await asyncio.to_thread(check)).name

    def archive(self, loaded: LoadedIndex, entry: IndexEntry) -> str:
        """Return the address of the entry's archive. Raises WrongState where nothing vouches for it."""
        address = archive_address(loaded.address, entry.download_url)
        is_here = loaded.address.startswith("file:") and address.startswith("file:")
        may_be_unknown = is_here and self._config.require is Trust.NONE
        is_pinned = address.startswith("docker:")  # by the digest in it (reading.py)
        if not entry.checksum and not may_be_unknown and not is_pinned:
            raise WrongState(
                f"cannot install runtime {entry}: its index does not have the SHA-256 of its archive",
                reason="RUNTIME_CHECKSUM_MISSING",
                hint="without one, only files of the agent's host are installed, with runtimes.require: none",
            )
        return address


def highest_first(entries: Sequence[IndexEntry]) -> list[IndexEntry]:
    """Return the entries by version; pre-releases come behind all others."""

    def order(entry: IndexEntry) -> tuple[bool, SemanticVersion]:
        version = SemanticVersion.of(entry.version)
        return not version.is_pre_release, version

    return sorted(entries, key=order, reverse=True)


def _offered(entries: Sequence[IndexEntry]) -> Offered:
    highest = entries[0]
    versions = tuple(entry.version for entry in entries)
    return Offered(highest.name, versions, highest.platforms, highest.description)
