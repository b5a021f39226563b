"""Which entry of an index is meant. Pure."""

import difflib

from joblet_agent.errors import NotFound, WrongState
from joblet_agent.model.web import shown_address
from joblet_agent.runtimes.catalog import meant
from joblet_agent.runtimes.index.entries import IndexEntry, is_for
from joblet_agent.runtimes.index.service import LoadedIndex, highest_first
from joblet_agent.runtimes.names import RuntimeSpec, SemanticVersion

__all__ = ["choose"]

_MOST_NEAR = 3
_LEAST_ALIKE = 0.5


def choose(loaded: LoadedIndex, spec: RuntimeSpec, architecture: str) -> IndexEntry:
    """Return the version that is asked for, or the highest for the architecture that is no pre-release.

    Raises NotFound for a runtime or version that the index does not have, WrongState for one that is for
    other architectures, InvalidRequest for a name that may mean two.
    """
    architecture = spec.architecture or architecture
    where = shown_address(loaded.address)
    entries = highest_first(loaded.index.runtimes.get(meant(spec, loaded.index.runtimes), ()))
    if not entries:
        near = difflib.get_close_matches(spec.name, loaded.index.runtimes, n=_MOST_NEAR, cutoff=_LEAST_ALIKE)
        raise NotFound(
            f"cannot install runtime {spec.name!r}: {where} does not offer it"
            + (f"; did you mean {' or '.join(near)}?" if near else ""),
            reason="RUNTIME_NOT_OFFERED",
            hint="see what it offers: rnx runtime list --registry",
        )
    wanted = [entry for entry in entries if spec.version in {"", entry.version}]
    if not spec.version:
        wanted = [entry for entry in wanted if not SemanticVersion.of(entry.version).is_pre_release]
    if not wanted:
        offered = ", ".join(entry.version for entry in entries[:_MOST_NEAR])
        version = spec.version or "release"
        raise NotFound(
            f"cannot install runtime {spec.name!r}: {where} has no {version} of it, but {offered}",
            reason="RUNTIME_NOT_OFFERED",
            hint=f"name one of them: {spec.name}@{entries[0].version}",
        )
    fitting = [entry for entry in wanted if is_for(entry, architecture)]
    if not fitting:
        raise WrongState(
            f"cannot install runtime {wanted[0]}: it is for {', '.join(wanted[0].platforms)}, not for "
            f"{architecture}",
            reason="RUNTIME_PLATFORM",
            hint="see what there is for others: rnx runtime list --registry",
        )
    return fitting[0]
