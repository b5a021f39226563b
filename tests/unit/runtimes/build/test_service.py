"""Builds from their request to their end."""

import asyncio
import errno
from contextlib import aclosing
from pathlib import Path

import pytest

from joblet_agent.errors import InvalidRequest, LimitReached, NotFound, WrongState
from joblet_agent.runtime_file.lock import load_lock
from joblet_agent.runtimes.build import service
from joblet_agent.runtimes.build.events import PHASES, BuildPhase, LogLevel, LogLine
from joblet_agent.runtimes.build.means import Checked
from joblet_agent.runtimes.build.records import BuildOptions
from joblet_agent.runtimes.build.service import BuildHandle, RuntimeBuilder
from joblet_agent.runtimes.build.step import StepEnd
from tests.fakes.builds import SUCCESS
from tests.unit.runtimes.build.rig import DEFINITION, Host, built, end_of, events, life, lines, phases

BARE = 'schema_version: "1.1"\nname: bare\nversion: 1.0.0\nsuite: bookworm\n'


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


async def waits(handle: BuildHandle) -> None:
    """Wait until the build says that others come first."""
    async with aclosing(handle.follow()) as told:
        async for event in told:
            if isinstance(event, LogLine) and "(runtimes.max_builds)" in event.text:
                return
    pytest.fail("it did not wait")


def test_a_build_has_fourteen_phases_and_one_end(host: Host) -> None:
    async def case(builder: RuntimeBuilder) -> None:
        told = await events(await builder.build(DEFINITION, BuildOptions()))
        assert [(phase.number, phase.total) for phase in phases(told)] == [(n, 14) for n in range(1, 15)]
        assert [phase.name for phase in phases(told)] == [phase.value for phase in PHASES]
        assert [phase.number for phase in phases(told) if phase.skipped] == [8]
        times = [phase.seconds for phase in phases(told)]
        assert times == sorted(times)
        end = end_of(told)
        assert end.is_success
        assert end.runtime is not None
        assert len(end.phase_seconds) == 14
        assert str(end.runtime.facts) == "small@1.0.0"
        assert end.runtime.facts.lock == end.lock
        assert end.runtime.facts.packages == (
            *("libc6=2.36-9", "python3=3.11.2-1+b1", "six=1.16.0", "left-pad=1.3.0"),
        )
        assert host.left() == []
        assert host.units.history == [
            *("pre-install", "packages", "pip", "npm", "files", "normalise", "check-tree"),
        ]

    life(host, case)


def test_phases_without_work_say_so(host: Host) -> None:
    async def case(builder: RuntimeBuilder) -> None:
        told = await events(await builder.build(BARE, BuildOptions()))
        assert len(phases(told)) == 14
        assert [phase.number for phase in phases(told) if phase.skipped] == [6, 8, 9, 10, 11]
        assert all(phase.message.startswith("skipped: ") for phase in phases(told) if phase.skipped)

    life(host, case)


def test_a_definition_with_faults_ends_in_its_first_phase(host: Host) -> None:
    async def case(builder: RuntimeBuilder) -> None:
        handle = await builder.build("name: ../../etc\nwhat: 1\n", BuildOptions())
        end = end_of(await events(handle))
        assert end.error is not None
        assert (end.error.reason, end.phase) == ("RUNTIME_DEFINITION_INVALID", BuildPhase.PARSE)
        assert "what" in end.message
        assert "name" in end.message
        assert builder.all() == ()

    life(host, case)


def test_what_is_there_is_not_built_again_unless_forced(host: Host) -> None:
    async def case(builder: RuntimeBuilder) -> None:
        first = await built(builder)
        host.units.history.clear()
        told = await events(await builder.build(DEFINITION, BuildOptions()))
        assert end_of(told).runtime == first.runtime
        assert [phase.number for phase in phases(told) if phase.skipped] == list(range(3, 15))
        assert host.units.history == []
        again = await built(builder, force=True)
        assert again.is_success
        assert host.units.history != []

    life(host, case)


def test_a_dry_run_shows_the_plan_and_changes_nothing(host: Host) -> None:
    async def case(builder: RuntimeBuilder) -> None:
        told = await events(await builder.build(DEFINITION, BuildOptions(dry_run=True)))
        assert [phase.number for phase in phases(told) if phase.skipped] == list(range(4, 15))
        assert {"base: debian bookworm", "pip: six==1.16.0", "test: python3 -c 1"} <= set(lines(told))
        assert end_of(told).is_success
        assert (host.names(), host.left(), host.units.history) == ([], [], [])

    life(host, case)


