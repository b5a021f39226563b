"""rnx volume cp: files into a volume, and what comes out of one from an agent that may lie."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.unit.rnx.conftest import Rnx
from tests.unit.rnx.fake_agent import FakeAgent, failure
from tests.unit.rnx.test_files import LIES, directory, file


@pytest.fixture(autouse=True)
def takes(agent: FakeAgent) -> None:
    agent.answers["UploadFiles"] = pb.UploadReply(upload_id="0123")
    agent.answers["PutVolumeFiles"] = pb.PutVolumeFilesResponse(file_count=1, total_bytes=3)


@pytest.fixture(autouse=True)
def tree(tmp_path: Path) -> None:
    (tmp_path / "tree" / "d").mkdir(parents=True)
    (tmp_path / "tree" / "d" / "a").write_text("abc")
    (tmp_path / "tree" / "d").chmod(0o750)
    (tmp_path / "one.sh").write_text("one")
    (tmp_path / "one.sh").chmod(0o755)
    (tmp_path / "a:b").write_text("colon")


def sent(agent: FakeAgent) -> tuple[str, list[str]]:
    """The directory in the volume, and the paths below it."""
    (chunks,) = agent.asked("UploadFiles")
    (request,) = agent.asked("PutVolumeFiles")
    assert (request.name, request.upload_id) == ("data", "0123")
    return request.path, [chunk.entry.path for chunk in chunks if chunk.HasField("entry")]


@pytest.mark.parametrize(
    ("source", "destination", "path", "entries"),
    [
        ("one.sh", "data:", "", ["one.sh"]),
        ("one.sh", "data:/", "", ["one.sh"]),
        ("one.sh", "data:bin/", "bin", ["one.sh"]),
        ("one.sh", "data:bin/.", "bin", ["one.sh"]),
        ("one.sh", "data:run", "", ["run"]),
        ("one.sh", "data:/bin/run", "bin", ["run"]),
        ("./a:b", "data:", "", ["a:b"]),
        ("tree", "data:", "", ["tree", "tree/d", "tree/d/a"]),
        ("tree/", "data:x/", "x", ["tree", "tree/d", "tree/d/a"]),
        ("tree", "data:x/y", "x", ["y", "y/d", "y/d/a"]),
        ("tree/.", "data:", "", ["d", "d/a"]),
        ("./tree/d/.", "data:x/y", "x/y", ["a"]),
        ("tree/d/..", "data:", "", ["tree", "tree/d", "tree/d/a"]),
    ],
)
def test_what_goes_where(
    agent: FakeAgent, rnx: Rnx, *, source: str, destination: str, path: str, entries: list[str]
) -> None:
    result = rnx("volume", "cp", source, destination)
    assert (result.status, result.err) == (0, "")
    assert sent(agent) == (path, entries)


def test_contents_and_modes_travel(agent: FakeAgent, rnx: Rnx) -> None:
    result = rnx("--json", "volume", "cp", "tree", "data:x")
    assert json.loads(result.out) == {"target": "data:x", "files": 1, "bytes": 3}
    (chunks,) = agent.asked("UploadFiles")
    entries = {chunk.entry.path: chunk.entry for chunk in chunks if chunk.HasField("entry")}
    assert (entries["x/d"].mode, entries["x/d"].is_directory) == (0o750, True)
    assert b"".join(chunk.content for chunk in chunks) == b"abc"
    assert rnx("volume", "cp", "one.sh", "data:").out == "1 files in data:\n"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("nothing", "cannot send nothing: no such file"),
        ("tree/link", "cannot send tree/link: no such file"),
        ("tree", "cannot send tree/link: it is a link to something that is not there"),
        ("fifo", "cannot send fifo: not a regular file"),
    ],
)
def test_what_cannot_be_sent_is_told_before_anything_is(
    agent: FakeAgent, rnx: Rnx, tmp_path: Path, source: str, text: str
) -> None:
    (tmp_path / "tree" / "link").symlink_to("nothing")
    os.mkfifo(tmp_path / "fifo")
    result = rnx("volume", "cp", source, "data:")
    assert (result.status, result.out) == (1, "")
    assert text in result.err
    assert agent.requests == []


def test_a_link_out_of_the_tree_is_refused(agent: FakeAgent, rnx: Rnx, tmp_path: Path) -> None:
    (tmp_path / "tree" / "link").symlink_to("/etc/passwd")
    result = rnx("volume", "cp", "tree", "data:")
    assert result.status == 1
    assert "a link out of the directory, to /etc/passwd" in result.err
    assert agent.requests == []


def test_a_refusal_of_the_agent_is_told(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["PutVolumeFiles"] = failure(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "cannot copy into volume data: it is full",
        "VOLUME_FULL",
        "grow it",
    )
    result = rnx("volume", "cp", "one.sh", "data:")
    assert (result.status, result.err) == (
        1,
        "rnx: cannot copy into volume data: it is full\nhint: grow it\n",
    )


def prepare(agent: FakeAgent, *chunks: list[pb.FileChunk]) -> None:
    def answer(_request: Any, _context: Any) -> Iterator[pb.FileChunk]:
        for each in chunks:
            yield from each

    agent.answers["DownloadVolumeFile"] = answer


@pytest.mark.parametrize(
    ("source", "destination", "path", "target"),
    [
        ("data:out/a.txt", ".", "out/a.txt", "a.txt"),
        ("data:/out//a.txt", "b.txt", "out/a.txt", "b.txt"),
        ("data:out/a.txt", "tree", "out/a.txt", "tree/a.txt"),
        ("data:", ".", "", "data"),
        ("data:out/", ".", "out", "out"),
        ("data:x", "./c:d", "x", "c:d"),
    ],
)
def test_what_comes_to_where(
    agent: FakeAgent, rnx: Rnx, tmp_path: Path, *, source: str, destination: str, path: str, target: str
) -> None:
    prepare(agent, file("", b"abc"))
    result = rnx("volume", "cp", source, destination)
    assert (result.status, result.out) == (0, f"1 files in {target}\n")
    assert agent.asked("DownloadVolumeFile") == [pb.DownloadVolumeFileRequest(name="data", path=path)]
    assert (tmp_path / target).read_bytes() == b"abc"


def test_a_file_goes_to_standard_output(agent: FakeAgent, rnx: Rnx) -> None:
    prepare(agent, file("", b"abc"))
    assert rnx("volume", "cp", "data:a", "-").out == "abc"


def test_nothing_is_replaced_unless_it_shall_be(agent: FakeAgent, rnx: Rnx, tmp_path: Path) -> None:
    prepare(agent, file("", b"theirs"))
    result = rnx("volume", "cp", "data:one.sh", ".")
    assert result.status == 1
    assert "cannot write one.sh: it exists" in result.err
    assert rnx("volume", "cp", "--force", "data:one.sh", ".").status == 0
    assert (tmp_path / "one.sh").read_text() == "theirs"


@pytest.mark.parametrize("chunks", LIES.values(), ids=LIES)
def test_a1_an_agent_that_lies_writes_nothing_outside(
    agent: FakeAgent, rnx: Rnx, tmp_path: Path, chunks: list[list[pb.FileChunk]]
) -> None:
    before = set(os.listdir(tmp_path))
    prepare(agent, directory(""), *chunks)
    result = rnx("volume", "cp", "data:out", ".")
    assert (result.status, result.out) == (1, "")
    assert "fault" not in result.err
    assert set(os.listdir(tmp_path)) - before <= {"out"}
    assert not Path("/tmp/rnx-x").exists()
