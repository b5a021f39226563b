"""Locks in builds."""

from pathlib import Path

import pytest

from joblet_agent.runtime_file.lock import load_lock
from joblet_agent.runtimes.build import feed
from joblet_agent.runtimes.build.events import LogLevel
from joblet_agent.runtimes.build.feed import Feed
from joblet_agent.runtimes.build.plan import BuildPlan
from joblet_agent.runtimes.build.service import RuntimeBuilder
from joblet_agent.runtimes.build.step import BuildPlace, BuildStep, StepEnd
from tests.fakes.builds import FakeMaker
from tests.fakes.clock import FakeClock
from tests.unit.runtimes.build.rig import DEFINITION, PACKAGES, Host, built, life


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


class Watching(FakeMaker):
    """Remembers the plan."""

    plan: BuildPlan | None = None

    def missing_tools(self, plan: BuildPlan) -> list[str]:
        self.plan = plan
        return []


def test_a_build_from_a_lock_takes_what_is_in_it(host: Host) -> None:
    host.maker = maker = Watching()

    async def case(builder: RuntimeBuilder) -> None:
        first = await built(builder)
        lock = load_lock(first.lock)
        assert [str(package) for package in lock.packages] == ["libc6=2.36-9", "python3=3.11.2-1+b1"]
        again = await built(builder, force=True, locked=True, lock=first.lock)
        assert again.lock == first.lock
        plan = maker.plan
        assert plan is not None
        assert plan.packages == ("libc6=2.36-9", "python3=3.11.2-1+b1")
        assert plan.package_digests["libc6=2.36-9"] == "2" * 64
        assert plan.pip is not None
        assert (plan.pip.requirements, plan.pip.locked) == (f"six==1.16.0 --hash=sha256:{'3' * 64}\n", True)
        assert plan.npm is not None
        assert plan.npm.package_lock != ""

    life(host, case)


@pytest.mark.parametrize(
    ("taken", "named"),
    [
        (PACKAGES.replace("2.36-9", "2.36-10"), "libc6 is 2.36-10"),
        (PACKAGES.replace("2" * 64, "4" * 64), f"sha256:{'4' * 64}"),
        (PACKAGES + f"more 1 all {'5' * 64}\n", "more 1"),
        (PACKAGES.splitlines()[0] + "\n", "libc6 2.36-9"),
    ],
)
def test_what_differs_from_the_lock_is_named_and_nothing_is_built(host: Host, taken: str, named: str) -> None:
    async def case(builder: RuntimeBuilder) -> None:
        lock = (await built(builder)).lock
        before = dict(host.store.runtimes)
        host.leaves["packages"] = ("packages.list", taken)
        end = await built(builder, force=True, locked=True, lock=lock)
        assert end.error is not None
        assert end.error.reason == "RUNTIME_BUILD_LOCK_DIFFERS"
        assert named in end.message
        assert host.store.runtimes == before

    life(host, case)


def test_a_lock_of_another_definition(host: Host) -> None:
    async def case(builder: RuntimeBuilder) -> None:
        lock = (await built(builder)).lock
        other = DEFINITION.replace("six==1.16.0", "six==1.15.0")
        refused = await built(builder, other, force=True, locked=True, lock=lock)
        assert refused.error is not None
        assert refused.error.reason == "RUNTIME_BUILD_LOCK_DIFFERS"
        assert (await built(builder, other, force=True, lock=lock)).is_success
        missing = await built(builder, force=True, locked=True)
        assert missing.error is not None
        assert missing.error.reason == "RUNTIME_BUILD_LOCK_MISSING"
        nonsense = await built(builder, force=True, lock="what: 1\n")
        assert nonsense.error is not None
        assert nonsense.error.reason == "RUNTIME_LOCK_INVALID"

    life(host, case)


def test_only_the_lock(host: Host) -> None:
    async def case(builder: RuntimeBuilder) -> None:
        end = await built(builder, only_lock=True)
        assert load_lock(end.lock).wheels[0].name == "six"
        assert (host.names(), host.left()) == ([], [])
        assert host.units.history == ["pre-install", "packages", "pip", "npm"]

    life(host, case)


@pytest.mark.parametrize("text", ["nonsense", "a b c\n", "../x 1 amd64 zz\n"])
def test_nonsense_that_a_hostile_step_leaves_is_an_error(host: Host, text: str) -> None:
    def leave(step: BuildStep) -> StepEnd:
        place: BuildPlace = step.place
        (place.out / "packages.list").write_text(text)
        return StepEnd(0, "success")

    host.units.does["packages"] = leave

    async def case(builder: RuntimeBuilder) -> None:
        end = await built(builder)
        assert end.error is not None
        assert end.error.reason == "RUNTIME_BUILD_STEP_FAILED"
        assert (host.names(), host.left()) == ([], [])

    life(host, case)


def test_a_log_without_end_is_thinned_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "MOST_LINES", 10)
    told = Feed(FakeClock())
    for number in range(100):
        told.say(LogLevel.INFO, f"line {number}")
    kept = [event.text for _number, event in told._events if hasattr(event, "text")]
    assert len(kept) <= 10
    assert kept[-1] == "line 99"