def test_a_dry_run_on_another_architecture_fails(host: Host) -> None:
    async def case(builder: RuntimeBuilder) -> None:
        end = await built(builder, BARE + "architectures: [arm64]\n", dry_run=True)
        assert end.error is not None
        assert (end.error.reason, end.phase) == ("RUNTIME_BUILD_ARCHITECTURE", BuildPhase.CHECK_HOST)

    life(host, case)


def test_tools_that_the_host_lacks_are_named(host: Host) -> None:
    host.maker.missing = ["mmdebstrap", "uidmap"]

    async def case(builder: RuntimeBuilder) -> None:
        end = await built(builder)
        assert end.error is not None
        assert (end.error.reason, end.error.hint) == ("RUNTIME_TOOL_MISSING", "apt install mmdebstrap uidmap")

    life(host, case)


def test_the_second_build_of_a_name_follows_the_first(host: Host) -> None:
    host.units.does["packages"] = lambda step: (host.install(step), None)[1]

    async def case(builder: RuntimeBuilder) -> None:
        first = await builder.build(DEFINITION, BuildOptions())
        await host.units.started("packages")
        second = await builder.build(DEFINITION, BuildOptions())
        assert (second.id, first.is_shared, second.is_shared) == (first.id, False, True)
        following = asyncio.gather(events(first), events(second))
        host.units.finish()
        told, others = await following
        assert told == others
        assert host.units.history.count("packages") == 1

    life(host, case)


def test_another_definition_of_a_name_that_is_being_built_is_refused(host: Host) -> None:
    host.units.does["packages"] = lambda _step: None

    async def case(builder: RuntimeBuilder) -> None:
        await builder.build(DEFINITION, BuildOptions())
        end = await built(builder, DEFINITION + "\n")
        assert end.error is not None
        assert (end.error.reason, type(end.error)) == ("RUNTIME_BUILD_DIFFERS", WrongState)

    life(host, case)


def test_builds_wait_for_their_turn_and_say_so(host: Host) -> None:
    host.units.does["packages"] = lambda step: (host.install(step), None)[1]

    async def case(builder: RuntimeBuilder) -> None:
        first = await builder.build(DEFINITION, BuildOptions())
        await host.units.started("packages")
        second = await builder.build(BARE, BuildOptions())
        await waits(second)
        assert [build.waiting for build in builder.all()] == [False, True]
        assert host.units.history.count("packages") == 1
        host.units.does["packages"] = host.install
        host.units.finish()
        assert end_of(await events(first)).is_success
        assert end_of(await events(second)).is_success

    life(host, case)


def test_cancel_leaves_nothing(host: Host) -> None:
    host.units.does["packages"] = lambda _step: None

    async def case(builder: RuntimeBuilder) -> None:
        handle = await builder.build(DEFINITION, BuildOptions(detach=True))
        await host.units.started("packages")
        status = await builder.cancel("small@1.0.0")
        assert (status.id, status.ended, status.phase) == (handle.id, True, BuildPhase.PACKAGES)
        assert (host.left(), host.names(), builder.all()) == ([], [], ())
        end = end_of(await events(await builder.attach(handle.id)))
        assert end.error is not None
        assert (end.error.reason, end.phase) == ("RUNTIME_BUILD_CANCELED", BuildPhase.PACKAGES)
        assert (await builder.cancel("small")).ended
        with pytest.raises(NotFound) as unknown:
            await builder.cancel("other")
        assert unknown.value.reason == "RUNTIME_BUILD_NOT_FOUND"

    life(host, case)


def test_a_build_that_waits_is_canceled_without_a_trace(host: Host) -> None:
    host.units.does["packages"] = lambda _step: None

    async def case(builder: RuntimeBuilder) -> None:
        await builder.build(DEFINITION, BuildOptions(detach=True))
        await host.units.started("packages")
        await waits(await builder.build(BARE, BuildOptions(detach=True)))
        await builder.cancel("bare")
        await builder.cancel("small")
        assert host.left() == []

    life(host, case)


def test_cancel_while_the_runtime_is_stored_comes_too_late(host: Host) -> None:
    async def case(builder: RuntimeBuilder) -> None:
        def cancel() -> None:
            host.canceling = asyncio.create_task(builder.cancel("small"))  # type: ignore[attr-defined]

        host.store.adding = cancel
        handle = await builder.build(DEFINITION, BuildOptions())
        assert end_of(await events(handle)).is_success
        with pytest.raises(WrongState) as late:
            await host.canceling  # type: ignore[attr-defined]
        assert late.value.reason == "RUNTIME_BUILD_ENDED"
        assert (host.names(), host.left()) == (["small@1.0.0"], [])

    life(host, case)


