"""The store of runtimes on a real disk, by the agent in its sandbox: sharing, damage, death, collection."""

import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.agent import Client, eventually, kill_agent, wait_for_agent
from tests.e2e.host import configured, refusal, rnx, rnx_json, running, said
from tests.e2e.runtimes import STORE, archive, digest_of, imported, in_runtime, staged, tree_of, trees

pytestmark = pytest.mark.systemd

MANY = {f"opt/many/{number // 50}/{number}": f"{number}\n".encode() * 100 for number in range(3000)}
TOLD = "mended 1.0.0"


def unused() -> set[Path]:
    """Return the objects that are in no tree."""
    return {path for path in (STORE / "objects").rglob("*") if path.is_file() and path.stat().st_nlink == 1}


def test_runtimes_share_files_and_give_back_their_own(tmp_path: Path) -> None:
    said(0, "runtime", "gc")  # an agent that was killed in an import has left some
    assert unused() == set()
    with imported(tmp_path, "one") as one, imported(tmp_path, "two", files={"opt/own": b"x" * 10_000}) as two:
        first, second = (tree_of(runtime) / "bin/busybox" for runtime in (one, two))
        assert first.stat().st_ino == second.stat().st_ino
        links = first.stat().st_nlink
        assert links >= 3  # and the object
        told = rnx_json("runtime", "remove", two)
        assert 10_000 <= told["freed_space_bytes"] < 11_000
        assert first.stat().st_nlink == links - 1
        assert "intact" in said(0, "runtime", "verify", one)
    assert unused() == set()


def test_everything_in_a_tree_is_roots_and_has_one_time(tmp_path: Path) -> None:
    with imported(tmp_path, "plain", files=MANY) as runtime:
        tree = tree_of(runtime)
        found = [path.lstat() for path in [tree, *tree.rglob("*")]]
        assert {(status.st_uid, status.st_gid) for status in found} == {(0, 0)}
        assert {status.st_mtime_ns for status in found} == {946_684_800 * 10**9}
        assert not any(status.st_mode & (stat.S_ISUID | stat.S_ISGID) for status in found)
        assert os.listdir(tree / "tmp") == os.listdir(tree / "dev") == []


def _change_byte(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"#")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "byte": (_change_byte, "/opt/file: has another content"),
    "mode": (lambda path: path.chmod(0o600), "/opt/file: has the mode 0600 instead of 0755"),
    "missing": (Path.unlink, "/opt/file: is missing"),
    "additional": (lambda path: (path.parent / "new").write_text("x"), "/opt/new: does not belong there"),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_damage_is_named_keeps_jobs_away_and_is_mended_by_the_same_archive(
    client: Client, tmp_path: Path, how: str
) -> None:
    spoil, words = DAMAGES[how]
    with imported(tmp_path, "mended", files={"opt/file": b"content\n"}) as runtime:
        spoil(tree_of(runtime) / "opt/file")
        done = rnx("runtime", "verify", runtime)
        assert done.returncode == 1
        assert words in done.stdout.decode()
        assert refusal(lambda: client.run("true", runtime=runtime)) == (
            "FAILED_PRECONDITION",
            "RUNTIME_DAMAGED",
        )
        kill_agent()
        wait_for_agent(client)
        assert refusal(lambda: client.run("true", runtime=runtime)) == (
            "FAILED_PRECONDITION",
            "RUNTIME_DAMAGED",
        )
        path = archive(tmp_path / "again.tar", {"etc/who": f"{TOLD}\n".encode(), "opt/file": b"content\n"})
        said(0, "runtime", "import", str(path), "--name=mended", "--version=1.0.0")
        assert "intact" in said(0, "runtime", "verify", runtime)
        assert in_runtime(client, runtime, "test ! -e /opt/new && cat /opt/file") == "content\n"


def test_a_tree_that_a_job_has_outlives_its_name_and_goes_by_itself(client: Client, tmp_path: Path) -> None:
    with configured("runtimes:\n  collect_every: 1s\n"), imported(tmp_path, "leaving") as runtime:
        digest = digest_of(runtime)
        with running(client, "echo ready; exec sleep 1000", runtime=runtime):
            assert "is used by" in said(1, "runtime", "remove", runtime)
            said(0, "runtime", "remove", "--force", runtime)
            said(0, "runtime", "gc")
            assert digest in trees()
        eventually(trees, lambda found: digest not in found)
        eventually((STORE / "lists" / digest).exists, lambda is_there: not is_there)


@pytest.fixture
def many(tmp_path: Path) -> Iterator[Path]:
    yield archive(tmp_path / "many.tar", MANY)
    rnx("runtime", "remove", "--force", "many@1.0.0")


def test_an_agent_that_is_killed_again_and_again_leaves_a_whole_runtime_or_none(
    client: Client, many: Path
) -> None:
    words = ["rnx", "runtime", "import", str(many), "--name=many", "--version=1.0.0"]
    for wanted in ("add.", "add.", "import", ""):
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as importing:
            eventually(partial(_has_come, importing, wanted), bool)
            kill_agent()
            importing.wait(120)
        wait_for_agent(client)
        eventually(staged, lambda found: not found)
        if any(runtime["name"] == "many" for runtime in rnx_json("runtime", "list")):
            assert "intact" in said(0, "runtime", "verify", "many@1.0.0")
    said(0, *words[1:])
    assert "intact" in said(0, "runtime", "verify", "many@1.0.0")
    said(0, "runtime", "remove", "many@1.0.0")
    said(0, "runtime", "gc")
    assert all(path.stat().st_nlink > 1 for path in STORE.glob("objects/*/*"))


def _has_come(importing: "subprocess.Popen[bytes]", stage: str) -> bool:
    """Say whether the import is at the stage, or over."""
    return importing.poll() is not None or any(name.startswith(stage) for name in staged())
