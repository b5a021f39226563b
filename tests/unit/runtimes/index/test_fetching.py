"""Files from web servers that do what they want, and from this host."""

import asyncio
import hashlib
import os
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from joblet_agent.config.values import RuntimesConfig
from joblet_agent.errors import HostUnavailable, JobletError, LimitReached, NotFound
from joblet_agent.runtimes.index.connecting import Proxy
from joblet_agent.runtimes.index.fetching import Fetched, Fetcher, FetchLimits
from tests.certificates import make_ca, make_server
from tests.unit.runtimes.index.serving import Answer, moved, ok, serving

BODY = b"0123456789" * 100_000
SUM = hashlib.sha256(BODY).hexdigest()


def run(case: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(30):
            await case()

    asyncio.run(main())


def fetched(answers: dict[str, Answer], most: int = 1 << 20, path: str = "/x", **limits: float) -> bytes:
    """What a fetch of the path returns."""
    found = b""

    async def case() -> None:
        nonlocal found
        async with serving(answers) as web:
            found = await Fetcher(RuntimesConfig(), FetchLimits(**limits)).small(web.address + path, most)

    run(case)
    return found


def refused(
    answers: dict[str, Answer],
    kind: type[JobletError] = HostUnavailable,
    most: int = 1 << 20,
    **limits: float,
) -> str:
    with pytest.raises(kind) as raised:
        fetched(answers, most, "/x", **limits)
    assert str(raised.value).isprintable()
    return str(raised.value)


def test_what_a_server_has_is_fetched() -> None:
    assert fetched({"/x?a=b": ok(b"hello")}, path="/x?a=b") == b"hello"
    assert fetched({"/x": b"HTTP/1.0 200 OK\r\n\r\nto the end"}) == b"to the end"
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert fetched({"/x": chunked}) == b"abcde"


def test_a_redirection_is_followed() -> None:
    assert fetched({"/x": moved("/y/z"), "/y/z": moved("z2", 308), "/y/z2": ok(b"there")}) == b"there"


@pytest.mark.parametrize(
    ("location", "problem"),
    [
        ("/x", "it is redirected more than 5 times"),
        ("file:///etc/passwd", "begins with https://"),
        ("ftp://127.0.0.1/x", "begins with https://"),
        ("http://me:secret@127.0.0.1/", "without user and password"),
        ("", "it is redirected more than 5 times"),
        ("http://[", "it is redirected to where nothing"),
    ],
)
def test_a_redirection_that_leads_nowhere_ends(location: str, problem: str) -> None:
    text = refused({"/x": moved(location)})
    assert "secret" not in text
    assert problem in text or "Invalid IPv6" in text


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"HTTP/1.1 500 Oops\r\n\r\n", "the server answers 500 Oops"),
        (b"HTTP/1.1 403 \x1b[2J\r\n\r\n", "the server answers 403"),
        (b"HTTP/1.1 204 Nothing\r\n\r\n", "the server answers 204 Nothing"),
        (b"", "the server closed the connection"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no web server"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n", "no web server"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100_000 + b"\r\n\r\n", "no web server"),
        (ok(BODY[:1000])[:-1], "the connection ended after 999 of 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "ended in the middle"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "ended in the middle"),
    ],
)
def test_a_server_that_fails_is_told_of(answer: bytes, problem: str) -> None:
    assert problem in refused({"/x": answer})


def test_what_the_server_does_not_have_is_not_found() -> None:
    assert "the server does not have it (status 404)" in refused({}, NotFound)


