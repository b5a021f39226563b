"""Runtimes on the wire: what published clients read, and what never is an error of a call."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import grpc.aio
import pytest

from joblet_agent.config import JobsConfig, Visibility
from joblet_agent.errors import InvalidRequest, LimitReached, NotFound, WrongState
from joblet_agent.model.audit import AuditResult
from joblet_agent.model.identity import Identity, Role
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.handlers import Context
from joblet_agent.runtimes.build.events import PHASES, BuildDone, BuildEvent, LogLevel, LogLine, Phase
from joblet_agent.runtimes.build.records import BuildOptions
from joblet_agent.runtimes.damage import Damage
from joblet_agent.runtimes.install_events import Installed, InstallLog, InstallStep
from joblet_agent.runtimes.installer import LocalFile
from joblet_agent.runtimes.service import RuntimeInUse
from joblet_agent.runtimes.transfer import ImportWanted
from joblet_agent.runtimes.trial import TrialEnd
from tests.fakes.audit_log import FakeAuditLog
from tests.unit.rpc.fake_runtimes import DIGEST, NOW, RUNTIME, FakeRuntimes
from tests.unit.rpc.serving import Caller, FakeJobs, reason_of, serving

LIST = "RuntimeService/ListRuntimes"
INFO = "RuntimeService/GetRuntimeInfo"
TEST = "RuntimeService/TestRuntime"
REMOVE = "RuntimeService/RemoveRuntime"
BUILD = "RuntimeService/BuildRuntime"
VALIDATE = "RuntimeService/ValidateRuntimeYAML"
SPEC = "RuntimeService/ValidateRuntimeSpec"
SPEC_NAME = "python-3.11-ml@1.0.0"
PINNED = pb.JobRuntime(name="python-3.11-ml", version="1.0.0", digest=DIGEST)
DONE = BuildDone(3.5, RUNTIME, message="built", lock="suite: bookworm\n")
EVENTS: list[BuildEvent] = [
    Phase(PHASES[0], "reading", False, NOW, 0.0),
    LogLine(LogLevel.WARN, "no version pinned", NOW + timedelta(microseconds=1)),
    Phase(PHASES[8], "no packages", True, NOW, 1.25),
    DONE,
]


def ask(runtimes: FakeRuntimes, method: str, request: Any = None) -> Any:
    async def run() -> Any:
        async with serving(FakeJobs(), runtimes=runtimes) as caller:
            return await caller.unary(method, request)

    return asyncio.run(run())


def stream(runtimes: FakeRuntimes, method: str, request: Any, audit: FakeAuditLog | None = None) -> list[Any]:
    async def run() -> list[Any]:
        async with serving(FakeJobs(), runtimes=runtimes, audit=audit) as caller:
            return [answer async for answer in caller.stream(method, request)]

    return asyncio.run(run())


def test_lists_have_the_published_fields_and_no_long_texts() -> None:
    (row,) = ask(FakeRuntimes(), LIST).runtimes
    assert (row.name, row.version, row.language, row.language_version) == (
        "python-3.11-ml",
        "1.0.0",
        "python",  # the first part of the name, where nobody says
        "3.11",
    )
    assert (row.size_bytes, list(row.packages), row.available) == (2**20, ["numpy=1.26"], True)
    assert (row.digest, row.source, row.latest, row.lock, row.original_yaml) == (
        DIGEST,
        "build",
        True,
        "",
        "",
    )


def test_info_has_everything() -> None:
    reply = ask(FakeRuntimes(), INFO, pb.GetRuntimeInfoRequest(runtime="python:3.11-ml"))
    info = reply.runtime
    assert reply.found
    assert (info.original_yaml, info.lock) == ("name: python-3.11-ml\n", "suite: bookworm\n")
    assert (info.build_info.built_at, info.build_info.platform) == ("2026-01-31T12:00:00Z", "debian-amd64")
    assert (list(info.requirements.architectures), info.requirements.gpu) == (["amd64"], False)
    assert (list(info.users), dict(info.environment)) == (["job 7f3a0000 (train)"], {"A": "b"})


@pytest.mark.parametrize("name", ["ruby-3.3", "../../etc", "a@b@c", "x" * 1000, "python-3.11-ml@9.9"])
def test_info_of_what_nobody_knows_is_no_error(name: str) -> None:
    if name.startswith("python"):  # a version that is none
        name = "python-3.11-ml@9"
    reply = ask(FakeRuntimes(), INFO, pb.GetRuntimeInfoRequest(runtime=name))
    assert (reply.found, reply.HasField("runtime")) == (False, False)


@pytest.mark.parametrize(
    ("name", "reason"), [("", "RUNTIME_SPEC_INVALID"), ("ambiguous", "RUNTIME_AMBIGUOUS")]
)
def test_info_needs_one_name(name: str, reason: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        ask(FakeRuntimes(), INFO, pb.GetRuntimeInfoRequest(runtime=name))
    assert (refused.value.code(), reason_of(refused.value)) == (grpc.StatusCode.INVALID_ARGUMENT, reason)


def test_who_sees_nobody_elses_jobs_is_not_told_the_users() -> None:
    def operator(_: Context) -> Identity:
        return Identity("bob", Role.OPERATOR)

    async def run() -> Any:
        config = JobsConfig(visibility=Visibility.OWN)
        async with serving(FakeJobs(), authenticate=operator, jobs_config=config) as caller:
            return await caller.unary(INFO, pb.GetRuntimeInfoRequest(runtime="python-3.11-ml"))

    assert list(asyncio.run(run()).runtime.users) == []


def test_a_test_answers_what_it_printed() -> None:
    request = pb.TestRuntimeRequest(runtime="python-3.11-ml")
    assert ask(FakeRuntimes(), TEST, request) == pb.TestRuntimeResponse(
        success=True, output="fine\n", runtime=PINNED
    )
    failed = FakeRuntimes(trial=TrialEnd(RUNTIME, False, "x", "exited with status 3", 3))
    assert ask(failed, TEST, request) == pb.TestRuntimeResponse(
        success=False, output="x", error="exited with status 3", exit_code=3, runtime=PINNED
    )


def test_a_test_of_what_nobody_knows_fails_by_its_answer() -> None:
    reply = ask(FakeRuntimes(), TEST, pb.TestRuntimeRequest(runtime="ruby"))
    assert (reply.success, reply.exit_code) == (False, -1)
    assert reply.error == "cannot use runtime 'ruby'; see: rnx"


def test_a_test_without_a_name_is_an_error_of_the_call() -> None:
    """The published web page sends its name in a field that does not exist."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        ask(FakeRuntimes(), TEST, pb.TestRuntimeRequest())
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_removal_tells_what_it_did() -> None:
    runtimes = FakeRuntimes()
    reply = ask(runtimes, REMOVE, pb.RemoveRuntimeRequest(runtime=SPEC_NAME, force=True))
    assert reply == pb.RemoveRuntimeResponse(
        success=True, message=f"removed {SPEC_NAME}", freed_space_bytes=4096, removed=[SPEC_NAME]
    )
    assert runtimes.calls == [("remove", SPEC_NAME, True)]


