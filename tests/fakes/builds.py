"""Builds of runtimes without systemd: steps are functions, places directories, and agents can be killed."""

import asyncio
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from joblet_agent.errors import InvalidRequest, WrongState
from joblet_agent.model.runtime import Runtime, RuntimeFacts
from joblet_agent.runtimes.build.events import BuildPhase
from joblet_agent.runtimes.build.means import Checked, UnpackedImage
from joblet_agent.runtimes.build.plan import BuildPlan
from joblet_agent.runtimes.build.step import BuildPlace, BuildStep, OnLine, StepEnd, StepKind
from tests.fakes.clock import FakeClock

SUCCESS = StepEnd(0, "success")
DIGEST = "ab" * 32


class Kill:
    """Ends an agent at one of the points that it comes by: from then on it does nothing any more."""

    def __init__(self, at: int = 0) -> None:
        self.at = at
        self.points: list[str] = []
        self.happened = asyncio.Event()

    async def point(self, name: str) -> None:
        """Be killed here, if it is the one."""
        if self.happened.is_set():
            await asyncio.Event().wait()
        self.points.append(name)
        if len(self.points) == self.at:
            self.happened.set()
            await asyncio.Event().wait()


@dataclass
class FakeUnit:
    """A step's unit."""

    step: BuildStep
    lines: list[str] = field(default_factory=list)
    ended: StepEnd | None = None
    waiting: list[asyncio.Event] = field(default_factory=list)

    def end(self, end: StepEnd) -> None:
        """Let it end, if it has not."""
        self.ended = self.ended or end
        for each in self.waiting:
            each.set()


class FakeBuildUnits:
    """step.BuildUnits; what units do goes on when an agent is killed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.kill: Kill | None = None
        self.units: dict[tuple[str, str], FakeUnit] = {}
        self.does: dict[str, Callable[[BuildStep], StepEnd | None]] = {}
        """By the step's name; None: it runs until it is stopped, or ``finish``."""
        self.says: dict[str, Sequence[str]] = {}
        self.history: list[str] = []
        self.sizes: list[int] = []
        self._started: dict[str, asyncio.Event] = {}

    async def started(self, step: str) -> None:
        """Wait until a step of this name runs."""
        await self._started.setdefault(step, asyncio.Event()).wait()

    async def _point(self, name: str) -> None:
        if self.kill is not None:
            await self.kill.point(name)

    def place(self, build_id: str) -> BuildPlace:
        return BuildPlace(build_id, self.root / build_id)

    async def open_place(self, build_id: str, *, size: int, files: int = 0) -> BuildPlace:
        del files
        self.sizes.append(size)
        place = self.place(build_id)
        await self._point("before the place is made")
        for directory in (place.tree, place.out, place.root / "logs"):
            directory.mkdir(parents=True)
        await self._point("after the place is made")
        return place

    async def close_place(self, build_id: str) -> None:
        await self.stop(build_id)
        await self._point("before the place is removed")
        shutil.rmtree(self.place(build_id).root, ignore_errors=True)
        await self._point("after the place is removed")

    async def places(self) -> tuple[str, ...]:
        found = {build_id for build_id, _name in self.units}
        if self.root.exists():
            found |= {each.name for each in self.root.iterdir()}
        return tuple(sorted(found))

    async def keep_only(self, build_ids: Collection[str]) -> None:
        for build_id in await self.places():
            if build_id not in build_ids:
                await self.close_place(build_id)

    async def run(self, step: BuildStep, on_line: OnLine) -> StepEnd:
        key = (step.place.build_id, step.name)
        assert key not in self.units
        await self._point(f"before {step.name} starts")
        step.place.log(step.name).write_text("")
        await self._point(f"as {step.name} starts")
        self.history.append(step.name)
        unit = FakeUnit(step, list(self.says.get(step.name, ())))
        self.units[key] = unit
        self._started.setdefault(step.name, asyncio.Event()).set()
        end = self.does[step.name](step) if step.name in self.does else SUCCESS
        if end is not None:
            unit.end(end)
        return await self._followed(unit, on_line)

    async def adopt(self, step: BuildStep, on_line: OnLine) -> StepEnd | None:
        unit = self.units.get((step.place.build_id, step.name))
        if unit is None:
            return None
        self.history.append(f"adopted {step.name}")
        self._started.setdefault(step.name, asyncio.Event()).set()
        return await self._followed(unit, on_line)

    async def _followed(self, unit: FakeUnit, on_line: OnLine) -> StepEnd:
        for line in unit.lines:
            on_line(line)
        await self._point(f"while {unit.step.name} runs")
        ended = asyncio.Event()
        unit.waiting.append(ended)
        if unit.ended is None:
            await ended.wait()
        unit.waiting.remove(ended)
        end = unit.ended
        assert end is not None
        await self._point(f"after {unit.step.name} has ended")
        self.units.pop((unit.step.place.build_id, unit.step.name), None)
        await self._point(f"after {unit.step.name} is let go")
        return end

    async def stop(self, build_id: str) -> None:
        for key, unit in list(self.units.items()):
            if key[0] == build_id:
                unit.end(StepEnd(137, "stopped"))
                del self.units[key]

    def forget_starts(self) -> None:
        """Let ``started`` wait for the next start, or for another agent that goes on with a step."""
        self._started.clear()

    def finish(self, end: StepEnd = SUCCESS) -> None:
        """Let what runs end."""
        for unit in self.units.values():
            unit.end(end)


