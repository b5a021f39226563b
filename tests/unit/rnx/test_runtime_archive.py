"""rnx runtime export, import, install: never half a file, never the wrong bytes."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.unit.rnx.conftest import Rnx
from tests.unit.rnx.fake_agent import FakeAgent, failure

DIGEST = "ab" * 32
PINNED = pb.JobRuntime(name="x", version="1.0.0", digest=DIGEST)
CONTENT = b"archive" * 1000
SHA256 = hashlib.sha256(CONTENT).digest()


def pieces(*, content: bytes = CONTENT, sha256: bytes = SHA256, step: int = 4096) -> Any:
    def answer(_: Any, __: Any) -> Iterator[pb.ExportRuntimeResponse]:
        yield pb.ExportRuntimeResponse(runtime=PINNED, size_bytes=len(content))
        for offset in range(0, len(content), step):
            yield pb.ExportRuntimeResponse(offset=offset, content=content[offset : offset + step])
        yield pb.ExportRuntimeResponse(sha256=sha256)

    return answer


def test_an_archive_is_saved(agent: FakeAgent, rnx: Rnx, tmp_path: Path) -> None:
    agent.answers["ExportRuntime"] = pieces()
    result = rnx("runtime", "export", "x", "-o", "x.tar")
    assert (result.status, result.out) == (0, "x@1.0.0: 6.8KB in x.tar\n")
    assert (tmp_path / "x.tar").read_bytes() == CONTENT
    data = json.loads(rnx("--json", "runtime", "export", "x", "-o", "y.tar").out)
    assert data == {"runtime": "x@1.0.0", "digest": DIGEST, "target": "y.tar", "size_bytes": 7000}


def test_an_archive_is_called_like_its_runtime(agent: FakeAgent, rnx: Rnx, tmp_path: Path) -> None:
    agent.answers["GetRuntimeInfo"] = pb.GetRuntimeInfoResponse(
        found=True, runtime=pb.RuntimeInfo(name="../x", version="1.0.0")
    )
    agent.answers["ExportRuntime"] = pieces()
    assert rnx("runtime", "export", "x").status == 0
    assert [path.name for path in tmp_path.iterdir()] == [".._x-1.0.0.oci.tar"]
    agent.answers["GetRuntimeInfo"] = pb.GetRuntimeInfoResponse(found=False)
    assert "runtime y not found" in rnx("runtime", "export", "y").err


def test_what_is_there_stays_unless_somebody_says_otherwise(
    agent: FakeAgent, rnx: Rnx, tmp_path: Path
) -> None:
    agent.answers["ExportRuntime"] = pieces()
    (tmp_path / "x.tar").write_text("mine")
    (tmp_path / "directory").mkdir()
    result = rnx("runtime", "export", "x", "-o", "x.tar")
    assert (result.status, (tmp_path / "x.tar").read_text()) == (1, "mine")
    assert result.err == "rnx: cannot write x.tar: it exists\nhint: give another place with -o, or --force\n"
    assert "it is a directory" in rnx("runtime", "export", "x", "-o", "directory").err
    assert rnx("runtime", "export", "x", "-o", "x.tar", "--force").status == 0
    assert (tmp_path / "x.tar").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (pieces(sha256=bytes(32)), "it arrived damaged or not whole"),
        (pieces(content=CONTENT[:-1]), "it arrived damaged or not whole"),
        (lambda _, __: iter(()), "it arrived damaged or not whole"),
        (
            lambda _, __: iter([pb.ExportRuntimeResponse(offset=5, content=b"x")]),
            "the agent sent a piece that does not belong there",
        ),
        (failure(grpc.StatusCode.NOT_FOUND, "cannot use runtime 'x'"), "cannot use runtime 'x'"),
    ],
)
def test_an_archive_that_is_not_whole_leaves_nothing(
    agent: FakeAgent, rnx: Rnx, tmp_path: Path, answer: Any, text: str
) -> None:
    agent.answers["ExportRuntime"] = answer
    result = rnx("runtime", "export", "x", "-o", "x.tar")
    assert result.status == 1
    assert text in result.err
    assert list(tmp_path.iterdir()) == []


def test_an_archive_is_sent_in_pieces(agent: FakeAgent, rnx: Rnx, tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "x.tar").write_bytes(content)
    agent.answers["ImportRuntime"] = pb.ImportRuntimeResponse(
        runtime=pb.RuntimeInfo(name="x", version="1.0.0", digest=DIGEST, size_bytes=2048),
        notes=["left out: variable LD_PRELOAD\x1b[2J: no runtime may set it"],
    )
    words = ["--name=x", "--version=1.0.0", "--force", f"--sha256=sha256:{DIGEST.upper()}"]
    assert rnx("runtime", "import", "x.tar", *words).out == (
        f"Runtime imported successfully\nRuntime: x@1.0.0\nDigest: {DIGEST}\nSize: 2.0KB\n"
        "Note: left out: variable LD_PRELOAD\\x1b[2J: no runtime may set it\n"
        "Use it: rnx run --runtime=x@1.0.0 COMMAND\n"
    )
    ((start, *rest),) = agent.asked("ImportRuntime")
    assert start.start == pb.ImportRuntimeStart(
        name="x", version="1.0.0", force=True, sha256=DIGEST, size_bytes=len(content)
    )
    assert b"".join(each.content for each in rest) == content
    assert [each.offset for each in rest] == [0, 1 << 20, 2 << 20]


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["missing.tar"], 1, "cannot read missing.tar: no such file"),
        (["."], 1, "cannot read .: not a file"),
        (["x.tar", "--sha256=abc"], 2, "cannot read --sha256: it is not 64 hexadecimal digits"),
    ],
)
def test_what_cannot_be_sent_is_refused(
    agent: FakeAgent, rnx: Rnx, tmp_path: Path, words: list[str], status: int, text: str
) -> None:
    (tmp_path / "x.tar").write_bytes(b"x")
    result = rnx("runtime", "import", *words)
    assert (result.status, agent.requests) == (status, [])
    assert text in result.err


def test_an_archive_that_is_refused(agent: FakeAgent, rnx: Rnx, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"x")
    agent.answers["ImportRuntime"] = failure(
        grpc.StatusCode.INVALID_ARGUMENT, "cannot read archive: it is cut off", "RUNTIME_ARCHIVE_BROKEN"
    )
    result = rnx("runtime", "import", "x.tar")
    assert (result.status, result.out, result.err) == (1, "", "rnx: cannot read archive: it is cut off\n")


STEPS = [
    pb.RuntimeInstallationChunk(
        progress=pb.RuntimeInstallationProgress(step=1, total_steps=5, message="Reading the index")
    ),
    pb.RuntimeInstallationChunk(log=pb.RuntimeInstallationLog(data=b"1 MB\x1b of 2 MB\n")),
]
INSTALLED = pb.RuntimeInstallationChunk(
    result=pb.RuntimeInstallationResult(
        success=True, message="done", runtime_spec="x@1.0.0", install_path="/trees/ab", runtime=PINNED
    )
)


def test_an_installation(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["StreamingInstallRuntimeFromGithub"] = lambda _, __: iter([*STEPS, INSTALLED])
    result = rnx("runtime", "install", "x", "--force")
    assert result.err == "[1/5] Reading the index\n    1 MB\\x1b of 2 MB\n"
    assert result.out == "Runtime installed successfully: x@1.0.0\nMessage: done\nPath: /trees/ab\n"
    assert json.loads(rnx("--json", "runtime", "install", "x").out)["digest"] == DIGEST


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ([], {}),
        (["--registry"], {}),
        (["--registry=o/r"], {"repository": "o/r"}),
        (["--registry=file:///srv/r.json"], {"registry_url": "file:///srv/r.json"}),
        (["--github-repo=o/r"], {"repository": "o/r"}),
    ],
)
def test_where_an_installation_comes_from(
    agent: FakeAgent, rnx: Rnx, words: list[str], fields: dict[str, Any]
) -> None:
    agent.answers["StreamingInstallRuntimeFromGithub"] = lambda _, __: iter([INSTALLED])
    assert rnx("runtime", "install", "x@1.0.0", *words).status == 0
    assert agent.asked("StreamingInstallRuntimeFromGithub") == [
        pb.InstallRuntimeRequest(runtime_spec="x@1.0.0", **fields)
    ]


def test_an_installation_that_fails(agent: FakeAgent, rnx: Rnx) -> None:
    failed = pb.RuntimeInstallationResult(message="the digest is another one", hint="ask")
    agent.answers["StreamingInstallRuntimeFromGithub"] = lambda _, __: iter(
        [*STEPS, pb.RuntimeInstallationChunk(result=failed)]
    )
    result = rnx("runtime", "install", "x")
    assert (result.status, result.out) == (1, "")
    assert result.err.endswith("rnx: the digest is another one\nhint: ask\n")
    agent.answers["StreamingInstallRuntimeFromGithub"] = lambda _, __: iter(STEPS)
    assert "the installation ended without a result" in rnx("runtime", "install", "x").err
