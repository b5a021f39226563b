"""rnx volume with the agent behind it: what people see, and files that go in and come out."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.agent import Client
from tests.e2e.host import rnx, rnx_json, running, said

pytestmark = pytest.mark.systemd

HOSTILE = """
cd /volumes/data
mkdir out out/sub
echo kept > out/sub/kept
printf x > "$(printf 'out/a\\nb\\033[2J')"
ln -s /etc/shadow out/shadow
ln -s ../../../../etc out/etc
ln -s sub out/inside
mkfifo out/fifo
chmod 0 out/sub/kept
"""


@pytest.fixture
def volume(client: Client) -> Iterator[str]:
    said(0, "volume", "create", "data", "--size=32MB")
    yield "data"
    said(0, "volume", "remove", "data")


def test_a_tree_goes_into_a_volume_and_comes_back(client: Client, volume: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub" / "empty").mkdir(parents=True)
    (tree / "run.sh").write_text("#!/bin/sh\necho it ran\n")
    (tree / "run.sh").chmod(0o750)
    (tree / "sub" / "data").write_bytes(os.urandom(5 << 20))
    assert said(0, "volume", "cp", str(tree), f"{volume}:in/") == f"2 files in {volume}:in\n"
    done = rnx(
        "run", "--attach", f"--volume={volume}:/srv", "sh", "-c", "cd /srv/in/tree; ./run.sh; ls -a sub"
    )
    assert done.stdout == b"it ran\n.\n..\ndata\nempty\n", done.stderr
    # What was copied is the jobs': any of them may change it.
    change = "cd /srv/in/tree; echo more >> run.sh; rm sub/data; mkdir sub/new; echo new > sub/new/file"
    assert rnx("run", "--attach", f"--volume={volume}:/srv", "sh", "-c", change).returncode == 0
    said(0, "volume", "cp", f"{volume}:in/tree", str(tmp_path / "back"))
    back = tmp_path / "back"
    assert sorted(str(path.relative_to(back)) for path in back.rglob("*")) == [
        *("run.sh", "sub", "sub/empty", "sub/new", "sub/new/file"),
    ]
    assert (back / "run.sh").read_text().endswith("it ran\nmore\n")
    assert rnx("volume", "cp", f"{volume}:in/tree/sub/new/file", "-").stdout == b"new\n"
    assert "exists" in said(1, "volume", "cp", f"{volume}:in/tree/run.sh", str(back))


def test_what_does_not_fit_is_refused_and_leaves_nothing(volume: str, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(40 << 20))
    refused = said(1, "volume", "cp", str(tmp_path / "large"), f"{volume}:")
    assert "hint: " in refused
    said(0, "volume", "cp", f"{volume}:", str(tmp_path / "all"))
    assert list((tmp_path / "all").iterdir()) == []


def test_a3_what_a_job_left_in_a_volume_leads_nowhere(client: Client, volume: str, tmp_path: Path) -> None:
    assert rnx("run", "--attach", f"--volume={volume}", "sh", "-c", HOSTILE).returncode == 0
    done = rnx("volume", "cp", f"{volume}:out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert b"\x1b" not in done.stdout + done.stderr
    left = {"shadow", "etc", "inside", "fifo"}
    assert all(f"left out {name}".encode() in done.stderr for name in left)
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {"sub", "a\nb\x1b[2J"}
    assert (out / "sub" / "kept").read_text() == "kept\n"
    assert stat.S_IMODE((out / "sub" / "kept").stat().st_mode) == 0
    for path in ("out/shadow", "out/etc/shadow", "out/inside/kept", "out/fifo"):
        said(1, "volume", "cp", f"{volume}:{path}", str(tmp_path / "stolen"))
        assert not (tmp_path / "stolen").exists()
    # Nor does what goes in follow a link out.
    (tmp_path / "file").write_text("x")
    said(1, "volume", "cp", str(tmp_path / "file"), f"{volume}:out/etc/joblet-planted")
    assert not Path("/etc/joblet-planted").exists()


def test_a_volume_is_seen_and_grown(client: Client, volume: str) -> None:
    with running(client, "echo ready; sleep 1000", volumes=[f"{volume}:/srv:ro"]) as job_id:
        assert "Failed to remove volume: " in said(1, "volume", "remove", volume)
        found = rnx_json("volume", "inspect", volume)
        assert (found["job_uuids"], found["job_count"], found["size"]) == ([job_id], 1, "32MB")
        assert 0 < found["used_bytes"] < found["size_bytes"]
        assert rnx_json("status", job_id)["volumes"] == ["data:/srv:ro"]
    assert rnx_json("volume", "grow", volume, "--size=48MB")["size_bytes"] == 48 << 20
    (row,) = rnx_json("volume", "list")["volumes"]
    assert (row["name"], row["type"], row["size"]) == ("data", "filesystem", "48MB")
    said(1, "volume", "grow", volume, "--size=16MB")


def test_a_snapshot_is_put_back(client: Client, volume: str) -> None:
    run = ("run", "--attach", f"--volume={volume}", "sh", "-c")
    assert rnx(*run, "echo one > /volumes/data/file").returncode == 0
    made = said(0, "volume", "snapshot", volume, "one")
    assert made == "Snapshot 'one' of volume 'data' made\n"
    assert rnx(*run, "echo two > /volumes/data/file").returncode == 0
    said(0, "volume", "restore", volume, "one")
    assert rnx(*run, "cat /volumes/data/file").stdout == b"one\n"
    assert [each["name"] for each in rnx_json("volume", "inspect", volume)["snapshots"]] == ["one"]
    said(0, "volume", "snapshot", volume, "one", "--remove")
    assert said(0, "volume", "snapshots", volume) == "No snapshots\n"
