"""The agent dies, or the disk is full, at every change that the store makes on the disk.

Whatever the point: what was there before is there and whole, what was added is there and whole or not there
at all, and the next agent comes to the same end.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from joblet_agent.errors import HostUnavailable
from tests.sizes import size
from tests.unit.runtimes.dying import Death, Disk, disk
from tests.unit.runtimes.store_rig import SMALL, Content, Store, facts, with_store
from tests.unit.runtimes.test_store import EMPTY

pytestmark = pytest.mark.exhaustive

BIG = SMALL | {"usr/bin/more": "more", "usr/lib/large": b"x" * 5000}
BAD = SMALL | {"usr/bin/bad": "bad"}
OTHER: dict[str, Content] = {"usr/bin/other": "other", "usr/bin/tool": "tool"}

STEP = size(23, 1)
"""Every 23rd point in a usual run; ``make soak`` has each."""

Case = Callable[[Store, Path], Awaitable[object]]


async def add(store: Store, tree: Path) -> None:
    await store.add(tree, facts("new"))


async def replace(store: Store, tree: Path) -> None:
    await store.add(tree, facts("old"), replace=True)


async def mend(store: Store, tree: Path) -> None:
    await store.add(tree, facts("bad"))


async def remove(store: Store, _tree: Path) -> None:
    for runtime in store.all():
        if runtime.facts.name == "going":
            await store.remove(runtime)


async def collect(store: Store, _tree: Path) -> None:
    await store.gc()


async def verify(store: Store, _tree: Path) -> None:
    for runtime in store.all():
        await store.verify(runtime)


CASES: dict[str, Case] = {
    "add": add,
    "replace": replace,
    "mend": mend,
    "remove": remove,
    "collect": collect,
    "verify": verify,
}
TREES = {"mend": BAD}


async def prepare(store: Store) -> None:
    """Have what each case needs: other runtimes, one that goes, a damaged one, a tree without a name."""
    await store.put(SMALL, "stays")
    await store.put(OTHER, "old")
    await store.put({"usr/bin/going": "going", "usr/bin/tool": "tool"}, "going")
    await store.put({"usr/unnamed": "x"}, "unnamed")
    await store.put({"usr/unnamed": "y"}, "unnamed", replace=True)
    bad = await store.put(BAD, "bad")
    with (store.tree(bad.digest) / "usr/bin/bad").open("r+b") as file:
        file.write(b"B")
    await store.verify(bad)


async def whole(store: Store) -> dict[str, str]:
    """Each runtime with its digest; none is damaged but the one that was."""
    for runtime in store.all():
        found = await store.verify(runtime)
        assert not found or runtime.facts.name == "bad", (str(runtime.facts), found)
        assert store.has(runtime.digest) or runtime.facts.name == "bad"
    return specs(store)


async def settle(store: Store) -> None:
    await asyncio.gather(*store._tasks._tasks)
    assert store.contents()["staging"] == []


def disturbed(home: Path, name: str, at: int, *, is_full: bool) -> tuple[Disk, dict[str, str]]:
    """Do the case on a disk that ends at the point; return also what runtimes there were before."""
    with_store(home, prepare)

    async def main() -> tuple[Disk, dict[str, str]]:
        store = Store(home)
        await store.open()
        before = specs(store)
        trees = store.contents()["trees"]
        tree = await store.plant(TREES.get(name, BIG))
        ended = False
        with disk(at, is_full=is_full) as ending:
            try:
                await CASES[name](store, tree)
            except (Death, HostUnavailable):
                ended = True
            with suppress(Death):
                await store.close()
        if is_full and ended:
            assert set(store.contents()["trees"]) <= set(trees)
            assert specs(store) in (before, without(before, "going"))
        if not ended:
            check_done(store, name)
        if is_full and name in {"add", "replace", "mend"}:
            assert store.contents()["staging"] == []
        return ending, before

    return asyncio.run(main())


def specs(store: Store) -> dict[str, str]:
    return {str(runtime.facts): runtime.digest for runtime in store.all()}


def check_done(store: Store, name: str) -> None:
    now = specs(store)
    assert ("new@1.0.0" in now) == (name == "add")
    assert ("going@1.0.0" in now) == (name != "remove")
    assert {"old@1.0.0", "stays@1.0.0", "bad@1.0.0"} <= now.keys()
    assert name != "mend" or not store.damage(now["bad@1.0.0"])


def without(runtimes: dict[str, str], name: str) -> dict[str, str]:
    return {spec: digest for spec, digest in runtimes.items() if spec != f"{name}@1.0.0"}


@pytest.mark.soak
@pytest.mark.parametrize("is_full", [False, True], ids=["death", "full-disk"])
@pytest.mark.parametrize("name", CASES)
def test_at_every_point_there_is_what_was_before_or_what_comes_after(
    tmp_path: Path, name: str, is_full: bool
) -> None:
    for at in count(list(CASES).index(name) % STEP, STEP):
        home = tmp_path / str(at)
        ending, before = disturbed(home, name, at, is_full=is_full)

        async def found(store: Store, before: dict[str, str] = before) -> None:
            await settle(store)
            now = await whole(store)
            for spec, digest in before.items():
                may_differ = (name, spec) in {("replace", "old@1.0.0"), ("remove", "going@1.0.0")}
                assert may_differ or now[spec] == digest
            await CASES[name](store, await store.plant(TREES.get(name, BIG)))
            check_done(store, name)
            now = await whole(store)
            await store.gc()
            assert store.contents()["trees"] == store.contents()["lists"] == sorted(set(now.values()))
            assert all(links > 1 for links in store.objects().values())
            for runtime in store.all():
                await store.remove(runtime)
            assert store.contents() == EMPTY | {"staging": store.contents()["staging"]}

        with_store(home, found)
        if not ending.was_reached:
            break
    assert at > 0
