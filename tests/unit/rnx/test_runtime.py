"""rnx runtime: what is there, for people and for programs."""

import json
import re

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.unit.rnx.conftest import Rnx
from tests.unit.rnx.fake_agent import FakeAgent, failure

DIGEST = "ab" * 32
ML = pb.RuntimeInfo(
    name="python-3.11-ml",
    version="1.3.1",
    language="python",
    language_version="3.11",
    description="Python 3.11 with the usual scientific packages, and then some more",
    size_bytes=1288490189,
    file_count=19000,
    packages=["numpy=1.26.2"],
    available=True,
    latest=True,
    digest=DIGEST,
    source="build",
    test="python -c 'import numpy'",
    environment={"PYTHONUNBUFFERED": "1"},
    requirements=pb.RuntimeRequirements(architectures=["amd64"], gpu=True),
    build_info=pb.RuntimeBuildInfo(
        built_at="2026-01-31T10:00:00Z", built_with="0.2.0", platform="debian-amd64"
    ),
    users=["job 7f3a0000 (train)"],
    original_yaml="name: python-3.11-ml\n",
    lock="suite: bookworm",
)
GO = pb.RuntimeInfo(name="go-1.24", version="1.0.0", language="go", size_bytes=512, digest="cd" * 32)
PINNED = pb.JobRuntime(name="python-3.11-ml", version="1.3.1", digest=DIGEST)


def test_the_list_for_people(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["ListRuntimes"] = pb.ListRuntimesResponse(runtimes=[GO, ML])
    header, line, go, ml = rnx("runtime", "list").out.splitlines()
    assert re.fullmatch(r"RUNTIME +VERSION +SIZE +REGISTRY +DESCRIPTION", header)
    assert set(line) == {"-"}
    assert go.split() == ["go-1.24", "1.0.0", "512B", "local", "-"]
    assert ml.split()[:4] == ["python-3.11-ml", "1.3.1", "1.2GB", "local"]
    assert ml.endswith("Python 3.11 with the usual scientific packages,...")


def test_the_list_for_programs_has_the_given_keys_first(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["ListRuntimes"] = pb.ListRuntimesResponse(runtimes=[GO, ML])
    go, ml = json.loads(rnx("--json", "runtime", "list").out)
    assert list(ml)[:9] == [
        *("id", "language", "version", "name", "description", "size_bytes", "size", "packages", "available"),
    ]
    assert (ml["id"], ml["size"], ml["packages"], ml["digest"]) == (
        "python-3.11-ml@1.3.1",
        "1.2GB",
        ["numpy=1.26.2"],
        DIGEST,
    )
    assert "packages" not in go


def test_no_runtimes(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["ListRuntimes"] = pb.ListRuntimesResponse()
    assert rnx("runtime", "list").out == "No runtimes available.\n"
    assert json.loads(rnx("runtime", "list", "--json").out) == []


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["--registry"], ""),
        (["--registry=o/r"], "o/r"),
        (["--registry=https://example.org/r.json"], "https://example.org/r.json"),
        (["--github-repo=o/r"], "o/r"),
    ],
)
def test_what_a_registry_offers(agent: FakeAgent, rnx: Rnx, words: list[str], asked: str) -> None:
    offered = pb.OfferedRuntime(
        name="go-1.24",
        versions=["1.1.0", "1.0.0"],
        platforms=["linux-amd64", "linux-arm64"],
        description="Go",
    )
    agent.answers["GetOfferedRuntimes"] = pb.GetOfferedRuntimesResponse(runtimes=[offered])
    header, _, row = rnx("runtime", "list", *words).out.splitlines()
    assert header.split() == ["RUNTIME", "VERSIONS", "LATEST", "PLATFORMS", "DESCRIPTION"]
    assert row.split() == ["go-1.24", "2", "1.1.0", "linux-amd64,linux-arm64", "Go"]
    assert agent.asked("GetOfferedRuntimes") == [pb.GetOfferedRuntimesRequest(registry_url=asked)]
    assert json.loads(rnx("--json", "runtime", "list", *words).out) == [
        {
            "name": "go-1.24",
            "versions": ["1.1.0", "1.0.0"],
            "latest": "1.1.0",
            "description": "Go",
            "platforms": ["linux-amd64", "linux-arm64"],
        }
    ]


