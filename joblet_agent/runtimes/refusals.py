"""What is offered as a runtime by others, and is none here."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from joblet_agent.errors import InvalidRequest
from joblet_agent.runtimes.names import is_name

__all__ = ["DEFINITIONS", "needs_build", "no_archive", "setup_scripts"]

DEFINITIONS: Final = Path("/usr/share/joblet/definitions")
"""Definitions that come with the agent, as NAME.yaml."""


def setup_scripts(name: str, definitions: Path = DEFINITIONS) -> InvalidRequest:
    """Return the refusal of an archive of setup scripts. Looks whether there is a definition of the name."""
    definition = definitions / f"{name}.yaml"
    known = is_name(name) and definition.is_file()
    where = f"{definition}, on the agent's host" if known else f"see {definitions} on the agent's host"
    return InvalidRequest(
        f"cannot install runtime {_shown(name)}: its archive has setup scripts, which copy what the "
        "machine happens to have that runs them",
        reason="RUNTIME_SETUP_SCRIPTS",
        hint=f"build it from a definition: rnx runtime build -f FILE ({where})",
    )


def needs_build(name: str, files: Sequence[str]) -> InvalidRequest:
    """Return the refusal of a definition without a tree."""
    file = next(file for file in files if file.endswith((".yaml", ".yml")))
    return InvalidRequest(
        f"cannot install runtime {_shown(name)}: what was sent is a definition ({_shown(file)})",
        reason="RUNTIME_NEEDS_BUILD",
        hint="build it: rnx runtime build -f FILE",
    )


def no_archive(name: str, count: int) -> InvalidRequest:
    """Return the refusal of files among which there is not one archive."""
    return InvalidRequest(
        f"cannot install runtime {_shown(name)}: expected one OCI archive among the files, found {count}",
        reason="RUNTIME_ARCHIVE_MISSING",
        hint="rnx runtime export makes one; rnx runtime import takes one of any size",
    )


def _shown(text: str) -> str:
    return text if text.isprintable() and len(text) <= 64 else repr(text[:64])  # noqa: PLR2004
