"""The skeleton that jobs take for their root."""

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from joblet_agent.jobs.root import DefaultRoot


@pytest.fixture
def host(tmp_path: Path) -> Path:
    etc = tmp_path / "host" / "etc"
    (etc / "ssl" / "certs").mkdir(parents=True)
    (etc / "ssl" / "certs" / "ca.pem").write_text("certificate")
    (etc / "services").write_text("ssh 22/tcp")
    (etc / "shadow").write_text("secret")
    (etc / "ssl" / "private").mkdir()
    (etc / "ssl" / "private" / "key").write_text("secret")
    return tmp_path / "host"


@pytest.fixture
def root(tmp_path: Path, host: Path) -> DefaultRoot:
    return DefaultRoot(tmp_path / "run" / "root", host)


@pytest.fixture
def closed_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def everything(path: Path) -> dict[str, tuple[int, int, str]]:
    return {
        str(file.relative_to(path)): (
            file.lstat().st_mode,
            file.lstat().st_ino,
            file.read_text() if file.is_file() and not file.is_symlink() else "",
        )
        for file in path.rglob("*")
    }


def change(file: Path, text: str) -> None:
    """Write it, later than anything before."""
    file.write_text(text)
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1_000_000_000))


def test_refresh_makes_it_and_again_changes_nothing(root: DefaultRoot) -> None:
    root.refresh()
    before = everything(root.path)
    root.refresh()
    assert everything(root.path) == before
    assert (root.path / "bin").readlink() == Path("usr/bin")
    assert (root.path / "etc" / "services").read_text() == "ssh 22/tcp"
    assert (root.path / "etc" / "ssl" / "certs" / "ca.pem").read_text() == "certificate"


def test_a_second_agent_takes_it_over(root: DefaultRoot, host: Path) -> None:
    root.refresh()
    names = set(everything(root.path))
    DefaultRoot(root.path, host).refresh()
    assert set(everything(root.path)) == names


def test_nothing_secret_and_nothing_of_the_hosts_identity(root: DefaultRoot) -> None:
    root.refresh()
    assert "secret" not in str(everything(root.path))
    assert not (root.path / "etc" / "shadow").exists()
    assert not (root.path / "etc" / "machine-id").exists()


def test_every_job_can_enter_and_read_it_whatever_the_agents_umask(
    root: DefaultRoot, closed_umask: None
) -> None:
    root.refresh()
    for name, (mode, _, _) in {**everything(root.path), ".": (root.path.stat().st_mode, 0, "")}.items():
        if stat.S_ISDIR(mode):
            assert mode & 0o005 == 0o005, name
        if stat.S_ISREG(mode):
            assert mode & 0o004, name


def test_what_changes_on_the_host_is_copied_by_rename(root: DefaultRoot, host: Path) -> None:
    root.refresh()
    with (root.path / "etc" / "services").open() as seen_by_a_job:
        change(host / "etc" / "services", "ssh 2222/tcp")
        root.refresh()
        assert seen_by_a_job.read() == "ssh 22/tcp"
    assert (root.path / "etc" / "services").read_text() == "ssh 2222/tcp"


def test_what_comes_and_goes_on_the_host(root: DefaultRoot, host: Path) -> None:
    root.refresh()
    (host / "etc" / "services").unlink()
    (host / "etc" / "ssl" / "certs" / "new.pem").write_text("new")
    os.utime(host / "etc" / "ssl" / "certs", ns=(0, 4 * 10**18))
    root.refresh()
    assert not (root.path / "etc" / "services").exists()
    assert (root.path / "etc" / "ssl" / "certs" / "new.pem").read_text() == "new"
    assert not [name for name in everything(root.path) if name.rpartition("/")[2].startswith(".")]


def test_what_a_dead_agent_left_half_done_is_done_again(root: DefaultRoot, host: Path) -> None:
    root.refresh()
    certs = root.path / "etc" / "ssl"
    (certs / ".certs.new").mkdir()
    (certs / ".certs.new" / "half").write_text("x")
    (root.path / "etc" / ".services.new").write_text("half")
    DefaultRoot(root.path, host).refresh()
    assert (certs / "certs" / "ca.pem").exists()
    assert not (certs / ".certs.new").exists()
    assert not (root.path / "etc" / ".services.new").exists()


def test_jobs_that_start_together_refresh_together(root: DefaultRoot, host: Path) -> None:
    failures: list[BaseException] = []
    root.refresh()

    def refresh() -> None:
        together.wait()
        try:
            root.refresh()
        except BaseException as error:
            failures.append(error)

    for number in range(20):
        change(host / "etc" / "services", f"round {number}")
        os.utime(host / "etc" / "services", ns=(0, (number + 2) * 10**18 // 10))
        together = threading.Barrier(8)
        threads = [threading.Thread(target=refresh) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (root.path / "etc" / "services").read_text() == f"round {number}"
    assert failures == []


def test_a_disk_that_refuses_is_told(tmp_path: Path, host: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="Not a directory"):
        DefaultRoot(tmp_path / "file" / "root", host).refresh()
