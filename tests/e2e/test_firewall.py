"""Our table among those of others: put back when somebody takes it, never reaching out for theirs (B8)."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from joblet_agent.netlink.names import namespace_path
from joblet_agent.netlink.rule_monitor import RuleMonitor, Transaction
from tests.e2e import network_world as world
from tests.e2e.agent import Client, agent_stopped, command, eventually, kill_agent
from tests.e2e.host import journal, running, unit_of
from tests.e2e.inside import probe
from tests.e2e.network_world import PORT

pytestmark = pytest.mark.systemd

SERVICE = "joblet-networks.service"
OURS = ("inet", "joblet")
FOREIGN = """
table inet theirs {
    set hosts { type ipv4_addr; flags interval; elements = { 192.0.2.0/24, 198.51.100.7 } }
    chain forward { type filter hook forward priority filter; policy accept;
        iifname "joblet0" counter packets 0 bytes 0 comment "not ours, whatever it says"
        ip saddr @hosts ct state new accept
    }
    chain postrouting { type nat hook postrouting priority srcnat; policy accept; }
}
table ip joblet {
    chain input { type filter hook input priority -5; policy accept; }
}
"""


def rules() -> str:
    return command("nft", "--stateless", "list", "table", *OURS, check=False).stdout


def rules_of_others() -> str:
    """Every table but ours, with handles: a rule that was made anew has another one."""
    listed = json.loads(command("nft", "--json", "--handle", "--stateless", "list", "ruleset").stdout)
    kept = [
        item
        for item in listed["nftables"]
        for (content,) in [item.values()]
        if (content.get("family"), content.get("table", content.get("name"))) != OURS
    ]
    return json.dumps(kept)


def nft(script: str) -> None:
    command("nft", "-f", "-", input=script)


@contextmanager
def foreign_tables() -> Iterator[None]:
    nft(FOREIGN)
    try:
        yield
    finally:
        command("nft", "delete", "table", "inet", "theirs", check=False)
        command("nft", "delete", "table", "ip", "joblet", check=False)


@pytest.mark.parametrize(
    "damage",
    [
        "flush ruleset",
        "delete table inet joblet",
        "flush chain inet joblet between",
        "flush set inet joblet sources4",
        "insert rule inet joblet between accept",
        'add element inet joblet bridges { "lo" }',
        "add chain inet joblet more",
        "flush table inet joblet",
    ],
)
def test_what_others_do_to_our_table_is_undone_within_a_second(client: Client, damage: str) -> None:
    before = rules()
    assert "chain between" in before
    nft(damage)
    eventually(rules, lambda now: now == before, within=1)


def test_what_was_missed_because_there_was_too_much_of_it_is_undone_too(client: Client) -> None:
    """The kernel drops notifications that nobody reads, and says so."""
    before, dropped_before = rules(), dropped()
    command("systemctl", "kill", "--signal=STOP", SERVICE)
    try:
        nft("insert rule inet joblet between accept")
        many = "".join(
            f"add rule inet theirs more ip saddr 192.0.2.{n % 250} accept\n" for n in range(30_000)
        )
        nft(f"add table inet theirs\nadd chain inet theirs more\n{many}")
        nft("delete table inet theirs")
        nft("flush chain inet joblet to_host")
        assert dropped() > dropped_before
    finally:
        command("systemctl", "kill", "--signal=CONT", SERVICE)
    eventually(rules, lambda now: now == before, within=1)


def dropped() -> int:
    """Count the notifications of netfilter that sockets here did not take."""
    lines = Path("/proc/net/netlink").read_text(encoding="ascii").splitlines()
    names = lines[0].split()
    rows = [dict(zip(names, line.split(), strict=True)) for line in lines[1:]]
    return sum(int(row["Drops"]) for row in rows if row["Eth"] == "12")


def test_somebody_who_does_not_stop_gets_one_line_and_two_repairs_a_second(client: Client) -> None:
    before, began = rules(), f"--since=@{time.time():.6f}"
    # The line of an earlier change would be the line of this one, too.
    command("systemctl", "restart", SERVICE)
    # A job's network has to wait until the service is told everything, by a transaction that is no repair.
    with running(client, "echo ready; exec sleep 1000", network="isolated"):
        pass
    assert rules() == before
    script = "while :; do nft delete table inet joblet; done"
    with closing(RuleMonitor()) as monitor:
        fight_began = time.monotonic()
        with subprocess.Popen(["sh", "-c", script], stderr=subprocess.DEVNULL) as fighter:
            try:
                transactions = eventually(heard_by(monitor), lambda now: len(repairs(now)) >= 4)
            finally:
                fighter.kill()
        took = time.monotonic() - fight_began
    assert len(transactions) > len(repairs(transactions))
    # A busy machine takes longer, but never less.
    assert len(repairs(transactions)) <= 1 + 2 * took
    eventually(rules, lambda now: now == before)
    told = [line["MESSAGE"] for line in journal(f"--unit={SERVICE}", began) if "put back" in line["MESSAGE"]]
    assert told == ["the rules of jobs' networks (inet joblet) were changed by nft; put back"]


def heard_by(monitor: RuleMonitor) -> Callable[[], list[Transaction]]:
    """Return what reads all changes of our table since the monitor was made."""
    heard: list[Transaction] = []

    def read() -> list[Transaction]:
        now = monitor.read()
        assert now is not None, "some were lost"
        heard.extend(each for each in now if OURS in each.tables)
        return heard

    return read


def repairs(transactions: Sequence[Transaction]) -> list[Transaction]:
    return [each for each in transactions if each.program.startswith("python")]


def test_rules_of_others_are_never_touched(client: Client) -> None:
    with ExitStack() as stack:
        stack.enter_context(foreign_tables())
        before = rules_of_others()
        with world.network("firewall-a", "--cidr=10.96.1.0/24"):
            ports = [{"host_port": 18080, "job_port": PORT}]
            with world.job(client, "published", "firewall-a", ports=ports):
                assert "10.96.1.2" in rules()
                assert rules_of_others() == before
                nft("flush table inet joblet")
                eventually(rules, lambda now: "10.96.1.2" in now, within=1)
                command("systemctl", "restart", SERVICE)
                eventually(rules, lambda now: "10.96.1.2" in now)
                assert rules_of_others() == before
        assert "10.96.1" not in rules()
        assert rules_of_others() == before


PRIVILEGED_SOCKETS = """
import json, socket
def tried(*words):
    try:
        socket.socket(*words).close()
        return "made"
    except OSError as error:
        return type(error).__name__