def test_a_build_that_nobody_follows_any_more_ends(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "GRACE", 0.0)
    host.units.does["packages"] = lambda _step: None

    async def case(builder: RuntimeBuilder) -> None:
        handle = await builder.build(DEFINITION, BuildOptions())
        other = await builder.attach("small")
        async with aclosing(other.follow()) as staying:
            await anext(staying)
            async with aclosing(handle.follow()) as going:
                await anext(going)
            await host.units.started("packages")
            assert builder.all()[0].id == handle.id
        await asyncio.gather(*builder._running.values())
        end = end_of(await events(handle))
        assert end.error is not None
        assert "nobody follows it any more" in end.message
        assert host.left() == []

    life(host, case)


def test_a_detached_build_goes_on_by_itself(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "GRACE", 0.0)

    async def case(builder: RuntimeBuilder) -> None:
        handle = await builder.build(DEFINITION, BuildOptions(detach=True))
        await asyncio.gather(*builder._running.values())
        assert end_of(await events(await builder.attach(handle.id))).is_success

    life(host, case)


def test_too_many_builds_are_refused(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MOST_BUILDS", 1)
    host.units.does["packages"] = lambda _step: None

    async def case(builder: RuntimeBuilder) -> None:
        await builder.build(DEFINITION, BuildOptions())
        with pytest.raises(LimitReached) as refused:
            await builder.build(BARE, BuildOptions())
        assert refused.value.reason == "RUNTIME_TOO_MANY_BUILDS"

    life(host, case)


@pytest.mark.parametrize(
    "step", ["pre-install", "packages", "pip", "npm", "files", "normalise", "check-tree"]
)
@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (StepEnd(1, "exit-code", is_full=True), "RUNTIME_BUILD_DISK_FULL"),
        (StepEnd(137, "timeout"), "RUNTIME_BUILD_TIMEOUT"),
        (StepEnd(137, "oom-kill"), "RUNTIME_BUILD_MEMORY"),
        (StepEnd(137, "gone"), "RUNTIME_BUILD_STEP_LOST"),
    ],
)
def test_a_step_that_fails_ends_the_build_and_nothing_is_left(
    host: Host, step: str, end: StepEnd, reason: str
) -> None:
    host.units.does[step] = lambda _step: end

    async def case(builder: RuntimeBuilder) -> None:
        done = await built(builder)
        assert done.error is not None
        assert done.error.reason == reason
        assert done.phase is not None
        assert done.phase.name.lower().replace("_", "-") == step
        assert (host.left(), host.names()) == ([], [])

    life(host, case)


def test_a_disk_that_is_full_for_the_agent_ends_the_build(host: Host) -> None:
    host.refused_tree = OSError(errno.ENOSPC, "No space left on device", "/x")

    async def case(builder: RuntimeBuilder) -> None:
        done = await built(builder)
        assert done.error is not None
        assert (done.error.reason, done.phase) == ("RUNTIME_BUILD_DISK_FULL", BuildPhase.NORMALISE)
        assert (host.left(), host.names()) == ([], [])

    life(host, case)


def test_a_tree_that_is_refused_ends_the_build(host: Host) -> None:
    host.refused_tree = InvalidRequest("cannot take the tree: /x is a device", reason="RUNTIME_TREE_REFUSED")

    async def case(builder: RuntimeBuilder) -> None:
        done = await built(builder)
        assert done.error is not None
        assert (done.error.reason, done.phase) == ("RUNTIME_TREE_REFUSED", BuildPhase.NORMALISE)

    life(host, case)


def test_libraries_that_are_missing_are_the_error_with_the_package_that_helps(host: Host) -> None:
    host.maker.checked = Checked(("/usr/bin/x needs libfoo.so.1",), ("a warning",), "apt: [libfoo1]")

    async def case(builder: RuntimeBuilder) -> None:
        told = await events(await builder.build(DEFINITION, BuildOptions()))
        end = end_of(told)
        assert end.error is not None
        assert (end.error.reason, end.error.hint) == ("RUNTIME_BUILD_LIBRARY_MISSING", "apt: [libfoo1]")
        assert "libfoo.so.1" in end.message
        assert "a warning" in lines(told)
        assert host.names() == []

    life(host, case)


def test_its_time_is_over(host: Host) -> None:
    host.units.does["packages"] = lambda _step: None

    async def case(builder: RuntimeBuilder) -> None:
        handle = await builder.build(DEFINITION + "limits: {time: 1s}\n", BuildOptions())
        done = end_of(await events(handle))
        assert done.error is not None
        assert (done.error.reason, done.phase) == ("RUNTIME_BUILD_TIMEOUT", BuildPhase.PACKAGES)
        assert host.left() == []

    life(host, case)


