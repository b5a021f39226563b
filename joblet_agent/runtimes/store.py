"""The runtimes of this host: trees of hard links to objects, and names that lead to them.

The order that makes kill -9 harmless between any two lines::

    add      objects → a tree in staging → its list → the tree gets its place → the name leads to it
    remove   the name goes → the tree goes to staging → its list goes → the tree is deleted
             → objects that no tree has

What is in staging when the agent starts is deleted, unless somebody says that it is still being worked on. A
tree without a name stays until the next collection, and so do a list or an object without a tree. A name
whose tree is missing stays, as a damaged runtime: whoever made it can make it again.

A tree is in use by names, by what ``users`` says, and by whoever holds it. Whoever removes trees looks at all
three in one step of the event loop and forgets the trees in the same step: from then on nobody gets to hold
them.
"""

import asyncio
import logging
import secrets
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from joblet_agent.errors import HostUnavailable, NotFound, WrongState
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.model.runtime import Runtime, RuntimeFacts
from joblet_agent.ports import Clock
from joblet_agent.runtimes import adding, gc, recovery, verify
from joblet_agent.runtimes.checkout import check_out
from joblet_agent.runtimes.damage import Damage
from joblet_agent.runtimes.disk import disk_errors
from joblet_agent.runtimes.gc import Freed
from joblet_agent.runtimes.layout import Layout
from joblet_agent.runtimes.names import SemanticVersion
from joblet_agent.runtimes.trees import MadeTree

__all__ = ["Damage", "Freed", "RuntimeStore", "Users"]

T = TypeVar("T")

Users = Callable[[], Awaitable[Collection[str]]]
"""Tells the digests that somebody has recorded and will still start something with."""

_log = logging.getLogger(__name__)


