"""What callers can do with the runtimes that are there; builds and archives have services of their own."""

import platform
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from joblet_agent.errors import InvalidRequest, NotFound, WrongState
from joblet_agent.model.identity import Identity
from joblet_agent.model.runtime import Runtime
from joblet_agent.runtimes.catalog import RuntimeCatalog
from joblet_agent.runtimes.damage import Damage
from joblet_agent.runtimes.gc import Freed
from joblet_agent.runtimes.names import ARCHITECTURES, RuntimeSpec, parse_spec
from joblet_agent.runtimes.store import RuntimeStore
from joblet_agent.runtimes.trial import RuntimeTrial, TrialEnd

__all__ = ["Removal", "RuntimeInUse", "RuntimeService", "Understood", "UsersOf", "Verdict"]

UNKNOWN = "RUNTIME_UNKNOWN"
_MOST_TOLD = 5

UsersOf = Callable[[str], Awaitable[Sequence[str]]]
"""Tells who uses a digest, for people: jobs that run or wait, schedules, workflows."""


async def nobody(_: str) -> Sequence[str]:
    """Tell of no users (UsersOf)."""
    return ()


class RuntimeInUse(WrongState):
    """It cannot be removed; ``users`` are the reason."""

    users: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Removal:
    """What was removed."""

    runtimes: tuple[Runtime, ...]
    freed: int
    """Bytes."""
    users: tuple[str, ...] = ()
    """Who still uses their trees; only with force."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a verification."""

    runtime: Runtime
    damages: tuple[Damage, ...]


@dataclass(frozen=True, slots=True)
class Understood:
    """A spec that can be read, and what it means here now."""

    spec: RuntimeSpec
    architecture: str
    """Debian's word."""
    runtime: Runtime | None
    why_not: str = ""
    """Why it means nothing here now."""


class RuntimeService:
    """The use cases of runtimes. ``given`` is what people call a runtime (names.py)."""

    def __init__(
        self, store: RuntimeStore, catalog: RuntimeCatalog, trial: RuntimeTrial, users_of: UsersOf
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._trial = trial
        self._users_of = users_of

    def all(self) -> Sequence[Runtime]:
        """Return the runtimes, by name and version."""
        return self._store.all()

    def get(self, given: str) -> Runtime:
        """Return the runtime that is meant. Raises NotFound, InvalidRequest."""
        try:
            return self._catalog.resolve(given)
        except InvalidRequest as error:
            if error.reason == UNKNOWN:
                raise NotFound(str(error), reason=error.reason, hint=error.hint) from error
            raise

    def understand(self, text: str) -> Understood:
        """Read a spec by the function that all callers use. Raises InvalidRequest."""
        spec = parse_spec(text)
        architecture = spec.architecture or host_architecture()
        try:
            return Understood(spec, architecture, self.get(text))
        except NotFound as error:
            return Understood(spec, architecture, None, str(error))

    def path(self, runtime: Runtime) -> str:
        """Return the directory of its tree."""
        return str(self._store.tree(runtime.digest))

    def is_available(self, runtime: Runtime) -> bool:
        """Say whether a job could start with it now."""
        architectures = runtime.facts.architectures
        fits = not architectures or host_architecture() in architectures
        return fits and self._store.has(runtime.digest) and not self._store.damage(runtime.digest)

    def is_latest(self, runtime: Runtime) -> bool:
        """Say whether its name alone means it."""
        try:
            return self._catalog.resolve(runtime.facts.name) == runtime
        except InvalidRequest:  # all versions of the name are pre-releases
            return False

    async def users(self, runtime: Runtime) -> Sequence[str]:
        """Return who uses it, for people: jobs, schedules, workflows, and runtimes that were built on it."""
        return [*await self._users_of(runtime.digest), *self._built_on(runtime, ())]

    async def test(self, given: str, caller: Identity) -> TrialEnd:
        """Run its test as a job of the caller. Raises NotFound, InvalidRequest, and as JobService.run."""
        return await self._trial.run(self.get(given), caller)

    async def remove(self, given: str, *, force: bool) -> Removal:
        """Remove one version, or all if ``given`` has none.

        Raises NotFound, InvalidRequest; RuntimeInUse, and nothing is removed, unless ``force``: then names
        go, and trees that are in use stay until nobody uses them.
        """
        going = self._meant(given)
        users = [] if force else await self._users_of_all(going)
        if users:
            told = "; ".join(users[:_MOST_TOLD])
            more = f" and {len(users) - _MOST_TOLD} more" if len(users) > _MOST_TOLD else ""
            error = RuntimeInUse(
                f"cannot remove runtime {given}: it is used by {told}{more}",
                reason="RUNTIME_IN_USE",
                hint="wait until they have ended, or remove its name alone: --force",
            )
            error.users = tuple(users)
            raise error
        freed = 0
        for runtime in going:
            freed += await self._store.remove(runtime)
        return Removal(tuple(going), freed, tuple(await self._users_of_all(going)) if force else ())

    async def verify(self, given: str) -> AsyncIterator[Verdict]:
        """Return the verdict on one runtime, or on each if ``given`` is empty.

        Raises NotFound, InvalidRequest.
        """
        return self._verdicts([self.get(given)] if given else list(self._store.all()), is_one=bool(given))

    async def _verdicts(self, runtimes: Sequence[Runtime], *, is_one: bool) -> AsyncIterator[Verdict]:
        for runtime in runtimes:
            try:
                yield Verdict(runtime, await self._store.verify(runtime))
            except NotFound:
                if is_one:
                    raise
                continue  # removed meanwhile

    async def gc(self) -> Freed:
        """Remove what nothing names or uses any more."""
        return await self._store.gc()

    def _meant(self, given: str) -> list[Runtime]:
        found = self._found(given)
        if parse_spec(given).version or "@" in given:
            return [found]
        return [each for each in self._store.all() if each.facts.name == found.facts.name]

    def _found(self, given: str) -> Runtime:
        """Return the runtime, or any version of it where the name alone means none: all are pre-releases."""
        try:
            return self.get(given)
        except NotFound:
            spec = parse_spec(given)
            named = [each for each in self._store.all() if each.facts.name == spec.name]
            if not named or "@" in given:
                raise
            return named[-1]

    async def _users_of_all(self, going: Sequence[Runtime]) -> list[str]:
        """Return who would lose something; a tree that keeps another name loses nobody."""
        gone = {str(each.facts) for each in going}
        kept = {each.digest for each in self._store.all() if str(each.facts) not in gone}
        users: dict[str, None] = {}
        for runtime in going:
            if runtime.digest not in kept:
                users |= dict.fromkeys(
                    [*await self._users_of(runtime.digest), *self._built_on(runtime, going)]
                )
        return list(users)

    def _built_on(self, base: Runtime, going: Sequence[Runtime]) -> list[str]:
        return [
            f"runtime {each.facts}"
            for each in self._store.all()
            if each.facts.base == base.digest and str(each.facts) not in {str(other.facts) for other in going}
        ]


def host_architecture() -> str:
    """Return Debian's word for what the host is."""
    machine = platform.machine()
    return ARCHITECTURES.get(machine, machine)
