"""The packages, for Debian and for pip, built where only what ``debian/control`` asks for is installed.

``debian/build-packages`` is the program for people. A build sees Debian 12, whatever runs here.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.testbed import host
from tests.testbed.clean import BUILDER, CleanSystem, give
from tests.testbed.errors import CommandFailed, TestbedError
from tests.testbed.packages import build_depends
from tests.testbed.releases import Release

NAME = "joblet"
"""The folder of the sources."""


@dataclass(frozen=True)
class Conditions:
    """What must not be seen in the result of a build."""

    path: str = "/build"
    user: int = BUILDER
    umask: int = 0o022
    env: Mapping[str, str] = field(default_factory=dict)


_USUAL = Conditions()


def build(folder: Path, conditions: Conditions = _USUAL) -> list[Path]:
    """Build the sources in ``folder/joblet`` (10 s); results and ``build.log`` come beside them.

    The folder gets another owner. Raises TestbedError with the end of the log.
    """
    _run(folder, "dpkg-buildpackage --build=full --no-sign", conditions)
    return sorted(folder.glob("*.deb"))


def build_for_pip(folder: Path, conditions: Conditions = _USUAL) -> list[Path]:
    """Build wheel and sdist of those sources, as ``build`` does."""
    _run(folder, "python3 -m hatchling build -d ..", conditions)
    return sorted((*folder.glob("*.whl"), *folder.glob("*.tar.gz")))


def _run(folder: Path, command: str, conditions: Conditions) -> None:
    control = (folder / NAME / "debian" / "control").read_text(encoding="utf-8")
    system = CleanSystem(Release.BOOKWORM, "build", build_depends(control))
    give(folder, conditions.user)
    try:
        system.run(
            ["sh", "-c", f"{command} >../build.log 2>&1"],
            binds={folder: conditions.path},
            user=conditions.user,
            folder=f"{conditions.path}/{NAME}",
            umask=conditions.umask,
            env={"HOME": "/nonexistent", **conditions.env},
        )
    except CommandFailed as error:
        log = folder / "build.log"
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else [str(error)]
        raise TestbedError("\n".join((*lines[-30:], f"cannot build: `{command}` failed"))) from error


def unpack_sources(dist: Path, folder: Path) -> Path:
    """Unpack the source package that is in ``dist`` as ``folder/joblet``."""
    (archive,) = dist.glob("*.tar.xz")
    host.call(["tar", "-xf", str(archive), "-C", str(folder)])
    return folder / NAME


def main() -> int:
    """``FOLDER``: build in it. ``--pip DIST``: build wheel and sdist of the source package that is there."""
    folder = Path(sys.argv[-1])
    try:
        if sys.argv[1] != "--pip":
            build(folder)
            return 0
        with TemporaryDirectory() as place:
            unpack_sources(folder, Path(place))
            for made in build_for_pip(Path(place)):
                print(shutil.copyfile(made, folder / made.name))
    except TestbedError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