def test_removal_of_what_is_used_fails_by_its_answer_and_in_the_audit_trail() -> None:
    error = RuntimeInUse("cannot remove runtime x: it is used by job 1", reason="RUNTIME_IN_USE", hint="wait")
    error.users = ("job 1",)
    audit = FakeAuditLog()

    async def run() -> Any:
        async with serving(FakeJobs(), runtimes=FakeRuntimes(error=error), audit=audit) as caller:
            return await caller.unary(REMOVE, pb.RemoveRuntimeRequest(runtime="x"))

    reply = asyncio.run(run())
    assert (reply.success, reply.message, list(reply.users)) == (False, f"{error}; wait", ["job 1"])
    (entry,) = audit.entries
    assert (entry.result, entry.subject.name) == (AuditResult.FAILED, "x")


@pytest.mark.parametrize(
    "error",
    [NotFound("there is none", reason="RUNTIME_UNKNOWN"), WrongState("it changes", reason="RUNTIME_BUSY")],
)
def test_removal_that_cannot_be_fails_by_its_answer(error: NotFound | WrongState) -> None:
    reply = ask(FakeRuntimes(error=error), REMOVE, pb.RemoveRuntimeRequest(runtime="x"))
    assert (reply.success, reply.message) == (False, str(error))


VALID = 'schema_version: "1.0"\nname: x\nversion: 1.0.0\nbase: {language: python, version: "3.11"}\n'


