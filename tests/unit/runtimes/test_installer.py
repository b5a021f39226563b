"""Installations: what is chosen, fetched and taken in, and that nothing is left of what fails."""

import asyncio
import gzip
import hashlib
import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from joblet_agent.config.values import RuntimesConfig, Trust
from joblet_agent.errors import InvalidRequest, JobletError, LimitReached, NotFound, WrongState
from joblet_agent.model.runtime import Runtime, RuntimeFacts
from joblet_agent.runtimes.index.fetching import Fetcher
from joblet_agent.runtimes.index.service import RuntimeIndexes
from joblet_agent.runtimes.install_events import Installed, InstallEvent, InstallLog, InstallStep
from joblet_agent.runtimes.installer import LocalFile, RuntimeInstaller
from joblet_agent.runtimes.oci.image import debian_architecture, host_architecture
from joblet_agent.runtimes.store import RuntimeStore
from tests.fakes.clock import FakeClock
from tests.unit.runtimes.index.serving import Answer, ok, serving

RECORDED = Path(__file__).parent / "index" / "recorded"
ARCHIVE = b"an archive" * 1000
HERE = debian_architecture(host_architecture())


def entry(archive: bytes = ARCHIVE, **changes: Any) -> dict[str, Any]:
    given = {
        "download_url": "a.tar",
        "checksum": f"sha256:{hashlib.sha256(archive).hexdigest()}",
        "size": len(archive),
    }
    return {**given, **changes}


def index(**runtimes: dict[str, Any]) -> bytes:
    return json.dumps(
        {"runtimes": {name.replace("_", "-"): each for name, each in runtimes.items()}}
    ).encode()


