"""What changes rnx-config.yml leaves it whole, closed to others, and as it was when something is wrong."""

import fcntl
import os
import stat
from pathlib import Path

import pytest
import yaml

from rnx.config import SEARCHED, load_nodes
from tests.certificates import DAY, bundle, make, make_ca
from tests.unit.rnx.conftest import Rnx

CA = make_ca()
EVE = make("eve", "operator", ca=CA)
ADDRESS = "agent.example.com:50051"


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the user's configuration; there is no other one on this host."""
    monkeypatch.setattr("rnx.config.SEARCHED", SEARCHED[:3])
    return tmp_path / ".rnx/rnx-config.yml"


@pytest.fixture
def issued(tmp_path: Path) -> Path:
    path = tmp_path / "eve.yml"
    path.write_text(bundle(EVE, CA, ADDRESS))
    return path


def test_a_file_that_was_issued_becomes_the_users(rnx: Rnx, own: Path, issued: Path) -> None:
    result = rnx("config", "import", str(issued))
    assert result.status == 0
    assert result.out.startswith(f"Node default in {own}: {ADDRESS}, eve as operator, until 20")
    assert result.err == f"rnx: {issued} still holds the private key: remove it\n"
    assert (stat.S_IMODE(own.stat().st_mode), stat.S_IMODE(own.parent.stat().st_mode)) == (0o600, 0o700)
    assert load_nodes(own) == load_nodes(issued)
    assert [path.name for path in own.parent.iterdir()] == [own.name]


def test_nodes_are_added_to_those_that_are_there(rnx: Rnx, own: Path, issued: Path) -> None:
    own.parent.mkdir()
    own.write_text("version: '3.0'\nnodes:\n  default: {address: 'a:1', note: mine}\nmore: [1]\n")
    own.chmod(0o644)
    result = rnx("config", "import", str(issued), "--name=east", "--json")
    assert yaml.safe_load(result.out)[0]["name"] == "east"
    document = yaml.safe_load(own.read_text())
    assert document["nodes"]["default"] == {"address": "a:1", "note": "mine"}
    assert document["nodes"]["east"] == yaml.safe_load(issued.read_text())["nodes"]["default"]
    assert document["more"] == ["1"]
    assert stat.S_IMODE(own.stat().st_mode) == 0o600


def test_a_node_that_is_there_is_replaced_by_force_alone(rnx: Rnx, own: Path, issued: Path) -> None:
    rnx("config", "import", str(issued))
    before = own.read_bytes()
    assert rnx("config", "import", str(issued)).status == 0  # the very same: nothing is lost
    assert own.read_bytes() == before
    issued.write_text(bundle(make("bob", "viewer", ca=CA), CA, ADDRESS))
    refused = rnx("config", "import", str(issued))
    assert refused.status == 1
    assert f"rnx: cannot change {own}: it has a node default\n" in refused.err
    assert own.read_bytes() == before
    assert rnx("config", "import", str(issued), "--force").status == 0
    assert load_nodes(own) == load_nodes(issued)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            bundle(make("eve", "viewer", ca=CA, until=-DAY / 2), CA, ADDRESS),
            "the client certificate expired at ",
        ),
        (
            bundle(EVE, CA, ADDRESS, key=CA.key),
            "is not the key of its client certificate [CLIENT_KEY_MISMATCH]",
        ),
        (bundle(EVE, CA, "agent.example.com"), "HOST:PORT is wanted [BAD_ADDRESS]"),
        (bundle(EVE, CA, ADDRESS, node="local"), "cannot use the name 'local' for a node"),
        (bundle(EVE, CA, ADDRESS, node='" "'), "cannot use the name ' ' for a node"),
        (bundle(EVE, CA, ADDRESS, node='"a\\u001b"'), "cannot use the name 'a\\x1b' for a node"),
        (bundle(EVE, CA, ADDRESS).replace("    ca:", "    more:"), "it has no ca"),
        ("version: '3.0'\n", "no nodes configured"),
        ("a: &a [x]\nb: *a\n", "line 2: an alias"),
    ],
)
def test_c7_a_file_that_nobody_can_use_changes_nothing(
    rnx: Rnx, own: Path, issued: Path, text: str, said: str
) -> None:
    issued.write_text(text)
    result = rnx("config", "import", str(issued))
    assert (result.status, result.out) == (1, "")
    assert said in result.err.splitlines()[0]
    assert "BEGIN" not in result.err
    assert not own.parent.exists()


