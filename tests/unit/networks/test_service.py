"""Networks are made, listed and removed, on fakes."""

import asyncio
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest

from joblet_agent.config import HostNetwork, NetworksConfig
from joblet_agent.errors import (
    HostUnavailable,
    InvalidRequest,
    LimitReached,
    NotFound,
    NotOffered,
    StoreFailed,
    WrongState,
)
from joblet_agent.model.job import JobSpec
from joblet_agent.model.network import Network, NetworkSpec
from joblet_agent.ports import StoredNetwork
from tests.fakes.networks import no_service
from tests.unit.jobs.rig import CALLER, Core, Host, until, with_core

MINE = NetworkSpec("mine", "10.10.0.0/24")


def names(core: Core) -> list[str]:
    return [view.name for view in core.networks.all()]


def test_a_network_is_made_listed_and_removed(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        made = await core.networks.create(MINE)
        assert (made.name, made.bridge, made.range4) == ("mine", "joblet-mine", IPv4Network(MINE.cidr))
        assert made.created_at == core.clock.time
        assert made.range6.prefixlen == 64
        assert core.host.kernel.networks["mine"] == made
        assert names(core) == ["none", "isolated", "bridge", "mine"]
        await core.networks.remove("mine")
        assert names(core) == ["none", "isolated", "bridge"]
        assert "mine" not in core.host.kernel.networks
        assert core.host.networks.networks == {}

    with_core(tmp_path, case)


def test_the_host_s_network_is_listed_where_somebody_may_use_it(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        assert names(core)[-1] == "host"

    with_core(tmp_path, case, networks=NetworksConfig(host=HostNetwork.ADMIN))


def test_ipv6_ranges_are_of_one_prefix_that_stays(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def life() -> list[IPv6Network]:
        core = Core(host)
        await core.open()
        if "mine" not in names(core):
            await core.networks.create(MINE)
        ranges = [view.network.range6 for view in core.networks.all() if view.network]
        await core.close()
        return ranges

    first, second = asyncio.run(life()), asyncio.run(life())
    assert first == second
    assert len(set(first)) == 3
    assert len({each.supernet(new_prefix=48) for each in first}) == 1
    assert all(each.subnet_of(IPv6Network("fd00::/8")) for each in first)


def test_a_network_is_stored_before_the_kernel_hears_of_it(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        core.host.networks.failure = StoreFailed("cannot write: disk is full", reason="STORE_FULL")
        with pytest.raises(StoreFailed):
            await core.networks.create(MINE)
        assert "create mine" not in core.host.calls
        core.host.networks.failure = None
        await core.networks.create(MINE)

    with_core(tmp_path, case)


def test_a_network_that_cannot_be_made_is_not_there(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        core.host.kernel.failures["create"] = no_service()
        with pytest.raises(HostUnavailable):
            await core.networks.create(MINE)
        assert "mine" not in names(core)
        assert core.host.networks.networks == {}
        del core.host.kernel.failures["create"]
        await core.networks.create(MINE)

    with_core(tmp_path, case)


def test_a_network_in_use_is_not_removed(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        await core.networks.create(MINE)
        job = await core.service.run(JobSpec("sleep", network="mine"), CALLER)
        with pytest.raises(WrongState, match=f"network mine is in use by job {job.id[:8]}") as caught:
            await core.networks.remove("mine")
        assert caught.value.reason == "NETWORK_IN_USE"
        core.host.units.end(job.id, "exited", 0)
        await core.ended(job.id)
        await core.networks.remove("mine")

    with_core(tmp_path, case)


def test_a_network_is_removed_as_soon_as_its_job_has_ended(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        await core.networks.create(MINE)
        job = await core.service.run(JobSpec("sleep", network="mine"), CALLER)
        core.host.kernel.may_forget.clear()
        end = core.registry.end_of(job.id)
        core.host.units.end(job.id, "exited", 0)
        await end.wait()
        removal = asyncio.create_task(core.networks.remove("mine"))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not removal.done()
        core.host.kernel.may_forget.set()
        await removal
        assert "mine" not in core.host.kernel.networks

    with_core(tmp_path, case)


@pytest.mark.parametrize("moment", range(12))
def test_a_start_and_a_removal_never_both_succeed(tmp_path: Path, moment: int) -> None:
    async def case(core: Core) -> None:
        await core.networks.create(MINE)
        start = asyncio.create_task(core.service.run(JobSpec("sleep", network="mine"), CALLER))
        for _ in range(moment):
            await asyncio.sleep(0)
        removal = asyncio.create_task(core.networks.remove("mine"))
        started, removed = await asyncio.gather(start, removal, return_exceptions=True)
        if removed is None:
            assert isinstance(started, InvalidRequest)
            assert started.reason == "UNKNOWN_NETWORK"
            assert core.host.kernel.attachments == {}
        else:
            assert isinstance(removed, WrongState)
            assert not isinstance(started, BaseException)

    with_core(tmp_path, case)


def test_built_in_and_unknown_networks_are_not_removed(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        for name in ("none", "isolated", "bridge", "host"):
            with pytest.raises(InvalidRequest, match="it is built in"):
                await core.networks.remove(name)
        for name in ("", "moon", "../mine", "joblet0", "x" * 300):
            with pytest.raises(NotFound):
                await core.networks.remove(name)
            with pytest.raises(NotFound):
                core.networks.get(name)

    with_core(tmp_path, case)


def test_what_the_kernel_does_not_forget_at_once_it_forgets_later(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        await core.networks.create(MINE)
        core.host.kernel.failures["remove"] = no_service()
        with pytest.raises(HostUnavailable, match="removed for jobs, but not cleared away yet"):
            await core.networks.remove("mine")
        assert "mine" not in names(core)
        with pytest.raises(InvalidRequest, match="there is no network 'mine'"):
            await core.service.run(JobSpec("sleep", network="mine"), CALLER)
        core.host.kernel.restarted()
        await until(lambda: core.host.networks.networks == {})
        assert "mine" not in core.host.kernel.networks
        await core.networks.create(MINE)

    with_core(tmp_path, case)


def test_a_removal_that_an_agent_has_begun_the_next_one_finishes(tmp_path: Path) -> None:
    host = Host(tmp_path)
    network = Network("mine", "joblet-mine", IPv4Network(MINE.cidr), IPv6Network("fd00:1:2:10::/64"))

    async def case() -> None:
        core = Core(host)
        stored = StoredNetwork(replace(network, created_at=core.clock.time), is_removed=True)
        host.networks.networks["mine"] = stored
        host.kernel.networks["mine"] = network
        host.names.names["mine"] = {}
        await core.open()
        assert "mine" not in names(core)
        await until(lambda: host.networks.networks == {})
        assert set(host.kernel.networks) == {"bridge", "isolated"}
        assert "mine" not in host.names.names
        await core.close()

    asyncio.run(case())


def test_there_are_as_many_as_the_configuration_allows(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        await core.networks.create(MINE)
        with pytest.raises(LimitReached, match=r"there are 1 already \(networks.max_custom\)"):
            await core.networks.create(NetworkSpec("other", "10.11.0.0/24"))

    with_core(tmp_path, case, networks=NetworksConfig(max_custom=1))


def test_b9_none_is_made_where_they_are_switched_off(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        with pytest.raises(NotOffered, match="custom networks are switched off"):
            await core.networks.create(MINE)

    with_core(tmp_path, case, networks=NetworksConfig(custom=False))


def test_two_that_are_made_at_once_do_not_overlap(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        specs = [NetworkSpec(f"n{number}", "10.10.0.0/24") for number in range(5)]
        made = await asyncio.gather(*map(core.networks.create, specs), return_exceptions=True)
        assert sum(isinstance(each, Network) for each in made) == 1
        refused = [each for each in made if isinstance(each, InvalidRequest)]
        assert {each.reason for each in refused} == {"RANGE_OVERLAPS"}
        assert len(refused) == 4

    with_core(tmp_path, case)


def test_whoever_made_a_network_may_go_away(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        call = asyncio.create_task(core.networks.create(MINE))
        await asyncio.sleep(0)
        call.cancel()
        await until(lambda: "mine" in names(core))
        assert "mine" in core.host.kernel.networks

    with_core(tmp_path, case)
