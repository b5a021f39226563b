"""Archives in runtimes.d: each is taken in once, and none keeps another from it."""

import asyncio
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from joblet_agent.errors import HostUnavailable, InvalidRequest, JobletError
from joblet_agent.model.runtime import Runtime, RuntimeFacts
from joblet_agent.runtimes import dropins
from joblet_agent.runtimes.dropins import RuntimeDropIns


class RecordingImporter:
    """What it was given, and what it refuses."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.refusals: dict[str, JobletError] = {}

    async def import_archive(self, archive: Path, **wanted: Any) -> Runtime:
        assert wanted == {"source": str(archive)}
        self.taken.append(archive.name)
        if error := self.refusals.get(archive.name):
            raise error
        facts = RuntimeFacts(archive.name.partition(".")[0], "1.0.0")
        return Runtime(facts, "d" * 64, 1, 1, datetime(2027, 1, 1, tzinfo=UTC))


class Host:
    """A host that is started again and again."""

    def __init__(self, tmp_path: Path) -> None:
        self.directory = tmp_path / "runtimes.d"
        self.memory = tmp_path / "memory"
        self.importer = RecordingImporter()

    def put(self, name: str, content: bytes = b"x", time: int = 1) -> None:
        self.directory.mkdir(exist_ok=True)
        (self.directory / name).write_bytes(content)
        os.utime(self.directory / name, (time, time))

    def start(self) -> list[str]:
        """Start the agent once; return what it took in."""
        self.importer.taken = []
        asyncio.run(RuntimeDropIns(self.directory, self.memory, self.importer).take_in())
        return self.importer.taken


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_each_archive_is_taken_in_once(host: Host) -> None:
    assert host.start() == []
    for name in ("b.tar", "a.oci", "c.tar.gz", "README", ".d.tar", "e.tar.dpkg-new"):
        host.put(name)
    assert host.start() == ["a.oci", "b.tar", "c.tar.gz"]
    assert host.start() == []
    host.put("d.tar")
    assert host.start() == ["d.tar"]


def test_one_that_was_changed_is_taken_in_again(host: Host) -> None:
    host.put("a.tar")
    host.put("b.tar")
    host.start()
    host.put("a.tar", b"xx")
    assert host.start() == ["a.tar"]
    host.put("a.tar", b"yy", time=2)
    assert host.start() == ["a.tar"]
    os.chmod(host.directory / "a.tar", 0o600)
    assert host.start() == []


def test_one_that_was_away_counts_again(host: Host) -> None:
    host.put("a.tar")
    host.put("b.tar")
    host.start()
    (host.directory / "a.tar").unlink()
    host.put("c.tar")
    assert host.start() == ["c.tar"]
    host.put("a.tar")
    assert host.start() == ["a.tar"]


def test_a_bad_one_is_a_line_of_each_version_and_stops_no_other(
    host: Host, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.tar", "b.tar"):
        host.put(name)
    host.importer.refusals["a.tar"] = InvalidRequest("cannot read archive: it ends", reason="X")
    assert host.start() == ["a.tar", "b.tar"]
    assert caplog.messages == [f"cannot take in {host.directory}/a.tar: cannot read archive: it ends"]
    assert host.start() == []
    monkeypatch.setattr(dropins, "__version__", "99.0.0")
    assert host.start() == ["a.tar"]


def test_what_the_host_could_not_do_is_tried_again(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.tar", "b.tar"):
        host.put(name)
    host.importer.refusals["a.tar"] = HostUnavailable("cannot unpack: the disk is full", reason="X")
    assert host.start() == ["a.tar", "b.tar"]
    assert "trying again at the next start: cannot unpack: the disk is full" in caplog.messages[0]
    del host.importer.refusals["a.tar"]
    assert host.start() == ["a.tar"]


def test_a_crash_between_two_loses_nothing(host: Host) -> None:
    class Crash(BaseException):
        pass

    for name in ("a.tar", "b.tar", "c.tar"):
        host.put(name)
    host.importer.refusals["b.tar"] = Crash()  # type: ignore[assignment]
    with pytest.raises(Crash):
        host.start()
    del host.importer.refusals["b.tar"]
    assert host.start() == ["b.tar", "c.tar"]


@pytest.mark.parametrize("memory", [b"", b"{", b"[]", b'{"a.tar": 7}', b"[" * 100_000, b"\xff"])
def test_a_memory_that_is_damaged_is_none(host: Host, memory: bytes) -> None:
    host.put("a.tar")
    host.memory.write_bytes(memory)
    assert host.start() == ["a.tar"]
    assert host.start() == []


def test_a_directory_that_cannot_be_read_is_a_line(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    host.directory.write_text("no directory")
    assert host.start() == []
    assert caplog.messages == [f"cannot read {host.directory}: Not a directory"]


def test_whoever_starts_it_does_not_wait(host: Host) -> None:
    host.put("a.tar")

    async def main() -> None:
        drop_ins = RuntimeDropIns(host.directory, host.memory, host.importer)
        drop_ins.start()
        assert host.importer.taken == []
        await drop_ins.close()

    asyncio.run(main())
