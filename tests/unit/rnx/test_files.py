"""Files that go to an agent, and what comes from one that may lie."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from rnx.progress import size_text
from tests.unit.rnx.conftest import Rnx
from tests.unit.rnx.fake_agent import UUID, FakeAgent, failure

LARGE = 5 << 20


@pytest.fixture(autouse=True)
def accepted(agent: FakeAgent) -> None:
    agent.answers["RunJob"] = pb.RunJobResponse(job_uuid=UUID, status="RUNNING", command="true")
    agent.answers["UploadFiles"] = pb.UploadReply(upload_id="0123")


def test_small_files_go_in_the_request(agent: FakeAgent, rnx: Rnx, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("abc")
    assert rnx("run", f"--upload={tmp_path}/a", "true").status == 0
    assert agent.asked("UploadFiles") == []
    (request,) = agent.asked("RunJob")
    assert [(each.path, each.content) for each in request.uploads] == [("a", b"abc")]


def test_large_files_are_streamed(agent: FakeAgent, rnx: Rnx, tmp_path: Path) -> None:
    content = os.urandom(LARGE)
    (tmp_path / "tree" / "d").mkdir(parents=True)
    (tmp_path / "tree" / "big").write_bytes(content)
    (tmp_path / "tree" / "d" / "empty").write_bytes(b"")
    result = rnx("--json", "run", f"--upload-dir={tmp_path}/tree", "true")
    assert json.loads(result.out)["files_uploaded"] == 2
    (chunks,) = agent.asked("UploadFiles")
    assert [chunk.entry.path for chunk in chunks if chunk.HasField("entry")] == ["big", "d", "d/empty"]
    assert b"".join(chunk.content for chunk in chunks) == content
    assert [chunk.offset for chunk in chunks if chunk.content] == [n << 20 for n in range(5)]
    digests = [chunk.sha256 for chunk in chunks if chunk.sha256]
    assert digests == [hashlib.sha256(content).digest(), hashlib.sha256(b"").digest()]
    (request,) = agent.asked("RunJob")
    assert (request.upload_id, list(request.uploads)) == ("0123", [])


def test_an_agent_without_streams_gets_them_in_the_request(
    agent: FakeAgent, rnx: Rnx, tmp_path: Path
) -> None:
    del agent.answers["UploadFiles"]
    (tmp_path / "big").write_bytes(bytes(LARGE))
    assert rnx("run", f"--upload={tmp_path}/big", "true").status == 0
    assert len(agent.asked("RunJob")[0].uploads[0].content) == LARGE


def test_what_the_agent_refuses_in_a_stream_is_told(agent: FakeAgent, rnx: Rnx, tmp_path: Path) -> None:
    agent.answers["UploadFiles"] = failure(
        grpc.StatusCode.RESOURCE_EXHAUSTED, "cannot take files: enough", "X"
    )
    (tmp_path / "big").write_bytes(bytes(LARGE))
    result = rnx("run", f"--upload={tmp_path}/big", "true")
    assert (result.status, agent.asked("RunJob")) == (1, [])
    assert "rnx: cannot take files: enough" in result.err


def test_a_link_that_stays_inside_is_what_it_points_to(agent: FakeAgent, rnx: Rnx, tmp_path: Path) -> None:
    (tmp_path / "tree" / "d").mkdir(parents=True)
    (tmp_path / "tree" / "d" / "a").write_text("abc")
    (tmp_path / "tree" / "file").symlink_to("d/a")
    (tmp_path / "tree" / "dir").symlink_to("d")
    assert rnx("run", f"--upload-dir={tmp_path}/tree", "true").status == 0
    sent = {each.path: each.content for each in agent.asked("RunJob")[0].uploads}
    assert sent == {"d": b"", "d/a": b"abc", "dir": b"", "dir/a": b"abc", "file": b"abc"}


def test_a_link_that_does_not_is_refused_by_name(agent: FakeAgent, rnx: Rnx, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for target, words in (
        ("/etc/passwd", "a link out of the directory, to /etc/passwd"),
        ("..", "a link out of the directory"),
        ("nothing", "a link to something that is not there"),
        (".", "leads back to a directory"),
        ("link", "a link to something that is not there"),
    ):
        (tree / "link").symlink_to(target)
        result = rnx("run", f"--upload-dir={tree}", "true")
        assert (result.status, agent.asked("RunJob")) == (1, []), target
        assert f"cannot send {tree}/link: " in result.err
        assert words in result.err
        (tree / "link").unlink()


def test_two_directories_may_share_one_and_not_a_file(agent: FakeAgent, rnx: Rnx, tmp_path: Path) -> None:
    for top in ("one", "two"):
        (tmp_path / top / "shared").mkdir(parents=True)
        (tmp_path / top / "shared" / top).write_text(top)
    flags = [f"--upload-dir={tmp_path}/one", f"--upload-dir={tmp_path}/two"]
    assert rnx("run", *flags, "true").status == 0
    paths = [each.path for each in agent.asked("RunJob")[0].uploads]
    assert paths == ["shared", "shared/one", "shared/two"]
    (tmp_path / "two" / "shared" / "one").write_text("another")
    assert "has the same name in the workspace" in rnx("run", *flags, "true").err


def file(name: str, content: bytes = b"", **fields: Any) -> list[pb.FileChunk]:
    info = pb.JobFile(**{"name": name, "kind": "file", "size": len(content), "mode": 0o640, **fields})
    return [pb.FileChunk(file=info), *([pb.FileChunk(content=content)] if content else [])]


def directory(name: str) -> list[pb.FileChunk]:
    return [pb.FileChunk(file=pb.JobFile(name=name, kind="directory", mode=0o750))]


def prepare(agent: FakeAgent, *chunks: list[pb.FileChunk]) -> None:
    def answer(_request: Any, _context: Any) -> Iterator[pb.FileChunk]:
        for each in chunks:
            yield from each

    agent.answers["DownloadJobFile"] = answer


def test_a_file_comes_under_its_name_or_another(agent: FakeAgent, rnx: Rnx, tmp_path: Path) -> None:
    prepare(agent, file("", b"abc"))
    assert rnx("job", "download", UUID, "/work/out/a.txt").status == 0
    assert agent.asked("DownloadJobFile")[0].path == "out/a.txt"
    assert ((tmp_path / "a.txt").read_bytes(), (tmp_path / "a.txt").stat().st_mode & 0o777) == (b"abc", 0o640)
    (tmp_path / "into").mkdir()
    assert rnx("job", "download", UUID, "out/a.txt", "-o", "into").status == 0
    assert rnx("job", "download", UUID, "out/a.txt", "-o", "other").status == 0
    assert ((tmp_path / "into" / "a.txt").read_bytes(), (tmp_path / "other").read_bytes()) == (b"abc", b"abc")
    assert rnx("job", "download", UUID, "out/a.txt", "-o", "-").out == "abc"


def test_nothing_is_replaced_unless_it_shall_be(agent: FakeAgent, rnx: Rnx, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "link").symlink_to("precious")
    prepare(agent, file("", b"theirs"))
    for words in (["a"], ["link"], ["link", "--force"]):
        result = rnx("job", "download", UUID, *words)
        assert result.status == 1, words
        assert "exists" in result.err
    assert (tmp_path / "a").read_text() == "mine"
    assert rnx("job", "download", UUID, "a", "--force").status == 0
    assert ((tmp_path / "a").read_text(), (tmp_path / "precious").read_text()) == ("theirs", "mine")


def test_a_tree_comes_with_holes_and_without_what_is_left_out(
    agent: FakeAgent, rnx: Rnx, tmp_path: Path
) -> None:
    sparse = pb.FileChunk(file=pb.JobFile(name="sparse", kind="file", size=1 << 40, mode=0o600))
    link = pb.FileChunk(file=pb.JobFile(name="l\x1b[2J", kind="link"), skipped="a symbolic link")
    data = pb.FileChunk(offset=1 << 30, content=b"x")
    prepare(agent, directory(""), directory("d"), file("d/a", b"abc"), [link, sparse, data], file("last"))
    result = rnx("--json", "job", "download", UUID, "out")
    assert json.loads(result.out) == {"target": "out", "files": 3, "left_out": 1}
    assert "rnx: left out l\\x1b[2J: a symbolic link" in result.err
    assert (tmp_path / "out" / "d" / "a").read_bytes() == b"abc"
    status = (tmp_path / "out" / "sparse").stat()
    assert (status.st_size, status.st_blocks < 10_000) == (1 << 40, True)
    assert sorted(os.listdir(tmp_path / "out")) == ["d", "last", "sparse"]


LIES = {
    "up": [file("../x", b"x")],
    "up-later": [directory("d"), file("d/../../x", b"x")],
    "absolute": [file("/tmp/rnx-x", b"x")],
    "no-name-again": [file("", b"x")],
    "nul": [file("a\0b", b"x")],
    "dot": [file(".", b"x")],
    "too-much": [file("a", b"abc", size=2)],
    "backwards": [[*file("a", b"ab", size=4), pb.FileChunk(offset=1, content=b"x")]],
    "beyond": [[*file("a", size=4), pb.FileChunk(offset=4, content=b"x")]],
    "negative": [[*file("a", size=4), pb.FileChunk(offset=-1, content=b"x")]],
    "device": [[pb.FileChunk(file=pb.JobFile(name="a", kind="other"))]],
    "no-directory": [file("a/b", b"x")],
    "file-as-directory": [file("a", b"x"), file("a/b", b"x")],
    "content-first": [[pb.FileChunk(content=b"x")]],
    "twice": [file("a", b"x"), file("a", b"y")],
}


@pytest.mark.parametrize("chunks", LIES.values(), ids=LIES)
def test_a1_an_agent_that_lies_writes_nothing_outside(
    agent: FakeAgent, rnx: Rnx, tmp_path: Path, chunks: list[list[pb.FileChunk]]
) -> None:
    prepare(agent, directory(""), *chunks)
    result = rnx("job", "download", UUID, "out")
    assert (result.status, result.out) == (1, "")
    assert "fault" not in result.err
    assert set(os.listdir(tmp_path)) <= {"out"}
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name.endswith(".part")]
    assert not Path("/tmp/rnx-x").exists()


def test_a_link_in_the_target_is_not_followed(agent: FakeAgent, rnx: Rnx, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "d").symlink_to("../elsewhere")
    prepare(agent, directory(""), directory("d"), file("d/a", b"x"))
    assert rnx("job", "download", UUID, "out", "--force").status == 1
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_download_that_breaks_off_leaves_no_half_file(agent: FakeAgent, rnx: Rnx, tmp_path: Path) -> None:
    def answer(_request: Any, context: Any) -> Iterator[pb.FileChunk]:
        yield from file("", b"abc", size=10)
        context.abort(grpc.StatusCode.INTERNAL, "it broke")

    agent.answers["DownloadJobFile"] = answer
    result = rnx("job", "download", UUID, "a")
    assert (result.status, os.listdir(tmp_path)) == (1, [])
    assert "it broke" in result.err


def test_a_list_is_sorted_and_clean(agent: FakeAgent, rnx: Rnx) -> None:
    files = [
        pb.JobFile(name="b", kind="file", size=5, mode=0o644, modified_time="2026-01-31T12:00:00Z"),
        pb.JobFile(name="a\x1b[2J", kind="directory", mode=0o755, modified_time="2026-01-31T12:00:00Z"),
    ]
    agent.answers["ListJobFiles"] = pb.JobFileList(files=files)
    result = rnx("job", "files", UUID, "out/")
    assert agent.asked("ListJobFiles")[0].path == "out"
    assert [line.split()[-1] for line in result.out.splitlines()[2:]] == ["a\\x1b[2J", "b"]
    (first, _) = json.loads(rnx("--json", "job", "files", UUID).out)
    assert (first["name"], first["mode"], first["kind"]) == ("a\x1b[2J", "0755", "directory")


def test_sizes_for_people() -> None:
    assert [size_text(size) for size in (0, 1023, 1024, 1536, 10 << 30)] == [
        "0 bytes",
        "1023 bytes",
        "1.0 KB",
        "1.5 KB",
        "10.0 GB",
    ]