def test_a_definition_is_understood() -> None:
    text = VALID + "pip: [numpy]\nhooks: {post_install: 'true'}\n"
    reply = ask(FakeRuntimes(), VALIDATE, pb.ValidateRuntimeYAMLRequest(yaml_content=text))
    info = reply.spec_info
    assert (reply.valid, list(reply.errors)) == (True, [])
    assert (info.name, info.version, info.language, info.language_version) == ("x", "1.0.0", "python", "3.11")
    assert (list(info.pip_packages), list(info.npm_packages), info.has_hooks) == (["numpy"], [], True)
    assert any("numpy" in warning for warning in reply.warnings)
    assert [each.message for each in reply.problems] == list(reply.warnings)
    assert all(each.is_warning for each in reply.problems)


def test_a_base_that_is_not_there_is_a_warning() -> None:
    text = 'schema_version: "1.1"\nname: x\nversion: 1.0.0\nfrom: ruby-3.3@1.0.0\n'
    reply = ask(FakeRuntimes(), VALIDATE, pb.ValidateRuntimeYAMLRequest(yaml_content=text))
    assert reply.valid
    assert "runtime.yaml: from: cannot use runtime 'ruby-3.3@1.0.0'" in reply.warnings


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\0",
        "a: &a [*a, *a]",
        "[" * 10_000,
        "name: x\nname: y\n",
        "x" * (1024 * 1024 + 1),
        "name: ../../etc\n",
    ],
)
def test_no_text_of_a_definition_is_an_error_of_the_call(text: str) -> None:
    reply = ask(FakeRuntimes(), VALIDATE, pb.ValidateRuntimeYAMLRequest(yaml_content=text))
    assert (reply.valid, reply.HasField("spec_info")) == (False, False)
    assert reply.errors
    assert [each.is_warning for each in reply.problems] == [False] * len(reply.errors)


def test_all_errors_come_at_once_with_their_lines() -> None:
    text = VALID.replace("name: x", "name: X!\nversoin: 2") + "pipp: [a]\n"
    reply = ask(FakeRuntimes(), VALIDATE, pb.ValidateRuntimeYAMLRequest(yaml_content=text))
    assert [each.line for each in reply.problems] == [2, 3, 6]
    assert reply.errors[1].startswith("runtime.yaml:3:1: ")
    assert "did you mean version?" in reply.problems[1].message


@pytest.mark.parametrize(
    ("text", "normal", "parts"),
    [
        ("python:3.11-ml", "python-3.11-ml", ("python", "3.11", ["ml"])),
        ("python-3.11-ml", "python-3.11-ml", ("python", "3.11", ["ml"])),
        (SPEC_NAME, SPEC_NAME, ("python", "3.11", ["ml"])),
        ("python:3.11-ml@amd64", "python-3.11-ml", ("python", "3.11", ["ml"])),
        ("go@latest", "go", ("go", "", [])),
    ],
)
def test_a_spec_has_a_normal_form(text: str, normal: str, parts: tuple[str, str, list[str]]) -> None:
    reply = ask(FakeRuntimes(), SPEC, pb.ValidateRuntimeSpecRequest(runtime_spec=text))
    info = reply.spec_info
    assert (reply.valid, reply.normalized_spec) == (True, normal)
    assert (info.language, info.version, list(info.variants), info.architecture) == (*parts, "amd64")
    assert reply.HasField("runtime") == normal.startswith("python")


