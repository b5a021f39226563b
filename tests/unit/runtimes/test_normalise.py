"""What a tree must be to become a runtime, and what is made of it."""

import os
import socket
import stat
from pathlib import Path

import pytest

from joblet_agent.errors import InvalidRequest
from joblet_agent.model.mount_points import DIRECTORIES, FILES
from joblet_agent.runtimes import normalise as module
from joblet_agent.runtimes.digest import digest_of_tree
from joblet_agent.runtimes.layout import MTIME
from joblet_agent.runtimes.normalise import normalise
from joblet_agent.runtimes.walk import MOST_DEPTH
from tests.unit.runtimes.store_rig import SMALL, Content, plant


def normal(top: Path, files: dict[str, Content] | None = None) -> Path:
    tree = plant(top, SMALL if files is None else files)
    normalise(tree)
    return tree


def refused(tree: Path, reason: str = "RUNTIME_TREE_REFUSED", *, most_bytes: int = 0) -> str:
    with pytest.raises(InvalidRequest) as caught:
        normalise(tree, most_bytes=most_bytes)
    assert caught.value.reason == reason
    assert str(caught.value).isprintable()
    return str(caught.value)


def statuses(tree: Path) -> dict[str, os.stat_result]:
    return {str(path.relative_to(tree)): path.lstat() for path in [tree, *tree.rglob("*")]}


def test_every_mount_point_is_there(tmp_path: Path) -> None:
    tree = normal(tmp_path / "tree", {})
    assert all((tree / name).is_dir() for name in DIRECTORIES)
    assert all((tree / name).is_file() for name in FILES)
    assert stat.S_IMODE((tree / "tmp").stat().st_mode) == 0o1777
    assert stat.S_IMODE(tree.stat().st_mode) == 0o755


@pytest.mark.parametrize("files", [{}, {"var/tmp": None}])
def test_var_tmp_is_the_tmp_of_the_job(tmp_path: Path, files: dict[str, Content]) -> None:
    assert os.readlink(normal(tmp_path / "tree", files) / "var/tmp") == "../tmp"


def test_a_var_tmp_with_something_in_it_stays(tmp_path: Path) -> None:
    tree = normal(tmp_path / "tree", {"var/tmp/kept": "x"})
    assert (tree / "var/tmp/kept").read_text() == "x"
    assert not (tree / "var/tmp").is_symlink()


