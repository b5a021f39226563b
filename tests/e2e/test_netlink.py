"""The network service in a booted machine, told by its socket what to do."""

import asyncio
import json
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from joblet_agent.errors import InvalidRequest, LimitReached
from joblet_agent.model.network import Network, PublishedPort, Transport
from joblet_agent.netlink.names import NAMESPACES, SOCKET, bridge_name, host_end, mirror_name, namespace_path
from tests.e2e.agent import agent_stopped, command, eventually
from tests.e2e.netlink import (
    SERVICE,
    addresses,
    all_of,
    attachment,
    inside,
    kill_service,
    links,
    named,
    namespaces_of_the_service,
    network,
    ours,
    routes,
    service,
)
from tests.sizes import size

pytestmark = pytest.mark.systemd

_BRIDGE_PORTS = 1023


@pytest.fixture(autouse=True)
def _nobody_else_asks() -> Iterator[None]:
    """Let the service be this test's, and leave it without networks; the agent tells it its own again."""
    with agent_stopped():
        command("systemctl", "restart", SERVICE)
        yield
        left = ours()
        command("systemctl", "restart", SERVICE)
    assert left == set()


def test_a_network_and_its_jobs_are_in_the_kernel_as_told() -> None:
    net = network("one", 1, mtu=1400)
    job = attachment(net, 2)

    async def run() -> None:
        async with service() as backend:
            await backend.create(net)
            path = await backend.attach(job)
            assert path == namespace_path(job.job_id)
            assert backend.interface(job.job_id) in links()
            bridge, end, own = links()[net.bridge], links()[host_end(job.job_id)], links(job.job_id)
            assert (bridge["linkinfo"]["info_kind"], bridge["mtu"]) == ("bridge", 1400)
            assert addresses(net.bridge) == {"10.77.1.1/24", "fd77:0:0:1::1/64"}
            assert (end["master"], end["mtu"], end["operstate"]) == (net.bridge, 1400, "UP")
            assert "UP" in own["lo"]["flags"]
            assert (own["eth0"]["mtu"], own["eth0"]["operstate"]) == (1400, "UP")
            assert addresses("eth0", job.job_id) == {"10.77.1.2/24", "fd77:0:0:1::2/64"}
            assert routes(job.job_id) == {"10.77.1.1", "fd77:0:0:1::1"}
            for setting, value in (
                ("ipv4.ip_unprivileged_port_start", "0"),
                ("ipv4.ping_group_range", "0\t2147483647"),
                ("ipv6.conf.eth0.accept_ra", "0"),
            ):
                assert inside(job.job_id, "sysctl", "-n", f"net.{setting}").strip() == value
            assert ours() == {net.bridge} | named(job)
            await backend.detach(job.job_id)
            assert ours() == {net.bridge}
            await backend.remove(net)
            assert ours() == set()

    asyncio.run(run())


def test_each_call_twice_is_the_same_as_once() -> None:
    net = network("one", 1)
    job = attachment(net, 2, ports=(PublishedPort(18080, 80),))

    async def run() -> None:
        async with service() as backend:
            for _ in range(2):
                await backend.create(net)
            paths = [await backend.attach(job) for _ in range(2)]
            assert paths == [namespace_path(job.job_id)] * 2
            assert ours() == {net.bridge} | named(job)
            assert await backend.apply([net], [job]) == {}
            for _ in range(2):
                await backend.detach(job.job_id)
            for _ in range(2):
                await backend.remove(net)
            assert ours() == set()

    asyncio.run(run())


