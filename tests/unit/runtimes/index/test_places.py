"""Where an index is that somebody names, and where the archives are that it names."""

import pytest

from joblet_agent.errors import InvalidRequest
from joblet_agent.runtimes.index.places import archive_address, index_addresses


@pytest.mark.parametrize(
    ("wanted", "registry", "address"),
    [
        ("", "https://host.example/a", "https://host.example/a/registry.json"),
        ("", "file:///srv/runtimes/", "file:///srv/runtimes/registry.json"),
        ("", "file:///srv/runtimes/other.json", "file:///srv/runtimes/other.json"),
        ("http://host.example", "", "http://host.example/registry.json"),
        ("http://host.example/x.json", "https://other.example/", "http://host.example/x.json"),
        ("https://host.example/x?token=y", "", "https://host.example/x/registry.json?token=y"),
        (
            "some-body/runtimes",
            "https://host.example/a",
            "https://host.example/a/some-body/runtimes/registry.json",
        ),
        ("me/x.y", "https://host.example/a/registry.json", "https://host.example/a/me/x.y/registry.json"),
        ("me/x", "file:///srv", "file:///srv/me/x/registry.json"),
    ],
)
def test_an_index_is_found(wanted: str, registry: str, address: str) -> None:
    assert index_addresses(wanted, registry)[0] == address


def test_a_directory_may_have_the_older_form_alone() -> None:
    first, second = index_addresses("me/x", "https://host.example/a")
    assert first == "https://host.example/a/me/x/registry.json"
    assert second == "https://host.example/a/me/x/runtime-manifest.json"
    assert index_addresses("https://host.example/x.json", "") == ("https://host.example/x.json",)


@pytest.mark.parametrize("wanted", ["", "owner/repo"])
def test_a_place_that_nobody_has_told_of_is_asked_for(wanted: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^cannot find") as raised:
        index_addresses(wanted, "")
    assert raised.value.reason == "RUNTIME_REGISTRY_UNKNOWN"
    assert "runtimes.registry" in (raised.value.hint or "")


@pytest.mark.parametrize(
    "wanted",
    [
        "host.example",
        "/srv/runtimes",
        "../x",
        "a/b/c",
        "-a/b",
        "a/..",
        "ftp://host/x",
        "https://me:secret@host/x",
        "file://host/x",
        "file:///a/../b",
        "https://host/\n",
        "x" * 5000,
    ],
)
def test_what_is_no_place_is_refused(wanted: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^cannot use the registry") as raised:
        index_addresses(wanted, "https://host.example")
    assert raised.value.reason == "RUNTIME_REGISTRY_INVALID"
    assert "secret" not in str(raised.value)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    ("index", "url", "address"),
    [
        ("https://h/a/registry.json", "x/y.tar", "https://h/a/x/y.tar"),
        ("https://h/a/registry.json?token=z", "x.tar", "https://h/a/x.tar"),
        ("https://h/a/registry.json", "http://other/x.tar", "http://other/x.tar"),
        ("file:///srv/a%20b/registry.json", "x.tar", "file:///srv/a%20b/x.tar"),
        ("file:///srv/registry.json", "file:///mnt/x.tar", "file:///mnt/x.tar"),
        ("file:///srv/registry.json", "https://h/x.tar", "https://h/x.tar"),
    ],
)
def test_archives_are_beside_the_index_or_where_it_says(index: str, url: str, address: str) -> None:
    assert archive_address(index, url) == address


def test_an_index_of_the_web_names_no_file_of_this_host() -> None:
    with pytest.raises(InvalidRequest, match="it names a file of this host") as raised:
        archive_address("https://h/registry.json", "file:///etc/shadow")
    assert raised.value.reason == "RUNTIME_INDEX_INVALID"