def tar(*names: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as made:
        for name in names:
            made.addfile(tarfile.TarInfo(name), io.BytesIO())
    return file.getvalue()


def contents(path: Path) -> bytes:
    return path.read_bytes()


@dataclass(frozen=True)
class LocalImage:
    archive: Path


class FakeStore:
    """What an installer asks of the store, and of the carrier."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runtimes: dict[tuple[str, str], Runtime] = {}
        self.imports: list[dict[str, Any]] = []
        self.refusal: JobletError | None = None
        self.importing = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def staging(self, tag: str) -> Path:
        return Path(tempfile.mkdtemp(prefix=f"{tag}.", dir=self.root))

    async def discard(self, path: Path) -> None:
        shutil.rmtree(path)

    def get(self, name: str, version: str) -> Runtime | None:
        return self.runtimes.get((name, version))

    def damage(self, digest: str) -> tuple[()]:
        return ()

    async def import_archive(self, archive: Path, **wanted: Any) -> Runtime:
        self.importing.set()
        await self.go_on.wait()
        wanted.pop("note")("left out: devices (3)")
        self.imports.append({**wanted, "content": contents(archive)})
        if self.refusal is not None:
            raise self.refusal
        facts = RuntimeFacts(wanted["name"] or "own", wanted["version"] or "1.0.0", source=wanted["source"])
        runtime = Runtime(facts, "d" * 64, 1, 1, datetime(2027, 1, 1, tzinfo=UTC))
        self.runtimes[facts.name, facts.version] = runtime
        return runtime

    @asynccontextmanager
    async def fetched(self, reference: str, on_line: Callable[[str], None]) -> AsyncIterator[LocalImage]:
        on_line(f"fetching {reference}")
        yield LocalImage(RECORDED / "registry.json")


class Rig:
    """An installer with a server and a store."""

    def __init__(self, tmp_path: Path, address: str, config: RuntimesConfig) -> None:
        (tmp_path / "staging").mkdir()
        self.address = address
        self.store = FakeStore(tmp_path / "staging")
        config = replace(config, registry=config.registry or address)
        fetcher = Fetcher(config)
        self.installer = RuntimeInstaller(
            config,
            cast(RuntimeStore, self.store),
            self.store,
            RuntimeIndexes(config, fetcher, FakeClock(datetime(2027, 1, 31, tzinfo=UTC))),
            fetcher,
            self.store,
        )

    async def install(self, spec: str, **options: Any) -> list[InstallEvent]:
        return [event async for event in self.installer.install(spec, **options)]

    async def refusal(self, kind: type[JobletError], spec: str, **options: Any) -> JobletError:
        with pytest.raises(kind) as raised:
            await self.install(spec, **options)
        assert self.left == []
        return raised.value

    @property
    def left(self) -> list[Path]:
        return list(self.store.root.iterdir())


def with_rig(
    tmp_path: Path,
    answers: dict[str, Answer],
    case: Callable[[Rig], Awaitable[None]],
    config: RuntimesConfig | None = None,
) -> None:
    async def main() -> None:
        async with asyncio.timeout(30), rig(tmp_path, answers, config) as made:
            await case(made)

    asyncio.run(main())


@asynccontextmanager
async def rig(
    tmp_path: Path, answers: dict[str, Answer], config: RuntimesConfig | None
) -> AsyncIterator[Rig]:
    async with serving(answers) as web:
        made = Rig(tmp_path, web.address, config or RuntimesConfig())
        try:
            yield made
        finally:
            await made.installer.close()
            assert made.left == []


FINE: dict[str, Answer] = {
    "/registry.json": ok(
        index(
            py={
                "1.0.0": entry(),
                "1.10.0": entry(digest="e" * 64),
                "1.9.0": entry(),
                "2.0.0-rc.1": entry(),
            },
            openjdk_21={"1.0.0": entry(platforms=[f"linux-{HERE}"])},
            foreign={"1.0.0": entry(platforms=["linux-sparc"])},
            early={"1.0.0-rc.1": entry()},
        )
    ),
    "/a.tar": ok(ARCHIVE),
}


def test_the_highest_version_is_installed_step_by_step(tmp_path: Path) -> None:
    async def case(rig: Rig) -> None:
        *events, end = await rig.install("py")
        assert isinstance(end, Installed)
        assert (str(end.runtime.facts), end.was_there) == ("py@1.10.0", False)
        (told,) = rig.store.imports
        assert told.pop("source").endswith("/a.tar")
        assert told == {
            "name": "py",
            "version": "1.10.0",
            "replace": False,
            "expected": "e" * 64,
            "content": ARCHIVE,
        }
        steps = [event for event in events if isinstance(event, InstallStep)]
        assert [(step.number, step.total) for step in steps] == [(number, 5) for number in range(1, 6)]
        assert InstallLog("left out: devices (3)") in events

    with_rig(tmp_path, FINE, case)


def test_a_directory_with_the_older_form_is_a_registry(tmp_path: Path) -> None:
    listed = {**entry(), "name": "py", "version": "1.0.0"}
    listed["archive_url"] = listed.pop("download_url")
    answers: dict[str, Answer] = {
        "/runtime-manifest.json": ok(json.dumps({"runtimes": [listed]}).encode()),
        "/a.tar": ok(ARCHIVE),
    }

    async def case(rig: Rig) -> None:
        *_, end = await rig.install("py")
        assert isinstance(end, Installed)
        error = await rig.refusal(NotFound, "py@2.0.0", url=f"{rig.address}/elsewhere")
        assert "/elsewhere/registry.json" in str(error)

    with_rig(tmp_path, answers, case)


def test_what_is_there_already_is_left_alone(tmp_path: Path) -> None:
    async def case(rig: Rig) -> None:
        await rig.install("py@1.9.0")
        for spec in ("py@1.9.0",):
            (event,) = await rig.install(spec, url="http://127.0.0.1:1/nobody")
            assert isinstance(event, Installed)
            assert event.was_there
        await rig.install("py")
        *_, end = await rig.install("py@latest")
        assert isinstance(end, Installed)
        assert end.was_there
        assert len(rig.store.imports) == 2
        *_, end = await rig.install("py", force=True)
        assert isinstance(end, Installed)
        assert not end.was_there
        assert rig.store.imports[-1]["replace"]

    with_rig(tmp_path, FINE, case)


def test_an_image_that_an_index_pins_needs_no_other_checksum(tmp_path: Path) -> None:
    image = f"docker://host.example/py@sha256:{'a' * 64}"
    answers: dict[str, Answer] = {
        "/registry.json": ok(index(py={"1.0.0": {"download_url": image, "digest": "b" * 64}}))
    }

    async def case(rig: Rig) -> None:
        *events, end = await rig.install("py")
        assert isinstance(end, Installed)
        assert InstallLog(f"fetching {image}") in events
        (told,) = rig.store.imports
        assert (told["source"], told["expected"]) == (image, "b" * 64)

    with_rig(tmp_path, answers, case)


def test_other_spellings_mean_the_same_as_everywhere(tmp_path: Path) -> None:
    async def case(rig: Rig) -> None:
        *_, end = await rig.install("java:21")
        assert isinstance(end, Installed)
        assert str(end.runtime.facts) == "openjdk-21@1.0.0"

    with_rig(tmp_path, FINE, case)


@pytest.mark.parametrize(
    ("spec", "kind", "reason", "text"),
    [
        ("pi", NotFound, "RUNTIME_NOT_OFFERED", "does not offer it; did you mean py?"),
        ("py@3.0.0", NotFound, "RUNTIME_NOT_OFFERED", "has no 3.0.0 of it, but 1.10.0, 1.9.0, 1.0.0"),
        ("early", NotFound, "RUNTIME_NOT_OFFERED", "has no release of it, but 1.0.0-rc.1"),
        ("foreign", WrongState, "RUNTIME_PLATFORM", "it is for linux-sparc, not for"),
        ("../x", InvalidRequest, "RUNTIME_SPEC_INVALID", "cannot use runtime"),
        ("", InvalidRequest, "RUNTIME_SPEC_INVALID", "it has no name"),
    ],
)
def test_what_is_not_offered_is_refused(
    tmp_path: Path, spec: str, kind: type[JobletError], reason: str, text: str
) -> None:
    async def case(rig: Rig) -> None:
        error = await rig.refusal(kind, spec)
        assert error.reason == reason
        assert text in str(error)
        assert rig.store.imports == []

    with_rig(tmp_path, FINE, case)


OTHER = entry(checksum=f"sha256:{'0' * 64}")
BROKEN: dict[str, tuple[dict[str, Any], Answer | None, str]] = {
    "wrong checksum": (OTHER, ok(ARCHIVE), "RUNTIME_CHECKSUM_MISMATCH"),
    "wrong size": (entry(size=len(ARCHIVE) + 1), ok(ARCHIVE), "RUNTIME_CHECKSUM_MISMATCH"),
    "too large": (entry(size=5), ok(ARCHIVE), "RUNTIME_TOO_LARGE"),
    "truncated": (entry(), ok(ARCHIVE)[:-1], "RUNTIME_DOWNLOAD_FAILED"),
    "gone": (entry(), None, "RUNTIME_DOWNLOAD_FAILED"),
    "nothing vouches": (entry(checksum=""), ok(ARCHIVE), "RUNTIME_CHECKSUM_MISSING"),
    "file of this host": (entry(download_url="file:///etc/passwd"), None, "RUNTIME_INDEX_INVALID"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_archive_that_is_not_the_one_of_the_index_leaves_nothing(tmp_path: Path, name: str) -> None:
    told, answer, reason = BROKEN[name]
    answers: dict[str, Answer] = {"/registry.json": ok(index(py={"1.0.0": told}))}
    if answer is not None:
        answers["/a.tar"] = answer

    async def case(rig: Rig) -> None:
        error = await rig.refusal(JobletError, "py")
        assert error.reason == reason
        assert rig.store.imports == []

    with_rig(tmp_path, answers, case)


def test_without_a_checksum_only_files_of_this_host_and_only_if_configured(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(ARCHIVE)
    (tmp_path / "registry.json").write_bytes(index(py={"1.0.0": entry(checksum="")}))
    here = f"file://{tmp_path}"

    async def permitted(rig: Rig) -> None:
        await rig.install("py", url=here)
        error = await rig.refusal(WrongState, "py", force=True)
        assert error.reason == "RUNTIME_CHECKSUM_MISSING"

    async def not_permitted(rig: Rig) -> None:
        assert (await rig.refusal(WrongState, "py", url=here)).reason == "RUNTIME_CHECKSUM_MISSING"

    answers: dict[str, Answer] = {"/registry.json": ok(index(py={"1.0.0": entry(checksum="")}))}
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with_rig(tmp_path / "one", answers, permitted, RuntimesConfig(require=Trust.NONE))
    with_rig(tmp_path / "two", answers, not_permitted)


@pytest.mark.parametrize(
    ("signature", "key", "reason"),
    [
        ("good", "one", ""),
        ("other", "one", "RUNTIME_SIGNATURE_INVALID"),
        ("file", "one", "RUNTIME_SIGNATURE_INVALID"),
        ("good", "two", "RUNTIME_SIGNATURE_INVALID"),
        ("good", "", "RUNTIME_KEYS_UNUSABLE"),
        ("", "one", "RUNTIME_SIGNATURE_MISSING"),
    ],
)
def test_where_a_signature_is_asked_for_nothing_counts_without(
    tmp_path: Path, signature: str, key: str, reason: str
) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    if key:
        (keys / "a").write_bytes((RECORDED / f"{key}.pub").read_bytes())
    answers: dict[str, Answer] = {"/registry.json": ok((RECORDED / "registry.json").read_bytes())}
    if signature:
        answers["/registry.json.sig"] = ok((RECORDED / f"{signature}.sig").read_bytes())

    async def case(rig: Rig) -> None:
        if reason:
            with pytest.raises(WrongState) as raised:
                await rig.installer.offered()
            assert raised.value.reason == reason
        else:
            assert (await rig.installer.offered()).signer == "one@example"

    with_rig(tmp_path, answers, case, RuntimesConfig(require=Trust.SIGNATURE, keys=keys))


def test_what_an_index_offers_is_told_by_name(tmp_path: Path) -> None:
    async def case(rig: Rig) -> None:
        offered = (await rig.installer.offered()).offered()
        assert [each.name for each in offered] == ["early", "foreign", "openjdk-21", "py"]
        assert offered[-1].versions == ("1.10.0", "1.9.0", "1.0.0", "2.0.0-rc.1")

    with_rig(tmp_path, FINE, case)


@pytest.mark.parametrize(
    "archive", [tar("manifest.yaml", "setup.sh"), gzip.compress(tar("./x/setup-ubuntu-amd64.sh"))]
)
def test_setup_scripts_are_refused_with_what_to_do_instead(tmp_path: Path, archive: bytes) -> None:
    async def case(rig: Rig) -> None:
        rig.store.refusal = InvalidRequest("cannot read archive", reason="RUNTIME_ARCHIVE_BROKEN")
        error = await rig.refusal(InvalidRequest, "py")
        assert error.reason == "RUNTIME_SETUP_SCRIPTS"
        assert "rnx runtime build -f FILE" in (error.hint or "")

    told = index(py={"1.0.0": entry(archive)})
    with_rig(tmp_path, {"/registry.json": ok(told), "/a.tar": ok(archive)}, case)


def test_what_the_import_refuses_is_told_as_it_is(tmp_path: Path) -> None:
    async def case(rig: Rig) -> None:
        rig.store.refusal = InvalidRequest("cannot read archive", reason="RUNTIME_ARCHIVE_BROKEN")
        assert await rig.refusal(InvalidRequest, "py") is rig.store.refusal

    with_rig(tmp_path, FINE, case)


def test_whoever_goes_away_ends_it(tmp_path: Path) -> None:
    async def case(rig: Rig) -> None:
        rig.store.go_on.clear()
        events = rig.installer.install("py")
        first = await anext(events)
        assert isinstance(first, InstallStep)
        await rig.store.importing.wait()
        assert len(rig.left) == 1
        await cast(Any, events).aclose()
        assert rig.left == []
        assert rig.store.runtimes == {}

    with_rig(tmp_path, FINE, case)


def test_a_server_that_is_silent_in_the_middle_can_be_left(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(ARCHIVE)[:-100])
        await writer.drain()
        begun.set()
        await reader.read()

    async def case(rig: Rig) -> None:
        task = asyncio.create_task(rig.install("py"))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert rig.left == []

    with_rig(tmp_path, {**FINE, "/a.tar": half}, case)


def test_two_who_want_the_same_get_it_once(tmp_path: Path) -> None:
    async def case(rig: Rig) -> None:
        rig.store.go_on.clear()
        both = asyncio.gather(rig.install("py"), rig.install("py@1.10.0"))
        await rig.store.importing.wait()
        rig.store.go_on.set()
        ends = [events[-1] for events in await both]
        assert sorted(cast(Installed, end).was_there for end in ends) == [False, True]
        assert len(rig.store.imports) == 1

    with_rig(tmp_path, FINE, case)


def test_there_is_a_most_of_installations(tmp_path: Path) -> None:
    async def case(rig: Rig) -> None:
        rig.store.go_on.clear()
        tasks = [
            asyncio.create_task(rig.install(f"py@{version}")) for version in ("1.0.0", "1.9.0", "1.10.0")
        ]
        tasks.append(asyncio.create_task(rig.install("openjdk-21")))
        await rig.store.importing.wait()
        with pytest.raises(LimitReached) as raised:
            await rig.install("py")
        assert raised.value.reason == "RUNTIME_INSTALLS_LIMIT"
        rig.store.go_on.set()
        await asyncio.gather(*tasks)
        await rig.install("py", force=True)

    with_rig(tmp_path, FINE, case)


def test_an_agent_that_ends_says_so(tmp_path: Path) -> None:
    async def case(rig: Rig) -> None:
        rig.store.go_on.clear()
        task = asyncio.create_task(rig.install("py"))
        await rig.store.importing.wait()
        await rig.installer.close()
        with pytest.raises(JobletError) as raised:
            await task
        assert raised.value.reason == "AGENT_ENDS"

    with_rig(tmp_path, FINE, case)


def test_an_archive_that_a_caller_sends_is_taken_in(tmp_path: Path) -> None:
    archive = tar("oci-layout", "index.json")

    async def case(rig: Rig) -> None:
        files = [LocalFile("README.md", b"hello"), LocalFile("py.oci.tar", archive)]
        *_, end = [event async for event in rig.installer.install_files("py@1.0.0", files)]
        assert isinstance(end, Installed)
        assert str(end.runtime.facts) == "py@1.0.0"
        (event,) = [event async for event in rig.installer.install_files("py@1.0.0", files)]
        assert isinstance(event, Installed)
        assert event.was_there
        await anext(
            rig.installer.install_files("", [LocalFile("a.tar.gz", gzip.compress(archive))], force=True)
        )

    with_rig(tmp_path, {}, case)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([("manifest.yaml", b"name: x"), ("setup.sh", b"#!/bin/sh")], "RUNTIME_SETUP_SCRIPTS"),
        ([("setup-ubuntu-amd64.sh", b"#!/bin/sh")], "RUNTIME_SETUP_SCRIPTS"),
        ([("runtime.yaml", b"name: x")], "RUNTIME_NEEDS_BUILD"),
        ([], "RUNTIME_ARCHIVE_MISSING"),
        ([("a.tar", b"none")], "RUNTIME_ARCHIVE_MISSING"),
        ([("a.tar", tar("x")), ("b.tar", tar("x"))], "RUNTIME_ARCHIVE_MISSING"),
    ],
)
def test_files_that_are_no_archive_are_refused(
    tmp_path: Path, files: list[tuple[str, bytes]], reason: str
) -> None:
    async def case(rig: Rig) -> None:
        with pytest.raises(InvalidRequest) as raised:
            await anext(rig.installer.install_files("py", [LocalFile(*file) for file in files]))
        assert raised.value.reason == reason
        assert raised.value.hint

    with_rig(tmp_path, {}, case)
