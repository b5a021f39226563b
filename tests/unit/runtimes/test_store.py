"""The store of runtimes: what is shared, what is refused, what goes and what stays."""

import asyncio
import errno
import json
import os
import threading
from pathlib import Path

import pytest

from joblet_agent.errors import HostUnavailable, InvalidRequest, NotFound, StoreFailed, WrongState
from joblet_agent.model.runtime import RuntimeFacts
from joblet_agent.runtimes import adding
from joblet_agent.runtimes.damage import Damage
from joblet_agent.runtimes.layout import MTIME
from tests.fakes.clock import BEGINNING
from tests.unit.runtimes.store_rig import SMALL, Store, facts, plant, refused, with_store

EMPTY: dict[str, list[str]] = {
    "objects": [],
    "trees": [],
    "lists": [],
    "names": [],
    "damaged": [],
    "staging": [],
}


def test_what_is_added_is_there_with_all_that_is_known_of_it(tmp_path: Path) -> None:
    told = RuntimeFacts(
        "python-3.11",
        "1.2.0-rc.1",
        description="Püthon",
        environment={"A": "b"},
        packages=("a=1", "b=2"),
        architectures=("amd64",),
        needs_gpu=True,
        built_at=BEGINNING,
        lock="x" * 10000,
    )

    async def first(store: Store) -> None:
        runtime = await store.add(await store.plant(SMALL), told)
        assert store.all() == (runtime,)
        assert runtime.facts == told
        more = await store.put(SMALL | {"usr/a": "x" * 1000, "usr/b": "x" * 1000}, "more")
        assert (more.size - runtime.size, more.files - runtime.files) == (1000, 2)
        await store.remove(more)
        assert store.has(runtime.digest)
        tree = store.tree(runtime.digest)
        assert (tree / "usr/bin/tool").read_text() == "tool"
        assert os.readlink(tree / "usr/lib/lib.so") == "lib.so.1"
        assert {path.lstat().st_mtime for path in [tree, *tree.rglob("*")]} == {MTIME}
        assert store.contents()["staging"] == []
        assert await store.verify(runtime) == ()

    async def second(store: Store) -> None:
        (runtime,) = store.all()
        assert runtime.facts == told
        assert runtime.added_at > BEGINNING
        assert await store.verify(runtime) == ()

    with_store(tmp_path, first)
    with_store(tmp_path, second)


def test_files_of_equal_content_and_mode_are_one_file(tmp_path: Path) -> None:
    async def case(store: Store) -> None:
        one = await store.put(SMALL)
        more = await store.plant(SMALL | {"usr/bin/more": "tool", "usr/bin/runs": "tool"})
        os.chmod(more / "usr/bin/runs", 0o755)
        two = await store.add(more, facts("more"))
        first, second = store.tree(one.digest), store.tree(two.digest)
        inodes = {
            (top / f"usr/bin/{name}").stat().st_ino for top in (first, second) for name in ("tool", "same")
        }
        assert inodes == {(second / "usr/bin/more").stat().st_ino}
        assert (second / "usr/bin/runs").stat().st_ino not in inodes
        assert (first / "usr/bin/tool").stat().st_nlink == 6  # five, and the object
        assert (second / "usr/bin/runs").stat().st_nlink == 2

    with_store(tmp_path, case)