class FakeMaker:
    """means.StepMaker: each phase has one step, named like the phase."""

    def __init__(self) -> None:
        self.missing: list[str] = []
        self.checked = Checked()

    def missing_tools(self, plan: BuildPlan) -> Sequence[str]:
        del plan
        return self.missing

    def steps(self, phase: BuildPhase, plan: BuildPlan, place: BuildPlace) -> Sequence[BuildStep]:
        del plan
        kind = StepKind.PACKAGES if phase is BuildPhase.PACKAGES else StepKind.TREE
        name = phase.name.lower().replace("_", "-")
        return [BuildStep(name=name, kind=kind, place=place, script="true")]

    def check(self, tree: Path) -> Checked:
        assert tree.is_dir()
        return self.checked


class FakeBuildStore:
    """means.BuildStore; a runtime is there when ``add`` has ended."""

    def __init__(self, clock: FakeClock) -> None:
        self.kill: Kill | None = None
        self.runtimes: dict[tuple[str, str], Runtime] = {}
        self.held: list[str] = []
        self.trees: dict[str, Path] = {}
        self.adding: Callable[[], None] = lambda: None
        self._clock = clock

    def get(self, name: str, version: str) -> Runtime | None:
        return self.runtimes.get((name, version))

    @contextmanager
    def hold(self, digest: str) -> Iterator[Path]:
        self.held.append(digest)
        yield self.trees[digest]
        self.held.remove(digest)

    async def add(self, tree: Path, facts: RuntimeFacts, *, replace: bool = False) -> Runtime:
        self.adding()
        if self.kill is not None:
            await self.kill.point("before the runtime is there")
        key = (facts.name, facts.version)
        if key in self.runtimes and not replace:
            raise WrongState("there is another", reason="RUNTIME_EXISTS")
        self.runtimes[key] = Runtime(facts, DIGEST, 1000, 10, self._clock.now())
        if self.kill is not None:
            await self.kill.point("after the runtime is there")
        shutil.rmtree(tree)
        return self.runtimes[key]

    def resolve(self, spec: str) -> Runtime:
        for runtime in self.runtimes.values():
            if str(runtime.facts) == spec:
                return runtime
        raise InvalidRequest(f"there is no runtime {spec}", reason="RUNTIME_UNKNOWN")


class FakeImages:
    """means.ImageSource."""

    def __init__(self) -> None:
        self.digest = "sha256:" + "cd" * 32

    async def unpack(self, reference: str, into: Path, *, most_bytes: int) -> UnpackedImage:
        del reference, most_bytes
        (into / "from-image").write_text("yes")
        environment = {"PATH": "/image/bin", "OF_IMAGE": "1"}
        return UnpackedImage(self.digest, environment, ("left out: variable LD_PRELOAD",))
