"""Steps of a build: what each runs, and what runs them (ports of systemd/build_units.py).

A step is a shell script in a transient unit ``joblet-build-ID-NAME.service`` of its own. What the steps of
one build leave to one another is in the build's place, whose space has a size of its own.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Final, Protocol

from joblet_agent.units import MIB

__all__ = [
    "CA_FILE",
    "INPUTS",
    "OUT",
    "ROOM",
    "SPACE",
    "SPARE",
    "BuildPlace",
    "BuildStep",
    "BuildUnits",
    "OnLine",
    "StepEnd",
    "StepKind",
]

INPUTS: Final = "/run/joblet-build"
"""Where a step sees its script (``step``) and its other inputs, read-only."""
CA_FILE: Final = "/run/joblet-build.crt"
"""Where a step sees the certificates that it may trust."""
OUT: Final = "/run/joblet-out"
"""Where a step in the tree sees the place's ``out``."""
SPACE: Final = "/space"
"""Where a step that installs packages sees the space; the tree is ``tree`` in it."""

SPARE: Final = 256 * MIB
"""Bytes of the host's disk that no build gets."""
ROOM: Final = SPARE + 64 * MIB
"""Bytes that the host's disk has to have free for a build to begin."""

OnLine = Callable[[str], None]
"""Called on the event loop with each line of output, without its end."""


class StepKind(Enum):
    """Where a step runs, and as whom."""

    PACKAGES = "packages"
    """With the host's package tools and nothing else of the host; root of a user namespace of its own."""
    TREE = "tree"
    """In the tree, of which /opt/runtime alone can be written, if that; nobody in particular."""


@dataclass(frozen=True, slots=True)
class BuildPlace:
    """The files of one build on this host."""

    build_id: str
    root: Path

    @property
    def image(self) -> Path:
        """The file whose file system the space is; there is none where the space is memory."""
        return self.root / "space.img"

    @property
    def space(self) -> Path:
        """Mount point: full, it is full for this build alone."""
        return self.root / "space"

    @property
    def tree(self) -> Path:
        """The tree that grows."""
        return self.space / "tree"

    @property
    def out(self) -> Path:
        """What steps leave to whoever reads it. All may write there (OUT), so nothing there is trusted."""
        return self.space / "out"

    @property
    def host(self) -> Path:
        """What steps that install packages have as their root."""
        return self.root / "host"

    def log(self, step: str) -> Path:
        """Return the file with what a step has said, up to a limit."""
        return self.root / "logs" / step

    def inputs(self, step: str) -> Path:
        """Return the directory of a step's inputs."""
        return self.root / "inputs" / step


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildStep:
    """One step of a build."""

    name: str
    """A word: ``packages``, ``pip``; no other step of the build has it."""
    kind: StepKind
    place: BuildPlace
    script: str
    """Shell text (``/bin/sh -eu``)."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Text of files that the script finds in INPUTS, by name."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """May have secrets: it is in no property of the unit."""
    network: bool = True
    deadline: timedelta = timedelta(minutes=30)
    is_writable: bool = True
    """A step in the tree may write to /opt/runtime."""
    ca_file: Path | None = None
    """The host's file that it sees as CA_FILE."""

    def with_environment(self, variables: Mapping[str, str]) -> "BuildStep":
        """Return the step with further variables."""
        return replace(self, environment={**self.environment, **variables})


@dataclass(frozen=True, slots=True)
class StepEnd:
    """How a step ended."""

    status: int
    """Exit status; of a killed one 128 and the signal's number."""
    result: str
    """systemd's word: ``success``, ``exit-code``, ``signal``, ``timeout``, ``oom-kill``; ``stopped`` where
    somebody has stopped it, ``gone`` where nobody knows."""
    last_lines: tuple[str, ...] = ()
    """The last that it said."""
    is_full: bool = False
    """Nothing more goes into the space: that is why, if it failed."""

    @property
    def is_success(self) -> bool:
        """Say whether the script came to its end."""
        return self.result == "success"


class BuildUnits(Protocol):
    """Runs steps. Methods raise HostUnavailable if systemd does not answer, LaunchFailed with its words."""

    async def open_place(self, build_id: str, *, size: int, files: int = 0) -> BuildPlace:
        """Make the place of a build, with space for so many bytes; the tree is an empty directory.

        Raises LaunchFailed (RUNTIME_BUILD_DISK_FULL) if this host's disk has less than ``ROOM`` left.
        """
        ...

    def place(self, build_id: str) -> BuildPlace:
        """Return the place of a build, which need not be there."""
        ...

    async def close_place(self, build_id: str) -> None:
        """Stop what runs there and leave neither unit, mount nor file; doing so twice is fine."""
        ...

    async def places(self) -> tuple[str, ...]:
        """Return the builds of which there is anything: a unit, a mount, or a directory."""
        ...

    async def keep_only(self, build_ids: Collection[str]) -> None:
        """Close all other places: what dead builds have left."""
        ...

    async def run(self, step: BuildStep, on_line: OnLine) -> StepEnd:
        """Run the step to its end, which is no exception if it is no success.

        Whoever is cancelled here leaves the step as it is, for ``adopt``: an agent that ends does so. What
        ends it is ``stop``.
        """
        ...

    async def adopt(self, step: BuildStep, on_line: OnLine) -> StepEnd | None:
        """Go on with a step that an earlier agent began, as ``run``; lines come from its first.

        Also one that has ended meanwhile. None if systemd knows nothing of it: it has never been.
        """
        ...

    async def stop(self, build_id: str) -> None:
        """Kill what runs of the build, at once; whoever waits for it is told ``stopped``."""
        ...
