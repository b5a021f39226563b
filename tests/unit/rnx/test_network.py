"""rnx network: one call each, for people and for programs, and a picture."""

import json
import re
import shutil
import subprocess
from html import unescape

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.unit.rnx.conftest import Rnx
from tests.unit.rnx.fake_agent import UUID, FakeAgent, failure

OTHER = "2" + UUID[1:]
WEB = pb.NetworkMember(
    job_uuid=UUID,
    job_name="web",
    addresses=["172.20.0.2", "fd12::2"],
    ports=[pb.PublishedPort(host_port=8080, job_port=80, transport="tcp")],
    bandwidth=10_000_000,
)
HOSTILE = pb.NetworkMember(job_uuid=OTHER, job_name='"];\n\x1b[2J\\', addresses=["10.10.0.2"])
BRIDGE = pb.Network(
    name="bridge",
    cidr="172.20.0.0/16",
    cidr6="fd12::/64",
    bridge="joblet0",
    builtin=True,
    job_count=1,
    members=[WEB],
)
BACKEND = pb.Network(
    name="backend",
    cidr="10.10.0.0/24",
    bridge="joblet-backend",
    internal=True,
    mtu=1400,
    dns=["9.9.9.9"],
    bandwidth=1_000_000_000,
    job_count=2,
    created_time="2026-01-31T10:00:00Z",
    members=[HOSTILE],
)
ISOLATED = pb.Network(
    name="isolated", cidr="10.255.0.0/16", bridge="joblet-isolated", isolated=True, builtin=True
)
NONE = pb.Network(name="none", builtin=True)
ALL = [BACKEND, NONE, BRIDGE, ISOLATED]


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnx.networks.show_time", lambda text, empty="N/A", zone=False: text or empty)


def test_create_sends_everything_and_prints_what_scripts_read(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["CreateNetwork"] = pb.CreateNetworkResponse(
        name="backend", cidr="10.10.0.0/24", bridge="joblet-backend"
    )
    result = rnx(
        *("network", "create", "backend", "--cidr=10.10.0.0/24", "--cidr6=fd00:1::/64", "--internal"),
        *("--mtu=1400", "--dns=9.9.9.9", "--dns", "2620:fe::fe", "--bandwidth=1gbit"),
    )
    assert (result.status, result.err) == (0, "")
    assert result.out == (
        "Network created successfully:\nName: backend\nCIDR: 10.10.0.0/24\nBridge: joblet-backend\n"
        "Use it: rnx run --network=backend COMMAND\n"
    )
    assert agent.asked("CreateNetwork") == [
        pb.CreateNetworkRequest(
            name="backend",
            cidr="10.10.0.0/24",
            cidr6="fd00:1::/64",
            internal=True,
            mtu=1400,
            dns=["9.9.9.9", "2620:fe::fe"],
            bandwidth=1_000_000_000,
        )
    ]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["create", "n"], "Missing option '--cidr'"),
        (["create", "bridge", "--cidr=10.0.0.0/24"], "cannot make network bridge: it is built in"),
        (["create", "host", "--cidr=10.0.0.0/24"], "cannot make network host: it is built in"),
        (["create", "n", "--cidr=10.0.0.0"], "cannot read --cidr=10.0.0.0: it is one address, not a range"),
        (["create", "n", "--cidr=10.0.0.7/24"], "hint: write --cidr=10.0.0.0/24"),
        (["create", "n", "--cidr=fd00::/64"], "cannot read --cidr=fd00::/64: not a range of IPv4 addresses"),
        (["create", "n", "--cidr=10.0.0.0/33"], "cannot read --cidr=10.0.0.0/33: not a range of IPv4"),
        (["create", "n", "--cidr=10.0.0.0/24", "--cidr6=10.0.0.0/8"], "not a range of IPv6 addresses"),
        (["create", "n", "--cidr=10.0.0.0/24", "--dns=dns.quad9.net"], "cannot read --dns=dns.quad9.net"),
        (["create", "n", "--cidr=10.0.0.0/24", "--bandwidth=1MB"], "cannot read --bandwidth=1MB"),
        (["create", "n", "--cidr=10.0.0.0/24", "--mtu=100"], "Invalid value for '--mtu'"),
        (["remove", "none"], "cannot remove network none: it is built in"),
        (["graph", "--dot", "--json"], "cannot use --dot together with -o json"),
        (["inspect"], "Missing argument 'NAME'"),
        (["crate", "n"], "hint: did you mean create?"),
    ],
)
def test_a_wrong_line_is_refused_before_sending(
    agent: FakeAgent, rnx: Rnx, words: list[str], text: str
) -> None:
    result = rnx("network", *words)
    assert (result.status, result.out) == (2, "")
    assert text in result.err
    assert agent.requests == []


