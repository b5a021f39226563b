"""rnx config import, nodes and doctor with the real listener: from an issued file to a job."""

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from rnx import __version__
from tests.certificates import DAY, bundle, make, make_ca, place, revocation
from tests.e2e.agent import eventually
from tests.e2e.host import rnx, rnx_json
from tests.e2e.network import PKI, PORT, listening

pytestmark = pytest.mark.systemd

CA = make_ca()
ADDRESS = f"127.0.0.1:{PORT}"
EVE = make("eve", "Operator", ca=CA, until=365 * DAY)
TIME = r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC"


@pytest.fixture(scope="module", autouse=True)
def _listener() -> Iterator[None]:
    with listening(CA, ""):
        yield


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a configuration that was imported from an issued file."""
    issued, own = tmp_path / "eve.yml", tmp_path / "own" / "rnx-config.yml"
    issued.write_text(bundle(EVE, CA, ADDRESS))
    done = rnx("config", "import", str(issued), f"--config={own}")
    assert done.returncode == 0, done.stderr.decode()
    assert stat.S_IMODE(own.stat().st_mode) == 0o600
    return own


def test_an_imported_configuration_runs_jobs(config: Path) -> None:
    ran = rnx("run", "--attach", f"--config={config}", "echo", "ran")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"ran\n", b"")


def test_a_node_that_answers_says_as_whom_and_how_long(config: Path) -> None:
    done = rnx("nodes", "test", f"--config={config}")
    line = f"default: ok: agent {__version__} at {ADDRESS}, operator as eve, certificate until TIME\n"
    assert (done.returncode, done.stderr) == (0, b"")
    assert re.fullmatch(re.escape(line).replace("TIME", TIME), done.stdout.decode())
    [data] = rnx_json("nodes", "test", f"--config={config}")
    assert data["certificateExpires"] == f"{EVE.until:%Y-%m-%dT%H:%M:%SZ}"
    assert (data["role"], data["version"]) == ("operator", __version__)
    assert abs(data["clockAheadSeconds"]) < 5


def test_doctor_finds_nothing_to_mend(config: Path) -> None:
    done = rnx("doctor", f"--config={config}")
    lines = [line.split(": ")[:2] for line in done.stdout.decode().splitlines()]
    checks = ("configuration", "certificate", "connection", "clock", "role")
    assert (done.returncode, lines) == (0, [[check, "ok"] for check in checks])
    assert rnx("doctor").returncode == 0  # over the socket


def test_r14_what_fails_is_in_the_line_and_in_the_status(config: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yml"
    other.write_text(bundle(make("eve", "viewer", ca=CA), make_ca("other CA"), ADDRESS))
    added = rnx("config", "import", str(other), "--name=other", f"--config={config}")
    assert added.returncode == 0, added.stderr.decode()
    place(PKI / "revoked.pem", revocation(CA, EVE))
    try:
        eventually(lambda: rnx("nodes", "test", f"--config={config}").returncode, lambda status: status == 1)
        done = rnx("nodes", "test", "--all", f"--config={config}", "-o", "json")
        assert done.returncode == 1
        assert [(each["name"], each["code"]) for each in json.loads(done.stdout)] == [
            ("default", "CERTIFICATE_REVOKED"),
            ("other", "SERVER_CERTIFICATE_OTHER_CA"),
        ]
        doctor = rnx("doctor", f"--config={config}")
        assert doctor.returncode == 1
        last = doctor.stdout.decode().splitlines()[-1]
        assert last.startswith(
            "connection: failed: cannot accept the client certificate: it has been revoked"
        )
        assert " [CERTIFICATE_REVOKED]; " in last
    finally:
        (PKI / "revoked.pem").unlink()
        eventually(lambda: rnx("nodes", "test", f"--config={config}").returncode, lambda status: status == 0)
