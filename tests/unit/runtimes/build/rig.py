"""Builds on fakes: a host that survives its agents."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from joblet_agent.config.values import RuntimesConfig
from joblet_agent.runtimes.build.building import Building
from joblet_agent.runtimes.build.events import BuildDone, BuildEvent, LogLine, Phase
from joblet_agent.runtimes.build.means import Means
from joblet_agent.runtimes.build.records import BuildOptions, BuildRecord
from joblet_agent.runtimes.build.service import BuildHandle, RuntimeBuilder
from joblet_agent.runtimes.build.step import BuildStep, StepEnd
from tests.fakes.builds import SUCCESS, FakeBuildStore, FakeBuildUnits, FakeImages, FakeMaker, Kill
from tests.fakes.clock import FakeClock

DEFINITION: Final = """\
schema_version: "1.1"
name: small
version: 1.0.0
base: {language: python, version: "3.11"}
pip: [six==1.16.0]
npm: [left-pad@1.3.0]
files: [{path: /opt/runtime/etc/x.ini, content: "x"}]
hooks: {pre_install: "true", post_install: "true"}
test: python3 -c 1
"""
PACKAGES: Final = f"""\
python3 3.11.2-1+b1 amd64 {"1" * 64}
libc6 2.36-9 amd64 {"2" * 64}
"""
PIP: Final = (
    '{"install": [{"download_info": {"archive_info": {"hashes": {"sha256": "'
    + "3" * 64
    + '"}}}, "metadata": {"name": "six", "version": "1.16.0"}}]}'
)
NPM: Final = (
    '{"name": "runtime", "lockfileVersion": 3, "packages": {"": {}, "node_modules/left-pad": '
    '{"version": "1.3.0", "resolved": "https://registry.npmjs.org/x.tgz", "integrity": "sha512-'
    + "A" * 86
    + '=="}}}'
)


class Host:
    """What outlives an agent."""

    def __init__(self, root: Path) -> None:
        root.mkdir(exist_ok=True)
        self.clock = FakeClock()
        self.units = FakeBuildUnits(root / "builds")
        self.store = FakeBuildStore(self.clock)
        self.maker = FakeMaker()
        self.images = FakeImages()
        self.config = RuntimesConfig()
        self.boot_id = "boot"
        self.root = root
        self.refused_tree: Exception | None = None
        self.leaves = {"packages": ("packages.list", PACKAGES), "pip": ("pip.json", PIP)}
        self.leaves["npm"] = ("package-lock.json", NPM)
        for name in self.leaves:
            self.units.does[name] = self.install

    def install(self, step: BuildStep) -> StepEnd:
        """What a step that installs something does."""
        name, text = self.leaves[step.name]
        (step.place.out / name).write_text(text)
        return SUCCESS

    def _normalise(self, tree: Path, *, most_bytes: int = 0) -> None:
        assert most_bytes == self.config.max_size
        assert tree.is_dir()
        if self.refused_tree is not None:
            raise self.refused_tree

    def builder(self) -> RuntimeBuilder:
        return RuntimeBuilder(
            Means(
                config=self.config,
                units=self.units,
                maker=self.maker,
                store=self.store,
                resolve=self.store.resolve,
                normalise=self._normalise,
                images=self.images,
                clock=self.clock,
                boot_id=self.boot_id,
                root=self.root,
                architecture="amd64",
                made_with="joblet-agent test",
            )
        )

    def left(self) -> list[str]:
        """What there is of builds."""
        units = [f"{build_id} {name}" for build_id, name in self.units.units]
        return units + ([each.name for each in self.units.root.iterdir()] if self.units.root.exists() else [])

    def names(self) -> list[str]:
        return [str(runtime.facts) for runtime in self.store.runtimes.values()]


Case = Callable[[RuntimeBuilder], Awaitable[None]]


def life(host: Host, case: Case) -> None:
    """One life of an agent on the host."""

    async def main() -> None:
        builder = host.builder()
        await builder.open()
        try:
            async with asyncio.timeout(20):
                await case(builder)
        finally:
            await builder.close()

    asyncio.run(main())


async def events(handle: BuildHandle, *, verbose: bool = False) -> list[BuildEvent]:
    return [event async for event in handle.follow(verbose=verbose)]


async def built(builder: RuntimeBuilder, text: str = DEFINITION, **options: bool | str) -> BuildDone:
    """Build, and return the end."""
    handle = await builder.build(text, BuildOptions(**options))  # type: ignore[arg-type]
    return end_of(await events(handle))


def end_of(told: list[BuildEvent]) -> BuildDone:
    ends = [event for event in told if isinstance(event, BuildDone)]
    assert len(ends) == 1
    assert told[-1] is ends[0]
    return ends[0]


def phases(told: list[BuildEvent]) -> list[Phase]:
    return [event for event in told if isinstance(event, Phase)]


def lines(told: list[BuildEvent]) -> list[str]:
    return [event.text for event in told if isinstance(event, LogLine)]


def killable(kill: Kill, host: Host) -> Callable[[], None]:
    """Let an agent be killed around each change of its record and whatever the fakes do."""
    original = Building._save

    async def save(self: Building, record: BuildRecord) -> None:
        phase = record.phases[-1].phase.name if record.phases else "PARSE"
        await kill.point(f"before a record is written in {phase}")
        await original(self, record)
        await kill.point(f"after a record is written in {phase}")

    Building._save = save  # type: ignore[method-assign]
    host.units.kill = host.store.kill = kill

    def undo() -> None:
        Building._save = original  # type: ignore[method-assign]
        host.units.kill = host.store.kill = None

    return undo