class RuntimeStore:
    """All runtimes of the host. What is asked of memory is answered at once, all else is done in threads."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self.users: Users = _nobody
        """Set by whoever knows (assembly.py)."""
        self._layout = Layout(root)
        self._clock = clock
        self._runtimes: dict[tuple[str, str], Runtime] = {}
        self._sorted: tuple[Runtime, ...] | None = None
        self._trees: set[str] = set()
        self._damage: dict[str, tuple[Damage, ...]] = {}
        self._held: Counter[str] = Counter()
        self._spared: set[str] = set()
        """Who was held at any moment since a removal began to look for users: the record that names a tree
        may be younger than the answer of ``users``."""
        self._lock = asyncio.Lock()
        self._tasks = Tasks()
        self._closing = threading.Event()

    async def open(self, working: Collection[str] = ()) -> None:
        """Read what there is, and delete what was under way; ``working`` are tags that are still at work."""
        found = await self._in_thread("read the runtimes", recovery.read, self._layout, frozenset(working))
        self._runtimes = {(runtime.facts.name, runtime.facts.version): runtime for runtime in found.runtimes}
        self._sorted = None
        self._trees, self._damage = found.trees, found.damage
        if found.leftovers:
            self._tasks.start(asyncio.to_thread(gc.delete, found.leftovers), "runtimes-leftovers")

    async def close(self) -> None:
        """End what is under way: it leaves nothing, or is done."""
        self._closing.set()
        async with self._lock:
            pass
        await self._tasks.close()

    # What there is.

    def all(self) -> tuple[Runtime, ...]:
        """Return the runtimes, by name and version."""
        if self._sorted is None:
            self._sorted = tuple(sorted(self._runtimes.values(), key=_order))
        return self._sorted

    def get(self, name: str, version: str) -> Runtime | None:
        """Return the runtime of exactly this version."""
        return self._runtimes.get((name, version))

    def has(self, digest: str) -> bool:
        """Say whether there is a tree of the digest, damaged or not; it may have no name any more."""
        return digest in self._trees

    def tree(self, digest: str) -> Path:
        """Return where the tree is, or would be. Nothing may be written to it."""
        return self._layout.tree(digest)

    def damage(self, digest: str) -> tuple[Damage, ...]:
        """Return what was last found wrong with the tree; nothing may start with a tree that has any."""
        return self._damage.get(digest, ())

    @contextmanager
    def hold(self, digest: str) -> Iterator[Path]:
        """Keep the tree within the block, at whose end a record names it. Raises NotFound if it has gone."""
        if digest not in self._trees:
            raise NotFound(
                f"cannot use runtime tree {digest[:12]}: it is not on this host any more",
                reason="RUNTIME_GONE",
                hint="build, import or install the runtime again",
            )
        self._held[digest] += 1
        self._spared.add(digest)
        try:
            yield self.tree(digest)
        finally:
            self._held[digest] -= 1
            if not self._held[digest]:
                del self._held[digest]

    # What is under way.

    async def staging(self, tag: str) -> Path:
        """Return a new empty directory on the file system of the trees; it is the caller's to ``discard``.

        One that is left is deleted when the agent starts, unless its tag is told to ``open``.
        """
        path = self._layout.staging / f"{tag}.{secrets.token_hex(4)}"
        await self._in_thread("make a directory for a runtime", path.mkdir, 0o700)
        return path

    async def discard(self, path: Path) -> None:
        """Delete something in staging; what cannot be deleted is said in the log."""
        await asyncio.to_thread(gc.delete, [path])

    async def check_out(self, digest: str, into: Path) -> None:
        """Make ``into``, which is in staging and not there yet, a copy of the tree, with links to its files.

        Files may be replaced in it, never written to: others have them. Raises NotFound, HostUnavailable.
        """
        with self.hold(digest) as tree:
            await self._in_thread("copy a runtime", check_out, tree, into)

    # Changes.

    async def add(
        self, tree: Path, facts: RuntimeFacts, *, replace: bool = False, expected: str = ""
    ) -> Runtime:
        """Take the tree in staging (or on another file system) as the runtime that the facts name.

        The tree is made normal (normalise.py) and is gone afterwards, also when it is refused. To add what is
        there changes nothing but the facts, and mends a damaged tree. Raises InvalidRequest for the tree,
        WrongState when another tree has this name and version, unless ``replace``; InvalidRequest when its
        digest is not the ``expected`` one; HostUnavailable.
        """
        work = self._tasks.start(self._add(tree, facts, replace, expected), f"add-runtime-{facts}")
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # Whoever made the tree removes it next: while it is read, less and less would be found in it.
            while not work.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([work])
            raise

    async def _add(self, tree: Path, facts: RuntimeFacts, replace: bool, expected: str) -> Runtime:
        key = (facts.name, facts.version)
        async with self._lock:
            present = self._runtimes.get(key)
            adder = adding.Adder(self._layout, self._closing)
            try:
                self._refuse_when_closing()
                adding.check_facts(facts)
                made = await self._in_thread(f"add runtime {facts}", adder.make, tree)
                adding.check_digest(facts, made.digest, expected)
                if present is not None and present.digest != made.digest and not replace:
                    raise WrongState(
                        f"cannot add runtime {facts}: there is another one of this name and version, "
                        f"with the digest {present.digest[:12]}; this one has {made.digest[:12]}",
                        reason="RUNTIME_EXISTS",
                        hint="give it another version, or replace the one that is there: --force",
                    )
                runtime = Runtime(facts, made.digest, made.size, made.files, self._clock.now())
                if present is not None and (present.digest, present.facts) == (runtime.digest, facts):
                    runtime = present
                await self._activate(adder, made, runtime)
                self._runtimes[key] = runtime
                self._sorted = None
                return runtime
            finally:
                await asyncio.to_thread(adder.clean)
                await asyncio.to_thread(gc.delete, [tree])

    async def _activate(self, adder: adding.Adder, made: MadeTree, runtime: Runtime) -> None:
        digest, act = made.digest, f"add runtime {runtime.facts}"
        is_there = digest in self._trees
        try:
            if not is_there or digest in self._damage:
                await self._in_thread(act, adder.activate, made)
                self._trees.add(digest)
                self._damage.pop(digest, None)
            await self._in_thread(act, adder.name, runtime)
        except HostUnavailable:
            if not is_there:
                self._trees.discard(digest)
                with suppress(OSError):  # the next collection has it then
                    await asyncio.to_thread(gc.collect, self._layout, {digest}, False, threading.Event())
            raise

    async def remove(self, runtime: Runtime) -> int:
        """Let the name lead nowhere, and delete the tree unless it is in use; return the bytes that are free.

        Whether somebody minds is for the caller to ask first. Raises NotFound, HostUnavailable.
        """
        return await self._finish(self._remove(runtime), f"remove-runtime-{runtime.facts}")

    async def _remove(self, runtime: Runtime) -> int:
        key = (runtime.facts.name, runtime.facts.version)
        async with self._lock:
            self._refuse_when_closing()
            if key not in self._runtimes:
                raise NotFound(
                    f"cannot remove runtime {runtime.facts}: there is none",
                    reason="RUNTIME_UNKNOWN",
                    hint="see: rnx runtime list",
                )
            self._spared = set(self._held)
            used = await self.users()
            await self._in_thread(f"remove runtime {runtime.facts}", gc.unname, self._layout, *key)
            found = self._runtimes.pop(key)
            self._sorted = None
            going = self._let_go({found.digest}, used)
            return (await self._collect(going, everything=False)).bytes

    async def gc(self, users: Collection[str] = ()) -> Freed:
        """Delete the trees that nothing names, uses or holds, and the objects that no tree has.

        ``users`` are digests in use, besides those that ``self.users`` tells. Raises HostUnavailable, and
        whatever ``self.users`` raises: nothing is deleted then.
        """
        return await self._finish(self._gc(frozenset(users)), "collect-runtimes")

    async def _gc(self, users: Collection[str]) -> Freed:
        async with self._lock:
            self._refuse_when_closing()
            self._spared = set(self._held)
            used = {*users, *await self.users()}
            return await self._collect(self._let_go(self._trees, used), everything=True)

    def _let_go(self, digests: Collection[str], used: Collection[str]) -> frozenset[str]:
        """Forget those of the trees that nobody uses, in one step: nobody begins to hold one meanwhile."""
        named = {runtime.digest for runtime in self._runtimes.values()}
        going = frozenset(digests).difference(named, used, self._spared, self._held)
        self._trees -= going
        return going

    async def _collect(self, going: Collection[str], *, everything: bool) -> Freed:
        try:
            return await self._in_thread(
                "remove runtime trees", gc.collect, self._layout, going, everything, self._closing
            )
        except HostUnavailable:
            self._trees |= {digest for digest in going if self.tree(digest).exists()}
            raise
        finally:
            for digest in going:
                self._damage.pop(digest, None)

    async def verify(self, runtime: Runtime) -> tuple[Damage, ...]:
        """Read the whole tree and return what is not as it was when it was added.

        A tree with damage is marked until it is added again. Raises NotFound, HostUnavailable.
        """
        return await self._finish(self._verify(runtime.digest), f"verify-runtime-{runtime.facts}")

    async def _verify(self, digest: str) -> tuple[Damage, ...]:
        if digest not in self._trees and self._damage.get(digest):
            return self._damage[digest]
        with self.hold(digest):
            found = await self._in_thread(
                "verify the runtime", verify.verify, self._layout, digest, self._closing
            )
        async with self._lock:
            if digest not in self._trees:
                return found
            if found:
                self._damage[digest] = found
            else:
                self._damage.pop(digest, None)
            await self._in_thread("verify the runtime", verify.mark, self._layout, digest, found)
        return found

    # How.

    def _refuse_when_closing(self) -> None:
        if self._closing.is_set():
            raise HostUnavailable(
                "cannot change runtimes: the agent is about to end", reason="AGENT_ENDS", hint="try again"
            )

    async def _finish(self, work: Coroutine[Any, Any, T], title: str) -> T:
        """Do work to its end, even if the caller goes away meanwhile: a thread cannot be cancelled."""
        return await asyncio.shield(self._tasks.start(work, title))

    async def _in_thread(self, act: str, work: Callable[..., T], *args: Any) -> T:
        with disk_errors(act):
            return await asyncio.to_thread(work, *args)


async def _nobody() -> Collection[str]:
    return ()


def _order(runtime: Runtime) -> tuple[str, SemanticVersion]:
    return runtime.facts.name, SemanticVersion.of(runtime.facts.version)
