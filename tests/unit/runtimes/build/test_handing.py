"""Trees that hostile programs have filled, made ready for the next step: no link leads anywhere."""

import os
from pathlib import Path

import pytest

from joblet_agent.errors import InvalidRequest
from joblet_agent.model.mount_points import DIRECTORIES, FILES
from joblet_agent.runtimes.build import handing

MINE = (os.getuid(), os.getgid())


@pytest.fixture
def owners(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """What would get another owner: tests are not always root."""
    found: list[tuple[str, int, int]] = []

    def chown(name: str, uid: int, gid: int, *, dir_fd: int, follow_symlinks: bool) -> None:
        assert not follow_symlinks
        assert os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        found.append((name, uid, gid))

    def fchown(descriptor: int, uid: int, gid: int) -> None:
        found.append((os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")), uid, gid))

    monkeypatch.setattr(os, "chown", chown)
    monkeypatch.setattr(os, "fchown", fchown)
    return found


def test_all_mount_points_are_made_and_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir(0o700)
    (tmp_path / "etc/hosts").write_text("mine")
    handing.mount_points(tmp_path)
    handing.mount_points(tmp_path)
    assert all((tmp_path / name).is_dir() for name in DIRECTORIES)
    assert all((tmp_path / name).is_file() for name in FILES)
    assert (tmp_path / "etc/hosts").read_text() == "mine"
    assert (tmp_path / "opt/runtime").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("name", ["opt", "opt/runtime", "usr/lib/joblet", "etc"])
def test_a_link_in_place_of_a_mount_point_is_refused(tmp_path: Path, name: str) -> None:
    tree, victim = tmp_path / "tree", tmp_path / "victim"
    victim.mkdir()
    (tree / name).parent.mkdir(parents=True)
    (tree / name).symlink_to(victim)
    with pytest.raises(InvalidRequest, match=f"/{name}") as raised:
        handing.mount_points(tree)
    assert raised.value.reason == "RUNTIME_TREE_REFUSED"
    assert list(victim.iterdir()) == []


def test_what_steps_may_write_to_gets_their_owner_and_nothing_else(
    tmp_path: Path, owners: list[tuple[str, int, int]]
) -> None:
    own = tmp_path / "opt/runtime"
    (own / "lib").mkdir(parents=True)
    (own / "lib/x").touch()
    (own / "out").symlink_to("/etc")
    (tmp_path / "usr").mkdir()
    handing.hand_over(tmp_path, 7, 8)
    assert sorted(owners) == [("lib", 7, 8), ("out", 7, 8), ("runtime", 7, 8), ("x", 7, 8)]


def test_a_tree_goes_to_a_namespace_as_a_whole_and_once(
    tmp_path: Path, owners: list[tuple[str, int, int]]
) -> None:
    uid, gid = MINE
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr/x").touch()
    (tmp_path / "bin").symlink_to("usr")
    first = 1_879_179_264
    handing.give_to_namespace(tmp_path, first)
    moved = (first + uid, first + gid)
    assert sorted(owners) == sorted(
        [("bin", *moved), ("usr", *moved), ("x", *moved), (tmp_path.name, first, first)]
    )
    owners.clear()
    handing.give_to_namespace(tmp_path, uid)  # whose it is already
    assert owners == []


def test_directories_without_end_are_refused(tmp_path: Path, owners: list[tuple[str, int, int]]) -> None:
    handing.mount_points(tmp_path)
    deep = os.open(tmp_path / "opt/runtime", os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=deep)
        inner = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = inner
    os.close(deep)
    with pytest.raises(InvalidRequest, match="directories deep"):
        handing.hand_over(tmp_path, 7, 8)
    assert owners


def test_a_link_that_stands_for_a_file_of_the_host_becomes_a_mount_point(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    for name in ("resolv.conf", "passwd"):
        (tmp_path / "etc" / name).symlink_to(f"../run/{name}")
    handing.mount_points(tmp_path)
    assert not (tmp_path / "etc/resolv.conf").is_symlink()
    assert (tmp_path / "etc/passwd").is_symlink()  # an image's own way
