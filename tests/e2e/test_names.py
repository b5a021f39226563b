"""Jobs find each other by name, and the outside by the host's own name servers, wherever those are."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import DEADLINE, Client, agent_stopped, command, eventually, kill_agent, main_pid
from tests.e2e.asking import AAAA, MX, ask
from tests.e2e.host import configured, rnx, rnx_json, running, said
from tests.e2e.inside import probe

pytestmark = pytest.mark.systemd

NAMES = Path("/run/joblet/dns")
RESOLV = Path("/etc/resolv.conf")
BRIDGE, SERVER = "172.20.0.1", "joblet-dns@bridge.service"
WAIT = "echo ready; exec sleep 1000"
SERVE = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{os.getuid()} {self.headers['Host']}".encode())
server = http.server.HTTPServer(("", 80), Handler)
print("ready", flush=True)
server.serve_forever()
"""
FETCH = """
import json, sys, urllib.request
def fetched(name):
    return urllib.request.urlopen(f"http://{name}/", timeout=10).read().decode()
print(json.dumps([fetched(name) for name in sys.argv[1:]]))
"""
LOOK_UP = """
import json, socket, sys
def found(name):
    try:
        return sorted({each[4][0] for each in socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)})
    except socket.gaierror as error:
        return error.args[0]
print(json.dumps([found(name) for name in sys.argv[1:]]))
"""
NO_NAME, TRY_AGAIN = -2, -3  # EAI_NONAME, EAI_AGAIN


def look_up(client: Client, *names: str, network: str = "bridge") -> list[Any]:
    """Return what a job on the network finds under each name: addresses, or the number of the error."""
    return list(probe(client, LOOK_UP, *names, network=network))


def addresses(client: Client, job_id: str) -> list[str]:
    return list(client.status(job_id).addresses)


@contextmanager
def network(name: str, *flags: str) -> Iterator[None]:
    """A network that is removed after the block."""
    said(0, "network", "create", name, *flags)
    try:
        yield
    finally:
        # The kernel forgets a job a moment after its end.
        eventually(lambda: rnx("network", "remove", name), lambda done: done.returncode == 0)


@contextmanager
def host_server(address: str, *options: str) -> Iterator[None]:
    """A name server of the host that listens on this address alone."""
    unit = f"test-server-{address}"
    words = ("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--no-resolv")
    only = (f"--listen-address={address}", "--bind-interfaces", "--no-hosts", "--local=/#/")
    command("systemd-run", f"--unit={unit}", "--collect", *words, *only, *options)
    try:
        eventually(lambda: ask(address, "here.test"), lambda answer: answer[0] == "NXDOMAIN")
        yield
    finally:
        command("systemctl", "stop", unit)


@pytest.fixture
def resolv_conf() -> Iterator[Path]:
    """The host's, for a test to change."""
    before = RESOLV.read_bytes() if RESOLV.exists() else None
    yield RESOLV
    RESOLV.unlink(missing_ok=True)
    if before is not None:
        RESOLV.write_bytes(before)


def test_a_job_is_reached_by_its_name_and_by_its_id(client: Client) -> None:
    job_id = client.run("python3", "-u", "-c", SERVE, name="Web", network="bridge")
    eventually(lambda: client.log(job_id), lambda log: b"ready\n" in log)
    names = ["web", "WEB", job_id, job_id[:8]]
    replies = probe(client, FETCH, *names, network="bridge")
    assert [reply.split()[1] for reply in replies] == names
    assert {reply.split()[0] for reply in replies}.isdisjoint({"0"})
    assert look_up(client, "web", job_id) == [sorted(addresses(client, job_id))] * 2
    client.jobs.StopJob(pb.StopJobRequest(uuid=job_id, force=True), timeout=DEADLINE)
    client.ended(job_id)
    eventually(lambda: ask(BRIDGE, "web"), lambda answer: answer == ("NXDOMAIN", []))
    assert look_up(client, "web", job_id) == [NO_NAME, NO_NAME]


