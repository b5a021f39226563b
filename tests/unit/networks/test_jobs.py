"""Jobs on networks, on fakes: places, order, what is switched off, what is repaired."""

import asyncio
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Network, ip_network
from pathlib import Path

import pytest

from joblet_agent.config import HostNetwork, JobsConfig, NetworksConfig
from joblet_agent.errors import (
    HostUnavailable,
    InvalidRequest,
    JobletError,
    LimitReached,
    NotOffered,
    NotPermitted,
)
from joblet_agent.model.identity import Identity, Role
from joblet_agent.model.job import JobId, JobRecord, JobSpec, JobState, Reason, Token
from joblet_agent.model.network import Attachment, IPAddress, Network, NetworkSpec, PublishedPort
from joblet_agent.networks import jobs as jobs_module
from tests.fakes.networks import FakeNetworkBackend, no_service
from tests.unit.jobs.rig import BOOT, CALLER, Core, Host, until, with_core

OPERATOR = Identity("op", Role.OPERATOR)
MINE = NetworkSpec("mine", "10.10.0.0/24")


async def run(core: Core, network: str = "bridge", command: str = "sleep", **more: object) -> JobRecord:
    spec = replace(JobSpec(command, network=network), **more)  # type: ignore[arg-type]
    return await core.service.run(spec, CALLER)


async def end(core: Core, job_id: JobId) -> None:
    core.host.units.end(job_id, "exited", 0)
    await core.ended(job_id)


async def being_started(core: Core) -> JobRecord:
    """Return a job that was accepted long ago, whose time has come, and that nobody waits for."""
    due = (core.clock.time + timedelta(minutes=1)).isoformat()
    job = await run(core, schedule=due)
    core.host.timers.advance(timedelta(minutes=2))
    await until(lambda: core.host.store.records[job.id].uid > 0)
    return job


def address_of(record: JobRecord) -> str:
    assert record.attachment is not None
    return str(record.attachment.address4)


