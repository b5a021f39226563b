import json
import os
from pathlib import Path

import pytest

from rnx.config import LOCAL_SOCKET, SEARCHED, Target, find_config, resolve
from rnx.exits import RnxError
from tests.unit.rnx.conftest import Rnx

GOOD = """\
version: "3.0"
nodes:
  default:
    address: "one:50051"
    cert: |
      -----BEGIN CERT
    key: |
      -----BEGIN KEY
    ca: |
      -----BEGIN CA
  other:
    address: "two:50051"
    nodeId: "n-2"
    cert: c
    key: k
"""

CLOSED = GOOD.replace("one:50051", "127.0.0.1:1")


@pytest.fixture
def no_system_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnx.config.SEARCHED", SEARCHED[:3])


@pytest.mark.usefixtures("no_system_files")
def test_without_a_file_the_local_socket_serves() -> None:
    assert resolve("", "", {}) == Target(LOCAL_SOCKET)
    assert resolve("", "default", {}) == Target(LOCAL_SOCKET)


@pytest.mark.usefixtures("no_system_files")
def test_without_a_file_no_other_node_is_known() -> None:
    with pytest.raises(RnxError, match="cannot find node east: there is no configuration file"):
        resolve("", "east", {})


@pytest.mark.usefixtures("no_system_files")
def test_places_are_searched_in_order(tmp_path: Path) -> None:
    later, earlier = tmp_path / ".rnx/rnx-config.yml", tmp_path / "config/rnx-config.yml"
    for place in (later, earlier):
        place.parent.mkdir()
        place.write_text(GOOD)
        assert find_config("") == place.relative_to(tmp_path) if place == earlier else place


@pytest.mark.usefixtures("no_system_files")
def test_a_file_of_somebody_else_is_used_only_if_it_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rnx: Rnx
) -> None:
    path = tmp_path / "rnx-config.yml"
    path.write_text(GOOD)
    try:
        os.chown(path, 12345, -1)
    except PermissionError:  # we are not root: then we are somebody else
        monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    result = rnx("list")
    assert (result.status, result.out) == (1, "")
    assert result.err == (
        "rnx: cannot use rnx-config.yml: another user owns it, who would decide where jobs and secrets go\n"
        "hint: if that is meant: --config=rnx-config.yml\n"
    )
    assert resolve("rnx-config.yml", "", {}).address == "one:50051"
    assert resolve("", "local", {}) == Target(LOCAL_SOCKET)


def test_a_file_that_was_named_must_exist() -> None:
    with pytest.raises(RnxError, match=r"cannot read the configuration /nowhere\.yml: no such file"):
        resolve("/nowhere.yml", "", {})


def test_a_node_becomes_an_address_with_credentials(tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text(GOOD)
    target = resolve(str(tmp_path / "c.yml"), "", {})
    assert target.address == "one:50051"
    assert target.credentials is not None
    assert target.credentials.key == b"-----BEGIN KEY\n"


def test_the_local_node_and_the_address_variable_need_no_file() -> None:
    assert resolve("/nowhere.yml", "local", {}) == Target(LOCAL_SOCKET)
    assert resolve("/nowhere.yml", "", {"RNX_ADDRESS": "unix:/tmp/x"}) == Target("unix:/tmp/x")
    with pytest.raises(RnxError, match="only unix:PATH needs no certificates"):
        resolve("", "", {"RNX_ADDRESS": "host:50051"})


@pytest.mark.parametrize(
    ("content", "node", "text"),
    [
        (GOOD, "othr", "cannot find node othr in"),
        (GOOD, "other", "it has no ca"),
        (GOOD.replace("BEGIN KEY", "HIDDEN"), "", "no PEM text in key"),
        ("version: '3.0'\n", "", "no nodes configured"),
        ("nodes: []\n", "", "no nodes configured"),
        ("nodes:\n  default: 5\n", "", "it is not a map of address, cert, key and ca"),
        ("nodes:\n  a: [\n", "", "line 3: "),
        ("a: \udcff", "", "not UTF-8"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, content: str, node: str, text: str) -> None:
    (tmp_path / "c.yml").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(RnxError) as caught:
        resolve(str(tmp_path / "c.yml"), node, {})
    assert text in str(caught.value)
    assert "BEGIN" not in str(caught.value)
    assert "HIDDEN" not in str(caught.value)


def test_nodes_lists_the_file_and_hides_its_secrets(tmp_path: Path, rnx: Rnx) -> None:
    (tmp_path / "c.yml").write_text(GOOD)
    result = rnx("nodes", "list", f"--config={tmp_path / 'c.yml'}")
    assert result.status == 0
    assert result.out == (
        "* default\n  Address: one:50051\n  Cert: ***\n  Key: ***\n  CA: ***\n\n"
        "  other\n  Address: two:50051\n  Node ID: n-2\n  Cert: ***\n  Key: ***\n  CA: missing\n"
        "  Problem: it has no ca\n"
    )


@pytest.mark.parametrize(
    ("mode", "said"),
    [(0o600, ""), (0o400, ""), (0o644, "read"), (0o640, "read"), (0o620, "change")],
)
@pytest.mark.usefixtures("no_system_files")
def test_a_key_that_others_can_read_is_told_once(tmp_path: Path, rnx: Rnx, mode: int, said: str) -> None:
    path = tmp_path / "it's.yml"
    path.write_text(CLOSED)
    path.chmod(mode)
    line = (
        f"rnx: other users can {said} the private key in {path} (mode {mode:04o}): "
        f"chmod 600 '{tmp_path}/it'\"'\"'s.yml'"
    )
    result = rnx("list", "--json", f"--config={path}")
    assert result.out == ""
    assert result.err.splitlines().count(line) == bool(said)
    assert "private key" not in rnx("list", "-q", f"--config={path}").err
    assert "private key" not in rnx("run", "-q", f"--config={path}", "true").err


def test_nodes_alone_lists_them_as_data_too(tmp_path: Path, rnx: Rnx) -> None:
    (tmp_path / "c.yml").write_text(GOOD)
    config = f"--config={tmp_path / 'c.yml'}"
    for words in (
        ("nodes", "--json", config),
        ("--json", config, "nodes"),
        ("nodes", "list", "--json", config),
    ):
        assert json.loads(rnx(*words).out) == [
            {"name": "default", "address": "one:50051", "status": "active", "default": True},
            {"name": "other", "address": "two:50051", "nodeId": "n-2", "status": "error", "default": False},
        ]
    assert rnx("nodes", "tets").err.splitlines() == ["rnx: unknown command: tets", "hint: did you mean test?"]


def test_config_help_needs_no_file(rnx: Rnx) -> None:
    result = rnx("config-help")
    assert result.status == 0
    assert "rnx-config.yml" in result.out
