"""Texts of indexes: the published form, and whatever else comes from the web."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.errors import InvalidRequest
from joblet_agent.runtimes.index.entries import IndexEntry, is_for
from joblet_agent.runtimes.index.reading import MOST_ENTRIES, read

SUM = "0123456789abcdef" * 4
PUBLISHED: dict[str, Any] = {
    "version": "1",
    "updated_at": "2025-11-30T12:00:00Z",
    "runtimes": {
        "python-3.11": {
            "1.3.1": {
                "version": "1.3.1",
                "download_url": "https://host.example/python-3.11-1.3.1.tar.gz",
                "checksum": f"sha256:{SUM.upper()}",
                "size": 4096,
                "platforms": ["ubuntu-amd64", "amzn-arm64"],
                "description": "Python 3.11, für alle",
                "released": {"by": "somebody"},
            },
            "1.3.0": {"download_url": "old/python.tar"},
        },
        "empty": {},
    },
}


def entry(**changes: Any) -> bytes:
    """An index with one entry."""
    return json.dumps({"runtimes": {"a": {"1.0.0": {"download_url": "a.tar", **changes}}}}).encode()


def problems(data: bytes) -> str:
    with pytest.raises(InvalidRequest) as raised:
        read(data, "https://host.example/registry.json")
    assert raised.value.reason == "RUNTIME_INDEX_INVALID"
    start = "cannot use the index https://host.example/registry.json: "
    assert str(raised.value).startswith(start)
    assert str(raised.value).isprintable()
    return str(raised.value).removeprefix(start)


def test_the_published_form_is_read() -> None:
    index = read(json.dumps(PUBLISHED).encode(), "x")
    assert (index.version, index.updated_at) == ("1", "2025-11-30T12:00:00Z")
    assert index.runtimes == {
        "python-3.11": (
            IndexEntry(
                name="python-3.11",
                version="1.3.1",
                download_url="https://host.example/python-3.11-1.3.1.tar.gz",
                checksum=SUM,
                size=4096,
                platforms=("ubuntu-amd64", "amzn-arm64"),
                description="Python 3.11, für alle",
            ),
            IndexEntry(name="python-3.11", version="1.3.0", download_url="old/python.tar"),
        ),
        "empty": (),
    }


MANIFEST: dict[str, Any] = {
    "version": "1.0.0",
    "generated": "2025-01-01T00:00:00Z",
    "repository": "somebody/runtimes",
    "base_url": "https://host.example/archives",
    "runtimes": [
        {
            "name": "python-3.11",
            "display_name": "Python 3.11",
            "version": "1.0.0",
            "archive_url": "python-3.11.tar",
            "archive_size": 4096,
            "checksum": f"sha256:{SUM}",
            "platforms": ["linux-amd64"],
            "description": "Python 3.11",
            "requirements": {"min_ram_mb": 512, "gpu_required": False},
        },
        {"name": "python-3.11", "version": "1.1.0", "archive_url": "http://other.example/a.tar"},
        {"name": "go-1.24", "version": "1.0.0", "archive_url": "go/go.tar"},
    ],
}


def test_the_older_published_form_is_read() -> None:
    index = read(json.dumps(MANIFEST).encode(), "x")
    assert (index.version, index.updated_at) == ("1.0.0", "2025-01-01T00:00:00Z")
    assert index.runtimes == {
        "python-3.11": (
            IndexEntry(
                name="python-3.11",
                version="1.0.0",
                download_url="https://host.example/archives/python-3.11.tar",
                checksum=SUM,
                size=4096,
                platforms=("linux-amd64",),
                description="Python 3.11",
            ),
            IndexEntry(name="python-3.11", version="1.1.0", download_url="http://other.example/a.tar"),
        ),
        "go-1.24": (
            IndexEntry(
                name="go-1.24",
                version="1.0.0",
                download_url="https://host.example/archives/go/go.tar",
            ),
        ),
    }
    beside = read(json.dumps({**MANIFEST, "base_url": None}).encode(), "x")
    assert beside.runtimes["go-1.24"][0].download_url == "go/go.tar"


def test_all_that_is_wrong_with_the_older_form_is_told_at_once() -> None:
    runtimes = [
        {"name": "../x", "version": "1.0.0"},
        {"name": "a", "version": 1},
        7,
        {"name": "a", "version": "1.0.0", "archive_url": "../a.tar", "archive_size": "big"},
        {"name": "a", "version": "1.0.0", "archive_url": "a.tar"},
    ]
    image = f"docker://host/name@sha256:{SUM}"
    text = problems(json.dumps({"generated": [], "base_url": image, "runtimes": runtimes}).encode())
    assert text.split("; ") == [
        "base_url: expected the address of a directory",
        "runtimes[0].name: expected a name, that is [a-z0-9][a-z0-9.-]*",
        "runtimes[1].version: expected a version X.Y.Z",
        "runtimes[2]: expected an object",
        "runtimes[3].archive_url: expected an address, or a path below the directory of the index",
        "runtimes[3].archive_size: expected a number of bytes",
        "runtimes[4]: a@1.0.0 is there already",
        "generated: expected a text of at most 64 printable characters",
    ]


def test_all_that_is_wrong_is_told_at_once() -> None:
    text = problems(
        json.dumps(
            {
                "version": ["1"],
                "runtimes": {
                    "../x": {},
                    "a": {
                        "1.0": {},
                        "2.0.0": {"version": "3.0.0", "download_url": "../a.tar", "checksum": "md5:0"},
                        "3.0.0": {"download_url": "a.tar", "size": -1, "platforms": ["x y"], "digest": "f"},
                        "4.0.0": [],
                    },
                    "b": "c",
                },
            }
        ).encode()
    )
    assert text.split("; ") == [
        "runtimes.../x: expected a name, that is [a-z0-9][a-z0-9.-]*",
        "runtimes.a.1.0: expected a version X.Y.Z",
        "runtimes.a.2.0.0.version: expected 2.0.0, as its key says",
        "runtimes.a.2.0.0.download_url: expected an address, or a path below the directory of the index",
        "runtimes.a.2.0.0.checksum: expected sha256:HEX, with 64 hexadecimal digits",
        "runtimes.a.3.0.0.size: expected a number of bytes",
        "runtimes.a.3.0.0.platforms[0]: expected a platform such as linux-amd64",
        "runtimes.a.3.0.0.digest: expected HEX, with 64 hexadecimal digits",
        "runtimes.a.4.0.0: expected an object",
        "runtimes.b: expected an object with its versions",
        "version: expected a text of at most 64 printable characters",
    ]


def test_many_problems_are_counted() -> None:
    versions = {f"{number}.0.0": None for number in range(50)}
    text = problems(json.dumps({"runtimes": {"a": versions}}).encode())
    assert text.split("; ")[20:] == ["and 30 more"]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "it is not JSON"),
        (b"<html>", "it is not JSON: Expecting value in line 1"),
        (b"\xff{}", "it is not UTF-8 at byte 0"),
        (b"[]", "expected an object with the key 'runtimes'"),
        (b"{}", "runtimes: expected an object"),
        (b'{"runtimes": "a"}', "runtimes: expected an object"),
        (b'{"runtimes": [], "base_url": []}', "base_url: expected an address"),
        (b'{"runtimes": [%s7]}' % (b"7," * 10_000), "it has more than 10000 entries"),
        (b'{"runtimes": {}, "runtimes": {}}', "it has the key 'runtimes' twice in one object"),
        (b'{"runtimes": {"a": {"1.0.0": {}, "1.0.0": {}}}}', "it has the key '1.0.0' twice"),
        (b'{"runtimes": {}, "x": NaN}', "it has NaN, which is not JSON"),
        (b'{"runtimes": {}, "x": 1e999}', "expected whole numbers"),
        (b'{"runtimes": {}, "x": %s}' % (b"9" * 10_000), "a number of more than 20 digits"),
        (b"[" * 1_000_000, "nested more than 16 deep in line 1"),
        (b'{"a":' * 100_000, "nested more than 16 deep"),
        (b'{"a": "' + b"[" * 100 + b'"}', "runtimes: expected an object"),
        (b'{"a": "' + b'\\"' * 1_000_000, "it is not JSON"),
        (b" " * (4 << 20) + b"{}", "it has more than 4 MiB"),
        (b'{"runtimes": {"a\\u0000b\\n": {}}}', "expected a name"),
        (b'{"runtimes": {"%s": {}}}' % (b"a" * 65), "expected a name"),
    ],
)
def test_hostile_texts_are_refused(data: bytes, problem: str) -> None:
    assert problem in problems(data)


@pytest.mark.parametrize(
    "changes",
    [
        {"download_url": None},
        {"download_url": ""},
        {"download_url": 7},
        {"download_url": "/etc/shadow"},
        {"download_url": "a/../../b.tar"},
        {"download_url": "a/%2e%2E/b.tar"},
        {"download_url": "a//b.tar"},
        {"download_url": "ftp://host/a.tar"},
        {"download_url": "http://me:word@host/a.tar"},
        {"download_url": "http://host/a\nb.tar"},
        {"download_url": "file://host/a.tar"},
        {"download_url": "docker://host/name:latest"},
        {"download_url": "javascript:alert(1)"},
        {"checksum": 5},
        {"checksum": "sha512:" + SUM},
        {"checksum": SUM + "0"},
        {"size": "4096"},
        {"size": True},
        {"size": 2**63},
        {"platforms": "linux-amd64"},
        {"platforms": ["linux-amd64"] * 33},
        {"platforms": [None]},
        {"description": "a\u001b[2Jb"},
        {"description": "a\u202eb"},
        {"description": "x" * 1001},
        {"digest": SUM[:-1]},
    ],
)
def test_values_that_could_do_harm_are_refused(changes: dict[str, Any]) -> None:
    assert problems(entry(**changes)).startswith("runtimes.a.1.0.0.")


def test_there_is_a_most_of_entries() -> None:
    versions = {f"{number}.0.0": {"download_url": "a.tar"} for number in range(MOST_ENTRIES + 1)}
    assert problems(json.dumps({"runtimes": {"a": versions}}).encode()) == "it has more than 10000 entries"


@pytest.mark.parametrize(
    ("platforms", "is_ours"),
    [
        ([], True),
        (["linux-amd64"], True),
        (["ubuntu-arm64", "amzn-amd64"], True),
        (["linux/x86_64"], True),
        (["any"], True),
        (["amd64"], True),
        (["linux-arm64"], False),
        (["amd64-linux"], False),
    ],
)
def test_the_architecture_alone_decides_whether_it_is_for_this_host(
    platforms: list[str], is_ours: bool
) -> None:
    index = read(entry(platforms=platforms), "x")
    assert is_for(index.runtimes["a"][0], "amd64") is is_ours


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "runtimes",
                    "version",
                    "1.0.0",
                    "a",
                    "name",
                    "download_url",
                    "archive_url",
                    "checksum",
                    "size",
                ]
            )
            | st.text(max_size=5),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(st.binary(max_size=200) | JSON.map(lambda tree: json.dumps({"runtimes": tree}).encode()))
def test_no_text_is_more_than_refused(data: bytes) -> None:
    try:
        index = read(data, "x")
    except InvalidRequest as error:
        assert str(error).isprintable()  # noqa: PT017 - some are none
    else:
        assert all(entry.download_url for entries in index.runtimes.values() for entry in entries)