def test_jobs_of_one_name_share_it(client: Client) -> None:
    with (
        running(client, WAIT, name="twin", network="bridge") as first,
        running(client, WAIT, name="twin", network="bridge") as second,
    ):
        both = addresses(client, first) + addresses(client, second)
        assert look_up(client, "twin") == [sorted(both)]
        assert ask(BRIDGE, "twin") == ("OK", sorted(each for each in both if ":" not in each))
        assert ask(BRIDGE, "twin", AAAA) == ("OK", sorted(each for each in both if ":" in each))
    eventually(lambda: ask(BRIDGE, "twin"), lambda answer: answer == ("NXDOMAIN", []))


def test_names_go_on_without_the_agent_and_are_put_right_by_the_next(client: Client) -> None:
    with running(client, WAIT, name="stays", network="bridge") as stays:
        goes = client.run("sleep", "1000", name="goes", network="bridge")
        wanted = [sorted(addresses(client, stays)), sorted(addresses(client, goes))]
        assert look_up(client, "stays", "goes") == wanted
        server = main_pid(SERVER)
        with agent_stopped():
            assert ask(BRIDGE, "stays")[0] == "OK"
            command("systemctl", "kill", "--signal=KILL", f"joblet-job-{goes}.service")
        eventually(lambda: ask(BRIDGE, "goes"), lambda answer: answer == ("NXDOMAIN", []))
        kill_agent()
        client.ended(goes)
        assert look_up(client, "stays", "goes") == [wanted[0], NO_NAME]
        assert main_pid(SERVER) == server


def test_a_server_that_is_killed_is_back_and_knows_its_jobs(client: Client) -> None:
    with running(client, WAIT, name="db", network="bridge"):
        before = eventually(lambda: ask(BRIDGE, "db"), lambda answer: answer[0] == "OK")
        server = main_pid(SERVER)
        command("systemctl", "kill", "--signal=KILL", SERVER)
        eventually(lambda: main_pid(SERVER), lambda pid: pid not in {0, server})
        eventually(lambda: ask(BRIDGE, "db"), lambda answer: answer == before)


def test_networks_know_nothing_of_each_others_names(client: Client) -> None:
    with (
        network("names-a", "--cidr=10.71.0.0/24"),
        network("names-b", "--cidr=10.72.0.0/24"),
        running(client, WAIT, name="web", network="names-a") as on_a,
        running(client, WAIT, name="web", network="names-b") as on_b,
        running(client, WAIT, name="other", network="names-b"),
    ):
        assert look_up(client, "web", "other", network="names-a") == [
            sorted(addresses(client, on_a)),
            NO_NAME,
        ]
        assert look_up(client, "web", on_a, network="names-b") == [sorted(addresses(client, on_b)), NO_NAME]
        assert look_up(client, "web", on_a, network="isolated")[:1] == [NO_NAME]
        # Not by asking the other one's server either.
        source = Path("/opt/joblet/tests/e2e/asking.py").read_text(encoding="utf-8")
        asked = f"{source}\nimport json, sys\nprint(json.dumps(ask(sys.argv[1], 'web', seconds=1.0)))"
        gateway6 = addresses(client, on_a)[1].rpartition("::")[0] + "::1"
        for gateway in ("10.71.0.1", gateway6):
            assert probe(client, asked, gateway, network="names-b") == ["nobody", []]
            assert probe(client, asked, gateway, network="names-a") == ["OK", addresses(client, on_a)[:1]]
    eventually(lambda: sorted(each.name for each in NAMES.glob("names-*")), lambda left: not left)
    listing = command(
        "systemctl", "list-units", "--all", "--plain", "--no-legend", "joblet-dns@names-*"
    ).stdout
    assert listing == ""


