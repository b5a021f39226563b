"""Agents that are killed, at every point that a build comes by, and the next agent."""

import asyncio
from pathlib import Path

import pytest

from joblet_agent.runtimes.build.events import PHASES
from joblet_agent.runtimes.build.records import BuildOptions
from joblet_agent.runtimes.build.service import RuntimeBuilder
from joblet_agent.runtimes.build.step import StepEnd
from tests.fakes.builds import Kill
from tests.sizes import size
from tests.unit.runtimes.build.rig import (
    DEFINITION,
    Host,
    built,
    end_of,
    events,
    killable,
    life,
    lines,
    phases,
)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def killed(host: Host, kill: Kill, text: str = DEFINITION) -> None:
    """Let an agent build until it is killed."""

    async def main() -> None:
        builder = host.builder()
        await builder.open()
        await builder.build(text, BuildOptions(detach=True))
        dying = asyncio.create_task(kill.happened.wait())
        await asyncio.wait([dying, *builder._running.values()], return_when=asyncio.FIRST_COMPLETED)

    undo = killable(kill, host)
    try:
        asyncio.run(main())  # what the process still wants to do at its end, the fakes do not do
    finally:
        undo()


def points(tmp_path: Path) -> list[str]:
    """The points that a build comes by."""
    kill, host = Kill(), Host(tmp_path / "whole")
    killed(host, kill)
    assert host.names() == ["small@1.0.0"]
    return kill.points


@pytest.mark.soak
def test_killed_at_every_point_a_build_goes_on_or_leaves_nothing(tmp_path: Path) -> None:
    names = points(tmp_path)
    went_on: set[int] = set()
    # Each third in every run: each step comes by eight kinds of points, so all kinds are among them.
    tried = range(0, len(names), size(3, 1))
    for number in tried:
        name = names[number]
        host = Host(tmp_path / str(number))
        killed(host, Kill(number + 1))
        if number < names.index("after the runtime is there"):
            assert host.names() == [], name

        async def case(builder: RuntimeBuilder, number: int = number, host: Host = host) -> None:
            name = names[number]
            for status in builder.all():
                told = await events(await builder.attach(status.id))
                end = end_of(told)
                if end.is_success:
                    went_on.add(number)
                    assert [phase.number for phase in phases(told)] == list(range(1, 15)), name
                else:
                    assert end.error is not None
                    assert end.error.reason == "RUNTIME_BUILD_STEP_LOST", name
            await asyncio.gather(*builder._tasks._tasks)
            assert host.left() == [], name
            steps = [step for step in host.units.history if not step.startswith("adopted")]
            assert len(steps) == len(set(steps)), f"{name}: a step ran twice: {steps}"
            if not host.names():
                assert (await built(builder)).is_success, name

        life(host, case)
        assert host.names() == ["small@1.0.0"], name
    _require_few_lost(names, went_on | (set(range(len(names))) - set(tried)))


def _require_few_lost(names: list[str], went_on: set[int]) -> None:
    """What is lost is lost in the few moments in which nobody can know how far it was."""
    with_record = names.index("after a record is written in PREPARE", names.index("after the place is made"))
    stored = names.index("after a record is written in STORE")
    for number in range(with_record, stored):
        is_unknown = names[number].startswith("as ") or names[number].endswith(" is let go")
        if is_unknown or names[number - 1].endswith(" is let go"):
            continue
        assert number in went_on, f"{number}: {names[number]}"
    phases_seen = {name.rpartition(" in ")[2] for name in names if " in " in name}
    assert phases_seen == {phase.name for phase in PHASES}


@pytest.mark.parametrize("has_ended", [False, True])
def test_a_step_that_outlives_its_agent_is_followed_to_its_end(host: Host, has_ended: bool) -> None:
    host.units.does["packages"] = lambda step: (host.install(step), None)[1]
    host.units.says["packages"] = ["E: first", "E: second"]

    async def first(builder: RuntimeBuilder) -> None:
        await builder.build(DEFINITION, BuildOptions())
        await host.units.started("packages")

    async def second(builder: RuntimeBuilder) -> None:
        handle = await builder.attach("small")
        if not has_ended:
            host.units.finish()
        told = await events(handle, verbose=True)
        assert end_of(told).is_success
        assert [line for line in lines(told) if line.startswith("E: ")] == ["E: first", "E: second"]
        assert host.units.history.count("packages") == 1
        assert "adopted packages" in host.units.history

    life(host, first)
    if has_ended:
        host.units.finish()
    life(host, second)


def test_a_step_that_failed_without_an_agent_fails_the_build(host: Host) -> None:
    host.units.does["pip"] = lambda _step: None
    host.units.says["pip"] = ["ERROR: No matching distribution found for nonesuch"]

    async def first(builder: RuntimeBuilder) -> None:
        await builder.build(DEFINITION, BuildOptions())
        await host.units.started("pip")

    async def second(builder: RuntimeBuilder) -> None:
        handle = await builder.attach("small")
        host.units.finish(StepEnd(1, "exit-code"))
        end = end_of(await events(handle))
        assert end.error is not None
        assert end.error.reason == "RUNTIME_BUILD_PACKAGE_UNKNOWN"
        assert "nonesuch" in end.message
        assert (host.left(), host.names()) == ([], [])

    life(host, first)
    life(host, second)


def test_builds_of_an_earlier_boot_are_removed(host: Host) -> None:
    host.units.does["packages"] = lambda _step: None

    async def first(builder: RuntimeBuilder) -> None:
        await builder.build(DEFINITION, BuildOptions())
        await host.units.started("packages")

    async def second(builder: RuntimeBuilder) -> None:
        assert builder.all() == ()
        await asyncio.gather(*builder._tasks._tasks)
        assert host.left() == []

    life(host, first)
    host.boot_id = "another"
    life(host, second)


def test_a_record_that_cannot_be_read_is_one_of_a_dead_build(host: Host) -> None:
    place = host.units.place("0123")
    place.space.mkdir(parents=True)
    (place.root / "build.json").write_text('{"form": 1, "id": ')

    async def case(builder: RuntimeBuilder) -> None:
        assert builder.all() == ()
        await asyncio.gather(*builder._tasks._tasks)
        assert host.left() == []

    life(host, case)


def test_a_build_that_ends_its_agents_ends(host: Host) -> None:
    host.units.does["packages"] = lambda _step: None

    async def begin(builder: RuntimeBuilder) -> None:
        await builder.build(DEFINITION, BuildOptions(detach=True))
        await host.units.started("packages")

    async def go_on(builder: RuntimeBuilder) -> None:
        assert [status.runtime for status in builder.all()] == ["small@1.0.0"]
        await host.units.started("packages")

    async def end(builder: RuntimeBuilder) -> None:
        assert builder.all() == ()
        await asyncio.gather(*builder._tasks._tasks)
        assert host.left() == []

    life(host, begin)
    for _ in range(3):
        host.units.forget_starts()
        life(host, go_on)
    life(host, end)


def test_steps_are_not_stopped_by_an_agent_that_ends(host: Host) -> None:
    host.units.does["npm"] = lambda _step: None

    async def case(builder: RuntimeBuilder) -> None:
        await builder.build(DEFINITION, BuildOptions())
        await host.units.started("npm")

    life(host, case)
    assert [name for _build_id, name in host.units.units] == ["npm"]