def test_what_an_administrator_broke_is_repaired_and_what_is_not_ours_stays() -> None:
    net, limited = network("one", 1, is_isolated=True), network("two", 2, bandwidth=50_000_000)
    jobs = [attachment(net, number, bandwidth=10_000_000) for number in range(2, 7)]
    on_limited = attachment(limited, 2)
    ends = [host_end(job.job_id) for job in jobs]
    inner = [("nsenter", f"--net={namespace_path(job.job_id)}", "--") for job in jobs]
    damage = (
        ("ip", "link", "delete", ends[0]),
        ("ip", "link", "set", ends[1], "nomaster", "down", "mtu", "1300"),
        ("bridge", "link", "set", "dev", ends[2], "isolated", "off"),
        ("tc", "qdisc", "delete", "dev", ends[2], "root"),
        (*inner[3], "ip", "address", "flush", "dev", "eth0"),
        (*inner[3], "ip", "link", "set", "lo", "down"),
        (*inner[4], "ip", "link", "delete", "eth0"),
        ("ip", "address", "flush", "dev", net.bridge),
        ("ip", "address", "add", "10.78.0.1/24", "dev", net.bridge),
        ("ip", "link", "delete", limited.bridge),
        ("ip", "link", "delete", mirror_name(limited.bridge)),
        ("nft", "flush", "ruleset"),
    )
    foreign = (
        ("ip", "link", "add", "foreign0", "type", "bridge"),
        ("ip", "link", "add", "jb-foreign", "type", "veth", "peer", "jbx"),
        ("ip", "netns", "add", "foreign"),
    )

    async def run() -> None:
        async with service() as backend:
            assert await backend.apply([net, limited], []) == {}
            await all_of(*(backend.attach(job) for job in (*jobs, on_limited)))
            for words in (*foreign, *damage):
                command(*words)
            assert await backend.apply([net, limited], [*jobs, on_limited]) == {}
            there = links()
            for job, end in zip(jobs, ends, strict=True):
                assert (there[end]["master"], there[end]["mtu"]) == (net.bridge, 1500)
                assert there[end]["operstate"] == "UP"
                assert there[end]["linkinfo"]["info_slave_data"]["isolated"] is True
                assert there[end]["qdisc"] == links(job.job_id)["eth0"]["qdisc"] == "tbf"
                assert "UP" in links(job.job_id)["lo"]["flags"]
                assert addresses("eth0", job.job_id) == {f"{job.address4}/24", f"{job.address6}/64"}
                assert routes(job.job_id) == {str(net.gateway4), str(net.gateway6)}
            assert addresses(net.bridge) == {"10.77.1.1/24", "fd77:0:0:1::1/64"}
            assert there[limited.bridge]["qdisc"] == there[mirror_name(limited.bridge)]["qdisc"] == "tbf"
            assert there[host_end(on_limited.job_id)]["master"] == limited.bridge
            assert {"foreign0", "jb-foreign"} <= there.keys()
            assert (NAMESPACES / "foreign").exists()
            assert "inet joblet" in command("nft", "list", "tables").stdout

    try:
        asyncio.run(run())
    finally:
        for words in (("ip", "link", "delete", "foreign0"), ("ip", "link", "delete", "jb-foreign")):
            command(*words, check=False)
        command("ip", "netns", "delete", "foreign", check=False)


def test_an_attachment_whose_namespace_is_gone_is_told_and_left() -> None:
    net = network("one", 1)
    whole, broken = attachment(net, 2), attachment(net, 3)

    async def run() -> None:
        async with service() as backend:
            await backend.create(net)
            await all_of(backend.attach(whole), backend.attach(broken))
            command("ip", "netns", "delete", namespace_path(broken.job_id).name)
            reasons = await backend.apply([net], [whole, broken])
            assert list(reasons) == [broken.job_id]
            assert "its namespace is gone" in reasons[broken.job_id]
            assert routes(whole.job_id)

    asyncio.run(run())


def test_r13_what_comes_and_goes_leaves_nothing_also_when_the_service_is_killed() -> None:
    net = network("one", 1)
    rounds, at_once = size(20, 100), 10

    async def run() -> None:
        async with service() as backend:
            is_lost = asyncio.Event()
            backend.listen(is_lost.set)
            await backend.create(net)
            for number in range(rounds):
                jobs = [
                    attachment(net, 2 + place, ports=(PublishedPort(18000 + place, 80),) * (place % 2))
                    for place in range(at_once)
                ]
                calls = [asyncio.create_task(backend.attach(job)) for job in jobs]
                if number % 4 == 1:
                    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
                    kill_service()
                    await asyncio.wait_for(is_lost.wait(), 30)
                    is_lost.clear()
                    # as the agent does: what is in its records, whether it was attached or not
                    await backend.apply([net], jobs)
                await all_of(*calls)
                assert named(*jobs) <= ours()
                if number % 4 == 3:
                    kill_service()
                    await asyncio.wait_for(is_lost.wait(), 30)
                    is_lost.clear()
                    await backend.apply([net], [])
                await all_of(*(backend.detach(job.job_id) for job in jobs))
                assert ours() == {net.bridge}
            await backend.remove(net)
            # Neither descriptors nor namespaces are piled up, however many jobs came.
            eventually(namespaces_of_the_service, lambda many: many <= 64 + 1)

    asyncio.run(run())
    assert "netns/joblet-" not in Path("/proc/self/mountinfo").read_text(encoding="utf-8")


