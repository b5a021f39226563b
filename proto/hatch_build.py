"""What hatchling, which builds wheel and sdist, asks us: the wire code, and what that needs to run.

An sdist has the code in it and is installed without a compiler. From a checkout the code is generated; where
the system has no compiler pip brings one along, whose code wants a protobuf and a grpcio that are as new.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

sys.path.insert(0, str(Path(__file__).parent))
import generate


class WireCode(BuildHookInterface):
    """Has the code there before files are collected."""

    def dependencies(self) -> list[str]:
        """Name what a build needs beyond hatchling."""
        if _is_sdist(self.root):
            return []
        try:
            generate.compiler_command()
        except generate.GenerateError:
            return ["grpcio-tools"]
        return []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Generate the code, unless it is there."""
        _provide(self.root)


class WireNeeds(MetadataHookInterface):
    """Adds what the code needs to what ``pyproject.toml`` names."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the dependencies."""
        _provide(self.root)
        metadata["dependencies"] = sorted(
            [*self.config["dependencies"], *generate.needs(generate.DEFAULT_OUTPUT)]
        )


def _provide(root: str) -> None:
    if not _is_sdist(root):
        generate.generate(generate.DEFAULT_OUTPUT)


def _is_sdist(root: str) -> bool:
    return Path(root, "PKG-INFO").exists()
