"""Whom a certificate names, and which are refused."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from joblet_agent.errors import NotAuthenticated
from joblet_agent.model.identity import Identity, Role
from joblet_agent.pki.verdict import BadTrust, Trust, judge, read_trust
from tests.certificates import CLIENT, DAY, SERVER, Pair, Unit, make, make_ca, revocation

CA = make_ca()
TRUST = read_trust(CA.pem, None)


def verdict(pair: Pair, trust: Trust = TRUST, after: timedelta = timedelta(0)) -> Identity:
    return judge(pair.pem, trust, datetime.now(UTC) + after).identity


def refusal(pair: Pair, trust: Trust = TRUST, after: timedelta = timedelta(0)) -> str:
    with pytest.raises(NotAuthenticated) as caught:
        verdict(pair, trust, after)
    assert str(caught.value).startswith("cannot accept the client certificate: ")
    return caught.value.reason


@pytest.mark.parametrize("unit", ["admin", "operator", "viewer", "ADMIN", "Operator"])
def test_c1_the_ou_is_the_role(unit: str) -> None:
    assert verdict(make("eve", unit, ca=CA)) == Identity("eve", Role(unit.lower()))


@pytest.mark.parametrize(
    "units",
    [
        (),
        ("admin", "viewer"),
        ("admin", "admin"),
        (("admin", "viewer"),),
        ("",),
        ("", "admin"),
        ("root",),
        ("admin ",),
        (" admin",),
        ("ad min",),
        ("admin\x00",),
        ("admin,OU=viewer",),
        ("administrator",),
        ("аdmin",),  # noqa: RUF001 - a Cyrillic a
        ("admın",),  # noqa: RUF001 - a dotless i
        ("ADMİN",),
        ("ａｄｍｉｎ",),  # noqa: RUF001 - full width
        ("operatoſ",),  # noqa: RUF001
        ("admin\u200b",),
    ],
)
def test_c1_any_other_ou_is_no_role(units: tuple[Unit, ...]) -> None:
    assert refusal(make("eve", *units, ca=CA)) == "CERTIFICATE_ROLE"


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1, max_size=12))
def test_c1_no_text_becomes_a_role_that_it_is_not(unit: str) -> None:
    pair = make("eve", unit, ca=CA)
    if unit.isascii() and unit.lower() in list(Role):
        assert verdict(pair).role.value == unit.lower()
    else:
        assert refusal(pair) == "CERTIFICATE_ROLE"


def test_c1_a_role_in_the_text_of_the_name_is_none() -> None:
    assert verdict(make("x,OU=admin", "viewer", ca=CA)) == Identity("x,OU=admin", Role.VIEWER)
    assert refusal(make("x,OU=admin", ca=CA)) == "CERTIFICATE_ROLE"


@pytest.mark.parametrize("name", [None, "a\nb", "a\x1b[31m", " ", "local", "local:operator"])
def test_c1_names_that_nobody_may_have(name: str | None) -> None:
    assert refusal(make(name, "admin", ca=CA)) == "CERTIFICATE_NAME"


def test_c1_what_the_certificate_is_for() -> None:
    assert refusal(make("eve", "admin", ca=CA, usage=(SERVER,))) == "CERTIFICATE_PURPOSE"
    assert refusal(make("eve", "admin", ca=CA, usage=None)) == "CERTIFICATE_PURPOSE"
    assert refusal(make("eve", "admin", ca=CA, is_ca=True)) == "CERTIFICATE_PURPOSE"
    assert verdict(make("eve", "admin", ca=CA, usage=(SERVER, CLIENT))).role is Role.ADMIN


def test_c1_who_has_signed_it() -> None:
    assert refusal(make("eve", "admin")) == "CERTIFICATE_UNKNOWN_CA"
    twin = make_ca()  # of the same name
    assert refusal(make("eve", "admin", ca=twin)) == "CERTIFICATE_UNKNOWN_CA"
    both = read_trust(CA.pem + twin.pem, None)
    assert verdict(make("eve", "admin", ca=twin), both) == verdict(make("eve", "admin", ca=CA), both)


def test_c1_when_it_is_valid_and_a_hint_at_the_clock() -> None:
    pair = make("eve", "admin", ca=CA, since=DAY / 4, until=DAY / 2)
    assert refusal(pair) == "CERTIFICATE_NOT_YET_VALID"
    assert verdict(pair, after=DAY / 3).name == "eve"
    assert refusal(pair, after=DAY / 2) == "CERTIFICATE_EXPIRED"
    with pytest.raises(NotAuthenticated, match=r"it expired at .* UTC, and here it is") as caught:
        verdict(pair, after=DAY / 2)
    assert caught.value.hint is not None
    assert "compare the clocks" in caught.value.hint
    assert (
        refusal(make("eve", "admin", ca=CA, until=DAY * 9), after=DAY * 2) == "CERTIFICATE_EXPIRED"
    )  # its CA


def test_r14_revoked_by_one_of_several_cas() -> None:
    other = make_ca("other CA")
    bad, good = make("eve", "admin", ca=CA), make("bob", "admin", ca=other)
    lists = revocation(CA, bad) + revocation(other)
    trust = read_trust(CA.pem + other.pem, lists)
    assert refusal(bad, trust) == "CERTIFICATE_REVOKED"
    assert verdict(good, trust).name == "bob"


def test_files_that_cannot_be_used() -> None:
    other = make_ca("other CA")
    for authorities, revoked in (
        (b"", None),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", None),
        (CA.pem, b"nothing"),
        (CA.pem, b""),
        (CA.pem, b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----"),
        (CA.pem, revocation(other)),
        (CA.pem, revocation(make_ca())),  # of the same name
    ):
        with pytest.raises(BadTrust):
            read_trust(authorities, revoked)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_c8_garbage_is_refused_in_words(garbage: bytes) -> None:
    with pytest.raises(NotAuthenticated):
        judge(garbage, TRUST, datetime.now(UTC))
    with pytest.raises(BadTrust):
        read_trust(garbage, garbage)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_c8_a_certificate_with_a_changed_byte(at: int, value: int) -> None:
    pem = bytearray(make_once().pem)
    at %= len(pem)
    if pem[at] == value:
        return
    pem[at] = value
    try:
        found = judge(bytes(pem), TRUST, datetime.now(UTC)).identity
    except NotAuthenticated:
        return
    assert found == Identity("eve", Role.VIEWER)  # a byte outside of what is signed


_ONCE: list[Pair] = []


def make_once() -> Pair:
    if not _ONCE:
        _ONCE.append(make("eve", "viewer", ca=CA))
    return _ONCE[0]
