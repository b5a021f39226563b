"""Which names jobs are found by."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.model.ids import JobId
from joblet_agent.networks.names import host_name, host_names

FIRST = JobId("7f3a0000-0000-4000-8000-000000000000")
SECOND = JobId("81b20000-0000-4000-8000-000000000000")
A, B = (IPv4Address("10.10.0.2"), IPv6Address("fd00::2")), (IPv4Address("10.10.0.3"), IPv6Address("fd00::3"))


@pytest.mark.parametrize(
    ("name", "found_by"),
    [
        ("web", "web"),
        ("Web-1", "web-1"),
        ("my_db", "my_db"),
        ("3com", "3com"),
        ("x" * 63, "x" * 63),
        ("x" * 64, None),
        ("", None),
        ("localhost", None),
        ("LocalHost", None),
        ("wpad", None),
        ("google.com", None),
        ("web.", None),
        ("a b", None),
        ("-web", None),
        ("web-", None),
        ("web\n", None),
        ("10", None),
        ("0x7f", None),
        ("é", None),
        ("\N{KELVIN SIGN}elvin", None),
    ],
)
def test_a_name_is_found_by_if_it_is_one_label_of_a_host_name(name: str, found_by: str | None) -> None:
    assert host_name(name) == found_by


@given(st.text())
def test_a5_no_text_becomes_more_than_a_label(text: str) -> None:
    name = host_name(text)
    assert name is None or (name.replace("-", "a").replace("_", "a").isalnum() and name.isascii())


def test_a5_nobody_gets_what_is_anothers_id() -> None:
    names = host_names([(FIRST, "", A), (SECOND, FIRST.upper(), B)])
    assert names[FIRST] == A
    assert host_names([(FIRST, "", A), (SECOND, FIRST[:8], B)])[FIRST[:8]] == A
