"""Certificates of the listener: what is wrong with them is told in time, without root as far as it can be."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest

from joblet_agent.fitness.finding import Result
from joblet_agent.pki.authority import CertificateAuthority
from joblet_agent.pki.names import HostNames
from tests.unit.fitness.host import Look, make_host

NAMES = HostNames(("node.example",), (ip_address("192.0.2.1"),))


@pytest.fixture
def look(tmp_path: Path) -> Look:
    look = Look(make_host(tmp_path / "host"))
    look.config = "listener:\n  enabled: yes\n"
    authority(look)
    look.host.clock = datetime.now(UTC).timestamp()
    look.host.write("sys/class/rtc/rtc0/since_epoch", str(int(look.host.clock)))
    return look


def authority(look: Look, place: str = "etc/joblet/pki") -> Path:
    directory = look.host.root / place
    directory.mkdir(parents=True)
    CertificateAuthority(directory, lambda: NAMES).init((), (), 3650)
    return directory


def result(look: Look, name: str) -> tuple[Result, str]:
    verdict = look.verdict(name)
    return verdict.result, f"{verdict.text}; {verdict.remedy}"


def test_good_certificates_are_fine(look: Look) -> None:
    assert look.bad() == {}


@pytest.mark.parametrize(
    ("later", "expected", "words"),
    [
        (timedelta(days=-2), Result.FAILED, "begins at"),
        (timedelta(days=300), Result.WARNING, "joblet-agent pki renew server"),
        (timedelta(days=3000), Result.FAILED, "server.crt expired"),
    ],
)
def test_the_time_of_certificates_is_told(look: Look, later: timedelta, expected: Result, words: str) -> None:
    look.host.clock += later.total_seconds()
    found, text = result(look, "CERTIFICATES_TIME")
    assert found is expected, text
    assert words in text


def test_a_key_of_another_certificate_is_told(look: Look) -> None:
    other = authority(look, "other")
    (other / "server.key").replace(look.host.root / "etc/joblet/pki/server.key")
    assert result(look, "CERTIFICATES") == (
        Result.FAILED,
        "server.key is not the key of server.crt; put the two files of one pair there",
    )


def test_what_is_no_certificate_is_told(look: Look) -> None:
    look.host.write(
        "etc/joblet/pki/server.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    )
    found, text = result(look, "CERTIFICATES")
    assert found is Result.FAILED
    assert "cannot read" in text
