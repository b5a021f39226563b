import os
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from tests.testbed import cache


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JOBLET_TEST_CACHE", str(tmp_path))
    return tmp_path


def test_artifact_is_made_once() -> None:
    made = []

    def build(path: Path) -> None:
        made.append(path)
        path.mkdir()

    for _ in range(2):
        with cache.artifact("thing", "k1", build) as path:
            assert path.name == "thing-k1"
    assert len(made) == 1


def test_two_that_want_the_same_make_it_once() -> None:
    made = []
    started = threading.Event()

    def build(path: Path) -> None:
        started.wait(10)
        made.append(path)
        path.mkdir()

    def use() -> None:
        with cache.artifact("thing", "k1", build) as path:
            assert path.is_dir()

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    started.set()
    for thread in threads:
        thread.join(10)
    assert len(made) == 1


def test_failed_build_leaves_nothing(own_cache: Path) -> None:
    def build(path: Path) -> None:
        path.mkdir()
        (path / "half").touch()
        raise RuntimeError

    with pytest.raises(RuntimeError), cache.artifact("thing", "k1", build):
        pass
    assert [path.name for path in (own_cache / "images").iterdir()] == ["thing-k1.lock"]


def test_unused_for_long_is_removed_and_used_is_not(own_cache: Path) -> None:
    for key in ("old", "used", "new"):
        with cache.artifact("thing", key, Path.mkdir):
            pass
    images = own_cache / "images"
    for key in ("old", "used"):
        os.utime(images / f"thing-{key}.lock", (0, 0))
    with cache.artifact("thing", "used", Path.mkdir):
        os.utime(images / "thing-used.lock", (0, 0))
        assert cache.remove_unused("thing", age=timedelta(days=1)) == [images / "thing-old"]