def test_an_attachment_under_way_when_the_service_is_killed_is_there_afterwards() -> None:
    net = network("one", 1)
    jobs = [attachment(net, number) for number in range(2, 42)]

    async def run() -> None:
        async with service() as backend:
            loop, restored = asyncio.get_running_loop(), []
            # The agent tells everything that is in its records: here, nothing is attached yet.
            backend.listen(lambda: restored.append(loop.create_task(backend.apply([net], []))))
            await backend.apply([net], [])
            calls = [asyncio.create_task(backend.attach(job)) for job in jobs]
            await asyncio.wait(calls[:5], return_when=asyncio.FIRST_COMPLETED)
            kill_service()
            paths = await all_of(*calls)
            assert len(restored) == 1
            await restored[0]
            unanswered = [job for job, path in zip(jobs, paths, strict=True) if path.exists()]
            assert unanswered
            assert all(routes(job.job_id) for job in unanswered)

    asyncio.run(run())


@pytest.mark.parametrize("transport", list(Transport))
def test_a_port_that_a_program_has_is_refused_and_nothing_is_left(transport: Transport) -> None:
    net = network("one", 1)
    kind = socket.SOCK_STREAM if transport is Transport.TCP else socket.SOCK_DGRAM

    async def run() -> None:
        async with service() as backend:
            await backend.create(net)
            job = attachment(net, 2, ports=(PublishedPort(18080, 80, transport),))
            with socket.socket(socket.AF_INET, kind) as taken:
                taken.bind(("127.0.0.1", 18080))
                if transport is Transport.TCP:
                    taken.listen()
                with pytest.raises(LimitReached) as refused:
                    await backend.attach(job)
                assert refused.value.reason == "PORT_TAKEN"
                assert ours() == {net.bridge}
            await backend.attach(job)
            with socket.socket(socket.AF_INET, kind) as late, pytest.raises(OSError, match="in use"):
                late.bind(("0.0.0.0", 18080))

    asyncio.run(run())


def test_a_port_of_a_program_that_has_just_ended_is_free_and_nobody_takes_it_then() -> None:
    net = network("one", 1)

    def serve_once() -> None:
        """Serve one connection and end it first, so that this end of it stays in TIME_WAIT."""
        with socket.create_server(("127.0.0.1", 18080)) as listener:
            caller = socket.create_connection(("127.0.0.1", 18080))
            listener.accept()[0].close()
            assert caller.recv(1) == b""
            caller.close()

    async def run() -> None:
        async with service() as backend:
            await backend.create(net)
            serve_once()
            assert "18080" in command("ss", "-Htan", "state", "time-wait").stdout
            await backend.attach(attachment(net, 2, ports=(PublishedPort(18080, 80),)))
            with pytest.raises(OSError, match="in use"):
                socket.create_server(("127.0.0.1", 18080))  # with SO_REUSEADDR

    asyncio.run(run())


def test_a_bridge_with_as_many_jobs_as_it_takes_says_so() -> None:
    net = network("one", 1)

    async def run() -> None:
        async with service() as backend:
            await backend.create(net)
            names = [f"full{number}" for number in range(_BRIDGE_PORTS)]
            batch = "".join(f"link add {name} group 4242 type ifb\n" for name in names)
            batch += "".join(f"link set {name} master {net.bridge}\n" for name in names)
            try:
                command("ip", "-batch", "-", input=batch)
                with pytest.raises(LimitReached) as refused:
                    await backend.attach(attachment(net, 2))
                assert refused.value.reason == "NETWORK_FULL"
                assert "1023" in str(refused.value)
                assert ours() == {net.bridge}
            finally:
                command("ip", "link", "delete", "group", "4242", check=False)

    asyncio.run(run())


def test_the_ranges_of_the_host_are_told_without_ours() -> None:
    net = network("one", 1)

    async def run() -> None:
        async with service() as backend:
            await backend.create(net)
            command("ip", "link", "add", "foreign0", "type", "bridge")
            try:
                command("ip", "link", "set", "foreign0", "up")
                command("ip", "address", "add", "192.0.2.1/25", "dev", "foreign0")
                command("ip", "route", "add", "198.51.100.0/24", "via", "192.0.2.2")
                command("ip", "route", "add", "default", "via", "192.0.2.3")
                command("ip", "route", "add", "2001:db8::/48", "dev", "foreign0")
                told = {str(found) for found in await backend.occupied()}
            finally:
                command("ip", "link", "delete", "foreign0")
            assert {"192.0.2.0/25", "198.51.100.0/24", "2001:db8::/48", "127.0.0.0/8"} <= told
            assert not {"0.0.0.0/0", "::/0", str(net.range4), str(net.range6), "fe80::/64"} & told

    asyncio.run(run())


