"""What callers can do with runtimes: what a removal means, who is in the way, what a spec means here."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from joblet_agent.errors import InvalidRequest, NotFound
from joblet_agent.model.identity import Identity
from joblet_agent.model.runtime import Runtime, RuntimeFacts
from joblet_agent.runtimes.catalog import RuntimeCatalog
from joblet_agent.runtimes.service import RuntimeInUse, RuntimeService, host_architecture
from joblet_agent.runtimes.store import RuntimeStore
from joblet_agent.runtimes.trial import RuntimeTrial
from tests.fakes.clock import FakeClock


@dataclass
class Rig:
    """A store on disk, and users that the test names."""

    store: RuntimeStore
    used: dict[str, Sequence[str]] = field(default_factory=dict)

    @property
    def service(self) -> RuntimeService:
        unused: Any = None
        return RuntimeService(self.store, RuntimeCatalog(self.store), RuntimeTrial(unused), self._users_of)

    async def _users_of(self, digest: str) -> Sequence[str]:
        return self.used.get(digest, ())

    async def put(self, name: str, version: str = "1.0.0", content: str = "", **facts: Any) -> Runtime:
        tree = await self.store.staging("test")
        (tree / "who").write_text(content or f"{name}@{version}")
        return await self.store.add(tree, RuntimeFacts(name, version, **facts))

    def names(self) -> list[str]:
        return [str(each.facts) for each in self.store.all()]


def run(tmp_path: Path, case: Callable[[Rig], Awaitable[None]]) -> None:
    async def main() -> None:
        store = RuntimeStore(tmp_path / "runtimes", FakeClock())
        await store.open()
        try:
            await case(Rig(store))
        finally:
            await store.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("go-1.24@1.0.0", ["go-1.24@1.1.0", "go-1.24@2.0.0-rc.1", "go-1.3@1.0.0"]),
        ("go-1.24@latest", ["go-1.24@1.0.0", "go-1.24@2.0.0-rc.1", "go-1.3@1.0.0"]),
        ("go-1.24", ["go-1.3@1.0.0"]),
        ("go:1.24", ["go-1.3@1.0.0"]),
    ],
)
def test_a_version_is_one_and_a_name_is_all(tmp_path: Path, given: str, left: list[str]) -> None:
    async def case(rig: Rig) -> None:
        for version in ("1.0.0", "1.1.0", "2.0.0-rc.1"):
            await rig.put("go-1.24", version)
        await rig.put("go-1.3")
        removal = await rig.service.remove(given, force=False)
        assert rig.names() == left
        assert len(removal.runtimes) == 4 - len(left)
        assert removal.freed > 0

    run(tmp_path, case)


def test_pre_releases_alone_can_be_removed_by_their_name(tmp_path: Path) -> None:
    async def case(rig: Rig) -> None:
        await rig.put("go-1.24", "2.0.0-rc.1")
        await rig.service.remove("go-1.24", force=False)
        assert rig.names() == []

    run(tmp_path, case)


@pytest.mark.parametrize("given", ["ruby", "go-1.24@9.9.9"])
def test_what_is_not_there_cannot_be_removed(tmp_path: Path, given: str) -> None:
    async def case(rig: Rig) -> None:
        await rig.put("go-1.24")
        with pytest.raises(NotFound, match="cannot use runtime"):
            await rig.service.remove(given, force=False)
        assert rig.names() == ["go-1.24@1.0.0"]

    run(tmp_path, case)


def test_users_are_in_the_way_of_all_versions(tmp_path: Path) -> None:
    async def case(rig: Rig) -> None:
        await rig.put("go-1.24", "1.0.0")
        used = await rig.put("go-1.24", "1.1.0")
        rig.used[used.digest] = [f"job {number}" for number in range(7)]
        with pytest.raises(
            RuntimeInUse, match="it is used by job 0; job 1; job 2; job 3; job 4 and 2 more"
        ) as no:
            await rig.service.remove("go-1.24", force=False)
        assert no.value.users == tuple(f"job {number}" for number in range(7))
        assert rig.names() == ["go-1.24@1.0.0", "go-1.24@1.1.0"]
        removal = await rig.service.remove("go-1.24", force=True)
        assert (rig.names(), removal.users) == ([], no.value.users)

    run(tmp_path, case)


def test_what_was_built_on_it_is_a_user(tmp_path: Path) -> None:
    async def case(rig: Rig) -> None:
        base = await rig.put("python-3.11")
        await rig.put("python-3.11-ml", base=base.digest)
        with pytest.raises(RuntimeInUse, match=r"it is used by runtime python-3\.11-ml@1\.0\.0"):
            await rig.service.remove("python-3.11", force=False)
        assert await rig.service.users(base) == ["runtime python-3.11-ml@1.0.0"]
        await rig.service.remove("python-3.11-ml", force=False)
        await rig.service.remove("python-3.11", force=False)
        assert rig.names() == []

    run(tmp_path, case)


def test_versions_built_on_one_another_go_together(tmp_path: Path) -> None:
    async def case(rig: Rig) -> None:
        base = await rig.put("python-3.11", "1.0.0")
        await rig.put("python-3.11", "1.1.0", base=base.digest)
        await rig.service.remove("python-3.11", force=False)
        assert rig.names() == []

    run(tmp_path, case)


def test_a_name_of_two_for_one_tree_can_go_while_it_is_used(tmp_path: Path) -> None:
    async def case(rig: Rig) -> None:
        first = await rig.put("go-1.24", content="same")
        second = await rig.put("go-other", content="same")
        assert first.digest == second.digest
        rig.used[first.digest] = ["job 1"]
        await rig.service.remove("go-other", force=False)
        with pytest.raises(RuntimeInUse):
            await rig.service.remove("go-1.24", force=False)
        assert rig.names() == ["go-1.24@1.0.0"]

    run(tmp_path, case)


def test_a_spec_that_can_be_read_may_mean_nothing_here(tmp_path: Path) -> None:
    async def case(rig: Rig) -> None:
        await rig.put("python-3.11-ml", "1.2.0")
        found = rig.service.understand("python:3.11-ml")
        assert (str(found.spec), found.runtime) == ("python-3.11-ml", rig.store.all()[0])
        assert found.architecture == host_architecture()
        missing = rig.service.understand("python:3.11-mll@amd64")
        assert (str(missing.spec), missing.architecture, missing.runtime) == (
            "python-3.11-mll",
            "amd64",
            None,
        )
        assert "did you mean python-3.11-ml?" in missing.why_not
        with pytest.raises(InvalidRequest):
            rig.service.understand("../../etc")

    run(tmp_path, case)


def test_the_latest_is_what_the_name_means(tmp_path: Path) -> None:
    async def case(rig: Rig) -> None:
        for version in ("1.9.0", "1.10.0", "2.0.0-rc.1"):
            await rig.put("go-1.24", version)
        latest = [str(each.facts) for each in rig.store.all() if rig.service.is_latest(each)]
        assert latest == ["go-1.24@1.10.0"]

    run(tmp_path, case)


def test_a_runtime_for_another_machine_is_not_available(tmp_path: Path) -> None:
    async def case(rig: Rig) -> None:
        await rig.put("go-1.24", architectures=("riscv64",))
        await rig.put("go-1.25", architectures=("riscv64", host_architecture()))
        assert [rig.service.is_available(each) for each in rig.store.all()] == [False, True]

    run(tmp_path, case)


def test_verification_finds_what_has_changed_and_marks_it(tmp_path: Path) -> None:
    async def case(rig: Rig) -> None:
        good, bad = await rig.put("go-1.24"), await rig.put("go-1.25")
        path = rig.store.tree(bad.digest) / "who"
        path.chmod(0o644)
        path.write_text("go-1.25@1.0.1")
        verdicts = [each async for each in await rig.service.verify("")]
        assert [(each.runtime, [one.path for one in each.damages]) for each in verdicts] == [
            (good, []),
            (bad, ["who"]),
        ]
        assert [rig.service.is_available(each) for each in rig.store.all()] == [True, False]
        with pytest.raises(NotFound):
            await rig.service.verify("ruby")

    run(tmp_path, case)


def test_a_test_needs_a_runtime(tmp_path: Path) -> None:
    async def case(rig: Rig) -> None:
        with pytest.raises(NotFound):
            await rig.service.test("ruby", Identity("alice", None))  # type: ignore[arg-type]

    run(tmp_path, case)