def test_modes_lose_what_runs_as_another_and_times_are_one(tmp_path: Path) -> None:
    tree = plant(tmp_path / "tree", SMALL | {"var/mail": None})
    for name, mode in (("usr/bin/tool", 0o4755), ("usr/bin/same", 0o2755), ("usr/lib/lib.so.1", 0o1600)):
        os.chmod(tree / name, mode)
    os.chmod(tree / "var/mail", 0o3775)
    os.chmod(tree, 0o700)
    os.mkdir(tree / "tmp", 0o700)
    normalise(tree)
    found = statuses(tree)
    modes = {name: oct(stat.S_IMODE(status.st_mode)) for name, status in found.items()}
    assert modes["usr/bin/tool"] == modes["usr/bin/same"] == "0o755"
    assert modes["usr/lib/lib.so.1"] == "0o600"
    assert modes["var/mail"] == "0o1775"
    assert modes["."] == "0o755"
    assert modes["tmp"] == "0o1777"
    assert {status.st_mtime_ns for status in found.values()} == {MTIME * 10**9}
    assert {(status.st_uid, status.st_gid) for status in found.values()} == {(os.getuid(), os.getgid())}


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away, and sets capabilities")
def test_files_belong_to_root_and_give_nobody_capabilities(tmp_path: Path) -> None:
    tree = plant(tmp_path / "tree", SMALL)
    tool = tree / "usr/bin/tool"
    os.setxattr(tool, "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    os.setxattr(tree / "usr/bin", "trusted.mark", b"x")
    for path in (tool, tree / "usr/lib/lib.so", tree / "usr/lib"):
        os.chown(path, 1234, 5678, follow_symlinks=False)
    normalise(tree)
    assert {(status.st_uid, status.st_gid) for status in statuses(tree).values()} == {(0, 0)}
    assert os.listxattr(tool) == []
    assert os.listxattr(tree / "usr/bin") == []


def test_what_is_the_build_hosts_goes(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        "etc/resolv.conf": "->../run/systemd/resolve/stub-resolv.conf",
        "etc/hostname": "builder\n",
        "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
        "etc/hosts": "127.0.0.1 localhost\n",
        "run/lock/x": "x",
        "tmp/leftover": "x",
        "dev/null-or-so": "x",
    }
    tree = normal(tmp_path / "tree", files)
    for name in ("etc/resolv.conf", "etc/hostname", "etc/machine-id"):
        assert not (tree / name).is_symlink()
        assert (tree / name).read_text() == ""
    assert (tree / "etc/hosts").read_text() == "127.0.0.1 localhost\n"
    assert [name for name in ("run", "tmp", "dev") if os.listdir(tree / name)] == []


def test_equal_trees_of_different_makers_get_one_digest(tmp_path: Path) -> None:
    one = normal(tmp_path / "one")
    more: dict[str, Content] = {"etc/hostname": "other", "tmp/x": "x", "run/y": "y", "dev": None}
    two = normal(tmp_path / "two", SMALL | more)
    assert digest_of_tree(one) == digest_of_tree(two)


def test_a_normal_tree_is_left_as_it_is(tmp_path: Path) -> None:
    tree = normal(tmp_path / "tree")
    before = {name: (status.st_ino, status.st_ctime_ns) for name, status in statuses(tree).items()}
    normalise(tree)
    assert {name: (status.st_ino, status.st_ctime_ns) for name, status in statuses(tree).items()} == before


def test_a_file_that_others_share_is_replaced_not_emptied(tmp_path: Path) -> None:
    tree = plant(tmp_path / "tree", {"etc/hostname": "of another tree"})
    os.link(tree / "etc/hostname", tmp_path / "other")
    normalise(tree)
    assert (tmp_path / "other").read_text() == "of another tree"
    assert (tree / "etc/hostname").read_text() == ""


def test_what_no_runtime_has_is_refused_with_every_path(tmp_path: Path) -> None:
    tree = plant(tmp_path / "tree", SMALL | {"etc/ld.so.preload": "/usr/lib/evil.so"})
    os.mkfifo(tree / "usr/pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tree / "usr/socket"))
    text = refused(tree)
    assert "usr/pipe: it is a named pipe" in text
    assert "usr/socket: it is a socket" in text
    assert "etc/ld.so.preload: it would load a library" in text


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes devices")
def test_devices_are_refused_but_where_jobs_have_their_own(tmp_path: Path) -> None:
    tree = plant(tmp_path / "tree", {"dev": None, "usr": None})
    os.mknod(tree / "dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(tree / "usr/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert "usr/null: it is a device" in (text := refused(tree))
    assert "dev/null" not in text.replace("usr/null", "")
    os.unlink(tree / "usr/null")
    normalise(tree)
    assert os.listdir(tree / "dev") == []


def test_of_very_many_faults_twenty_are_named(tmp_path: Path) -> None:
    tree = plant(tmp_path / "tree", {"usr": None})
    for number in range(25):
        os.mkfifo(tree / f"usr/pipe-{number}")
    text = refused(tree)
    assert text.count("it is a named pipe") == 20
    assert text.endswith("and 5 more")


@pytest.mark.parametrize(
    "name", ["etc", "dev", "proc", "usr", "usr/lib", "usr/lib/joblet", "work", "var/lib", "tmp"]
)
def test_a_mount_point_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    outside = plant(tmp_path / "outside", {"file": "x"})
    tree = plant(tmp_path / "tree", {name: f"->{outside}"})
    assert f"{name}: it must be a directory" in refused(tree)
    assert os.listdir(outside) == ["file"]


@pytest.mark.parametrize(
    ("name", "content"), [("etc/passwd", "->/etc/shadow"), ("etc/hosts", None), ("work", "x")]
)
def test_a_mount_point_of_another_kind_is_refused(tmp_path: Path, name: str, content: Content) -> None:
    assert f"{name}: it must be a " in refused(plant(tmp_path / "tree", {name: content}))


def test_links_out_of_the_tree_are_neither_followed_nor_changed(tmp_path: Path) -> None:
    outside = plant(tmp_path / "outside", {"directory/file": "x", "hosts": "mine"})
    links: dict[str, Content] = {
        "usr/up": "->../../outside/directory",
        "usr/file": f"->{outside}/directory/file",
        "etc/hosts": f"->{outside}/hosts",
        "usr/nowhere": "->/nowhere",
    }
    before = {name: (status.st_mtime_ns, status.st_ctime_ns) for name, status in statuses(outside).items()}
    tree = normal(tmp_path / "tree", links)
    assert {name: (one.st_mtime_ns, one.st_ctime_ns) for name, one in statuses(outside).items()} == before
    assert os.readlink(tree / "usr/up") == "../../outside/directory"
    assert not (tree / "etc/hosts").is_symlink()
    assert (outside / "hosts").read_text() == "mine"


def test_a_tree_without_end_is_refused(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    here = os.open(tree, os.O_RDONLY)
    for _ in range(MOST_DEPTH + 5):
        os.mkdir("x", dir_fd=here)
        below = os.open("x", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert f"more than {MOST_DEPTH} directories deep" in refused(tree)


def test_a_path_that_no_host_can_name_is_refused(tmp_path: Path) -> None:
    here = tmp_path / "tree"
    here.mkdir()
    top = os.open(here, os.O_RDONLY)
    for _ in range(18):
        os.mkdir("x" * 200, dir_fd=top)
        below = os.open("x" * 200, os.O_RDONLY, dir_fd=top)
        os.close(top)
        top = below
    os.close(top)
    assert "longer than 3500 bytes" in refused(here)


def test_more_than_is_allowed_is_refused_and_shared_files_count_once(tmp_path: Path) -> None:
    tree = plant(tmp_path / "tree", {"usr/a": "x" * 4096})
    os.link(tree / "usr/a", tree / "usr/b")
    assert "it has 4096 bytes, and may have 2KiB" in refused(tree, "RUNTIME_TOO_LARGE", most_bytes=2048)
    normalise(tree, most_bytes=4096)


def test_names_that_are_no_text_are_taken_and_told(tmp_path: Path) -> None:
    tree = plant(tmp_path / "tree", {"usr": None})
    odd = os.fsencode(tree) + b"/usr/\xff\x1b[2J"
    os.mkfifo(odd)
    assert r"usr/\xff\x1b[2J: it is a named pipe" in refused(tree)
    os.unlink(odd)
    with open(odd, "wb"):
        pass
    normalise(tree)
    assert os.path.exists(odd)


def test_full_disks_are_said_to_be_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_complete", full)
    with pytest.raises(Exception, match="the disk is full") as caught:
        normalise(plant(tmp_path / "tree", SMALL))
    assert getattr(caught.value, "reason", None) == "RUNTIME_DISK_FULL"