def test_a_file_that_is_not_there_and_one_name_for_two_nodes(rnx: Rnx, issued: Path) -> None:
    assert (
        "cannot read /nowhere.yml: No such file or directory" in rnx("config", "import", "/nowhere.yml").err
    )
    entry = issued.read_text().partition("nodes:\n")[2]
    issued.write_text(issued.read_text() + entry.replace("default", "other"))
    result = rnx("config", "import", str(issued), "--name=x")
    assert (result.status, result.err.splitlines()[0]) == (
        2,
        f"rnx: cannot use --name: {issued} has 2 nodes: default, other",
    )


def test_a_node_of_files_and_its_removal(rnx: Rnx, own: Path, tmp_path: Path) -> None:
    for name, pem in {"e.crt": EVE.pem, "e.key": EVE.key, "ca.crt": CA.pem}.items():
        (tmp_path / name).write_bytes(pem)
    files = ("--cert=e.crt", "--key=e.key", "--ca=ca.crt")
    for name in ("east", "west"):
        assert rnx("nodes", "add", name, f"--address={name}:1", *files).status == 0
    nodes = load_nodes(own)
    assert (nodes["east"].address, nodes["east"].key) == ("east:1", EVE.key.decode())
    assert rnx("nodes", "add", "east", "--address=x:1", *files).status == 1
    assert rnx("nodes", "remove", "est").err.startswith(f"rnx: cannot find node est in {own}\n")
    assert rnx("nodes", "remove", "east").out == "Node removed: east\n"
    assert list(load_nodes(own)) == ["west"]
    assert rnx("nodes", "remove", "west").status == 0
    assert not own.exists()


def test_a_link_stays_a_link(rnx: Rnx, own: Path, issued: Path, tmp_path: Path) -> None:
    own.parent.mkdir()
    own.symlink_to(tmp_path / "kept.yml")
    assert rnx("config", "import", str(issued)).status == 0
    assert own.is_symlink()
    assert load_nodes(tmp_path / "kept.yml") == load_nodes(issued)


def test_what_cannot_be_written_leaves_the_file(rnx: Rnx, own: Path, issued: Path) -> None:
    own.parent.mkdir()
    own.write_text("no: configuration\n")
    result = rnx("config", "import", str(issued))
    assert f"rnx: cannot change {own}: it is no configuration of nodes\n" in result.err
    assert own.read_text() == "no: configuration\n"
    refused = rnx("config", "import", str(issued), "--config=/proc/nowhere/rnx-config.yml")
    assert refused.err.startswith("rnx: cannot change /proc/nowhere/rnx-config.yml: ")


def test_one_change_at_a_time(rnx: Rnx, own: Path, issued: Path) -> None:
    own.parent.mkdir()
    directory = os.open(own.parent, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    result = rnx("config", "import", str(issued))
    os.close(directory)
    assert result.status == 1
    assert "another rnx is at it" in result.err
    assert not own.exists()


def test_a_file_that_is_found_first_is_told(rnx: Rnx, issued: Path, tmp_path: Path) -> None:
    (tmp_path / "rnx-config.yml").write_text(bundle(EVE, CA, ADDRESS))
    result = rnx("config", "import", str(issued))
    assert result.status == 0
    assert "rnx: rnx-config.yml is found first: it is used here without --config\n" in result.err
