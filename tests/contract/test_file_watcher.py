"""What every file watcher promises: no change after ``arm`` is missed, one wake for each arm."""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import pytest

from joblet_agent.errors import HostUnavailable
from joblet_agent.inotify import InotifyWatcher
from joblet_agent.ports import FileWatcher
from tests.fakes.file_watcher import FakeFileWatcher

_SOON = 5.0


class Subject(Protocol):
    watcher: FileWatcher

    def append(self, path: Path, data: bytes) -> None: ...
    def close(self) -> None: ...


class RealSubject:
    def __init__(self) -> None:
        self.watcher = InotifyWatcher()

    def append(self, path: Path, data: bytes) -> None:
        with path.open("ab") as file:
            file.write(data)

    def close(self) -> None:
        self.watcher.close()


class FakeSubject(RealSubject):
    def __init__(self) -> None:
        self.watcher = FakeFileWatcher()  # type: ignore[assignment]

    def append(self, path: Path, data: bytes) -> None:
        super().append(path, data)
        assert isinstance(self.watcher, FakeFileWatcher)
        self.watcher.changed(path)


class PollingSubject(RealSubject):
    """No watch is left for this user: max_user_watches."""

    def __init__(self) -> None:
        super().__init__()
        self.watcher._inotify_add = _no_watch_left  # type: ignore[method-assign]


def _no_watch_left(path: Path, mask: int) -> int:
    raise OSError(28, "No space left on device")


@pytest.fixture(params=[RealSubject, FakeSubject, PollingSubject])
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[Subject], Awaitable[None]]], None]:
    async def with_subject(case: Callable[[Subject], Awaitable[None]]) -> None:
        subject = request.param()
        try:
            await asyncio.wait_for(case(subject), _SOON)
        finally:
            subject.close()

    return lambda case: asyncio.run(with_subject(case))


Run = Callable[[Callable[[Subject], Awaitable[None]]], None]


def test_a_change_after_arm_wakes(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()

    async def case(subject: Subject) -> None:
        woken = asyncio.Event()
        watch = subject.watcher.watch(log, woken.set)
        for _ in range(3):
            watch.arm()
            subject.append(log, b"x")
            await woken.wait()
            woken.clear()
        watch.close()

    run(case)


def test_every_waiter_of_a_file_is_woken(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()

    async def case(subject: Subject) -> None:
        events = [asyncio.Event() for _ in range(10)]
        watches = [subject.watcher.watch(log, event.set) for event in events]
        for watch in watches:
            watch.arm()
        watches[0].close()
        subject.append(log, b"x")
        for event in events[1:]:
            await event.wait()
        assert not events[0].is_set()

    run(case)


def test_one_wake_for_each_arm(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()

    async def case(subject: Subject) -> None:
        wakes: list[None] = []
        other = asyncio.Event()
        watch = subject.watcher.watch(log, lambda: wakes.append(None))
        watch.arm()
        watch.arm()
        for _ in range(100):
            subject.append(log, b"x")
        second = subject.watcher.watch(log, other.set)
        second.arm()
        subject.append(log, b"x")
        await other.wait()
        assert len(wakes) == 1

    run(case)


def test_a_file_that_is_missing_wakes_when_it_comes(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "home" / "log"

    async def case(subject: Subject) -> None:
        woken = asyncio.Event()
        watch = subject.watcher.watch(log, woken.set)
        watch.arm()
        log.parent.mkdir()
        while not log.exists() or not log.stat().st_size:
            subject.append(log, b"x")
            await woken.wait()
            woken.clear()
            watch.arm()
        subject.append(log, b"x")
        await woken.wait()

    run(case)


def test_closing_wakes_and_refuses(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()

    async def case(subject: Subject) -> None:
        woken = asyncio.Event()
        watch = subject.watcher.watch(log, woken.set)
        watch.arm()
        subject.close()
        await woken.wait()
        with pytest.raises(HostUnavailable) as caught:
            watch.arm()
        assert caught.value.reason == "AGENT_STOPPING"

    run(case)


def test_a_deleted_file_wakes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()

    async def case() -> None:
        watcher = InotifyWatcher()
        woken = asyncio.Event()
        watch = watcher.watch(log, woken.set)
        watch.arm()
        with log.open("rb"):
            log.unlink()
            await asyncio.wait_for(woken.wait(), _SOON)
        watcher.close()

    asyncio.run(case())


def test_a_lack_of_watches_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = tmp_path / "log"
    log.touch()

    async def case() -> None:
        subject = PollingSubject()
        woken = asyncio.Event()
        watch = subject.watcher.watch(log, woken.set)
        for _ in range(3):
            watch.arm()
            subject.append(log, b"x")
            await asyncio.wait_for(woken.wait(), _SOON)
            woken.clear()
        subject.close()

    asyncio.run(case())
    assert [record.getMessage() for record in caplog.records] == [
        f"polling {log} instead of watching it: No space left on device"
    ]


def test_a_kernel_that_gives_no_instance_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    async def case() -> None:
        InotifyWatcher()

    monkeypatch.setattr("joblet_agent.inotify._instance", refuse)
    with pytest.raises(HostUnavailable, match="no more inotify instances") as caught:
        asyncio.run(case())
    assert caught.value.reason == "NO_INOTIFY"
    assert "fs.inotify.max_user_instances" in (caught.value.hint or "")
