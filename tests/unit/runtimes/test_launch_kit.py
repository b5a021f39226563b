"""The launcher that needs nothing of a tree: of the real perl of whatever runs the test."""

import os
from pathlib import Path

import pytest

from joblet_agent.errors import LaunchFailed
from joblet_agent.runtimes.elf import read_elf
from joblet_agent.runtimes.launch_kit import LaunchKit

PERL = Path("/usr/bin/perl")
LAUNCHER = Path(__file__).parents[3] / "units/joblet-launch"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A host with the real perl and loader, and a launcher that can be changed."""
    host = tmp_path / "host"
    loader = read_elf(PERL.read_bytes()).interpreter
    for name in (str(PERL), loader):
        link = host / name[1:]
        link.parent.mkdir(parents=True)
        link.symlink_to(name)
    launcher = host / "usr/lib/joblet/joblet-launch"
    launcher.parent.mkdir(parents=True)
    launcher.write_bytes(LAUNCHER.read_bytes())
    return host


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "launcher" / "current"


def everything(top: Path) -> dict[str, tuple[int, int]]:
    """What changes when anything is written."""
    return {str(path): (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in top.rglob("*")}


def change(host: Path, text: bytes) -> None:
    with (host / "usr/lib/joblet/joblet-launch").open("ab") as launcher:
        launcher.write(text)


def test_it_has_all_that_the_launcher_needs_and_names_nothing_of_a_tree(host: Path, path: Path) -> None:
    LaunchKit(path, host).refresh()
    perl = read_elf((path / "perl").read_bytes())
    assert perl.interpreter == "/usr/lib/joblet/ld.so"
    loader = (path / "ld.so").read_bytes()
    there = {entry.name for entry in path.iterdir()} | {read_elf(loader).soname}
    for entry in path.iterdir():
        if entry.name != "joblet-launch":
            assert set(read_elf(entry.read_bytes()).needed) <= there
        assert entry.stat().st_mode & 0o777 == 0o755
    assert b"/etc/ld.so.preload" not in loader
    launcher = (path / "joblet-launch").read_text(encoding="utf-8").splitlines()
    assert launcher[0] == "#!/usr/lib/joblet/perl"
    assert "BEGIN { @INC = () }" in launcher
    assert not [line for line in launcher if line.startswith(("use ", "require "))]
    assert len(launcher) == len(LAUNCHER.read_text(encoding="utf-8").splitlines())


def test_nothing_is_written_while_nothing_has_changed(host: Path, path: Path) -> None:
    kit = LaunchKit(path, host)
    kit.refresh()
    before = everything(path.parent)
    kit.refresh()
    LaunchKit(path, host).refresh()  # of the next agent
    assert everything(path.parent) == before


def test_a_change_makes_it_anew_and_the_one_before_stays(host: Path, path: Path) -> None:
    kit = LaunchKit(path, host)
    kit.refresh()
    first = os.readlink(path)
    change(host, b"# one\n")
    kit.refresh()
    second = os.readlink(path)
    assert {entry.name for entry in path.parent.iterdir()} == {"current", first, second}
    change(host, b"# two\n")
    kit.refresh()
    assert {entry.name for entry in path.parent.iterdir()} == {"current", second, os.readlink(path)}
    assert (path / "joblet-launch").read_bytes().endswith(b"# one\n# two\n")


@pytest.mark.parametrize("harmed", ["perl", "ld.so", "joblet-launch"])
def test_what_was_harmed_is_made_anew(host: Path, path: Path, harmed: str) -> None:
    kit = LaunchKit(path, host)
    kit.refresh()
    content = (path / harmed).read_bytes()
    (path / harmed).write_bytes(b"x")
    kit.refresh()
    assert (path / harmed).read_bytes() == content
    (path / harmed).unlink()
    LaunchKit(path, host).refresh()
    assert (path / harmed).read_bytes() == content


def test_what_a_dead_agent_left_half_done_is_done_again(host: Path, path: Path) -> None:
    LaunchKit(path, host).refresh()
    name = os.readlink(path)
    path.unlink()
    (path.parent / name / "perl").unlink()
    (path.parent / f"{name}.new").mkdir()
    (path.parent / f"{name}.new" / "perl").write_bytes(b"half")
    (path.parent / "current.new").symlink_to("nothing")
    LaunchKit(path, host).refresh()
    assert {entry.name for entry in path.parent.iterdir()} == {"current", name}
    assert read_elf((path / "perl").read_bytes()).interpreter == "/usr/lib/joblet/ld.so"


def test_what_is_missing_is_named(host: Path, path: Path) -> None:
    launcher = host / "usr/lib/joblet/joblet-launch"
    launcher.write_bytes(b"#!/bin/sh\n")
    with pytest.raises(LaunchFailed, match="the launcher has no line '#!/usr/bin/perl'") as caught:
        LaunchKit(path, host).refresh()
    assert caught.value.reason == "NO_LAUNCH_KIT"
    launcher.unlink()
    with pytest.raises(LaunchFailed, match=r"No such file or directory .*joblet-launch"):
        LaunchKit(path, host).refresh()
    assert not path.exists()