@pytest.mark.parametrize("text", ["", "../../etc", "a:b:c", "x@1", "\n", "x" * 10_000])
def test_no_spec_is_an_error_of_the_call(text: str) -> None:
    reply = ask(FakeRuntimes(), SPEC, pb.ValidateRuntimeSpecRequest(runtime_spec=text))
    assert (reply.valid, reply.normalized_spec, reply.HasField("spec_info")) == (False, "", False)
    assert reply.message.startswith("cannot use runtime ")


def test_a_build_is_sent_to_its_result() -> None:
    runtimes, audit = FakeRuntimes(events=list(EVENTS)), FakeAuditLog()
    request = pb.BuildRuntimeRequest(
        yaml_content=VALID, verbose=True, force_rebuild=True, locked=True, lock="l", detach=True
    )
    first, log, skipped, end = stream(runtimes, BUILD, request, audit)
    assert first.phase == pb.BuildPhaseProgress(
        phase_number=1, total_phases=14, phase_name="parse", message="reading", build_id="b0"
    )
    assert (log.log.level, log.log.message) == ("warn", "no version pinned")
    assert log.log.timestamp == 1_769_860_800_000_001_000
    assert (skipped.phase.skipped, skipped.phase.elapsed_ms) == (True, 1250)
    assert end.result == pb.BuildResult(
        success=True,
        message="built",
        runtime_name="python-3.11-ml",
        runtime_version="1.0.0",
        install_path=f"/trees/{DIGEST}",
        size_bytes=2**20,
        build_duration_ms=3500,
        digest=DIGEST,
        lock="suite: bookworm\n",
        build_id="b0",
    )
    options = BuildOptions(force=True, locked=True, lock="l", detach=True)
    assert runtimes.calls == [("build", VALID, options, "local"), ("follow", True)]
    assert runtimes.open_streams == 0
    assert [(entry.result, entry.subject.name) for entry in audit.entries] == [
        (AuditResult.BEGUN, ""),
        (AuditResult.DONE, SPEC_NAME),
    ]


def test_a_build_that_fails_succeeds_as_a_call() -> None:
    error = InvalidRequest(
        "cannot build runtime: libstdc++6 is missing", reason="RUNTIME_LIBRARY", hint="add it"
    )
    runtimes, audit = FakeRuntimes(events=[EVENTS[0], BuildDone(1.0, error=error)]), FakeAuditLog()
    *_, end = stream(runtimes, BUILD, pb.BuildRuntimeRequest(yaml_content=VALID, dry_run=True), audit)
    result = end.result
    assert (result.success, result.message, result.reason, result.hint) == (
        False,
        str(error),
        "RUNTIME_LIBRARY",
        "add it",
    )
    assert (result.runtime_name, result.runtime_version, result.digest) == ("python-3.11-ml", "1.0.0", "")
    assert audit.entries[-1].result is AuditResult.FAILED
    assert runtimes.calls[0] == ("build", VALID, BuildOptions(dry_run=True), "local")


def test_a_build_that_cannot_begin_is_an_error_of_the_call() -> None:
    runtimes = FakeRuntimes(error=LimitReached("too many builds", reason="RUNTIME_TOO_MANY_BUILDS"))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        stream(runtimes, BUILD, pb.BuildRuntimeRequest(yaml_content=VALID))
    assert reason_of(refused.value) == "RUNTIME_TOO_MANY_BUILDS"


