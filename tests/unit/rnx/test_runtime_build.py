"""rnx runtime build, attach, cancel, lock: what is shown, what ends what, which lock file counts."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from rnx.runtimes.building import BuildFollower, BuildScreen, interrupted
from tests.unit.rnx.conftest import Rnx
from tests.unit.rnx.fake_agent import FakeAgent, failure

DEFINITION = 'schema_version: "1.1"\nname: x\nversion: 1.0.0\nbase: {language: python, version: "3.11"}\n'
DIGEST = "ab" * 32


def phase(number: int, name: str, message: str = "", **more: Any) -> pb.BuildRuntimeProgress:
    told = pb.BuildPhaseProgress(
        phase_number=number, total_phases=14, phase_name=name, message=message, build_id="b0", **more
    )
    return pb.BuildRuntimeProgress(phase=told)


def log(text: str, level: str = "info", at: int = 0) -> pb.BuildRuntimeProgress:
    return pb.BuildRuntimeProgress(log=pb.BuildLogLine(level=level, message=text, timestamp=at))


def end(*, success: bool = True, **more: Any) -> pb.BuildRuntimeProgress:
    return pb.BuildRuntimeProgress(result=pb.BuildResult(success=success, build_id="b0", **more))


BUILT = end(
    message="built",
    runtime_name="x",
    runtime_version="1.0.0",
    digest=DIGEST,
    size_bytes=1 << 20,
    install_path="/trees/ab",
    build_duration_ms=61_000,
)
EVENTS = [
    phase(1, "parse", "reading the definition"),
    log("numpy has no version", "warn", 1),
    phase(2, "validate", elapsed_ms=100),
    phase(3, "distribution packages", "skipped: nothing to do", skipped=True, elapsed_ms=2600),
    BUILT,
]


@pytest.fixture
def definition(tmp_path: Path) -> Path:
    path = tmp_path / "runtime.yaml"
    path.write_text(DEFINITION)
    return path


def building(*events: pb.BuildRuntimeProgress) -> Callable[[Any, Any], Iterator[pb.BuildRuntimeProgress]]:
    return lambda _, __: iter(events)


def test_a_build_is_shown_phase_by_phase(agent: FakeAgent, rnx: Rnx, definition: Path) -> None:
    agent.answers["BuildRuntime"] = building(*EVENTS)
    result = rnx("runtime", "build", "-f", str(definition))
    assert result.status == 0
    assert result.err.splitlines() == [
        "[ 1/14] parse: reading the definition",
        "    warning: numpy has no version",
        "[ 2/14] validate",
        "[ 2/14] took 2.5s",
        "[ 3/14] distribution packages: skipped, nothing to do",
    ]
    assert result.out.splitlines() == [
        "Runtime built successfully",
        "Runtime: x@1.0.0",
        "Message: built",
        f"Digest: {DIGEST}",
        "Size: 1.0MB",
        "Path: /trees/ab",
        "Time: 1.0m",
        "Use it: rnx run --runtime=x@1.0.0 COMMAND",
    ]
    assert agent.asked("BuildRuntime") == [pb.BuildRuntimeRequest(yaml_content=DEFINITION)]


def test_a_build_for_programs(agent: FakeAgent, rnx: Rnx, definition: Path) -> None:
    agent.answers["BuildRuntime"] = building(*EVENTS)
    data = json.loads(rnx("--json", "runtime", "build", "-f", str(definition)).out)
    assert (data["success"], data["name"], data["digest"]) == (True, "x", DIGEST)


def test_flags_reach_the_agent(agent: FakeAgent, rnx: Rnx, definition: Path) -> None:
    agent.answers["BuildRuntime"] = building(BUILT)
    (definition.parent / "other.lock").write_text("lock text")
    words = ["--locked", f"--lock={definition.parent / 'other.lock'}", "--dry-run", "--force", "-v"]
    assert rnx("runtime", "build", "-f", str(definition), *words).status == 0
    assert agent.asked("BuildRuntime") == [
        pb.BuildRuntimeRequest(
            yaml_content=DEFINITION,
            dry_run=True,
            verbose=True,
            force_rebuild=True,
            locked=True,
            lock="lock text",
        )
    ]


def test_a_failed_build_tells_all_of_its_message(agent: FakeAgent, rnx: Rnx, definition: Path) -> None:
    message = "cannot build runtime x@1.0.0: libstdc++6 is missing\n/opt/runtime/a.so\n/opt/runtime/b.so"
    agent.answers["BuildRuntime"] = building(EVENTS[0], end(success=False, message=message, hint="add it"))
    result = rnx("runtime", "build", "-f", str(definition))
    assert (result.status, result.out) == (1, "")
    assert result.err.splitlines()[1:] == [
        "rnx: cannot build runtime x@1.0.0: libstdc++6 is missing",
        "/opt/runtime/a.so",
        "/opt/runtime/b.so",
        "hint: add it",
    ]


def test_a_wrong_definition_is_told_line_by_line_before_sending(
    agent: FakeAgent, rnx: Rnx, definition: Path
) -> None:
    definition.write_text(DEFINITION.replace("name: x", "name: X!") + "pipp: [a]\n")
    result = rnx("runtime", "build", "-f", str(definition))
    assert (result.status, agent.requests) == (1, [])
    first, *lines = result.err.splitlines()
    assert first == "rnx: runtime definition is invalid"
    assert [line.split(": ")[0] for line in lines] == [f"{definition}:2:7", f"{definition}:5:1"]


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        ([], 2, "Missing option '-f' / '--file'"),
        (["-f", "missing.yaml"], 1, "cannot read the definition missing.yaml: No such file or directory"),
        (
            ["-f", "runtime.yaml", "--locked"],
            2,
            "cannot build with --locked: there is no lock file runtime.lock",
        ),
        (["-f", "runtime.yaml", "--lock=no.lock"], 1, "cannot read the lock file no.lock"),
        (["-f", "runtime.yaml", "--detach", "--dry-run"], 2, "--detach and --dry-run exclude each other"),
        (["-f", "big.yaml"], 1, "it has more than 1048576 bytes"),
        (["-f", "binary.yaml"], 1, "not UTF-8"),
    ],
)
def test_a_wrong_line_is_refused_before_sending(
    agent: FakeAgent, rnx: Rnx, definition: Path, words: list[str], status: int, text: str
) -> None:
    (definition.parent / "big.yaml").write_bytes(b" " * (1 << 20) + b" ")
    (definition.parent / "binary.yaml").write_bytes(b"\xff\xfe")
    result = rnx("runtime", "build", *words)
    assert (result.status, result.out, agent.requests) == (status, "", [])
    assert text in result.err


def test_the_lock_beside_the_definition_counts_with_locked_alone(
    agent: FakeAgent, rnx: Rnx, definition: Path
) -> None:
    agent.answers["BuildRuntime"] = building(BUILT)
    (definition.parent / "runtime.lock").write_text("beside")
    rnx("runtime", "build", "-f", str(definition))
    rnx("runtime", "build", "-f", str(definition), "--locked")
    assert [(each.lock, each.locked) for each in agent.asked("BuildRuntime")] == [
        ("", False),
        ("beside", True),
    ]


def test_the_lock_that_the_definition_names_counts_always(
    agent: FakeAgent, rnx: Rnx, definition: Path
) -> None:
    agent.answers["BuildRuntime"] = building(BUILT)
    definition.write_text(DEFINITION + "lock: named.lock\n")
    rnx("runtime", "build", "-f", str(definition))
    (definition.parent / "named.lock").write_text("named")
    rnx("runtime", "build", "-f", str(definition))
    assert [each.lock for each in agent.asked("BuildRuntime")] == ["", "named"]


def test_a_detached_build_leaves_its_id(agent: FakeAgent, rnx: Rnx, definition: Path) -> None:
    agent.answers["BuildRuntime"] = building(*EVENTS)
    result = rnx("runtime", "build", "-f", str(definition), "--detach")
    assert (result.status, result.out) == (0, "b0\n")
    assert result.err == "rnx: rnx runtime attach b0 follows the build\n"
    assert [each.detach for each in agent.asked("BuildRuntime")] == [True]
    agent.answers["BuildRuntime"] = building(end(success=False, message="too small"))
    assert rnx("runtime", "build", "-f", str(definition), "--detach").status == 1


def waiting(*events: pb.BuildRuntimeProgress) -> Callable[[Any, Any], Iterator[pb.BuildRuntimeProgress]]:
    """Send events, and go on until the caller is gone."""

    def answer(_: Any, context: Any) -> Iterator[pb.BuildRuntimeProgress]:
        gone = threading.Event()
        context.add_callback(gone.set)
        yield from events
        gone.wait(20)

    return answer


@pytest.fixture
def ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Ctrl-C pressed when something has been shown."""
    show = BuildScreen.show

    def shown(self: BuildScreen, event: Any) -> None:
        show(self, event)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(BuildScreen, "show", shown)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_cancels_a_build_of_ones_own(agent: FakeAgent, rnx: Rnx, definition: Path) -> None:
    agent.answers["BuildRuntime"] = waiting(EVENTS[0])
    agent.answers["CancelRuntimeBuild"] = pb.CancelRuntimeBuildResponse(build=pb.RuntimeBuild(build_id="b0"))
    result = rnx("runtime", "build", "-f", str(definition))
    assert (result.status, result.out) == (130, "")
    assert result.err.splitlines()[-2:] == [
        "rnx: canceling the build",
        "rnx: the build is canceled, nothing of it is left",
    ]
    assert agent.asked("CancelRuntimeBuild") == [pb.CancelRuntimeBuildRequest(build="b0")]


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_leaves_the_build_of_somebody_else_alone(agent: FakeAgent, rnx: Rnx, definition: Path) -> None:
    agent.answers["BuildRuntime"] = waiting(phase(1, "parse", joined=True))
    result = rnx("runtime", "build", "-f", str(definition))
    assert result.status == 130
    assert result.err.endswith("rnx: the build goes on; rnx runtime attach b0 follows it\n")
    agent.answers["FollowRuntimeBuild"] = waiting(EVENTS[0])
    assert rnx("runtime", "attach", "x").status == 130
    assert agent.asked("CancelRuntimeBuild") == []


