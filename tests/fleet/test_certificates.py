"""Certificates of a fleet: from one CA for all hosts, or from one of each host."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.agent import eventually
from tests.fleet.hosts import AGENT_PROCESS, PORT, SETTINGS, Count, Fleet, limit, names, version
from tests.testbed import Machine
from tests.testbed.install import build_packages

pytestmark = pytest.mark.fleet

_CERTIFICATE = ("req", "-x509", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@pytest.fixture(scope="module", autouse=True)
def _configured(fleet: Fleet) -> None:
    """Have the hosts as the tests of the upgrade leave them, where those have not been run."""
    if fleet.installed()[fleet.pairs[0][0].name] != {f"ii {version()}"}:
        assert fleet.control.play("site.yml", packages=build_packages(), **SETTINGS).status == 0


def test_certificates_of_the_fleet_come_and_are_renewed_without_a_restart(
    fleet: Fleet, tmp_path: Path
) -> None:
    pki, hosts = tmp_path / "pki", fleet.pairs[0]
    agents, host = fleet.said(*AGENT_PROCESS), hosts[0]

    def play(**settings: Any) -> dict[str, int]:
        how = (limit(hosts), "-vv", "--diff")
        played = fleet.control.play("certificates.yml", *how, joblet_fleet_ca_directory=pki, **settings)
        assert played.status == 0
        assert "PRIVATE KEY" not in played.output
        return played.changed

    assert set(play()) == names(hosts)
    assert host.run("stat", "--format=%a", "/etc/joblet/pki/server.key").stdout == "600\n"
    alice = _client(host, pki, tmp_path)
    _connects(host, *alice)
    count = Count(host, tmp_path, *alice)
    try:
        before = _served(host)
        play(joblet_fleet_ca_renew_before=400)
        eventually(lambda: _served(host), lambda served: served != before)
        assert play() == dict.fromkeys(names(hosts), 0)
        assert count.faults() == []
    finally:
        count.close()
    assert fleet.said(*AGENT_PROCESS) == agents


def test_a_client_of_hosts_with_a_ca_of_their_own_gets_a_file_for_each(fleet: Fleet, tmp_path: Path) -> None:
    hosts = fleet.pairs[1]
    asked = {
        "joblet_client": "bob",
        "joblet_client_address": f"127.0.0.1:{PORT}",
        "joblet_client_bundles": str(tmp_path),
    }
    how = (limit(hosts), "-vv", "--diff", f"--extra-vars={json.dumps(asked)}")
    for _ in range(2):
        played = fleet.control.play("clients.yml", *how)
        assert played.status == 0
        assert "PRIVATE KEY" not in played.output
    assert played.changed == dict.fromkeys(names(hosts), 0)
    for host in hosts:
        bundle = tmp_path / f"{host.name}.yml"
        assert bundle.stat().st_mode & 0o777 == 0o600
        host.push(bundle, "/root/bob.yml")
        host.run("rnx", "config", "import", "/root/bob.yml", "--name", "mine")
        _connects(host, "rnx", "--node=mine")
    # Whose certificates are not replaced by those of the fleet.
    refused = fleet.control.play("certificates.yml", limit(hosts), joblet_fleet_ca_directory=tmp_path / "pki")
    assert refused.failed == names(hosts)
    for host in hosts:
        _connects(host, "rnx", "--node=mine")


def _client(host: Machine, pki: Path, folder: Path) -> tuple[str, ...]:
    """Make a certificate of the fleet's CA for alice; return how she calls ``rnx`` on that host."""
    files = {"ca": pki / "ca.crt", "cert": folder / "alice.crt", "key": folder / "alice.key"}
    signed_by = ("-CA", str(files["ca"]), "-CAkey", str(pki / "ca.key"), "-days", "30")
    is_client = ("-subj", "/CN=alice/OU=operator", "-addext", "extendedKeyUsage=clientAuth")
    is_none = ("-addext", "basicConstraints=critical,CA:FALSE")
    to = ("-keyout", str(files["key"]), "-out", str(files["cert"]))
    subprocess.run(
        ["openssl", *_CERTIFICATE, *signed_by, *is_client, *is_none, *to], check=True, capture_output=True
    )
    for file in files.values():
        host.push(file, f"/root/{file.name}")
    options = [f"--{name}=/root/{file.name}" for name, file in files.items()]
    config = "--config=/root/alice.yml"
    host.run("rnx", "nodes", "add", "default", config, f"--address=127.0.0.1:{PORT}", *options)
    return ("rnx", config)


def _connects(host: Machine, *rnx: str) -> None:
    """Wait until a client can connect: the agent has just been given its certificate."""
    eventually(lambda: host.run(*rnx, "list", check=False), lambda done: done.returncode == 0)


def _served(host: Machine) -> str:
    """Return the serial number of the certificate that a new connection gets."""
    connect = f"openssl s_client -connect 127.0.0.1:{PORT} -tls1_3 -cert /root/alice.crt -key /root/alice.key"
    return host.run("sh", "-c", f"{connect} </dev/null 2>/dev/null | openssl x509 -noout -serial").stdout