def test_builds_are_listed_followed_locked_and_canceled() -> None:
    runtimes = FakeRuntimes(events=list(EVENTS))

    async def run(caller: Caller) -> tuple[Any, Any]:
        builds = await caller.unary("AgentService/GetRuntimeBuilds")
        canceled = await caller.unary(
            "AgentService/CancelRuntimeBuild", pb.CancelRuntimeBuildRequest(build=SPEC_NAME)
        )
        return builds.builds, canceled.build

    async def serve() -> tuple[Any, Any]:
        async with serving(FakeJobs(), runtimes=runtimes) as caller:
            return await run(caller)

    (build,), canceled = asyncio.run(serve())
    assert build == canceled
    assert (build.name, build.version, build.phase.phase_number, build.started_by) == (
        "python-3.11-ml",
        "1.0.0",
        9,
        "alice",
    )
    request = pb.FollowRuntimeBuildRequest(build="b0")
    first, *_ = stream(runtimes, "AgentService/FollowRuntimeBuild", request)
    assert (first.phase.build_id, first.phase.joined) == ("b0", True)
    *_, end = stream(runtimes, "AgentService/LockRuntime", pb.LockRuntimeRequest(yaml_content=VALID))
    assert end.result.lock == "suite: bookworm\n"
    assert [call for call in runtimes.calls if call[0] in {"cancel", "attach", "build"}] == [
        ("cancel", SPEC_NAME),
        ("attach", "b0"),
        ("build", VALID, BuildOptions(only_lock=True), "local"),
    ]


def test_verification_and_collection() -> None:
    runtimes = FakeRuntimes(damages=(Damage("usr/bin/python3", "has another content"),))
    (verdict,) = stream(runtimes, "AgentService/VerifyRuntime", pb.VerifyRuntimeRequest())
    assert verdict == pb.VerifyRuntimeResponse(
        runtime=PINNED,
        damages=[pb.RuntimeDamage(path="/usr/bin/python3", what="has another content")],
        size_bytes=2**20,
    )
    assert ask(runtimes, "AgentService/GcRuntimes") == pb.GcRuntimesResponse(
        trees=1, objects=2, freed_bytes=3
    )


def test_an_archive_is_sent_with_its_digest_and_let_go_of() -> None:
    runtimes = FakeRuntimes()
    answers = stream(
        runtimes, "AgentService/ExportRuntime", pb.ExportRuntimeRequest(runtime="python-3.11-ml")
    )
    assert answers == [
        pb.ExportRuntimeResponse(runtime=PINNED, size_bytes=6),
        pb.ExportRuntimeResponse(content=b"one"),
        pb.ExportRuntimeResponse(offset=3, content=b"two"),
        pb.ExportRuntimeResponse(sha256=b"s" * 32),
    ]
    assert runtimes.open_streams == 0


def imported(runtimes: FakeRuntimes, requests: Sequence[pb.ImportRuntimeRequest], audit: FakeAuditLog) -> Any:
    async def run() -> Any:
        async with serving(FakeJobs(), runtimes=runtimes, audit=audit) as caller:
            return await caller.upload("AgentService/ImportRuntime", requests)

    return asyncio.run(run())


START = pb.ImportRuntimeRequest(
    start=pb.ImportRuntimeStart(name="n", version="1.0.0", force=True, sha256="AB" * 32, size_bytes=6)
)


def test_an_archive_is_taken_in() -> None:
    runtimes, audit = FakeRuntimes(), FakeAuditLog()
    pieces = [pb.ImportRuntimeRequest(content=b"one"), pb.ImportRuntimeRequest(offset=3, content=b"two")]
    reply = imported(runtimes, [START, *pieces], audit)
    assert (reply.runtime.digest, list(reply.notes)) == (DIGEST, ["left out: a device (1)"])
    assert runtimes.received == b"onetwo"
    assert runtimes.calls == [("import", ImportWanted("n", "1.0.0", True, "ab" * 32, 6))]
    assert [(entry.result, entry.subject.name) for entry in audit.entries] == [
        (AuditResult.BEGUN, "n"),
        (AuditResult.DONE, "python-3.11-ml"),
    ]


