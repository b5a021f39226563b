"""A repository for apt, in the host itself: machines have no network."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.testbed import Machine

_PLACE = "/srv/joblet"
# How the role has it: sources.list(5), deb822.
SOURCE = f"Types: deb\nURIs: file:{_PLACE}\nSuites: ./\nTrusted: yes\n"


def offer(machine: Machine, packages: Sequence[Path]) -> None:
    """Have these packages in the repository, and nothing else in reach of apt."""
    with TemporaryDirectory() as folder:
        for package in packages:
            Path(folder, package.name).symlink_to(package)
        index = subprocess.run(
            ["dpkg-scanpackages", "--multiversion", "."], cwd=folder, check=True, capture_output=True
        )
        Path(folder, "Packages").write_bytes(index.stdout)
        for file in Path(folder).iterdir():
            machine.push(file, f"{_PLACE}/{file.name}")
    machine.run("sh", "-c", "rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*")
