"""The CA of a host: what it makes, what it refuses, and what is left when it is killed."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from joblet_agent.errors import (
    HostUnavailable,
    InvalidRequest,
    JobletError,
    NotAuthenticated,
    NotFound,
)
from joblet_agent.model.certificate import CertificateState
from joblet_agent.model.identity import Identity, Role
from joblet_agent.pki.certificates import span_of
from joblet_agent.pki.index import read_index, write_index
from tests.certificates import make_ca
from tests.unit.pki.ca import Rig


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(JobletError) as caught:
        call()
    return caught.value.reason


def contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_c6_keys_are_for_root_alone(rig: Rig) -> None:
    rig.ca.issue("alice", Role.ADMIN)
    keys = [path for path, content in contents(rig.directory).items() if b"PRIVATE KEY" in content]
    assert len(keys) == 2  # of the CA and of the agent; that of alice is nowhere
    assert {path.stat().st_mode & 0o777 for path in keys} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (rig.directory, rig.directory / "ca")} == {0o700}
    assert (rig.directory / "ca" / "index.json").stat().st_mode & 0o777 == 0o600


def test_c6_keys_are_for_root_alone_whatever_the_umask_is(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Rig(tmp_path / "pki").ca.init()
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "pki").rglob("*")}
    assert {mode for name, mode in modes.items() if name.endswith((".key", "ca"))} == {0o600, 0o700}


def test_the_ca_is_made_once(rig: Rig) -> None:
    before = contents(rig.directory)
    assert refusal(rig.ca.init) == "CA_EXISTS"
    assert contents(rig.directory) == before


def test_a_ca_of_ones_own_is_left_alone(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    (tmp_path / "ca.crt").write_bytes(make_ca().pem)
    assert refusal(rig.ca.init) == "CERTIFICATES_EXIST"
    assert contents(tmp_path).keys() == {tmp_path / "ca.crt"}
    assert refusal(lambda: rig.ca.issue("alice", Role.ADMIN)) == "NO_CA"


def test_the_agents_certificate_has_the_hosts_names(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    server = rig.ca.init(["joblet.example.com"], ["192.0.2.1"]).server
    assert server is not None
    found = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert found.get_values_for_type(x509.DNSName) == [
        "joblet",
        "localhost",
        "node7",
        "node7.example.net",
        "joblet.example.com",
    ]
    assert list(map(str, found.get_values_for_type(x509.IPAddress))) == [
        "127.0.0.1",
        "::1",
        "10.0.0.7",
        "fd00::7",
        "192.0.2.1",
    ]


@pytest.mark.parametrize("bad", [(["a b"], []), ([], ["node7"])])
def test_a_wrong_name_of_the_agent_makes_nothing(tmp_path: Path, bad: tuple[list[str], list[str]]) -> None:
    with pytest.raises(InvalidRequest):
        Rig(tmp_path / "pki").ca.init(*bad)
    assert not (tmp_path / "pki").exists()


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("name", ["alice", "x,OU=admin", 'José\\ + "Müller"'])
def test_c1_the_agent_sees_who_it_was_issued_for(rig: Rig, name: str, role: Role) -> None:
    assert rig.judged(rig.ca.issue(name, role)) == Identity(name, role)


def test_one_certificate_for_a_name(rig: Rig) -> None:
    rig.ca.issue("alice", Role.VIEWER, 10)
    assert refusal(lambda: rig.ca.issue("alice", Role.ADMIN)) == "NAME_TAKEN"
    rig.pass_days(10)
    assert rig.judged(rig.ca.issue("alice", Role.ADMIN)) == Identity("alice", Role.ADMIN)


def test_nothing_is_issued_beyond_the_end_of_the_ca(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.ca.init(days=30)
    with pytest.raises(InvalidRequest) as caught:
        rig.ca.issue("alice", Role.VIEWER, 31)
    assert caught.value.hint == "joblet-agent pki renew ca, or --days 30"
    assert rig.ca.holding().index.records == ()


def test_c1_who_is_revoked_is_refused(rig: Rig) -> None:
    alice, bob = rig.ca.issue("alice", Role.ADMIN), rig.ca.issue("bob", Role.ADMIN)
    next_of_alice = rig.ca.renew("alice")
    assert [each.serial for each in rig.ca.revoke("alice")] == [
        alice.record.serial,
        next_of_alice.record.serial,
    ]
    for issued in (alice, next_of_alice):
        with pytest.raises(NotAuthenticated, match="it has been revoked"):
            rig.judged(issued)
    assert rig.judged(bob).name == "bob"
    assert rig.ca.revoke("alice") == []
    assert refusal(lambda: rig.ca.renew("alice")) == "CERTIFICATE_REVOKED"
    assert rig.judged(rig.ca.issue("alice", Role.VIEWER)).role is Role.VIEWER


@pytest.mark.parametrize("form", [str.lower, lambda serial: f"0x{serial}", ":".join])
def test_revoking_by_serial_number(rig: Rig, form: Callable[[str], str]) -> None:
    first = rig.ca.issue("alice", Role.ADMIN)
    second = rig.ca.renew("alice")
    assert [each.serial for each in rig.ca.revoke(form(first.record.serial))] == [first.record.serial]
    assert rig.judged(second).name == "alice"
    with pytest.raises(NotAuthenticated):
        rig.judged(first)


@pytest.mark.parametrize("text", ["bob", "", "00", "server", "ca"])
def test_revoking_what_is_not_there(rig: Rig, text: str) -> None:
    rig.ca.issue("alice", Role.ADMIN)
    with pytest.raises(NotFound):
        rig.ca.revoke(text)


def test_lists_that_somebody_added_stay(rig: Rig) -> None:
    other = make_ca("a CA of mine")
    with (rig.directory / "ca.crt").open("ab") as file:
        file.write(other.pem)
    issued = rig.ca.issue("alice", Role.ADMIN)
    rig.ca.revoke("alice")
    assert other.certificate in x509_of(rig.directory / "ca.crt")
    with pytest.raises(NotAuthenticated):
        rig.judged(issued)


def x509_of(path: Path) -> list[x509.Certificate]:
    texts = path.read_text().split("-----END CERTIFICATE-----\n")[:-1]
    return [x509.load_pem_x509_certificate(f"{each}-----END CERTIFICATE-----\n".encode()) for each in texts]


def test_states_in_the_list(rig: Rig) -> None:
    rig.ca.issue("alice", Role.VIEWER, 30)
    rig.ca.issue("bob", Role.VIEWER, 30)
    rig.ca.revoke("bob")
    states = []
    for days in (0, 21, 9):
        rig.pass_days(days)
        states.append([row.state for row in rig.ca.holding().rows])
    assert states == [
        [CertificateState.VALID, CertificateState.VALID, CertificateState.VALID, CertificateState.REVOKED],
        [CertificateState.VALID, CertificateState.VALID, CertificateState.DUE, CertificateState.REVOKED],
        [CertificateState.VALID, CertificateState.VALID, CertificateState.EXPIRED, CertificateState.REVOKED],
    ]


def test_the_index_outlives_a_file(rig: Rig) -> None:
    rig.ca.issue("Zoë", Role.VIEWER)
    rig.ca.revoke("Zoë")
    index = rig.ca.holding().index
    assert read_index(write_index(index)) == index


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "authorities": [1]}'])
def test_a_broken_index_is_told(rig: Rig, text: str) -> None:
    (rig.directory / "ca" / "index.json").write_text(text)
    with pytest.raises(HostUnavailable) as caught:
        rig.ca.issue("alice", Role.ADMIN)
    assert caught.value.reason == "PKI_INDEX_BROKEN"


def test_a_missing_key_of_the_ca_is_told(rig: Rig) -> None:
    for key in (rig.directory / "ca").glob("*.key"):
        key.unlink()
    assert refusal(lambda: rig.ca.issue("alice", Role.ADMIN)) == "CA_KEY_MISSING"


def test_openssl_takes_what_was_made(rig: Rig, tmp_path: Path) -> None:
    alice, bob = rig.ca.issue("alice", Role.ADMIN), rig.ca.issue("bob", Role.ADMIN)
    rig.ca.revoke("bob")
    ca, crl, server = (rig.directory / name for name in ("ca.crt", "revoked.pem", "server.crt"))

    def verified(file: Path, purpose: str) -> str:
        words = ("-x509_strict", "-crl_check", "-CAfile", ca, "-CRLfile", crl, "-purpose", purpose, file)
        done = subprocess.run(
            ("openssl", "verify", *map(str, words)), capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    assert verified(server, "sslserver").endswith(": OK\n")
    assert "unsuitable certificate purpose" in verified(server, "sslclient")
    for issued, expected in ((alice, ": OK\n"), (bob, "certificate revoked")):
        file = tmp_path / f"{issued.record.name}.crt"
        file.write_text(rig.ca.export(issued.record.name))
        assert expected in verified(file, "sslclient")
    words = ("openssl", "crl", "-in", str(crl), "-CAfile", str(ca), "-noout", "-text")
    told = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "verify OK" in told.stderr
    assert f"Serial Number: {bob.record.serial}\n" in told.stdout


def test_lives(rig: Rig) -> None:
    holding = rig.ca.holding()
    assert holding.server is not None
    lives = [
        (span.until - span.since).days for span in map(span_of, (*holding.index.authorities, holding.server))
    ]
    assert lives == [3650, 365]