def test_nonsense_is_answered_and_costs_nobody_else_anything() -> None:
    def ask(line: bytes) -> dict[str, object]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(str(SOCKET))
            with connection.makefile("rwb") as stream:
                assert b"hello" in stream.readline()
                stream.write(line + b"\n")
                stream.flush()
                answer: dict[str, object] = json.loads(stream.readline())
                return answer

    async def run() -> None:
        async with service() as backend:
            await backend.apply([network("one", 1)], [])
            for line in (
                b"",
                b"nonsense",
                b"[]",
                b"\xff\xfe",
                b"[" * 100_000,
                b'{"id": "1", "call": "occupied"}',
                b'{"id": 1, "call": "reboot"}',
                b'{"id": 1, "call": "attach"}',
                b'{"id": 1, "call": "attach", "attachment": {"job": "../../etc"}}',
                b'{"id": 1, "call": "detach", "job": "x\\u0000"}',
                b'{"id": 1, "call": "apply", "networks": [{}], "attachments": []}',
            ):
                answer = await asyncio.to_thread(ask, line)
                assert answer["error"]["reason"] == "NETWORK_CALL_MALFORMED"  # type: ignore[index]
            assert "joblet-one" in ours()

    asyncio.run(run())


def test_an_address_that_the_host_has_not_is_refused() -> None:
    net = network("one", 1)

    async def run() -> None:
        async with service() as backend:
            await backend.create(net)
            port = PublishedPort(18080, 80, address="192.0.2.77")
            with pytest.raises(InvalidRequest):
                await backend.attach(attachment(net, 2, ports=(port,)))
            assert ours() == {net.bridge}

    asyncio.run(run())


def measured(server: tuple[str, ...], client: tuple[str, ...], address: str, *options: str) -> float:
    """Return the bits per second that iperf3 measures from the client to the server, or back with ``-R``."""
    listening = subprocess.Popen(
        [*server, "iperf3", "--server", "--one-off", "--bind", address, "--forceflush"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert listening.stdout is not None
    with listening:
        try:
            while "listening" not in (line := listening.stdout.readline()):
                assert line, "it could not listen"
            words = ("iperf3", "--client", address, "--time", "6", "--omit", "1", "--length", "8K", "--json")
            told = json.loads(command(*client, *words, *options).stdout)
            listening.wait(30)
        finally:
            listening.kill()
    return float(told["end"]["sum_received"]["bits_per_second"])


def within_ten_percent(bits: float, limit: int) -> bool:
    return 0.9 * limit <= bits <= 1.1 * limit


@pytest.mark.parametrize(("limit", "version"), [(10_000_000, 4), (200_000_000, 6)])
def test_bandwidth_is_what_was_asked_for_each_way(limit: int, version: int) -> None:
    plain, limited = network("one", 1), network("two", 2, bandwidth=limit)
    slow, fast = attachment(plain, 2, bandwidth=limit), attachment(plain, 3)
    member, other = attachment(limited, 2), attachment(limited, 3)

    def enter(one: str) -> tuple[str, ...]:
        return ("nsenter", f"--net={NAMESPACES}/joblet-{one}", "--")

    def address(of: object) -> str:
        return str(getattr(of, f"address{version}"))

    async def run() -> None:
        async with service() as backend:
            await backend.apply([plain, limited], [])
            await all_of(*(backend.attach(job) for job in (slow, fast, member, other)))
            found = {}
            for options in ((), ("--reverse",)):
                found["job", options] = await asyncio.to_thread(
                    measured, enter(fast.job_id), enter(slow.job_id), address(fast), *options
                )
                found["network", options] = await asyncio.to_thread(
                    measured, enter(member.job_id), (), address(member), *options
                )
            assert {place: bits for place, bits in found.items() if not within_ten_percent(bits, limit)} == {}
            among = await asyncio.to_thread(
                measured, enter(member.job_id), enter(other.job_id), address(member)
            )
            assert among > 1.5 * limit, "jobs of a network do not share what leaves it"

    asyncio.run(run())


def test_a5_a_name_of_a_network_becomes_one_bridge_whatever_is_in_it() -> None:
    for name in ("a", "x" * 63, "UPPER", "a.b", "a_b", "-", "0"):
        net = replace(network("one", 1), name=name, bridge=bridge_name(name))

        async def run(made: Network = net) -> None:
            async with service() as backend:
                await backend.create(made)
                assert ours() == {made.bridge}

        asyncio.run(run())