def test_a_tree_of_another_file_system_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def across(src: object, *args: object, **kwargs: object) -> None:
        if "src_dir_fd" in kwargs:  # a name in the tree that is added
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        link(src, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", across)

    async def case(store: Store) -> None:
        runtime = await store.put(SMALL | {"large": b"x" * 3_000_000})
        assert (store.tree(runtime.digest) / "large").stat().st_size == 3_000_000
        assert await store.verify(runtime) == ()

    with_store(tmp_path, case)


def test_a_file_that_somebody_else_has_a_link_to_is_copied(tmp_path: Path) -> None:
    async def case(store: Store) -> None:
        tree = await store.plant(SMALL)
        os.link(tree / "usr/bin/tool", tmp_path / "kept")
        runtime = await store.add(tree, facts())
        with (tmp_path / "kept").open("a") as own:
            own.write(" changed")
        assert await store.verify(runtime) == ()

    with_store(tmp_path, case)


def test_a_file_with_as_many_links_as_the_disk_allows_gets_a_second_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def limited(
        src: str | Path, dst: str | Path, *, src_dir_fd: int | None = None, follow_symlinks: bool = True
    ) -> None:
        if os.stat(src, dir_fd=src_dir_fd).st_nlink >= 4:
            raise OSError(errno.EMLINK, "Too many links")
        link(src, dst, src_dir_fd=src_dir_fd, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(os, "link", limited)

    async def case(store: Store) -> None:
        one = await store.put({f"usr/{number}": "same" for number in range(10)})
        two = await store.put({f"usr/{number}": "same" for number in range(12)}, "other")
        for runtime in (one, two):
            assert await store.verify(runtime) == ()
        await store.check_out(two.digest, copy := await store.staging("copy") / "tree")
        assert (copy / "usr/11").read_text() == "same"
        await store.discard(copy.parent)
        await store.remove(one)
        await store.remove(two)
        assert store.contents() == EMPTY

    with_store(tmp_path, case)


def test_a_name_and_version_is_one_tree_unless_it_is_replaced(tmp_path: Path) -> None:
    async def case(store: Store) -> None:
        one = await store.put(SMALL)
        text = await refused(store.put({"other": "x"}), WrongState, "RUNTIME_EXISTS")
        assert "tool@1.0.0" in text
        assert store.all() == (one,)
        before = store.contents()
        assert before["staging"] == []
        two = await store.put({"other": "x"}, replace=True)
        assert store.all() == (two,)
        assert store.has(one.digest)  # until a collection: a job may have it
        assert (await store.gc()).trees == 1
        assert store.contents()["trees"] == [two.digest]
        three = await store.put({"other": "x"}, version="2.0.0")
        assert three.digest == two.digest
        assert store.all() == (two, three)

    with_store(tmp_path, case)


def test_to_add_the_same_again_changes_nothing_but_what_is_said_of_it(tmp_path: Path) -> None:
    async def case(store: Store) -> None:
        one = await store.put(SMALL)
        before = store.contents()
        assert await store.put(SMALL) == one
        again = await store.add(await store.plant(SMALL), RuntimeFacts("tool", "1.0.0", "better described"))
        assert again.digest == one.digest
        assert [runtime.facts.description for runtime in store.all()] == ["better described"]
        assert store.contents() == before

    with_store(tmp_path, case)


def test_the_same_tree_added_many_times_at_once_is_one(tmp_path: Path) -> None:
    async def case(store: Store) -> None:
        added = await asyncio.gather(*(store.put(SMALL, version=f"1.0.{number % 3}") for number in range(9)))
        assert len({runtime.digest for runtime in added}) == 1
        assert [runtime.facts.version for runtime in store.all()] == ["1.0.0", "1.0.1", "1.0.2"]
        assert len(store.contents()["trees"]) == 1
        assert store.contents()["staging"] == []

    with_store(tmp_path, case)


@pytest.mark.parametrize(
    ("name", "version"), [("../x", "1.0.0"), ("x", "../1.0.0"), ("x", "1.0"), ("", "1.0.0")]
)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str, version: str) -> None:
    async def case(store: Store) -> None:
        await refused(store.put(SMALL, name, version), InvalidRequest, "RUNTIME_SPEC_INVALID")
        assert store.contents() == EMPTY

    with_store(tmp_path, case)


def test_a_refused_tree_leaves_nothing(tmp_path: Path) -> None:
    async def case(store: Store) -> None:
        await refused(store.put({"etc/ld.so.preload": "x"}), InvalidRequest, "RUNTIME_TREE_REFUSED")
        assert store.contents() == EMPTY

    with_store(tmp_path, case)


def test_a_caller_who_goes_away_leaves_a_whole_runtime(tmp_path: Path) -> None:
    async def case(store: Store) -> None:
        tree = await store.plant(SMALL)
        adding = asyncio.create_task(store.add(tree, facts()))
        await asyncio.sleep(0)
        adding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adding
        runtime = await store.put(SMALL)  # comes after it
        assert await store.verify(runtime) == ()
        assert store.contents()["staging"] == []

    with_store(tmp_path, case)


def test_an_agent_that_ends_does_not_wait_for_a_long_addition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slowly(_tree: Path) -> None:
        begun.set()
        go_on.wait(20)

    async def main() -> None:
        store = Store(tmp_path)
        await store.open()
        tree = await store.plant(SMALL)
        monkeypatch.setattr(adding, "normalise", slowly)
        under_way = asyncio.create_task(store.add(tree, facts()))
        assert await asyncio.to_thread(begun.wait, 20)
        closing = asyncio.create_task(store.close())
        await asyncio.sleep(0)
        go_on.set()
        await refused(under_way, HostUnavailable, "AGENT_ENDS")
        await closing
        await refused(store.gc(), HostUnavailable, "AGENT_ENDS")
        assert store.contents() == EMPTY

    asyncio.run(main())


# Use, removal, collection.


def test_removal_gives_back_what_nobody_else_has(tmp_path: Path) -> None:
    async def case(store: Store) -> None:
        one = await store.put(SMALL)
        two = await store.put(SMALL | {"usr/more": "m" * 1000}, "more")
        assert await store.remove(two) == 1000
        assert store.all() == (one,)
        assert await store.verify(one) == ()
        assert await store.remove(one) > 0
        assert store.contents() == EMPTY
        await refused(store.remove(one), NotFound, "RUNTIME_UNKNOWN")

    with_store(tmp_path, case)


def test_a_tree_that_is_used_or_held_or_named_twice_outlives_its_name(tmp_path: Path) -> None:
    async def case(store: Store) -> None:
        used, held = await store.put({"used": "x"}, "used"), await store.put({"held": "x"}, "held")
        twice = await store.put({"twice": "x"}, "twice")
        await store.put({"twice": "x"}, "again")
        store.used = {used.digest}
        with store.hold(held.digest):
            for runtime in (used, held, twice):
                await store.remove(runtime)
            assert (await store.gc()).trees == 0
            assert all(store.has(runtime.digest) for runtime in (used, held, twice))
        assert (await store.gc()).trees == 1
        assert not store.has(held.digest)
        assert (await store.gc([used.digest])).trees == 0
        store.used = set()
        assert (await store.gc([used.digest])).trees == 0
        assert (await store.gc()).trees == 1
        assert store.contents()["trees"] == [twice.digest]

    with_store(tmp_path, case)


def test_a_start_that_comes_while_users_are_asked_for_keeps_its_tree(tmp_path: Path) -> None:
    async def case(store: Store) -> None:
        runtime = await store.put(SMALL)
        store.used = {runtime.digest}
        await store.remove(runtime)
        store.used = set()
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def slowly() -> set[str]:
            asked.set()
            await go_on.wait()
            return set()

        store.users = slowly
        collecting = asyncio.create_task(store.gc())
        await asked.wait()
        with store.hold(runtime.digest):
            pass  # here its record was stored, after the answer that is under way was read
        go_on.set()
        assert (await collecting).trees == 0
        assert store.has(runtime.digest)

    with_store(tmp_path, case)


def test_a_start_that_comes_while_trees_go_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def case(store: Store) -> None:
        runtime = await store.put(SMALL)
        store.used = {runtime.digest}
        await store.remove(runtime)
        store.used = set()
        renaming, go_on = threading.Event(), threading.Event()
        rename = os.rename

        def slowly(src: str | Path, dst: str | Path, **directories: int) -> None:
            renaming.set()
            go_on.wait(20)
            rename(src, dst, **directories)

        monkeypatch.setattr(os, "rename", slowly)
        collecting = asyncio.create_task(store.gc())
        assert await asyncio.to_thread(renaming.wait, 20)
        with pytest.raises(NotFound) as caught, store.hold(runtime.digest):
            pass
        assert caught.value.reason == "RUNTIME_GONE"
        go_on.set()
        assert (await collecting).trees == 1
        assert store.contents() == EMPTY

    with_store(tmp_path, case)


def test_nothing_is_deleted_when_nobody_can_say_who_uses_it(tmp_path: Path) -> None:
    async def case(store: Store) -> None:
        runtime = await store.put(SMALL)
        await store.put({"other": "x"}, replace=True)

        async def fail() -> set[str]:
            raise StoreFailed("cannot read", reason="STORE_FAILED")

        store.users = fail
        await refused(store.gc(), StoreFailed, "STORE_FAILED")
        await refused(store.remove(store.all()[0]), StoreFailed, "STORE_FAILED")
        assert store.has(runtime.digest)
        assert len(store.all()) == 1

    with_store(tmp_path, case)


def test_a_copy_of_a_tree_shares_its_files_and_becomes_another(tmp_path: Path) -> None:
    async def case(store: Store) -> None:
        base = await store.put(SMALL)
        copy = await store.staging("copy") / "tree"
        await store.check_out(base.digest, copy)
        assert (copy / "usr/bin/tool").stat().st_ino == (
            store.tree(base.digest) / "usr/bin/tool"
        ).stat().st_ino
        plant(copy, {"opt/runtime/own": "own"})
        objects = set(store.objects())
        more = await store.add(copy, facts("more"))
        assert await store.verify(base) == await store.verify(more) == ()
        assert len(set(store.objects()) - objects) == 1

    with_store(tmp_path, case)


# Damage.


def spoil(tree: Path, how: str) -> None:
    tool = tree / "usr/bin/tool"
    match how:
        case "byte":
            with tool.open("r+b") as file:
                file.write(b"T")
        case "mode":
            os.chmod(tool, 0o777)
        case "missing":
            tool.unlink()
        case "additional":
            (tree / "usr/new").write_text("x")
        case "kind":
            tool.unlink()
            tool.mkdir()
        case "link":
            (tree / "usr/lib/lib.so").unlink()
            (tree / "usr/lib/lib.so").symlink_to("../evil")
        case "pipe":
            tool.unlink()
            os.mkfifo(tool)
        case "list":
            (tree / "usr/new").write_text("x")
            (tree.parent.parent / "lists" / tree.name).write_bytes(b"nonsense")


DAMAGES = {
    "byte": {"/usr/bin/tool has another content", "/usr/bin/same has another content"},
    "mode": {
        "/usr/bin/tool has the mode 0777 instead of 0644",
        "/usr/bin/same has the mode 0777 instead of 0644",
    },
    "missing": {"/usr/bin/tool is missing"},
    "additional": {"/usr/new does not belong there"},
    "kind": {"/usr/bin/tool is a directory instead of a file"},
    "link": {"/usr/lib/lib.so leads to ../evil instead of lib.so.1"},
    "pipe": {"/usr/bin/tool is no longer a file"},
    "list": {"it has another digest, and the list that would tell what is wrong is damaged"},
}


@pytest.mark.parametrize("how", DAMAGES)
def test_damage_is_found_remembered_and_mended(tmp_path: Path, how: str) -> None:
    files = SMALL | {"usr/bin/tool": "tool", "etc/hosts": "x"}

    async def find(store: Store) -> None:
        runtime = await store.put(files)
        other = await store.put(files | {"usr/more": "x"}, "other")
        spoil(store.tree(runtime.digest), how)
        found = await store.verify(runtime)
        assert {str(damage) for damage in found} == DAMAGES[how]
        assert store.damage(runtime.digest) == found
        shared = {"byte": 2, "mode": 2}.get(how, 0)  # they have the same files
        assert len(await store.verify(other)) == shared

    async def mend(store: Store) -> None:
        runtime = store.all()[1]
        assert {str(damage) for damage in store.damage(runtime.digest)} == DAMAGES[how]
        assert await store.put(files) == runtime
        assert store.damage(runtime.digest) == ()
        assert await store.verify(runtime) == ()
        again = await store.put(files | {"usr/more": "x"}, "other")
        assert await store.verify(again) == ()
        assert store.contents()["damaged"] == []

    async def gone(store: Store) -> None:
        for runtime in store.all():
            await store.remove(runtime)
        await store.gc()
        assert store.contents() == EMPTY

    for case in (find, mend, gone):
        with_store(tmp_path, case)


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_a_file_of_another_owner_is_damage(tmp_path: Path) -> None:
    async def case(store: Store) -> None:
        runtime = await store.put({"usr/tool": "x"})
        os.chown(store.tree(runtime.digest) / "usr/tool", 5, 6)
        assert await store.verify(runtime) == (Damage("usr/tool", "belongs to 5:6 instead of root"),)

    with_store(tmp_path, case)


def test_a_lost_list_of_a_whole_tree_is_made_again(tmp_path: Path) -> None:
    async def case(store: Store) -> None:
        runtime = await store.put(SMALL)
        (store.root / "lists" / runtime.digest).unlink()
        assert await store.verify(runtime) == ()
        spoil(store.tree(runtime.digest), "missing")
        assert await store.verify(runtime) == (Damage("usr/bin/tool", "is missing"),)

    with_store(tmp_path, case)


def test_a_tree_that_somebody_deleted_is_a_damaged_runtime(tmp_path: Path) -> None:
    async def delete(store: Store) -> None:
        runtime = await store.put(SMALL)
        os.rename(store.tree(runtime.digest), tmp_path / "elsewhere")

    async def find(store: Store) -> None:
        (runtime,) = store.all()
        assert not store.has(runtime.digest)
        assert await store.verify(runtime) == store.damage(runtime.digest) == (Damage("", "is missing"),)
        assert await store.put(SMALL) == runtime
        assert store.has(runtime.digest)
        assert await store.verify(runtime) == ()

    root = tmp_path / "store"
    with_store(root, delete)
    with_store(root, find)


# The beginning.


def test_what_was_under_way_is_deleted_unless_it_still_is(tmp_path: Path) -> None:
    async def main() -> None:
        store = Store(tmp_path)
        await store.open()
        kept = await store.plant(SMALL)
        gone = plant(await store.staging("build-1"), SMALL)
        await store.close()
        other = Store(tmp_path)
        await other.open(working=["test"])
        await asyncio.gather(*other._tasks._tasks)
        await other.close()
        assert kept.is_dir()
        assert not gone.exists()

    asyncio.run(main())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'{"digest": 5}',
        json.dumps({"digest": "../../etc", "size": 1, "files": 1}).encode(),
        b"\xff",
    ],
)
def test_a_name_that_cannot_be_read_hides_no_other(
    tmp_path: Path, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def spoil_it(store: Store) -> None:
        await store.put(SMALL)
        await store.put(SMALL, "other")
        (store.root / "names/other/1.0.0.json").write_bytes(text)
        (store.root / "names/stray").write_bytes(b"x")

    async def find(store: Store) -> None:
        assert [str(runtime.facts) for runtime in store.all()] == ["tool@1.0.0"]
        assert "names/other/1.0.0.json" in caplog.text

    with_store(tmp_path, spoil_it)
    with_store(tmp_path, find)


def test_a_name_that_leads_out_of_the_store_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def spoil_it(store: Store) -> None:
        await store.put(SMALL)
        path = store.root / "names/tool/1.0.0.json"
        told = json.loads(path.read_bytes())
        path.write_text(json.dumps(told | {"digest": "../../../etc"}))
        (store.root / "names/tool/2.0.0.json").write_text(json.dumps(told))

    async def find(store: Store) -> None:
        assert store.all() == ()

    with_store(tmp_path, spoil_it)
    with_store(tmp_path, find)
    assert "is not of runtime tool@2.0.0" in caplog.text


def test_what_the_version_after_writes_can_be_read(tmp_path: Path) -> None:
    async def change(store: Store) -> None:
        await store.put(SMALL)
        path = store.root / "names/tool/1.0.0.json"
        told = json.loads(path.read_bytes())
        del told["facts"]["description"]
        told["facts"]["colour"] = told["shape"] = "new"
        path.write_text(json.dumps(told))

    async def find(store: Store) -> None:
        assert [runtime.facts for runtime in store.all()] == [facts()]

    with_store(tmp_path, change)
    with_store(tmp_path, find)
