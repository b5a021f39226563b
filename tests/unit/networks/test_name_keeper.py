"""The servers of names, kept in step with jobs that come and go."""

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Network, IPv6Network

import pytest

from joblet_agent.errors import HostUnavailable
from joblet_agent.model.ids import JobId
from joblet_agent.model.network import Attachment, Member, Network
from joblet_agent.networks import name_keeper
from joblet_agent.networks.catalog import Entry, Joined
from joblet_agent.networks.name_keeper import NameKeeper
from tests.fakes.networks import FakeNameServers

NETWORK = Network("back", "joblet-back", IPv4Network("10.10.0.0/24"), IPv6Network("fd00::/64"))
JOB = JobId("7f3a0000-0000-4000-8000-000000000000")
GONE = HostUnavailable("it does not answer", reason="NAMES_UNAVAILABLE")


def entry(*names: str) -> Entry:
    """A network with jobs of these names."""
    made = Entry(NETWORK.name, NETWORK)
    for number, name in enumerate(names):
        job_id = JobId(f"{number:08}{JOB[8:]}")
        place = Attachment(job_id, NETWORK.name, NETWORK.range4[number + 2], NETWORK.range6[number + 2])
        made.jobs[job_id] = Joined(Member(job_id, name, "somebody", place))
    return made


def keeping(case: Callable[[NameKeeper, FakeNameServers], Awaitable[None]], linger: float = 60.0) -> None:
    async def main() -> None:
        servers = FakeNameServers()
        keeper = NameKeeper(servers, linger)
        try:
            async with asyncio.timeout(20):
                await case(keeper, servers)
        finally:
            await keeper.close()

    asyncio.run(main())


async def until(fits: Callable[[], bool]) -> None:
    while not fits():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def test_who_is_shown_is_known() -> None:
    async def case(keeper: NameKeeper, servers: FakeNameServers) -> None:
        await keeper.show(entry("web"))
        assert servers.names[NETWORK.name]["web"] == (NETWORK.range4[2], NETWORK.range6[2])

    keeping(case)


def test_the_last_name_goes_at_once_and_the_server_later() -> None:
    async def case(keeper: NameKeeper, servers: FakeNameServers) -> None:
        network = entry("web")
        await keeper.show(network)
        network.jobs.clear()
        keeper.changed(network)
        await until(lambda: servers.names == {NETWORK.name: {}})
        await until(lambda: servers.names == {})

    keeping(case, linger=0.05)


def test_many_who_come_at_once_are_told_of_together() -> None:
    async def case(keeper: NameKeeper, servers: FakeNameServers) -> None:
        network = entry(*(f"job-{number}" for number in range(50)))
        await asyncio.gather(*(keeper.show(network) for _ in network.jobs))
        assert servers.tellings <= 2
        assert "job-49" in servers.names[NETWORK.name]

    keeping(case)


def test_nobody_waits_for_a_server_that_fails_and_it_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(name_keeper, "_FIRST_PAUSE", 0.01)

    async def case(keeper: NameKeeper, servers: FakeNameServers) -> None:
        servers.failure = GONE
        network = entry("web")
        for _ in range(3):
            await keeper.show(network)
        assert caplog.text.count("do not find each other") == 1
        servers.failure = None
        await until(lambda: "web" in servers.names.get(NETWORK.name, {}))
        await until(lambda: "again" in caplog.text)
        await keeper.show(network)

    with caplog.at_level("INFO"):
        keeping(case)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_the_names_are_told_before_a_server_is_waited_for() -> None:
    """One that takes too long has them when it is there."""

    class Slow(FakeNameServers):
        async def serve(self, network: Network) -> None:
            raise GONE

    async def case(keeper: NameKeeper, _servers: FakeNameServers) -> None:
        servers = Slow()
        slow = NameKeeper(servers)
        await slow.show(entry("web"))
        assert "web" in servers.names[NETWORK.name]
        await slow.show(entry("web", "db"))
        assert "db" in servers.names[NETWORK.name]
        await slow.close()

    keeping(case)


def test_nobody_waits_while_it_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_keeper, "_FIRST_PAUSE", 0.01)

    class Stuck(FakeNameServers):
        def __init__(self) -> None:
            super().__init__()
            self.tries = 0
            self.goes_on = asyncio.Event()

        async def serve(self, network: Network) -> None:
            self.tries += 1
            if self.tries == 1:
                raise GONE
            await self.goes_on.wait()
            await super().serve(network)

    async def case(_keeper: NameKeeper, _servers: FakeNameServers) -> None:
        servers = Stuck()
        keeper = NameKeeper(servers)
        network = entry("web")
        await keeper.show(network)
        await until(lambda: servers.tries == 2)
        network.jobs.update(entry("web", "db").jobs)
        await keeper.show(network)
        assert "db" in servers.names[NETWORK.name]
        network.jobs.clear()
        servers.goes_on.set()
        await until(lambda: not servers.names)
        await keeper.close()

    keeping(case)


def test_servers_of_former_networks_are_ended() -> None:
    async def case(keeper: NameKeeper, servers: FakeNameServers) -> None:
        servers.names = {"former": {}, NETWORK.name: {}}
        keeper.keep_only([entry("web")])
        await until(lambda: servers.names == {NETWORK.name: {}})

    keeping(case)