def test_the_store_hears_of_a_place_before_the_kernel_and_the_kernel_before_systemd(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await run(core)
        await end(core, job.id)
        calls = [call.replace(job.id, "it") for call in core.host.calls]
        order = [
            *(
                "save INITIALIZING it",
                "attach it",
                "start it",
                "save COMPLETED it",
                "release it",
                "detach it",
            ),
        ]
        assert [call for call in calls if call in order] == order
        stored = next(record for record in core.host.store.history if record.attachment)
        assert stored.state is JobState.INITIALIZING
        assert address_of(stored) == "172.20.0.2"
        assert core.host.store.records[job.id].attachment is None

    with_core(tmp_path, case)


def test_the_unit_is_told_of_namespace_and_resolver(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await run(core)
        plan = core.host.units.plans[job.id]
        assert str(plan.namespace) == f"/run/netns/joblet-{job.id}"
        assert str(plan.resolver) == "/run/joblet/dns/bridge/resolv.conf"
        alone = core.host.units.plans[(await run(core, "none")).id]
        assert (alone.namespace, alone.resolver) == (None, None)

    with_core(tmp_path, case)


def test_an_address_is_given_again_when_the_kernel_has_forgotten_it(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        first = await run(core)
        second = await run(core)
        assert (address_of(first), address_of(second)) == ("172.20.0.2", "172.20.0.3")
        core.host.kernel.failures["detach"] = no_service()
        core.host.kernel.failures["apply"] = no_service()
        core.host.units.end(first.id, "exited", 0)
        await core.ended(first.id)
        assert address_of(await run(core)) == "172.20.0.4"
        core.host.kernel.failures.clear()
        core.host.kernel.restarted()
        await until(lambda: first.id not in core.host.kernel.attachments)
        await until(lambda: len(core.networks.get("bridge").members) == 2)
        assert address_of(await run(core)) == "172.20.0.2"

    with_core(tmp_path, case)


def test_a_hundred_jobs_at_once_have_a_hundred_addresses(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        jobs = await asyncio.gather(*(run(core) for _ in range(100)))
        assert len({address_of(job) for job in jobs}) == 100
        assert len(core.host.kernel.attachments) == 100
        for job in jobs:
            core.host.units.end(job.id, "exited", 0)
        await asyncio.gather(*(core.ended(job.id) for job in jobs))
        assert core.host.kernel.attachments == {}

    with_core(tmp_path, case)


def test_a_place_is_free_when_a_start_fails(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        core.host.store.failures_left = 1
        with pytest.raises(JobletError):
            await run(core)
        with pytest.raises(JobletError):
            await run(core, command="refused")
        core.host.kernel.failures["attach"] = LimitReached("cannot: port taken", reason="PORT_TAKEN")
        with pytest.raises(LimitReached, match="port taken"):
            await run(core)
        await until(lambda: not list(core.registry))
        core.host.kernel.failures.clear()
        assert core.host.kernel.attachments == {}
        assert core.networks.get("bridge").members == ()
        assert address_of(await run(core)) == "172.20.0.2"

    with_core(tmp_path, case)


def test_a_full_network_says_so(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        await core.networks.create(replace(MINE, cidr="10.10.0.0/30"))
        first = await run(core, "mine")
        with pytest.raises(LimitReached, match="all 1 addresses of the network mine") as caught:
            await run(core, "mine")
        assert caught.value.reason == "NO_FREE_ADDRESS"
        await end(core, first.id)
        await run(core, "mine")

    with_core(tmp_path, case)


def test_a_port_is_published_once(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        port = PublishedPort(8080, 80)
        first = await run(core, ports=(port,))
        with pytest.raises(
            LimitReached, match=f"port 8080/tcp of the host is published by job {first.id[:8]}"
        ):
            await run(core, ports=(port,))
        await run(core, ports=(replace(port, host_port=8081),))
        await end(core, first.id)
        await run(core, ports=(port,))

    with_core(tmp_path, case)


def test_an_address_that_is_not_the_host_s_is_refused(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        with pytest.raises(InvalidRequest, match=r"address 198.51.100.1 of --publish is none of this host's"):
            await run(core, ports=(PublishedPort(80, 80, address="198.51.100.1"),))
        assert (await run(core, ports=(PublishedPort(80, 80, address="192.0.2.1"),))).spec.ports

    with_core(tmp_path, case)


def test_an_unknown_network_names_those_that_exist(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        await core.networks.create(MINE)
        with pytest.raises(InvalidRequest, match="there is no network 'moon'") as caught:
            await run(core, "moon")
        assert caught.value.reason == "UNKNOWN_NETWORK"
        assert caught.value.hint == "networks are: bridge, isolated, mine, none"

    with_core(tmp_path, case)


@pytest.mark.parametrize(
    "name", ["../bridge", "eth0", "lo", "joblet0", "bridge\n", "%i", "\\x2d", "-", "a@b", "x" * 300, "\0"]
)
def test_a5_no_name_leads_a_job_to_another_interface(tmp_path: Path, name: str) -> None:
    async def case(core: Core) -> None:
        with pytest.raises(InvalidRequest) as caught:
            await run(core, name)
        assert caught.value.reason in {"UNKNOWN_NETWORK", "NUL_BYTE"}
        assert len(str(caught.value)) < 200
        assert core.host.kernel.attachments == {}
        assert core.host.records == []

    with_core(tmp_path, case)


# -- the default, and what is switched off -----------------------------------------------------------


def test_the_configuration_names_the_network_of_those_who_name_none(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        assert (await run(core, "")).spec.network == "isolated"

    with_core(tmp_path, case, jobs=JobsConfig(default_network="isolated"))


@pytest.mark.parametrize(
    ("setting", "role", "is_allowed"),
    [
        (HostNetwork.NOBODY, Role.ADMIN, False),
        (HostNetwork.ADMIN, Role.ADMIN, True),
        (HostNetwork.ADMIN, Role.OPERATOR, False),
        (HostNetwork.OPERATOR, Role.OPERATOR, True),
        (HostNetwork.OPERATOR, Role.ADMIN, True),
    ],
)
def test_the_host_s_network_is_for_roles_that_the_configuration_names(
    tmp_path: Path, setting: HostNetwork, role: Role, is_allowed: bool
) -> None:
    async def case(core: Core) -> None:
        spec = JobSpec("sleep", network="host")
        if not is_allowed:
            with pytest.raises(NotPermitted) as caught:
                await core.service.run(spec, Identity("x", role))
            assert caught.value.reason == "NETWORK_NOT_PERMITTED"
            return
        job = await core.service.run(spec, Identity("x", role))
        plan = core.host.units.plans[job.id]
        assert (plan.namespace, str(plan.resolver)) == (None, "/etc/resolv.conf")

    with_core(tmp_path, case, networks=NetworksConfig(host=setting))


ALL_ON = NetworksConfig(host=HostNetwork.OPERATOR)
ALL_OFF = NetworksConfig(host=HostNetwork.NOBODY, custom=False, publish=False)
SWITCHED = [
    JobSpec("sleep", network="host"),
    JobSpec("sleep", network="mine"),
    JobSpec("sleep", network="bridge", ports=(PublishedPort(8080, 80),)),
]


@pytest.mark.parametrize("spec", SWITCHED, ids=["host", "custom", "publish"])
@pytest.mark.parametrize("way", ["direct", "queued", "scheduled", "recurring", "restored"])
def test_b9_what_is_switched_off_stays_off_in_every_way_to_a_start(
    tmp_path: Path, spec: JobSpec, way: str
) -> None:
    host = Host(tmp_path)
    full = JobsConfig(max_concurrent=1, default_network="none")
    schedule = {"scheduled": "2026-03-01T13:00:00Z", "recurring": "every 60"}.get(way, "")

    async def before() -> None:
        core = Core(host, jobs=full, networks=ALL_ON)
        await core.open()
        await core.networks.create(MINE)
        if way == "queued":
            await core.run("sleep")  # has the only slot
            assert (await core.service.run(spec, OPERATOR)).state is JobState.PENDING
        elif way == "scheduled":
            due = (core.clock.time + timedelta(minutes=1)).isoformat()
            await core.service.run(replace(spec, schedule=due), OPERATOR)
        elif way == "recurring":
            await core.schedules.create(replace(spec, schedule=schedule), OPERATOR)
        elif way == "restored":
            # Its agent died when systemd had not heard of it yet; it has a token, so it is started again.
            record = replace(core.service.accept(spec, OPERATOR), token=Token("t", "d"), boot_id=BOOT)
            await core.store.save(record)
        await core.close()

    async def after() -> None:
        core = Core(host, jobs=full, networks=ALL_OFF)
        await core.open()
        if way == "direct":
            with pytest.raises((NotOffered, NotPermitted)):
                await core.service.run(spec, OPERATOR)
        else:
            for record in list(host.records):
                if record.spec.network == "none":
                    host.units.end(record.id, "exited", 0)
            host.timers.advance(timedelta(minutes=10))
            await until(
                lambda: any(record.has_ended for record in host.records if record.spec.network != "none")
            )
            for record in host.records:
                if record.spec.network != "none" and record.has_ended:
                    assert record.outcome is not None
                    assert (record.state, record.outcome.reason) == (JobState.FAILED, Reason.START_FAILED)
                    assert "on this node" in record.outcome.message
                    assert record.id not in host.units.starts
        assert host.kernel.attachments == {}
        await core.close()

    asyncio.run(before())
    asyncio.run(after())


# -- the service is away -------------------------------------------------------------------------------


def test_without_the_network_service_jobs_run_that_need_none(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.kernel.failures = dict.fromkeys(("apply", "occupied", "attach", "create"), no_service())

    async def case() -> None:
        core = Core(host)
        await core.open()
        assert (await run(core, "none")).state is JobState.RUNNING
        with pytest.raises(HostUnavailable, match="network service did not answer") as caught:
            await run(core)
        assert "joblet-networks" in (caught.value.hint or "")
        with pytest.raises(HostUnavailable) as caught:
            await core.networks.create(MINE)
        traceback.clear_frames(caught.value.__traceback__)  # as rpc/memory.py does
        host.kernel.failures.clear()
        host.kernel.restarted()
        assert (await run(core)).state is JobState.RUNNING
        await core.close()

    asyncio.run(case())


@pytest.mark.parametrize("comes", [True, False])
def test_r7_a_start_that_nobody_waits_for_has_time_until_the_service_of_a_booting_host_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, comes: bool
) -> None:
    monkeypatch.setattr(jobs_module, "_LONG", 20.0 if comes else 0.1)
    host = Host(tmp_path)
    host.kernel.failures = dict.fromkeys(("apply", "occupied", "attach"), no_service())

    async def case() -> None:
        core = Core(host)
        await core.open()
        job = await being_started(core)
        if comes:
            host.kernel.failures.clear()
            host.kernel.restarted()
            await until(lambda: host.store.records[job.id].state is JobState.RUNNING)
        else:
            await until(lambda: host.store.records[job.id].has_ended)
            outcome = host.store.records[job.id].outcome
            assert outcome is not None
            assert outcome.reason is Reason.START_FAILED
            assert "network service did not answer" in outcome.message
        await core.close()

    asyncio.run(case())


def test_r7_a_start_that_nobody_waits_for_has_time_until_the_service_knows_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "_SOON", 0.05)
    host = Host(tmp_path)
    host.kernel.may_apply.clear()

    async def case() -> None:
        core = Core(host)
        await core.open()
        job = await being_started(core)
        for _ in range(50):
            await asyncio.sleep(0)
        host.kernel.may_apply.set()
        await until(lambda: host.store.records[job.id].state is JobState.RUNNING)
        await core.close()

    asyncio.run(case())


def test_a_service_that_was_restarted_is_told_everything_again(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await run(core)
        kernel = core.host.kernel
        before = kernel.applied
        kernel.attachments, kernel.networks = {}, {}
        kernel.restarted()
        await until(lambda: kernel.applied > before)
        assert set(kernel.attachments) == {job.id}
        assert set(kernel.networks) == {"bridge", "isolated"}

    with_core(tmp_path, case)


def test_what_cannot_be_repaired_is_in_the_status_of_the_job_which_goes_on(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await run(core)
        core.host.kernel.damaged = {job.id: "its namespace is gone"}
        core.host.kernel.restarted()
        await until(lambda: core.service.trouble(job.id) == "its namespace is gone")
        assert (await core.service.get(job.id)).state is JobState.RUNNING
        core.host.kernel.damaged = {}
        core.host.kernel.restarted()
        await until(lambda: core.service.trouble(job.id) == "")

    with_core(tmp_path, case)


# -- the next agent ------------------------------------------------------------------------------------


def test_the_next_agent_knows_who_is_where(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def case() -> None:
        core = Core(host)
        await core.open()
        await core.networks.create(MINE)
        job = await run(core, "mine", name="web")
        await core.close()

        core = Core(host)
        await core.open()
        (member,) = core.networks.get("mine").members
        assert (member.job_id, member.name, member.started_by) == (job.id, "web", CALLER.name)
        assert address_of(await run(core, "mine")) == "10.10.0.3"
        await until(lambda: "web" in host.names.names["mine"])
        await end(core, job.id)
        assert job.id not in host.kernel.attachments
        await core.close()

    asyncio.run(case())


def test_what_an_agent_that_died_has_left_in_the_kernel_is_removed_before_its_address_is_given(
    tmp_path: Path,
) -> None:
    host = Host(tmp_path)

    async def case() -> None:
        core = Core(host)
        await core.open()
        job = await run(core)
        attachment = host.kernel.attachments[job.id]
        await end(core, job.id)
        await core.close()
        host.kernel.attachments[job.id] = attachment  # as if it had died between outcome and detach

        core = Core(host)
        await core.open()
        assert address_of(await run(core)) == address_of(job)  # the fake refuses what it has already
        await core.close()

    asyncio.run(case())


def test_jobs_of_an_earlier_boot_have_no_place(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def case() -> None:
        core = Core(host)
        await core.open()
        job = await run(core)
        await core.close()
        host.units.units.clear()
        host.kernel.attachments.clear()

        core = Core(host, boot_id="boot-2")
        await core.open()
        record = await core.ended(job.id)
        assert record.outcome is not None
        assert record.outcome.reason is Reason.HOST_REBOOTED
        assert host.kernel.attachments == {}
        assert core.networks.get("bridge").members == ()
        await core.close()

    asyncio.run(case())


def test_a_network_whose_range_the_host_uses_by_now_is_left_alone(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.kernel.ranges = [ip_network("172.20.16.0/20")]

    async def case() -> None:
        core = Core(host)
        await core.open()
        with pytest.raises(HostUnavailable, match=r"its range overlaps with 172.20.16.0/20") as caught:
            await run(core)
        assert "networks.bridge" in (caught.value.hint or "")
        assert set(host.kernel.networks) == {"isolated"}
        await run(core, "isolated")
        await core.close()

        other = NetworksConfig(bridge=IPv4Network("172.30.0.0/16"))
        core = Core(host, networks=other)
        await core.open()
        assert address_of(await run(core)) == "172.30.0.2"
        await core.close()

    asyncio.run(case())


def test_a_built_in_network_that_was_moved_onto_a_custom_one_keeps_jobs_off_that(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def case() -> None:
        core = Core(host)
        await core.open()
        await core.networks.create(MINE)
        await core.close()

        core = Core(host, networks=NetworksConfig(bridge=IPv4Network("10.10.0.0/16")))
        await core.open()
        with pytest.raises(
            HostUnavailable, match=r"overlaps with 10.10.0.0/16 of the network bridge"
        ) as caught:
            await run(core, "mine")
        assert caught.value.hint == "remove the network and make it again with another range"
        assert address_of(await run(core)) == "10.10.0.2"
        assert set(host.kernel.networks) == {"bridge", "isolated"}
        await core.networks.remove("mine")
        await core.close()

    asyncio.run(case())


# -- names ---------------------------------------------------------------------------------------------


def test_names_come_and_go_with_jobs(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        names = core.host.names
        web = await run(core, name="web")
        assert set(names.names["bridge"]) == {"web", web.id, web.id[:8]}  # before its command runs
        other = await run(core)
        await end(core, web.id)
        await until(lambda: set(names.names["bridge"]) == {other.id, other.id[:8]})
        alone = await run(core, "isolated", name="alone")
        assert names.names["isolated"] == {}
        assert alone.attachment is not None

    with_core(tmp_path, case)


def test_many_jobs_at_once_are_told_together(tmp_path: Path) -> None:
    """Each telling lasts until as many jobs have come as the launcher prepares at once."""

    async def case(core: Core) -> None:
        kernel, names, covered = core.host.kernel, core.host.names, 0
        tell = names.tell

        async def tell_slowly(network: Network, members: Mapping[str, Sequence[IPAddress]]) -> None:
            nonlocal covered
            begun = len(kernel.attachments)
            await until(lambda: len(kernel.attachments) >= min(100, covered + 32))
            await tell(network, members)
            covered = begun

        names.tell = tell_slowly  # type: ignore[assignment,method-assign]
        await asyncio.gather(*(run(core) for _ in range(100)))
        assert core.host.names.tellings < 50
        assert len(core.host.names.names["bridge"]) == 200

    with_core(tmp_path, case)


def test_a_job_starts_without_names_if_their_server_fails(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        core.host.names.failure = HostUnavailable("cannot start joblet-dns@bridge", reason="NO_NAMES")
        assert (await run(core)).state is JobState.RUNNING
        core.host.names.failure = None
        job = await run(core, name="b")
        await until(lambda: job.id in core.host.names.names.get("bridge", ()))

    with_core(tmp_path, case)


def test_networks_of_very_many_jobs_are_made_some_at_a_time(tmp_path: Path) -> None:
    class Busy(FakeNetworkBackend):
        at_once = most = 0

        async def attach(self, attachment: Attachment) -> Path:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            await asyncio.sleep(0.001)  # it is busy, and its callers have a deadline
            self.at_once -= 1
            return await super().attach(attachment)

    host = Host(tmp_path)
    host.kernel = backend = Busy(host.calls)

    async def case() -> None:
        core = Core(host)
        await core.open()
        await asyncio.gather(*(run(core) for _ in range(100)))
        await core.close()

    asyncio.run(case())
    assert 1 < backend.most <= 32