@pytest.mark.parametrize(
    ("requests", "reason"),
    [
        ([], "START_MISSING"),
        ([pb.ImportRuntimeRequest(content=b"x")], "START_MISSING"),
        ([START, START], "SECOND_START"),
    ],
)
def test_a_stream_that_is_no_archive_is_refused(requests: list[pb.ImportRuntimeRequest], reason: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        imported(FakeRuntimes(), requests, FakeAuditLog())
    assert reason_of(refused.value) == reason


GITHUB = "RuntimeService/InstallRuntimeFromGithub"
STREAMING_GITHUB = "RuntimeService/StreamingInstallRuntimeFromGithub"
LOCAL = "RuntimeService/InstallRuntimeFromLocal"
STREAMING_LOCAL = "RuntimeService/StreamingInstallRuntimeFromLocal"
STEPS: list[Any] = [
    InstallStep(1, 5, "Reading the index"),
    InstallLog("1 MB of 2 MB"),
    Installed(RUNTIME, False),
]


def test_an_installation_answers_what_is_there() -> None:
    runtimes = FakeRuntimes(installed=STEPS)
    request = pb.InstallRuntimeRequest(runtime_spec="python-3.11-ml", repository="o/r", force_reinstall=True)
    reply = ask(runtimes, GITHUB, request)
    assert (reply.runtime_spec, reply.status, reply.repository) == (SPEC_NAME, "installed", "o/r")
    assert (reply.resolved_path, reply.runtime) == (f"/trees/{DIGEST}", PINNED)
    assert runtimes.calls == [("install", "python-3.11-ml", "o/r", True)]


def test_an_installation_is_told_step_by_step() -> None:
    runtimes = FakeRuntimes(installed=STEPS)
    request = pb.InstallRuntimeRequest(runtime_spec="x", registry_url="https://example.org")
    step, log, end = stream(runtimes, STREAMING_GITHUB, request)
    assert (step.progress.step, step.progress.total_steps, step.progress.message) == (
        1,
        5,
        "Reading the index",
    )
    assert log.log.data == b"1 MB of 2 MB\n"
    assert (end.result.success, end.result.runtime_spec) == (True, SPEC_NAME)
    assert end.result.install_path == f"/trees/{DIGEST}"


def test_files_of_the_caller_are_installed() -> None:
    runtimes = FakeRuntimes(installed=[Installed(RUNTIME, True)])
    request = pb.InstallRuntimeFromLocalRequest(
        runtime_spec="x", files=[pb.RuntimeFile(path="a.tar", content=b"x", executable=True)]
    )
    assert ask(runtimes, LOCAL, request).status == "already-installed"
    (end,) = stream(runtimes, STREAMING_LOCAL, request)
    assert "was there already" in end.result.message
    assert runtimes.calls == [("install_files", "x", (LocalFile("a.tar", b"x"),), False)] * 2


def test_an_installation_that_fails_is_told_by_its_last_chunk() -> None:
    error = WrongState("the archive has another SHA-256", reason="RUNTIME_DIGEST_MISMATCH", hint="ask")
    runtimes, audit = FakeRuntimes(error=error), FakeAuditLog()
    (end,) = stream(runtimes, STREAMING_GITHUB, pb.InstallRuntimeRequest(runtime_spec="x"), audit)
    assert (end.result.success, end.result.message, end.result.reason, end.result.hint) == (
        False,
        str(error),
        "RUNTIME_DIGEST_MISMATCH",
        "ask",
    )
    assert audit.entries[-1].result is AuditResult.FAILED
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        ask(runtimes, GITHUB, pb.InstallRuntimeRequest(runtime_spec="x"))
    assert reason_of(refused.value) == "RUNTIME_DIGEST_MISMATCH"


def test_two_registries_are_refused() -> None:
    request = pb.InstallRuntimeRequest(runtime_spec="x", repository="o/r", registry_url="https://example.org")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        ask(FakeRuntimes(), GITHUB, request)
    assert reason_of(refused.value) == "TWO_REGISTRIES"


def test_what_a_registry_offers() -> None:
    runtimes = FakeRuntimes()
    request = pb.GetOfferedRuntimesRequest(registry_url="https://example.org")
    reply = ask(runtimes, "AgentService/GetOfferedRuntimes", request)
    assert reply.registry_url == "https://example.org/registry.json"
    assert [(each.name, list(each.versions)) for each in reply.runtimes] == [("go-1.24", ["1.1.0", "1.0.0"])]