@pytest.mark.parametrize("command", ["info", "inspect"])
def test_info(agent: FakeAgent, rnx: Rnx, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnx.runtimes.views.show_time", lambda text, empty="N/A", zone=False: text or empty)
    agent.answers["GetRuntimeInfo"] = pb.GetRuntimeInfoResponse(runtime=ML, found=True)
    assert rnx("runtime", command, "python:3.11-ml").out.splitlines() == [
        "Runtime: python-3.11-ml",
        "Version: 1.3.1 (latest)",
        f"Description: {ML.description}",
        "Language: python 3.11",
        "Available: yes",
        "Size: 1.2GB in 19000 files",
        f"Digest: {DIGEST}",
        "Source: build",
        "Platform: debian-amd64",
        "Built: 2026-01-31T10:00:00Z by 0.2.0",
        "Test: python -c 'import numpy'",
        "Requirements:",
        "- architectures: amd64",
        "- a GPU",
        "Environment:",
        "- PYTHONUNBUFFERED=1",
        "Packages:",
        "- numpy=1.26.2",
        "Used by:",
        "- job 7f3a0000 (train)",
        "Usage:",
        "  rnx run --runtime=python-3.11-ml@1.3.1 COMMAND",
    ]
    assert agent.asked("GetRuntimeInfo") == [pb.GetRuntimeInfoRequest(runtime="python:3.11-ml")]


def test_info_for_programs(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["GetRuntimeInfo"] = pb.GetRuntimeInfoResponse(runtime=ML, found=True)
    data = json.loads(rnx("--json", "runtime", "info", "python-3.11-ml").out)
    assert list(data)[:6] == ["name", "version", "description", "packages", "usage", "requirements"]
    assert data["requirements"] == {"gpu": True, "architectures": ["amd64"]}
    assert (data["users"], data["definition"]) == (["job 7f3a0000 (train)"], "name: python-3.11-ml\n")


def test_texts_of_a_runtime_come_alone(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["GetRuntimeInfo"] = pb.GetRuntimeInfoResponse(runtime=ML, found=True)
    assert rnx("runtime", "info", "x", "--lock").out == "suite: bookworm\n"
    assert rnx("runtime", "info", "x", "--definition").out == "name: python-3.11-ml\n"
    agent.answers["GetRuntimeInfo"] = pb.GetRuntimeInfoResponse(runtime=GO, found=True)
    result = rnx("runtime", "info", "x", "--lock")
    assert (result.status, result.out) == (1, "")
    assert "runtime go-1.24@1.0.0 has no lock file" in result.err


def test_an_unknown_runtime_is_an_error(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["GetRuntimeInfo"] = pb.GetRuntimeInfoResponse(found=False)
    result = rnx("runtime", "info", "nothing")
    assert (result.status, result.out) == (1, "")
    assert result.err == "rnx: runtime nothing not found\nhint: see: rnx runtime list\n"


@pytest.mark.parametrize("command", ["info", "test", "remove", "export", "install"])
def test_an_empty_name_is_refused_before_sending(agent: FakeAgent, rnx: Rnx, command: str) -> None:
    result = rnx("runtime", command, "")
    assert (result.status, result.out) == (2, "")
    assert "the name of the runtime is empty" in result.err
    assert agent.requests == []


def test_a_test_that_passes(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["TestRuntime"] = pb.TestRuntimeResponse(
        success=True, output="3.11.2\n\x1b[2J", runtime=PINNED
    )
    assert rnx("runtime", "test", "x").out == "Runtime test passed\nOutput:\n3.11.2\n\\x1b[2J\n"
    data = json.loads(rnx("--json", "runtime", "test", "x").out)
    assert (data["success"], data["runtime"], data["exit_code"]) == (True, "python-3.11-ml@1.3.1", 0)


def test_a_test_that_fails(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["TestRuntime"] = pb.TestRuntimeResponse(
        success=False, output="no numpy\n", error="exited with status 1", exit_code=1
    )
    result = rnx("runtime", "test", "x")
    assert result.status == 1
    assert result.out == (
        "✗ Runtime test failed\nError: exited with status 1\nExit code: 1\nOutput:\nno numpy\n"
    )


def test_removal(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["RemoveRuntime"] = pb.RemoveRuntimeResponse(
        success=True, message="removed x@1.0.0", freed_space_bytes=1536, removed=["x@1.0.0"]
    )
    assert rnx("runtime", "remove", "x@1.0.0", "--force").out == (
        "Runtime removed successfully\nMessage: removed x@1.0.0\nFreed space: 1.5KB\n"
    )
    assert agent.asked("RemoveRuntime") == [pb.RemoveRuntimeRequest(runtime="x@1.0.0", force=True)]
    agent.answers["RemoveRuntime"] = pb.RemoveRuntimeResponse(
        success=False, message="cannot remove runtime x: it is used by job 1; wait"
    )
    result = rnx("--json", "runtime", "remove", "x")
    assert (result.status, result.out) == (1, "")
    assert result.err == "rnx: cannot remove runtime x: it is used by job 1; wait\n"


def test_verification(agent: FakeAgent, rnx: Rnx) -> None:
    damage = pb.RuntimeDamage(path="/usr/bin/python3", what="has another content")
    good = pb.VerifyRuntimeResponse(runtime=PINNED, size_bytes=2048)
    bad = pb.VerifyRuntimeResponse(runtime=pb.JobRuntime(name="go", version="1.0.0"), damages=[damage])
    agent.answers["VerifyRuntime"] = lambda _, __: iter([good])
    result = rnx("runtime", "verify")
    assert (result.status, result.out) == (0, "python-3.11-ml@1.3.1: intact, 2.0KB read\n")
    agent.answers["VerifyRuntime"] = lambda _, __: iter([good, bad])
    result = rnx("runtime", "verify")
    assert result.status == 1
    assert result.out.splitlines()[1:] == ["go@1.0.0: DAMAGED", "- /usr/bin/python3: has another content"]
    data = json.loads(rnx("--json", "runtime", "verify", "go").out)
    assert [each["intact"] for each in data] == [True, False]
    assert agent.asked("VerifyRuntime")[-1] == pb.VerifyRuntimeRequest(runtime="go")


def test_collection(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["GcRuntimes"] = pb.GcRuntimesResponse(trees=1, objects=20, freed_bytes=3072)
    assert rnx("runtime", "gc").out == "1 runtimes and 20 files removed, 3.0KB\n"


SPEC = pb.ValidateRuntimeSpecResponse(
    valid=True,
    normalized_spec="python-3.11-ml",
    spec_info=pb.RuntimeSpecInfo(language="python", version="3.11", variants=["ml"], architecture="amd64"),
)


def test_a_valid_spec(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["ValidateRuntimeSpec"] = SPEC
    assert rnx("runtime", "validate", "python:3.11-ml").out == (
        "Runtime specification is valid\nOriginal: python:3.11-ml\nNormalized: python-3.11-ml\n"
        "Language: python\nVersion: 3.11\nVariants: ml\nArchitecture: amd64\nRuntime: not installed\n"
    )
    here = pb.ValidateRuntimeSpecResponse()
    here.CopyFrom(SPEC)
    here.runtime.CopyFrom(PINNED)
    agent.answers["ValidateRuntimeSpec"] = here
    assert rnx("runtime", "validate", "python:3.11-ml").out.endswith(
        f"Runtime: python-3.11-ml@1.3.1\nDigest: {DIGEST}\n"
    )


def test_a_spec_that_is_none(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["ValidateRuntimeSpec"] = pb.ValidateRuntimeSpecResponse(message="it has no name")
    result = rnx("runtime", "validate", "@")
    assert (result.status, result.out) == (
        1,
        "Runtime specification is invalid\nOriginal: @\nMessage: it has no name\n",
    )


def test_what_the_agent_refuses_is_told(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["TestRuntime"] = failure(
        grpc.StatusCode.RESOURCE_EXHAUSTED, "cannot queue job", "QUEUE_FULL", "try again later"
    )
    result = rnx("runtime", "test", "x")
    assert (result.status, result.err) == (1, "rnx: cannot queue job\nhint: try again later\n")
