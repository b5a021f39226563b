"""Which runtime is meant: one function for jobs, workflows, schedules and every call. Memory only."""

import re
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import Final

from joblet_agent.errors import InvalidRequest
from joblet_agent.model.runtime import Runtime
from joblet_agent.runtimes.names import RuntimeSpec, SemanticVersion, parse_spec
from joblet_agent.runtimes.store import RuntimeStore

__all__ = ["RuntimeCatalog", "meant"]

_ALIASES: Final = {
    "java": ("openjdk", "graalvmjdk"),
    "go": ("go", "golang"),
    "golang": ("go", "golang"),
}
"""Languages, and what their runtimes are called instead: ``java-17`` may be ``openjdk-17``."""
_NEWEST: Final = ("go", "golang")
"""Languages that may be asked for without a version: each release runs what was written for those before."""
_LANGUAGE_VERSION = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_MOST_NEAR = 3
_LEAST_ALIKE = 0.5


class RuntimeCatalog:
    """Finds runtimes by what people call them."""

    def __init__(self, store: RuntimeStore) -> None:
        self._store = store

    def resolve(self, text: str) -> Runtime:
        """Return the runtime that is meant.

        A runtime of exactly this name wins over an alias; nothing else is guessed. Raises InvalidRequest
        (RUNTIME_SPEC_INVALID, RUNTIME_UNKNOWN with the nearest names, RUNTIME_AMBIGUOUS with all meanings).
        """
        spec = parse_spec(text)
        runtimes = self._store.all()
        name = meant(spec, {one.facts.name for one in runtimes})
        versions = [one for one in runtimes if one.facts.name == name]
        fitting = [one for one in versions if _fits(one, spec)]
        if spec.version:
            chosen = [one for one in fitting if one.facts.version == spec.version]
        else:
            chosen = [one for one in fitting if not SemanticVersion.of(one.facts.version).is_pre_release]
        if not chosen:
            raise _unknown(spec, versions, runtimes)
        return chosen[-1]  # the store's order has the newest last


def meant(spec: RuntimeSpec, names: Collection[str]) -> str:
    """Return which of the names the spec means; its own, if it means none of them.

    Raises InvalidRequest (RUNTIME_AMBIGUOUS).
    """
    if spec.name in names:
        return spec.name
    language, _, rest = spec.name.partition("-")
    if rest:
        found = [name for other in _ALIASES.get(language, ()) if (name := f"{other}-{rest}") in names]
    else:
        found = _newest(names) if language in _NEWEST else []
    if len(found) > 1:
        raise InvalidRequest(
            f"cannot use runtime {spec.text!r}: it may mean {' or '.join(sorted(found))}",
            reason="RUNTIME_AMBIGUOUS",
            hint="say which one",
        )
    return found[0] if found else spec.name


def _newest(names: Iterable[str]) -> list[str]:
    """Return the name of the newest Go; two when they have the same version."""
    found: dict[tuple[int, ...], list[str]] = {}
    for name in names:
        language, _, version = name.partition("-")
        if language in _NEWEST and _LANGUAGE_VERSION.fullmatch(version):
            found.setdefault(tuple(map(int, version.split("."))), []).append(name)
    return found[max(found)] if found else []


def _fits(runtime: Runtime, spec: RuntimeSpec) -> bool:
    architectures = runtime.facts.architectures
    return not spec.architecture or not architectures or spec.architecture in architectures


def _unknown(spec: RuntimeSpec, versions: Sequence[Runtime], runtimes: Sequence[Runtime]) -> InvalidRequest:
    if versions:
        there = ", ".join(str(one.facts) for one in versions[-_MOST_NEAR:])
        wanted = f"version {spec.version}" if spec.version else "release"
        if spec.architecture:
            wanted = f"version for {spec.architecture}"
        fault, hint = f"there is no {wanted} of it", f"there is {there}"
    else:
        names = sorted({one.facts.name for one in runtimes})
        near = _nearest(spec.name, names)
        fault = "there is none of this name"
        hint = f"the nearest: {', '.join(near)}" if near else "see: rnx runtime list"
        if near:
            fault += f"; did you mean {' or '.join(near)}?"
            hint = "see: rnx runtime list"
    return InvalidRequest(f"cannot use runtime {spec.text!r}: {fault}", reason="RUNTIME_UNKNOWN", hint=hint)


def _nearest(name: str, names: Iterable[str]) -> list[str]:
    """Return the names that are most alike, by the pairs of letters that they have in common.

    difflib takes ten times as long, which is noticed where very many jobs are refused.
    """
    pairs = _pairs(name)
    found = []
    for other in names:
        theirs = _pairs(other)
        likeness = 2 * len(pairs & theirs) / (len(pairs) + len(theirs))
        if likeness >= _LEAST_ALIKE:
            found.append((-likeness, other))
    return [other for _, other in sorted(found)[:_MOST_NEAR]]


def _pairs(name: str) -> set[str]:
    return set(map("".join, pairwise(f" {name} ")))