HOSTILE = [
    "localhost",
    "google.com",
    "google.com.",
    "wpad",
    "a b",
    "web,evil",
    "web/127.0.0.1",
    "#",
    "-web",
    "web-",
    "1234",
    "0x7f000001",
    "é",
    "\N{KELVIN SIGN}elvin",
    "*",
    "../../../etc/hosts",
    "address=/x/1.2.3.4",
    "x" * 64,
    "\\n10.0.0.1 evil",
    "%i",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a5_a_name_that_is_no_host_name_is_nobodys(client: Client, name: str) -> None:
    with (
        running(client, WAIT, name="honest", network="bridge") as honest,
        running(client, WAIT, name=name, network="bridge") as job_id,
    ):
        told = eventually(
            lambda: (NAMES / "bridge/hosts/names").read_text(encoding="ascii"), lambda text: job_id in text
        )
        known = {line.split()[1] for line in told.splitlines()}
        assert known == {"honest", honest, honest[:8], job_id, job_id[:8]}
        assert look_up(client, "honest") == [sorted(addresses(client, honest))]


def test_a5_nobody_gets_the_name_that_is_anothers_id(client: Client) -> None:
    with running(client, WAIT, network="bridge") as victim:
        names = [victim, victim.upper(), victim[:8]]
        thieves = [client.run("sleep", "1000", name=name, network="bridge") for name in names]
        try:
            assert look_up(client, *names) == [sorted(addresses(client, victim))] * 3
        finally:
            for thief in thieves:
                client.jobs.StopJob(pb.StopJobRequest(uuid=thief, force=True), timeout=DEADLINE)


def test_the_outside_is_known_by_a_server_on_the_hosts_loopback(client: Client, resolv_conf: Path) -> None:
    resolv_conf.unlink(missing_ok=True)
    with (
        host_server("127.0.0.53", "--address=/outside.test/192.0.2.53"),
        host_server("127.0.0.54", "--address=/outside.test/192.0.2.54"),
        running(client, WAIT, name="job", network="bridge"),
    ):
        eventually(lambda: ask(BRIDGE, "outside.test"), lambda answer: answer == ("REFUSED", []))
        # Written in place, replaced by a link, and what the link leads to replaced: all as others do it.
        resolv_conf.write_text("# a comment\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n")
        eventually(lambda: ask(BRIDGE, "outside.test"), lambda answer: answer == ("OK", ["192.0.2.53"]))
        assert look_up(client, "outside.test") == [["192.0.2.53"]]
        stub = Path("/run/test-stub/resolv.conf")
        stub.parent.mkdir(exist_ok=True)
        stub.write_text("nameserver 127.0.0.54\n")
        link = resolv_conf.with_name("resolv.conf.new")
        link.symlink_to(stub)
        link.rename(resolv_conf)
        eventually(lambda: ask(BRIDGE, "outside.test"), lambda answer: answer == ("OK", ["192.0.2.54"]))
        fresh = stub.with_name("fresh")
        fresh.write_text("nameserver 127.0.0.53\n")
        fresh.rename(stub)
        eventually(lambda: ask(BRIDGE, "outside.test"), lambda answer: answer == ("OK", ["192.0.2.53"]))
        assert look_up(client, "outside.test", "job")[0] == ["192.0.2.53"]
        # A name without a dot is a job's, or nobody's: it does not get out.
        assert ask(BRIDGE, "nobody") == ("NXDOMAIN", [])
        assert ask(BRIDGE, "nobody", MX) == ("NXDOMAIN", [])
        assert ask(BRIDGE, "job", MX) == ("OK", [])
        stub.unlink()
        stub.parent.rmdir()


def test_a_link_that_leads_nowhere_costs_no_names_of_jobs(client: Client, resolv_conf: Path) -> None:
    resolv_conf.unlink(missing_ok=True)
    resolv_conf.symlink_to("/run/test-nowhere/resolv.conf")
    with running(client, WAIT, name="job", network="bridge") as job_id:
        command("systemctl", "restart", SERVER)
        eventually(lambda: ask(BRIDGE, "job"), lambda answer: answer[0] == "OK")
        assert look_up(client, "job", "outside.test") == [sorted(addresses(client, job_id)), TRY_AGAIN]


def test_a_network_may_have_servers_of_its_own_or_no_outside(client: Client, resolv_conf: Path) -> None:
    resolv_conf.unlink(missing_ok=True)
    resolv_conf.write_text("nameserver 127.0.0.53\n")
    with (
        host_server("127.0.0.53", "--address=/outside.test/192.0.2.53"),
        host_server("127.0.0.54", "--address=/outside.test/192.0.2.54"),
        network("names-own", "--cidr=10.73.0.0/24", "--dns=127.0.0.54"),
        network("names-in", "--cidr=10.74.0.0/24", "--internal"),
    ):
        assert look_up(client, "outside.test") == [["192.0.2.53"]]
        assert look_up(client, "outside.test", network="names-own") == [["192.0.2.54"]]
        assert look_up(client, "outside.test", network="isolated") == [["192.0.2.53"]]
        with running(client, WAIT, name="job", network="names-in") as job_id:
            wanted = [sorted(addresses(client, job_id)), NO_NAME]
            assert look_up(client, "job", "outside.test", network="names-in") == wanted


RESOLVER = """
import json, os
print(json.dumps([open("/etc/resolv.conf").read(), os.access("/etc/resolv.conf", os.W_OK)]))
"""


def test_jobs_have_the_resolver_of_their_network(client: Client, resolv_conf: Path) -> None:
    resolv_conf.unlink(missing_ok=True)
    resolv_conf.write_text("nameserver 192.0.2.1\nsearch example.com\n")
    (text6,) = (row["cidr6"] for row in rnx_json("network", "list")["networks"] if row["name"] == "bridge")
    text, writable = probe(client, RESOLVER, network="bridge")
    gateway6 = text6.replace("::/64", "::1")
    assert text.splitlines()[:2] == [f"nameserver {BRIDGE}", f"nameserver {gateway6}"]
    assert not writable
    assert probe(client, RESOLVER, network="none") == ["", False]
    with configured("networks:\n  host: admin\n"):
        assert probe(client, RESOLVER, network="host") == [
            "nameserver 192.0.2.1\nsearch example.com\n",
            False,
        ]


def test_what_a_former_agent_left_goes_at_the_next_start(client: Client) -> None:
    with agent_stopped():
        home = NAMES / "ghost"
        (home / "hosts").mkdir(parents=True, exist_ok=True)
        (home / "dnsmasq.conf").write_text("port=0\nuser=root\ngroup=root\n")
        for directory in (NAMES, home, home / "hosts"):
            directory.chmod(0o755)
        (home / "dnsmasq.conf").chmod(0o644)
        command("systemctl", "start", "joblet-dns@ghost.service")
    eventually(home.exists, lambda there: not there)
    words = ("systemctl", "is-active", "joblet-dns@ghost.service")
    assert command(*words, check=False).stdout == "inactive\n"


CAP_NET_BIND_SERVICE = 1 << 10
EXPOSURE = 2.0


def test_the_server_can_do_nothing_but_answer(client: Client) -> None:
    with running(client, WAIT, name="job", network="bridge"):
        eventually(lambda: ask(BRIDGE, "job"), lambda answer: answer[0] == "OK")
        status = Path(f"/proc/{main_pid(SERVER)}/status").read_text(encoding="ascii")
        told = dict(re.findall(r"^(\w+):\t(\w+)", status, re.MULTILINE))
        assert told["Uid"] != "0"
        assert (told["NoNewPrivs"], told["Seccomp"]) == ("1", "2")
        sets = {name: int(told[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")}
        assert set(sets.values()) == {CAP_NET_BIND_SERVICE}
        words = ("systemd-analyze", "security", "--no-pager", SERVER)
        level = re.search(r": ([0-9.]+) ", command(*words, check=False).stdout.splitlines()[-1])
        assert level is not None
        assert float(level[1]) <= EXPOSURE
        listening = [line.split()[3] for line in command("ss", "-Hlnu", "sport = :53").stdout.splitlines()]
        assert f"{BRIDGE}:53" in listening
        assert {"0.0.0.0:53", "*:53", "[::]:53", "127.0.0.1:53", "[::1]:53"}.isdisjoint(listening)