def test_nothing_larger_is_read() -> None:
    endless = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5000
    for answer in (ok(b"x" * 1001), b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999\r\n\r\n", endless):
        assert "it has more than 1000 bytes" in refused({"/x": answer}, LimitReached, most=1000)
    assert fetched({"/x": ok(b"x" * 1000)}, most=1000) == b"x" * 1000


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    gone = asyncio.ensure_future(reader.read())
    while not gone.done():
        writer.write(b"x")
        await asyncio.wait([gone], timeout=0.01)
    await asyncio.gather(gone, return_exceptions=True)


async def _silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


def test_a_server_that_is_silent_or_slow_is_left() -> None:
    assert "the server does not answer" in refused({"/x": _silent}, idle=0.1)
    assert "it takes more than 0.2 seconds" in refused({"/x": _drip}, small=0.2)


def test_where_nobody_answers_is_told() -> None:
    async def case() -> None:
        async with serving() as web:
            address = web.address
        with pytest.raises(HostUnavailable, match="Connection refused") as raised:
            await Fetcher(RuntimesConfig()).small(f"{address}/x?token=secret", 100)
        assert raised.value.reason == "RUNTIME_DOWNLOAD_FAILED"
        assert "secret" not in str(raised.value)

    run(case)


def test_an_archive_is_written_hashed_and_told_of(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    async def case() -> None:
        async with serving({"/x": ok(BODY)}) as web:
            found = await Fetcher(RuntimesConfig()).archive(
                f"{web.address}/x", tmp_path / "a", 1 << 20, lambda *progress: told.append(progress)
            )
        assert found == Fetched(SUM, len(BODY))

    run(case)
    assert (tmp_path / "a").read_bytes() == BODY
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    assert told[-1] == (len(BODY), len(BODY))
    assert told == sorted(told)


@pytest.mark.parametrize("part", ["nothing", "head", "body"])
def test_a_fetch_that_is_cancelled_leaves_its_server(tmp_path: Path, part: str) -> None:
    said = {"nothing": b"", "head": b"HTTP/1.1 200 OK\r\n", "body": ok(BODY)[:1000]}[part]

    async def case() -> None:
        begun = asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(said)
            await writer.drain()
            begun.set()
            await web.hang(reader)

        async with serving({"/x": answer}) as web:
            fetcher, address = Fetcher(RuntimesConfig()), f"{web.address}/x"
            task = asyncio.create_task(fetcher.archive(address, tmp_path / "a", 1 << 20, lambda *_: None))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await web.gone.wait()

    run(case)


def test_a_proxy_is_asked_for_all_but_the_exceptions() -> None:
    proxy = Proxy("http://proxy.example:3128", ("corp.example", "*.lab.example", "10.0.0.7"))
    for host in ("host.example", "notcorp.example", "10.0.0.8"):
        found = proxy.for_host(host)
        assert found is not None
        assert (found.hostname, found.port) == ("proxy.example", 3128)
    for host in (
        *("corp.example", "a.b.Corp.Example.", "x.lab.example", "10.0.0.7"),
        *("localhost", "127.0.0.1", "127.1.2.3", "::1"),
    ):
        assert proxy.for_host(host) is None
    assert Proxy().for_host("host.example") is None


def test_a_proxy_is_given_whole_addresses_and_a_tunnel_for_https() -> None:
    async def case() -> None:
        whole = "http://host.example/x?a=b"
        async with serving({whole: ok(b"by proxy")}) as web:
            fetcher = Fetcher(RuntimesConfig(proxy=web.address))
            assert await fetcher.small(whole, 100) == b"by proxy"
            with pytest.raises(HostUnavailable, match="the proxy answers 404"):
                await fetcher.small("https://host.example/y", 100)
            assert [line.rpartition(" ")[0] for line in web.asked] == [
                f"GET {whole}",
                "CONNECT host.example:443",
            ]

    run(case)


def test_a_server_must_have_a_certificate_that_counts(tmp_path: Path) -> None:
    ca, other = make_ca(), make_ca("other")
    own = make_server(ca)
    for name, content in (("own", own.pem + own.key), ("ca", ca.pem), ("other", other.pem), ("bad", b"x")):
        (tmp_path / name).write_bytes(content)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "own")

    async def case() -> None:
        answers: dict[str, Answer] = {"/x": ok(b"secret"), "/down": moved("http://127.0.0.1/x")}
        async with serving(answers, context) as web:
            await look(web.address)

    async def look(address: str) -> None:
        trusting = Fetcher(RuntimesConfig(ca_file=tmp_path / "ca"))
        assert await trusting.small(f"{address}/x", 100) == b"secret"
        with pytest.raises(HostUnavailable, match="it is redirected from https to http"):
            await trusting.small(f"{address}/down", 100)
        for fetch in (
            Fetcher(RuntimesConfig()).small(f"{address}/x", 100),
            Fetcher(RuntimesConfig(ca_file=tmp_path / "other")).small(f"{address}/x", 100),
            trusting.small(
                f"{address.replace('localhost', '127.0.0.1')}/x", 100
            ),  # it is not in the certificate
        ):
            with pytest.raises(HostUnavailable, match="its certificate is not trusted"):
                await fetch
        for name in ("bad", "none"):
            with pytest.raises(HostUnavailable, match=r"cannot read .*runtimes\.ca_file"):
                await Fetcher(RuntimesConfig(ca_file=tmp_path / name)).small(f"{address}/x", 100)

    run(case)


def test_files_of_this_host_are_read(tmp_path: Path) -> None:
    async def case() -> None:
        fetcher = Fetcher(RuntimesConfig())
        (tmp_path / "a b").write_bytes(BODY)
        address = f"file://{tmp_path}/a%20b"
        assert await fetcher.small(address, 1 << 20) == BODY
        found = await fetcher.archive(address, tmp_path / "copy", 1 << 20, lambda *_: None)
        assert found == Fetched(SUM, len(BODY))
        with pytest.raises(LimitReached, match="more than 10 bytes"):
            await fetcher.small(address, 10)
        with pytest.raises(NotFound, match="No such file"):
            await fetcher.small(f"file://{tmp_path}/none", 10)
        os.mkfifo(tmp_path / "fifo")
        for path in (tmp_path, tmp_path / "fifo", "/dev/zero"):
            with pytest.raises(HostUnavailable, match="it is no file"):
                await fetcher.small(f"file://{path}", 10)
        with pytest.raises(NotFound) as raised:
            await fetcher.small("file:///home/nobody/registry.json", 10)
        assert "put it elsewhere, such as into /srv" in (raised.value.hint or "")

    run(case)


def test_a_disk_without_room_is_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs

    def full(path: int | str | Path) -> os.statvfs_result:
        found = list(real(path))
        found[3:5] = [0, 0]
        return os.statvfs_result(found)

    async def case() -> None:
        async with serving({"/x": ok(BODY)}) as web:
            fetch = Fetcher(RuntimesConfig()).archive(
                f"{web.address}/x", tmp_path / "a", 1 << 20, lambda *_: None
            )
            with pytest.raises(LimitReached, match="no room is left") as raised:
                await fetch
        assert raised.value.reason == "RUNTIME_DISK_FULL"

    monkeypatch.setattr(os, "statvfs", full)
    run(case)
    assert (tmp_path / "a").stat().st_size == 0