print(json.dumps([
    tried(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    tried(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6),
    tried(socket.AF_PACKET, socket.SOCK_RAW, 0x0003),
    tried(socket.AF_PACKET, socket.SOCK_DGRAM, 0x0806),
]))
"""


@pytest.mark.parametrize("network", ["bridge", "isolated"])
def test_b8_a_job_has_no_raw_sockets_and_sends_no_arp(client: Client, network: str) -> None:
    assert "made" not in probe(client, PRIVILEGED_SOCKETS, network=network)


def test_b8_a_sender_of_another_network_is_dropped_at_the_bridge(client: Client) -> None:
    """Whoever gets capabilities in a job's namespace still comes from its own network only."""
    with ExitStack() as stack:
        stack.enter_context(world.around())
        stack.enter_context(world.outside())
        stack.enter_context(world.network("firewall-a", "--cidr=10.96.1.0/24"))
        job = stack.enter_context(world.job(client, "liar", "firewall-a"))
        assert job.reaches(world.FAR4)
        inside = ("nsenter", f"--net={namespace_path(job.job_id)}")  # type: ignore[arg-type]
        gateway6 = command(
            "ip", "-n", f"joblet-{job.job_id}", "-6", "route", "show", "default"
        ).stdout.split()[2]
        network6 = ":".join(gateway6.split(":")[:3])
        for sender, far in (
            ("172.20.0.77", world.FAR4),  # of the bridge's own range, so it would be masked and answered
            (f"{network6}:1::77", world.FAR6),
            (world.FAR4, world.HOST4),
        ):
            command("ip", "-n", f"joblet-{job.job_id}", "address", "add", sender, "dev", "lo")
            bound = f"""
import socket
try:
    socket.create_connection(({far!r}, {PORT}), 1, ({sender!r}, 0)).close()
    print("reached")
except OSError as error:
    print(type(error).__name__)
"""
            assert command(*inside, "python3", "-I", "-c", bound).stdout == "TimeoutError\n"
        assert job.reaches(world.FAR4)


CHATTING = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as connection:
    for line in sys.stdin:
        connection.sendall(line.encode())
"""


def test_b8_a_connection_that_a_job_made_while_there_were_no_rules_does_not_go_on(client: Client) -> None:
    before = rules()
    with ExitStack() as stack:
        stack.enter_context(world.around())
        listener = stack.enter_context(closing(world.listening(world.HOST4, 18090)))
        listener.settimeout(10)
        job_id = stack.enter_context(running(client, "echo ready; exec sleep 1000", network="isolated"))
        command("systemctl", "kill", "--signal=STOP", SERVICE)
        try:
            nft("flush ruleset")
            words = ("ip", "netns", "exec", f"joblet-{job_id}", "python3", "-I", "-c", CHATTING)
            process = stack.enter_context(
                subprocess.Popen([*words, world.HOST4, "18090"], stdin=subprocess.PIPE, bufsize=0)
            )
            stack.callback(process.kill)
            assert process.stdin is not None
            process.stdin.write(b"before\n")
            connection = stack.enter_context(listener.accept()[0])
            connection.settimeout(1)
            assert connection.recv(100) == b"before\n"
        finally:
            command("systemctl", "kill", "--signal=CONT", SERVICE)
        eventually(rules, lambda now: now == before, within=1)
        process.stdin.write(b"after\n")
        with pytest.raises(TimeoutError):
            connection.recv(100)


@pytest.mark.parametrize("was_killed", [False, True], ids=["asked", "killed"])
def test_b8_nothing_is_left_of_a_job_that_ends_while_the_agent_is_away(
    client: Client, was_killed: bool
) -> None:
    before, spares = rules(), links()
    ports = [{"host_port": 18081, "job_port": 80}]
    with running(client, "echo ready; exec sleep 1000", network="bridge", ports=ports) as job_id:
        assert "18081" in rules()
        assert links() > spares
        if was_killed:
            kill_agent()
            command("systemctl", "kill", "--signal=KILL", unit_of(job_id), check=False)
        else:
            with agent_stopped():
                command("systemctl", "kill", "--signal=KILL", unit_of(job_id), check=False)
    eventually(rules, lambda now: now == before)
    eventually(links, lambda now: now == spares)
    assert not namespace_path(job_id).exists()  # type: ignore[arg-type]
    eventually(lambda: is_free(18081), bool)


def is_free(port: int) -> bool:
    try:
        world.listening("0.0.0.0", port).close()
    except OSError:
        return False
    return True


def links() -> set[str]:
    """Ends of jobs' links; those that wait for a job do not count."""
    shown = json.loads(command("ip", "-json", "link", "show").stdout)
    return {link["ifname"] for link in shown if link["ifname"].startswith("jb-")}
