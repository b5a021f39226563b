"""rnx nodes test and rnx doctor: a line for each thing, and a status for scripts."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from rnx.config import SEARCHED
from tests.certificates import DAY, bundle, make, make_ca
from tests.unit.rnx.conftest import Rnx
from tests.unit.rnx.fake_agent import FakeAgent, failure

CA = make_ca()


@pytest.fixture(autouse=True)
def _own_files_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnx.config.SEARCHED", SEARCHED[:3])


def node(ahead: timedelta = timedelta()) -> pb.GetNodeResponse:
    return pb.GetNodeResponse(
        version="9.8.7",
        time=(datetime.now(UTC) + ahead).isoformat().replace("+00:00", "Z"),
        caller_name="eve\x1b[2J",
        caller_role="viewer",
    )


def test_a_node_that_answers(rnx: Rnx, agent: FakeAgent) -> None:
    agent.answers["GetNode"] = lambda *_: node()
    result = rnx("nodes", "test")
    assert (result.status, result.err) == (0, "")
    assert result.out == f"default: ok: agent 9.8.7 at {agent.address}, viewer as eve\\x1b[2J\n"
    [data] = json.loads(rnx("nodes", "test", "-o", "json").out)
    assert abs(data.pop("clockAheadSeconds")) < 5
    assert data == {
        "name": "default",
        "address": agent.address,
        "status": "ok",
        "version": "9.8.7",
        "caller": "eve\x1b[2J",
        "role": "viewer",
    }


def test_an_agent_of_before_tells_less(rnx: Rnx, agent: FakeAgent) -> None:
    agent.answers["GetNode"] = pb.GetNodeResponse()
    result = rnx("nodes", "test")
    assert result.out == f"default: ok: agent of an older version at {agent.address}\n"
    assert rnx("doctor").status == 0


def test_every_node_has_its_line_and_one_that_fails_decides(rnx: Rnx, tmp_path: Path) -> None:
    path = tmp_path / "rnx-config.yml"
    eve, late = make("eve", "viewer", ca=CA), make("eve", "viewer", ca=CA, until=-DAY / 2)
    entry = bundle(late, CA, "127.0.0.1:1", node="west").partition("nodes:\n")[2]
    path.write_text(bundle(eve, CA, "127.0.0.1:1", node="east") + entry + "  none: 5\n")
    result = rnx("nodes", "test", "--all")
    assert (result.status, result.err) == (1, "")
    east, none, west = result.out.splitlines()
    assert east.startswith("east: failed: cannot reach the agent at 127.0.0.1:1: connection refused [CONN")
    assert none.startswith("none: failed: cannot use node none of rnx-config.yml: it is not a map of ")
    assert west.startswith("west: failed: the client certificate expired at ")
    data = json.loads(rnx("nodes", "test", "--all", "--json").out)
    assert [(each["status"], each["code"]) for each in data] == [
        ("error", "CONNECTION_REFUSED"),
        ("error", "BAD_NODE"),
        ("error", "CLIENT_CERTIFICATE_EXPIRED"),
    ]
    assert rnx("nodes", "test", "east", "--all").status == 2
    assert "did you mean east?" in rnx("nodes", "test", "eas").out


def test_doctor_with_nothing_to_mend(rnx: Rnx, agent: FakeAgent) -> None:
    agent.answers["GetNode"] = lambda *_: node()
    result = rnx("doctor")
    assert result.status == 0
    configuration, connection, clock, role = result.out.splitlines()
    assert configuration == f"configuration: ok: none is used, but the socket {agent.socket}"
    assert connection == f"connection: ok: agent 9.8.7 at {agent.address}"
    assert clock.startswith("clock: ok: the agent's is 0.")
    assert role == "role: ok: viewer as eve\\x1b[2J: may read, and change nothing"


@pytest.mark.parametrize(("ahead", "word"), [(100, "ahead"), (-100, "behind")])
def test_doctor_warns_of_clocks_that_differ(rnx: Rnx, agent: FakeAgent, ahead: int, word: str) -> None:
    agent.answers["GetNode"] = lambda *_: node(timedelta(seconds=ahead))
    result = rnx("doctor")
    assert result.status == 0
    line = next(line for line in result.out.splitlines() if line.startswith("clock: "))
    assert line.startswith("clock: warning: the agent's is ")
    assert f" s {word} [CLOCKS_DIFFER]; let both hosts keep the time" in line


def test_doctor_of_a_node_that_cannot_be_reached(rnx: Rnx, tmp_path: Path) -> None:
    path = tmp_path / "c.yml"
    path.write_text(bundle(make("eve", "viewer", ca=CA), CA, "127.0.0.1:1"))
    path.chmod(0o640)
    result = rnx("doctor", f"--config={path}")
    assert (result.status, result.err) == (1, "")
    configuration, certificate, connection = result.out.splitlines()
    assert configuration == (
        f"configuration: warning: other users can read the private key in {path} (mode 0640) [KEY_IS_OPEN]; "
        f"chmod 600 {path}"
    )
    assert certificate.startswith("certificate: warning: eve from test CA, until 20")  # in a day
    assert certificate.endswith("[CLIENT_CERTIFICATE_ENDS_SOON]; ask an administrator for a new one in time")
    assert connection.startswith("connection: failed: cannot reach the agent at 127.0.0.1:1: ")
    data = json.loads(rnx("doctor", f"--config={path}", "--json").out)
    assert [each["result"] for each in data] == ["warning", "warning", "failed"]


def test_doctor_without_a_usable_configuration(rnx: Rnx, tmp_path: Path) -> None:
    (tmp_path / "rnx-config.yml").write_text("nodes: *all\n")
    result = rnx("doctor")
    assert result.status == 1
    assert result.out.startswith(
        "configuration: failed: cannot read the configuration rnx-config.yml: line 1: "
    )
    assert result.out.count("\n") == 1


def test_doctor_of_one_without_a_role(rnx: Rnx, agent: FakeAgent) -> None:
    agent.answers["GetNode"] = failure(
        grpc.StatusCode.UNAUTHENTICATED, "cannot accept the client certificate", "CERTIFICATE_ROLE", "ask"
    )
    result = rnx("doctor")
    assert result.status == 1
    line = "connection: failed: cannot accept the client certificate [CERTIFICATE_ROLE]; ask"
    assert result.out.splitlines()[-1] == line