def test_ctrl_c_before_the_first_answer_says_what_becomes_of_the_build(
    capsys: pytest.CaptureFixture[str],
) -> None:
    client: Any = None
    follower = BuildFollower(client, lambda: iter(()), verbose=False)
    assert interrupted(client, follower, cancels=True) == 130
    told = capsys.readouterr().err
    assert told == "rnx: no answer yet; a build that has begun ends within a minute by itself\n"


def test_a_lost_connection_is_found_again_and_nothing_is_shown_twice(
    agent: FakeAgent, rnx: Rnx, definition: Path
) -> None:
    def lost(_: Any, context: Any) -> Iterator[pb.BuildRuntimeProgress]:
        yield from EVENTS[:3]
        context.abort(grpc.StatusCode.UNAVAILABLE, "the agent is stopping")

    agent.answers["BuildRuntime"] = lost
    agent.answers["FollowRuntimeBuild"] = building(*EVENTS[:3], log("and on", at=2), *EVENTS[3:])
    result = rnx("runtime", "build", "-f", str(definition), "-v")
    assert result.status == 0
    assert [line.strip() for line in result.err.splitlines()] == [
        "[ 1/14] parse: reading the definition",
        "warning: numpy has no version",
        "[ 2/14] validate",
        "and on",
        "[ 2/14] took 2.5s",
        "[ 3/14] distribution packages: skipped, nothing to do",
    ]
    assert agent.asked("FollowRuntimeBuild") == [pb.FollowRuntimeBuildRequest(build="b0", verbose=True)]


