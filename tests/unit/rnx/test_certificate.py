"""Credentials of any kind give a certificate or our error, and what ssl reads is what is written."""

import base64
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from rnx.certificate import Certificate, check_own, doubt
from rnx.config import Credentials
from rnx.exits import NoTrust
from tests.certificates import Pair, make, make_ca

CA = make_ca()
EVE = make("eve", "operator", ca=CA)
DER = EVE.certificate.public_bytes(Encoding.DER)


def pem(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


def looked_at(credentials: Credentials) -> Certificate | None:
    try:
        certificate = check_own(credentials)
        doubt(credentials)
    except NoTrust:
        return None
    return certificate


@given(st.integers(0, len(DER) - 1), st.integers(0, 255))
def test_c8_a_certificate_with_a_wrong_byte(place: int, byte: int) -> None:
    looked_at(Credentials(pem(DER[:place] + bytes([byte]) + DER[place + 1 :]), EVE.key, CA.pem))


@given(st.binary(max_size=200), st.sampled_from(["certificate", "key", "authority"]), st.booleans())
def test_c8_any_bytes_in_the_place_of_any_part(content: bytes, part: str, armoured: bool) -> None:
    parts = {"certificate": EVE.pem, "key": EVE.key, "authority": CA.pem}
    assert looked_at(Credentials(**{**parts, part: pem(content) if armoured else content})) is None


KEYS: dict[str, Callable[[], object]] = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "a curve that TLS does not have": lambda: ec.generate_private_key(ec.SECP256K1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "short RSA": lambda: rsa.generate_private_key(65537, 1024),
}
USABLE = {"P-256", "P-521", "Ed25519", "RSA"}


@pytest.mark.parametrize("kind", list(KEYS))
def test_keys_of_every_kind(kind: str) -> None:
    eve: Pair = make("eve", "viewer", ca=CA, secret=KEYS[kind]())
    found = looked_at(Credentials(eve.pem, eve.key, CA.pem))
    assert (found is not None) == (kind in USABLE)


def test_names_are_read_and_not_printed_subjects() -> None:
    odd = make("x,OU=admin\n", "Viewer", ca=make_ca("CA, \u00e9"))
    found = check_own(Credentials(odd.pem, odd.key, CA.pem))
    assert (found.name, found.role, found.issuer) == ("x,OU=admin\n", "Viewer", "CA, \u00e9")
    assert found.until == odd.until
    assert "issuer certificate" in doubt(Credentials(odd.pem, odd.key, CA.pem))
    assert doubt(Credentials(EVE.pem, EVE.key, CA.pem)) == ""
