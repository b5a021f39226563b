"""Renewal in time, and one CA after the other."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from joblet_agent.errors import NotAuthenticated, WrongState
from joblet_agent.model.certificate import CertificateState
from joblet_agent.model.identity import Role
from joblet_agent.pki.certificates import alternatives_of, span_of
from joblet_agent.pki.renewal import Renewed
from joblet_agent.pki.signing import Issued
from joblet_agent.pki.verdict import read_trust
from joblet_agent.rpc.material import read_material
from tests.certificates import make_ca, make_server
from tests.unit.pki.ca import HOST, Rig


def server_of(rig: Rig) -> x509.Certificate:
    found = rig.ca.holding().server
    assert found is not None
    return found


def reaches(rig: Rig, client: Issued) -> bool:
    """Whether the client takes the agent for what it is, with the CAs that it was given."""
    server = server_of(rig)
    return server.issuer in {each.subject for each in client.authorities} and rig.now < span_of(server).until


def authorities(rig: Rig) -> list[x509.Certificate]:
    return list(rig.ca.holding().index.authorities)


def test_nothing_is_renewed_before_its_time(rig: Rig) -> None:
    before = {path: path.read_bytes() for path in rig.directory.rglob("*") if path.is_file()}
    rig.pass_days(243)
    assert rig.ca.renewal.due() == Renewed()
    assert {path: path.read_bytes() for path in rig.directory.rglob("*") if path.is_file()} == before


def test_the_agents_certificate_is_renewed_in_time_for_the_same_key_and_names(rig: Rig) -> None:
    before, key = server_of(rig), (rig.directory / "server.key").read_bytes()
    rig.pass_days(244)
    done = rig.ca.renewal.due()
    assert done.server == server_of(rig) != before
    assert span_of(server_of(rig)).until == rig.now + timedelta(days=365)
    assert (rig.directory / "server.key").read_bytes() == key
    san = x509.SubjectAlternativeName
    assert server_of(rig).extensions.get_extension_for_class(
        san
    ) == before.extensions.get_extension_for_class(san)
    assert rig.ca.renewal.due() == Renewed()


def test_names_that_were_asked_for_once_are_kept(rig: Rig) -> None:
    rig.ca.renewal.server(["joblet.example.com"], ["192.0.2.1"])
    rig.ca.renewal.server(["other.example.com"])
    rig.pass_days(300)
    rig.ca.renewal.due()
    found = server_of(rig).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert found.get_values_for_type(x509.DNSName)[-2:] == ["joblet.example.com", "other.example.com"]
    assert len(found.get_values_for_type(x509.IPAddress)) == len(HOST.addresses) + 3


def test_a_new_key_of_the_agent(rig: Rig) -> None:
    before = (rig.directory / "server.key").read_bytes()
    (rig.directory / "server.key").unlink()
    assert rig.ca.renewal.due().server is not None
    assert (rig.directory / "server.key").read_bytes() != before
    read_material(rig.directory)  # they fit each other


def test_the_agents_certificate_of_another_ca_is_left_alone(rig: Rig) -> None:
    other = make_server(make_ca())
    (rig.directory / "server.crt").write_bytes(other.pem)
    (rig.directory / "server.key").write_bytes(other.key)
    rig.pass_days(300)
    done = rig.ca.renewal.due()
    assert (done.has_foreign_server, done.server) == (True, None)
    with pytest.raises(WrongState):
        rig.ca.renewal.server()
    assert (rig.directory / "server.crt").read_bytes() == other.pem


def test_c1_a_new_ca_lets_nobody_back_in_who_was_revoked(rig: Rig) -> None:
    eve, bob = rig.ca.issue("eve", Role.ADMIN), rig.ca.issue("bob", Role.ADMIN)
    rig.ca.revoke("eve")
    rig.ca.renewal.authority()
    alice = rig.ca.issue("alice", Role.ADMIN)
    assert [rig.judged(each).name for each in (bob, alice)] == ["bob", "alice"]
    rig.ca.revoke("bob")  # which the former CA has to sign
    rig.ca.revoke("alice")
    for revoked in (eve, bob, alice):
        with pytest.raises(NotAuthenticated, match="it has been revoked"):
            rig.judged(revoked)


def test_r14_clients_of_the_former_ca_and_of_the_new_one_reach_the_agent_all_the_time(rig: Rig) -> None:
    """Ten years and more, day by day, with clients who come, go, and are renewed a day before their end."""
    former = authorities(rig)[0]
    clients = {name: rig.ca.issue(name, Role.VIEWER) for name in ("alice", "bob")}
    seen = {former.subject}
    for day in range(4800):
        rig.pass_days(1)
        if day % 7 == 0:
            rig.ca.renewal.due()
        for name, client in clients.items():
            if client.record.until.date() <= rig.now.date():
                clients[name] = rig.ca.renew(name)
        if day % 7 == 3:
            for name, client in clients.items():
                assert reaches(rig, client), day
                assert rig.judged(client).name == name
            seen |= {each.subject for each in authorities(rig)}
            assert len(authorities(rig)) <= 2
    assert len(seen) == 2
    assert former not in authorities(rig)
    assert former not in read_material(rig.directory).trust.authorities
    assert len(list((rig.directory / "ca").glob("*.key"))) == 1


def test_a_former_ca_goes_with_its_last_client(rig: Rig) -> None:
    rig.ca.issue("alice", Role.VIEWER, 100)
    rig.ca.issue("eve", Role.VIEWER, 200)
    rig.ca.revoke("eve")
    first = authorities(rig)[0]
    rig.ca.renewal.authority()
    rig.pass_days(199)
    assert rig.ca.renewal.due().retired == ()
    rig.pass_days(1)  # the revoked one could be let in by nobody's list, if its CA were trusted still
    done = rig.ca.renewal.due()
    assert done.retired == (first,)
    assert done.server is not None
    assert server_of(rig).issuer == authorities(rig)[0].subject
    assert first not in authorities(rig)
    trust = read_trust((rig.directory / "ca.crt").read_bytes(), (rig.directory / "revoked.pem").read_bytes())
    assert trust.authorities == tuple(authorities(rig))


def test_lists_are_renewed_before_they_end(rig: Rig) -> None:
    before = (rig.directory / "revoked.pem").read_bytes()
    rig.pass_days(250)
    rig.ca.renewal.due()
    after = (rig.directory / "revoked.pem").read_bytes()
    assert after != before
    number = x509.load_pem_x509_crl(after).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    assert number == 2


def test_clients_that_end_soon_are_told_once_they_are_near(rig: Rig) -> None:
    rig.ca.issue("alice", Role.VIEWER)
    rig.ca.issue("bob", Role.VIEWER)
    rig.ca.issue("eve", Role.VIEWER)
    rig.pass_days(330)
    assert rig.ca.renewal.due().ending == []
    rig.pass_days(10)
    rig.ca.renew("bob")
    rig.ca.revoke("eve")
    assert [record.name for record in rig.ca.renewal.due().ending] == ["alice"]
    rig.pass_days(26)
    assert rig.ca.renewal.due().ending == []
    assert [row.state for row in rig.ca.holding().rows if row.name == "alice"] == [CertificateState.EXPIRED]


def test_a_renewal_by_the_timer_needs_a_ca(tmp_path: Path) -> None:
    with pytest.raises(WrongState) as caught:
        Rig(tmp_path).ca.renewal.due()
    assert caught.value.reason == "NO_CA"


def test_names_of_the_configuration_are_in_the_certificate_from_the_next_look_at_it_on(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path, configured=("jobs.example.org", "*.example.net", "192.0.2.7"))
    rig.ca.init()
    assert alternatives_of(server_of(rig)) >= {*rig.configured, *HOST.names, "joblet"}
    key = (tmp_path / "server.key").read_bytes()
    assert rig.ca.renewal.due() == Renewed()
    rig.configured = ("jobs.example.org", "2001:db8::7")
    assert rig.ca.renewal.due().server is not None
    assert alternatives_of(server_of(rig)) >= {*rig.configured, *HOST.names, "joblet"}
    assert "192.0.2.7" not in alternatives_of(server_of(rig))
    assert (tmp_path / "server.key").read_bytes() == key
    rig.configured = ()
    assert rig.ca.renewal.due() == Renewed()
