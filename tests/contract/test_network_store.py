"""What every NetworkStore does: the one in memory that other tests use, and the one on disk."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path

import pytest

from joblet_agent.model.network import Network
from joblet_agent.ports import NetworkStore, StoredNetwork
from joblet_agent.store import SqliteJobStore
from tests.contract.job_records import START
from tests.fakes.networks import MemoryNetworkStore

PLAIN = Network(
    "web", "joblet-web", IPv4Network("10.10.0.0/24"), IPv6Network("fd00:1:2:10::/64"), created_at=START
)
FULL = Network(
    name="Data-1_x",
    bridge="joblet-0123abcd",
    range4=IPv4Network("10.0.0.0/8"),
    range6=IPv6Network("fd00::/48"),
    is_internal=True,
    is_isolated=True,
    mtu=65535,
    dns=(ip_address("9.9.9.9"), ip_address("2620:fe::9")),
    bandwidth=10**12,
    created_at=START + timedelta(microseconds=1),
)


@asynccontextmanager
async def in_memory(_: Path) -> AsyncIterator[NetworkStore]:
    yield MemoryNetworkStore()


@asynccontextmanager
async def on_disk(path: Path) -> AsyncIterator[NetworkStore]:
    store = await SqliteJobStore.open(path / "state.db")
    try:
        yield store.networks
    finally:
        await store.close()


Opened = Callable[[Path], AbstractAsyncContextManager[NetworkStore]]

KINDS = pytest.mark.parametrize("opened", [in_memory, on_disk])


def with_store(opened: Opened, path: Path, case: Callable[[NetworkStore], Awaitable[None]]) -> None:
    async def main() -> None:
        async with opened(path) as store:
            await case(store)

    asyncio.run(main())


@KINDS
def test_what_was_saved_comes_back_oldest_first(opened: Opened, tmp_path: Path) -> None:
    async def case(store: NetworkStore) -> None:
        assert list(await store.all()) == []
        await store.save(StoredNetwork(FULL))
        await store.save(StoredNetwork(PLAIN))
        assert list(await store.all()) == [StoredNetwork(PLAIN), StoredNetwork(FULL)]

    with_store(opened, tmp_path, case)


@KINDS
def test_a_network_is_replaced_and_forgotten_by_its_name(opened: Opened, tmp_path: Path) -> None:
    async def case(store: NetworkStore) -> None:
        await store.save(StoredNetwork(PLAIN))
        await store.save(StoredNetwork(replace(PLAIN, mtu=1400), is_removed=True))
        assert list(await store.all()) == [StoredNetwork(replace(PLAIN, mtu=1400), is_removed=True)]
        await store.delete("web")
        await store.delete("web")
        assert list(await store.all()) == []

    with_store(opened, tmp_path, case)


@KINDS
def test_the_host_s_range_stays(opened: Opened, tmp_path: Path) -> None:
    async def case(store: NetworkStore) -> None:
        first = IPv6Network("fd12:3456:789a::/48")
        assert await store.host_range(first) == first
        assert await store.host_range(IPv6Network("fd00::/48")) == first

    with_store(opened, tmp_path, case)


def test_what_was_stored_is_there_for_the_next_agent_and_what_is_broken_is_not(tmp_path: Path) -> None:
    async def write() -> None:
        async with on_disk(tmp_path) as store:
            await store.save(StoredNetwork(PLAIN))
            await store.save(StoredNetwork(FULL))
            await store.host_range(IPv6Network("fd12:3456:789a::/48"))

    async def read() -> None:
        async with on_disk(tmp_path) as store:
            assert list(await store.all()) == [StoredNetwork(PLAIN)]
            assert await store.host_range(IPv6Network("fd00::/48")) == IPv6Network("fd12:3456:789a::/48")

    asyncio.run(write())
    with closing(sqlite3.connect(tmp_path / "state.db")) as file, file:
        file.execute("UPDATE networks SET network = x'7b7d' WHERE name = ?", (FULL.name,))
    asyncio.run(read())