def test_a_build_that_an_agent_had_hardly_begun_is_begun_again(
    agent: FakeAgent, rnx: Rnx, definition: Path
) -> None:
    asked: list[str] = []

    def lost_at_first(request: Any, context: Any) -> Iterator[pb.BuildRuntimeProgress]:
        asked.append("")
        yield EVENTS[0]
        if len(asked) == 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the agent is stopping")
        yield from building(*EVENTS)(request, context)

    agent.answers["BuildRuntime"] = lost_at_first
    agent.answers["FollowRuntimeBuild"] = failure(
        grpc.StatusCode.NOT_FOUND, "there is no build b0", "RUNTIME_BUILD_NOT_FOUND", ""
    )
    result = rnx("runtime", "build", "-f", str(definition))
    assert (result.status, len(asked)) == (0, 2)
    assert result.err.count("parse: reading the definition") == 1


def test_a_build_that_nobody_knows_any_more(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["FollowRuntimeBuild"] = failure(
        grpc.StatusCode.NOT_FOUND,
        "there is no build b0",
        "RUNTIME_BUILD_NOT_FOUND",
        "see: rnx runtime builds",
    )
    result = rnx("runtime", "attach", "b0")
    assert (result.status, result.err) == (1, "rnx: there is no build b0\nhint: see: rnx runtime builds\n")


def test_builds_are_listed_and_canceled(agent: FakeAgent, rnx: Rnx) -> None:
    running = pb.RuntimeBuild(
        build_id="b0",
        name="x",
        version="1.0.0",
        started_by="alice",
        phase=phase(7, "distribution packages").phase,
    )
    agent.answers["GetRuntimeBuilds"] = pb.GetRuntimeBuildsResponse(
        builds=[running, pb.RuntimeBuild(build_id="b1", name="y", version="2.0.0")]
    )
    _, _, first, second = rnx("runtime", "builds").out.splitlines()
    assert first.split() == ["b0", "x@1.0.0", "7/14", "distribution", "packages", "N/A", "alice"]
    assert second.split() == ["b1", "y@2.0.0", "waiting", "N/A", "-"]
    agent.answers["CancelRuntimeBuild"] = pb.CancelRuntimeBuildResponse(build=running)
    assert rnx("runtime", "cancel", "x").out == "Build of x@1.0.0 canceled\n"
    agent.answers["GetRuntimeBuilds"] = pb.GetRuntimeBuildsResponse()
    assert rnx("runtime", "builds").out == "No builds.\n"


def test_a_lock_is_written_where_it_belongs(agent: FakeAgent, rnx: Rnx, definition: Path) -> None:
    agent.answers["LockRuntime"] = building(EVENTS[0], end(lock="suite: bookworm\n"))
    assert (
        rnx("runtime", "lock", "-f", str(definition)).out == f"Locked: {definition.parent / 'runtime.lock'}\n"
    )
    assert (definition.parent / "runtime.lock").read_text() == "suite: bookworm\n"
    definition.write_text(DEFINITION + "lock: named.lock\n")
    rnx("runtime", "lock", "-f", str(definition))
    rnx("runtime", "lock", "-f", str(definition), "-o", "third.lock")
    assert rnx("runtime", "lock", "-f", str(definition), "-o", "-").out == "suite: bookworm\n"
    assert sorted(path.name for path in definition.parent.glob("*")) == [
        *("named.lock", "runtime.lock", "runtime.yaml", "third.lock"),
    ]


def test_a_lock_that_cannot_be_made_leaves_the_old_one(agent: FakeAgent, rnx: Rnx, definition: Path) -> None:
    lock = definition.parent / "runtime.lock"
    lock.write_text("old")
    agent.answers["LockRuntime"] = building(end(success=False, message="no such package: numpyy"))
    result = rnx("runtime", "lock", "-f", str(definition))
    assert (result.status, result.err) == (1, "rnx: no such package: numpyy\n")
    assert lock.read_text() == "old"


class Terminal:
    """Keeps what is written, and says that it is a terminal."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_a_phase_has_one_line_with_its_time() -> None:
    stream: Any = Terminal()
    with BuildScreen(stream) as screen:
        for event in EVENTS:
            screen.show(event)
    lines = stream.text.split("\n")
    seen = [line.rpartition("\r\x1b[K")[2] for line in lines]
    assert seen == [
        "    warning: numpy has no version",
        "[ 1/14] parse: reading the definition (0.1s)",
        "[ 2/14] validate (2.5s)",
        "[ 3/14] distribution packages: skipped, nothing to do",
        "",
    ]


def test_what_a_step_prints_cannot_act_on_a_terminal(agent: FakeAgent, rnx: Rnx, definition: Path) -> None:
    agent.answers["BuildRuntime"] = building(log("a\x1b[2Jb\tc\rd"), BUILT)
    assert "    a\\x1b[2Jb\tc\\rd\n" in rnx("runtime", "build", "-f", str(definition)).err
