"""Addresses that people and indexes name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.model.web import file_address, shown_address, web_address


@pytest.mark.parametrize(
    "text",
    [
        "https://host.example",
        "http://127.0.0.1:8080/a/b%20c?d=e",
        "https://[fd00::7]:1/",
        "HTTPS://Host.Example/x",
    ],
)
def test_an_address_of_the_web_is_one(text: str) -> None:
    assert web_address(text).hostname


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "begins with https://"),
        ("host.example/x", "begins with https://"),
        ("ftp://host/x", "begins with https://"),
        ("file:///etc/x", "begins with https://"),
        ("http:///x", "name of a host"),
        ("http://*.host/x", "name of a host"),
        ("http://[fe80::1%25eth0]/x", "name of a host"),
        ("http://me:word@host/x", "without user and password"),
        ("http://@host/x", "without user and password"),
        ("http://host:0/x", "port"),
        ("http://host:70000/x", "expected an address such as"),
        ("http://host:x/x", "expected an address such as"),
        ("http://[::1/x", "expected an address such as"),
        ("http://host/a b", "without blanks"),
        ("http://host/a\r\nHost: b", "without blanks"),
        ("http://host/ä", "without blanks"),
        ("http://host\\@other/", "without blanks"),
        ("http://host/#a", "without '#'"),
        ("http://host/" + "a" * 2048, "at most 2048"),
    ],
)
def test_what_is_no_address_of_the_web_is_told(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem.replace("?", "\\?")) as raised:
        web_address(text)
    assert "word" not in str(raised.value) or "password" in str(raised.value)


def test_an_address_of_a_file_is_its_path() -> None:
    assert file_address("file:///srv/a%20b/c.json") == "/srv/a b/c.json"
    assert file_address("file:/srv/x") == "/srv/x"
    assert file_address("file://localhost/srv/x") == "/srv/x"


@pytest.mark.parametrize(
    "text",
    [
        "file:",
        "file://host/x",
        "file:x",
        "file:////x/y",
        "file:///a/../b",
        "file:///a/%2e%2e/b",
        "file:///a%00b",
        "file:///a%0ab",
        "file:///a?b",
        "file:///a#b",
        "/srv/x",
        "http://host/x",
    ],
)
def test_what_is_no_address_of_a_file_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        file_address(text)


def test_an_address_is_shown_without_what_may_be_a_secret() -> None:
    assert shown_address("https://me:word@host:8/x/y?token=z#f") == "https://host:8/x/y"
    assert shown_address("http://[::1") == "(no address)"


@given(st.text())
def test_no_text_is_more_than_refused(text: str) -> None:
    assert shown_address(text).isprintable()
    for read in (web_address, file_address):
        try:
            read(text)
        except ValueError as error:
            assert str(error).startswith("expected ")  # noqa: PT017 - most are refused