def test_debug_lines_come_when_asked_for(host: Host) -> None:
    host.units.says["packages"] = ["Get:1 something", "W: careful"]
    host.units.says["pip"] = ["Collecting six"]

    async def case(builder: RuntimeBuilder) -> None:
        handle = await builder.build(DEFINITION, BuildOptions())
        quiet, verbose = await asyncio.gather(events(handle), events(handle, verbose=True))
        assert "Get:1 something" not in lines(quiet)
        assert {"W: careful", "Collecting six"} <= set(lines(quiet))
        levels = {event.text: event.level for event in verbose if isinstance(event, LogLine)}
        assert levels["Get:1 something"] is LogLevel.DEBUG
        assert levels["W: careful"] is LogLevel.WARN

    life(host, case)


def test_the_size_is_the_definitions_up_to_the_hosts(host: Host) -> None:
    async def case(builder: RuntimeBuilder) -> None:
        await built(builder, BARE + "limits: {disk: 100MB}\n")
        await built(builder, BARE.replace("1.0.0", "1.0.1") + "limits: {disk: 100TB}\n")
        assert host.units.sizes == [100 * 1024 * 1024, host.config.max_disk]

    life(host, case)


def test_a_runtime_as_base_is_copied_and_held(host: Host, tmp_path: Path) -> None:
    base = tmp_path / "base"
    (base / "usr/bin").mkdir(parents=True)
    (base / "usr/bin/tool").write_text("tool")
    (base / "usr/bin/tool").chmod(0o755)
    (base / "bin").symlink_to("usr/bin")

    async def case(builder: RuntimeBuilder) -> None:
        first = await built(builder, BARE)
        assert first.runtime is not None
        host.store.trees[first.runtime.digest] = base
        seen: list[object] = []

        def look(step: object) -> StepEnd:
            tree = step.place.tree  # type: ignore[attr-defined]
            tool = tree / "usr/bin/tool"
            seen.extend([tool.read_text(), tool.stat().st_mode & 0o777, tool.stat().st_nlink])
            seen.extend([str((tree / "bin").readlink()), list(host.store.held)])
            return SUCCESS

        host.units.does["files"] = look
        text = 'schema_version: "1.1"\nname: on-top\nversion: 1.0.0\nfrom: bare@1.0.0\n'
        done = await built(builder, text + "hooks: {post_install: ls}\n")
        assert done.runtime is not None
        assert seen == ["tool", 0o755, 1, "usr/bin", [first.runtime.digest]]
        assert done.runtime.facts.base == first.runtime.digest
        assert load_lock(done.lock).base == f"sha256:{first.runtime.digest}"
        assert host.store.held == []
        missing = await built(builder, text.replace("bare@1.0.0", "none@1.0.0").replace("on-top", "other"))
        assert missing.error is not None
        assert (missing.error.reason, missing.phase) == ("RUNTIME_UNKNOWN", BuildPhase.RESOLVE_BASE)

    life(host, case)


def test_a_runtime_on_another_has_its_variables_test_and_language(host: Host, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()

    async def case(builder: RuntimeBuilder) -> None:
        head = 'schema_version: "1.1"\nversion: 1.0.0\n'
        base = head + 'name: below\nbase: {language: java, version: "21"}\nenvironment: {A: a, B: b}\n'
        below = (await built(builder, base + "gpu: {required: true}\n")).runtime
        assert below is not None
        host.store.trees[below.digest] = tmp_path / "below"
        done = await built(builder, head + "name: on-top\nfrom: below@1.0.0\nenvironment: {B: own}\n")
        assert done.runtime is not None
        facts = done.runtime.facts
        assert facts.environment["JAVA_HOME"] == "/usr/lib/jvm/default-java"
        assert (facts.environment["A"], facts.environment["B"]) == ("a", "own")
        assert (facts.language, facts.language_version, facts.needs_gpu) == ("java", "21", True)
        assert "javac" in facts.test

    life(host, case)


def test_an_image_as_base(host: Host) -> None:
    async def case(builder: RuntimeBuilder) -> None:
        image = f"docker://registry.example/x@{host.images.digest}"
        text = f'schema_version: "1.1"\nname: image\nversion: 1.0.0\nimage: {image}\n'
        text += "environment: {OWN: x}\n"
        told = await events(await builder.build(text, BuildOptions()))
        done = end_of(told)
        assert done.runtime is not None, done.error
        assert load_lock(done.lock).base == host.images.digest
        assert done.runtime.facts.environment == {"PATH": "/image/bin", "OF_IMAGE": "1", "OWN": "x"}
        assert "left out: variable LD_PRELOAD" in [each.text for each in told if isinstance(each, LogLine)]

    life(host, case)