def test_the_list_has_the_built_in_ones_first(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["ListNetworks"] = pb.Networks(networks=ALL)
    header, line, *rows = rnx("network", "list").out.splitlines()
    assert re.match(r"NAME {13}CIDR {16}BRIDGE", header)
    assert set(line) == {"-"}
    assert [row.split() for row in rows] == [
        ["bridge", "172.20.0.0/16", "joblet0", "(built-in)", "1", "fd12::/64"],
        ["isolated", "10.255.0.0/16", "joblet-isolated", "(built-in)", "0", "-"],
        ["none", "-", "-", "(built-in)", "0", "-"],
        ["backend", "10.10.0.0/24", "joblet-backend", "2", "-"],
    ]


def test_the_list_for_programs_has_the_given_keys_first(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["ListNetworks"] = pb.Networks(networks=[BACKEND, NONE])
    assert json.loads(rnx("--json", "network", "list").out) == {
        "networks": [
            {"name": "none", "cidr": "", "bridge": "", "builtin": True, "job_count": 0},
            {
                "name": "backend",
                "cidr": "10.10.0.0/24",
                "bridge": "joblet-backend",
                "builtin": False,
                "job_count": 2,
                "internal": True,
                "mtu": 1400,
                "dns": ["9.9.9.9"],
                "bandwidth": 1_000_000_000,
                "created_time": "2026-01-31T10:00:00Z",
            },
        ]
    }
    agent.answers["ListNetworks"] = pb.Networks()
    assert json.loads(rnx("--json", "network", "list").out) == []
    assert rnx("network", "list").out == "No networks found\n"


def test_a_built_in_network_of_an_older_agent_is_known_by_its_name(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["ListNetworks"] = pb.Networks(networks=[pb.Network(name="bridge"), pb.Network(name="b")])
    found = json.loads(rnx("--json", "network", "list").out)["networks"]
    assert [(each["name"], each["builtin"]) for each in found] == [("bridge", True), ("b", False)]


def test_inspect_shows_the_members(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["GetNetworks"] = pb.GetNetworksResponse(networks=[BRIDGE])
    head, rows = rnx("network", "inspect", "bridge").out.split("\n\n")
    assert head.splitlines() == [
        "Name: bridge (built-in)",
        "CIDR: 172.20.0.0/16",
        "CIDR6: fd12::/64",
        "Bridge: joblet0",
        "Reaches: outside, each other",
        "Jobs: 1",
    ]
    assert rows.splitlines()[2].split() == [
        *(UUID, "web", "172.20.0.2,", "fd12::2", "10mbit", "*:8080->80/tcp"),
    ]
    assert agent.asked("GetNetworks") == [pb.GetNetworksRequest(name="bridge")]
    agent.answers["GetNetworks"] = pb.GetNetworksResponse(networks=[BACKEND])
    text = rnx("network", "inspect", "backend").out
    assert "Reaches: each other\nMTU: 1400\nDNS: 9.9.9.9\nBandwidth: 1gbit each way\n" in text
    assert "\x1b" not in text


def test_inspect_for_programs(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["GetNetworks"] = pb.GetNetworksResponse(networks=[BRIDGE])
    data = json.loads(rnx("network", "inspect", "bridge", "--json").out)
    assert (data["name"], data["cidr6"]) == ("bridge", "fd12::/64")
    assert data["members"] == [
        {
            "job_uuid": UUID,
            "job_name": "web",
            "addresses": ["172.20.0.2", "fd12::2"],
            "ports": [{"address": "", "host_port": 8080, "job_port": 80, "transport": "tcp"}],
            "bandwidth": 10_000_000,
        }
    ]


def test_a_network_that_is_not_there(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["GetNetworks"] = pb.GetNetworksResponse()
    result = rnx("network", "inspect", "x")
    assert (result.status, result.err) == (
        1,
        "rnx: no network with the name x\nhint: see: rnx network list\n",
    )


@pytest.mark.parametrize("word", ["remove", "delete"])
def test_remove_by_both_names(agent: FakeAgent, rnx: Rnx, word: str) -> None:
    agent.answers["RemoveNetwork"] = pb.RemoveNetworkResponse(success=True)
    assert rnx("network", word, "backend").out == "Network 'backend' removed successfully\n"
    agent.answers["RemoveNetwork"] = pb.RemoveNetworkResponse(message="cannot remove network: 2 jobs use it")
    result = rnx("network", word, "backend")
    assert (result.status, result.err) == (1, "rnx: Failed to remove network: 2 jobs use it\n")
    agent.answers["RemoveNetwork"] = failure(
        grpc.StatusCode.FAILED_PRECONDITION, "cannot remove network: in use", "NETWORK_IN_USE", "stop them"
    )
    result = rnx("network", word, "backend")
    assert (result.status, result.err) == (1, "rnx: cannot remove network: in use\nhint: stop them\n")


def test_the_picture_is_a_tree(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["GetNetworks"] = pb.GetNetworksResponse(networks=ALL)
    assert rnx("network", "graph").out.splitlines() == [
        "outside",
        "└── host",
        "    ├── bridge (built-in)  172.20.0.0/16, fd12::/64  joblet0  reaches outside, each other",
        "    │   └── web (11111111)  172.20.0.2, fd12::2  10mbit",
        "    │       └── outside *:8080->80/tcp",
        "    ├── isolated (built-in)  10.255.0.0/16  joblet-isolated  reaches outside",
        "    ├── none (built-in)  reaches nothing, each job is alone",
        "    └── backend  10.10.0.0/24  joblet-backend  1gbit  reaches each other",
        '        └── "];\\n\\x1b[2J\\ (21111111)  10.10.0.2',
    ]
    assert agent.asked("GetNetworks") == [pb.GetNetworksRequest()]


_TEXT = r'"(?:[^"\\\n]|\\["\\n])*"'
_STATEMENT = re.compile(
    rf"  (?:rankdir=LR|node \[shape=box\]|{_TEXT}(?: -> {_TEXT})?"
    rf"(?: \[(?:(?:label={_TEXT}|shape=\w+|dir=\w+)(?:, )?)+\])?);"
)


def test_the_picture_for_graphviz(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["GetNetworks"] = pb.GetNetworksResponse(networks=ALL)
    picture = rnx("network", "graph", "--dot").out
    first, *statements, last = picture.splitlines()
    assert (first, last) == ("digraph joblet {", "}")
    assert [line for line in statements if not _STATEMENT.fullmatch(line)] == []
    assert f'  "outside" -> "job {UUID}" [label="*:8080->80/tcp"];' in statements
    assert '  "network bridge" -> "outside";' in statements
    assert '  "network backend" -> "outside";' not in statements
    assert f'  "network bridge" -> "job {UUID}" [dir=both];' in statements
    named = {match for line in statements for match in re.findall(rf"^  ({_TEXT}) \[", line)}
    ends = {match for line in statements if " -> " in line for match in re.findall(_TEXT, line)[:2]}
    assert ends <= named


@pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not installed")
def test_graphviz_draws_it(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["GetNetworks"] = pb.GetNetworksResponse(networks=ALL)
    picture = rnx("network", "graph", "--dot").out
    drawn = subprocess.run(["dot", "-Tsvg"], input=picture, capture_output=True, text=True, check=True)
    assert drawn.stderr == ""
    for text in ("web (11111111)", "joblet-backend", "*:8080->80/tcp"):
        assert text in unescape(drawn.stdout)
