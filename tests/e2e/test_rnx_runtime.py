"""rnx runtime with the agent behind it: what there is, archives, removal, builds that are followed."""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import Client, command, eventually, kill_agent, wait_for_agent
from tests.e2e.host import configured, rnx, rnx_json, running, said
from tests.e2e.runtimes import STORE, archive, imported, staged, trees

pytestmark = pytest.mark.systemd

DEFINITION = """
schema_version: "1.1"
name: small
version: 1.0.0
base: {language: python, version: "3.11"}
"""


@pytest.fixture
def busybox(client: Client, tmp_path: Path) -> Iterator[str]:
    with imported(tmp_path) as spec:
        yield spec


def job_names() -> set[str]:
    return {str(job.get("name")) for job in rnx_json("list")}


def test_a_runtime_is_seen_tried_and_verified(busybox: str) -> None:
    (row,) = (line.split() for line in said(0, "runtime", "list").splitlines()[2:])
    assert (row[0], row[1], row[3]) == ("busybox", "1.0.0", "local")
    info = rnx_json("runtime", "info", "busybox")
    assert (info["version"], info["source"], info["available"], info["users"]) == (
        "1.0.0",
        "import",
        True,
        [],
    )
    assert info["environment"]["FROM_IMAGE"] == "yes"
    assert trees() == {info["digest"]}
    assert said(0, "runtime", "test", "busybox") == "Runtime test passed\n"
    assert said(0, "runtime", "verify", "busybox").startswith("busybox@1.0.0: intact")
    assert said(0, "runtime", "validate", "busybox@latest").splitlines()[-2] == "Runtime: busybox@1.0.0"
    assert "runtime nothing not found" in said(1, "runtime", "info", "nothing")


def test_a_job_has_the_tree_and_its_environment(busybox: str) -> None:
    script = "cat /etc/who; echo $FROM_IMAGE; test ! -e /usr/bin"
    done = rnx("run", "--attach", "--runtime=busybox", "sh", "-c", script)
    assert (done.stdout, done.returncode) == (b"busybox 1.0.0\nyes\n", 0), done.stderr


def test_a_test_that_fails_tells_what_it_printed_and_leaves_no_job(client: Client, tmp_path: Path) -> None:
    before = job_names()
    labels = {"test": "echo not well; id -u; exit 3"}
    path = archive(tmp_path / "ill.tar", labels=labels)
    said(0, "runtime", "import", str(path), "--name=ill", "--version=1.0.0")
    done = rnx("runtime", "test", "ill")
    assert done.returncode == 1
    first, error, code, title, text, uid = done.stdout.decode().splitlines()
    assert (first, error, code) == ("✗ Runtime test failed", "Error: exited with status 3", "Exit code: 3")
    assert (title, text) == ("Output:", "not well")
    assert int(uid) > 0
    assert job_names() == before
    said(0, "runtime", "remove", "ill")


def test_an_archive_brings_the_same_digest_to_wherever_it_goes(busybox: str, tmp_path: Path) -> None:
    digest = rnx_json("runtime", "info", "busybox")["digest"]
    out = tmp_path / "out.tar"
    said(0, "runtime", "export", "busybox", "-o", str(out))
    assert "it exists" in said(1, "runtime", "export", "busybox", "-o", str(out))
    said(0, "runtime", "remove", "busybox")
    assert (said(0, "runtime", "list"), trees()) == ("No runtimes available.\n", set())
    assert rnx_json("runtime", "import", str(out))["digest"] == digest
    assert trees() == {digest}
    again = tmp_path / "again.tar"
    said(0, "runtime", "export", "busybox", "-o", str(again))
    assert again.read_bytes() == out.read_bytes()


def changed(content: bytes, text: bytes, other: bytes) -> bytes:
    assert text in content
    return content.replace(text, other)


def test_an_archive_that_was_changed_or_cut_off_leaves_nothing(client: Client, tmp_path: Path) -> None:
    whole = archive(tmp_path / "whole.tar", {"etc/who": b"who am I"}).read_bytes()
    bad = tmp_path / "bad.tar"
    names = ("--name=bad", "--version=1.0.0")
    for content in (whole[: len(whole) // 2], changed(whole, b"who am I", b"I am who"), b"", b"no archive"):
        bad.write_bytes(content)
        assert "cannot " in said(1, "runtime", "import", str(bad), *names)
    bad.write_bytes(whole)
    assert "SHA-256" in said(1, "runtime", "import", str(bad), *names, f"--sha256={'0' * 64}")
    assert "name" in said(1, "runtime", "import", str(bad), "--version=1.0.0")
    assert "its name cannot be used" in said(
        1, "runtime", "import", str(bad), "--name=../etc", "--version=1.0.0"
    )
    assert (said(0, "runtime", "list"), trees(), staged()) == ("No runtimes available.\n", set(), [])


def test_another_tree_of_the_same_name_needs_force(busybox: str, tmp_path: Path) -> None:
    other = archive(tmp_path / "other.tar", {"etc/who": b"another\n"})
    words = ("runtime", "import", str(other), "--name=busybox", "--version=1.0.0")
    before = trees()
    assert "another one of this name and version" in said(1, *words)
    assert trees() == before
    said(0, *words, "--force")
    assert rnx("run", "--attach", "--runtime=busybox", "cat", "/etc/who").stdout == b"another\n"


def test_what_is_used_stays_until_nobody_uses_it(client: Client, busybox: str) -> None:
    digest = rnx_json("runtime", "info", "busybox")["digest"]
    script = "echo ready; while test ! -e /work/stop; do sleep 0.1; done"
    with running(client, script, runtime="busybox") as job_id:
        users = rnx_json("runtime", "info", "busybox")["users"]
        assert any(job_id[:8] in user for user in users)
        refused = said(1, "runtime", "remove", "busybox")
        assert "it is used by" in refused
        assert job_id[:8] in refused
        said(0, "runtime", "remove", "busybox", "--force")
        said(0, "runtime", "gc")
        assert (said(0, "runtime", "list"), trees()) == ("No runtimes available.\n", {digest})
        assert "there is none of this name" in said(1, "run", "--runtime=busybox", "true")
        assert client.status(job_id).status == "RUNNING"
    eventually(lambda: (rnx("runtime", "gc"), trees())[1], lambda left: not left)


def test_a_changed_byte_is_found(busybox: str) -> None:
    digest = rnx_json("runtime", "info", "busybox")["digest"]
    path = STORE / "trees" / digest / "etc" / "who"
    path.write_bytes(b"Busybox 1.0.0\n")
    told = said(1, "runtime", "verify") or rnx("runtime", "verify").stdout.decode()
    assert rnx("runtime", "verify").stdout.decode().splitlines()[0] == "busybox@1.0.0: DAMAGED", told
    assert "damaged" in said(1, "run", "--runtime=busybox", "true")
    assert rnx_json("runtime", "list")[0]["available"] is False


def test_an_agent_that_is_killed_during_an_import_leaves_nothing(client: Client, tmp_path: Path) -> None:
    content = archive(tmp_path / "a.tar").read_bytes()
    sent, over = threading.Event(), threading.Event()

    def requests() -> Iterator[pb.ImportRuntimeRequest]:
        yield pb.ImportRuntimeRequest(start=pb.ImportRuntimeStart(name="half", version="1.0.0"))
        yield pb.ImportRuntimeRequest(content=content[:100_000])
        sent.set()
        over.wait(60)

    call = client.agent.ImportRuntime.future(requests())
    assert sent.wait(30)
    eventually(staged, bool)
    kill_agent()
    assert call.exception(timeout=30) is not None
    over.set()
    wait_for_agent(client)
    eventually(staged, lambda names: not names)
    assert (said(0, "runtime", "list"), trees()) == ("No runtimes available.\n", set())


# Builds


@contextmanager
def silent_mirror() -> Iterator[str]:
    """Have an archive of packages that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/debian"


@pytest.fixture(scope="module")
def mirror() -> Iterator[None]:
    with silent_mirror() as address, configured(f"runtimes: {{mirrors: {{debian: '{address}'}}}}\n"):
        yield


@pytest.fixture
def definition(mirror: None, client: Client, tmp_path: Path) -> Iterator[Path]:
    """A definition whose build has packages to wait for."""
    path = tmp_path / "runtime.yaml"
    path.write_text(DEFINITION)
    yield path
    rnx("runtime", "cancel", "small")
    eventually(build_units, lambda units: not units)
    eventually(staged, lambda names: not names)


def build_units() -> list[str]:
    lines = command("systemctl", "list-units", "--plain", "--no-legend", "joblet-build-*.service").stdout
    return [line.split()[0] for line in lines.splitlines()]


def followed(*words: str) -> "subprocess.Popen[str]":
    """Start the client; return it when the build is at its packages."""
    client = subprocess.Popen(["rnx", "runtime", *words], stdout=-1, stderr=-1, text=True)
    assert client.stderr is not None
    for line in client.stderr:
        if line.startswith("[ 7/14]"):
            return client
    raise AssertionError(f"rnx ended with {client.wait()}")


def test_a_dry_run_builds_nothing(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "runtime.yaml"
    path.write_text(DEFINITION)
    done = rnx("runtime", "build", "-f", str(path), "--dry-run")
    assert done.returncode == 0, done.stderr
    assert b"[14/14] store and activate: skipped" in done.stderr
    assert (build_units(), staged(), trees()) == ([], [], set())


def test_ctrl_c_ends_the_build_and_leaves_nothing(definition: Path) -> None:
    with followed("build", "-f", str(definition)) as client:
        eventually(build_units, lambda units: len(units) == 1)
        client.send_signal(signal.SIGINT)
        _, told = client.communicate(timeout=60)
    assert client.returncode == 130
    assert told.endswith("rnx: the build is canceled, nothing of it is left\n")
    assert build_units() == []
    assert said(0, "runtime", "builds") == "No builds.\n"


def test_a_build_is_followed_by_several_and_outlives_them(definition: Path) -> None:
    build_id = said(0, "runtime", "build", "-f", str(definition), "--detach").strip()
    with followed("build", "-f", str(definition)) as second, followed("attach", "small") as third:
        second.send_signal(signal.SIGINT)
        assert "the build goes on" in second.communicate(timeout=60)[1]
        assert second.returncode == 130
        (build,) = rnx_json("runtime", "builds")
        assert (build["build_id"], build["phase"], build["name"]) == (build_id, 7, "small")
        assert "canceled" in said(0, "runtime", "cancel", "small")
        _, told = third.communicate(timeout=60)
    assert third.returncode == 1
    assert "cancel" in told


def test_a_build_and_its_followers_outlive_the_agent(definition: Path) -> None:
    with followed("build", "-f", str(definition)) as client:
        before = eventually(build_units, lambda units: len(units) == 1)
        kill_agent()
        eventually(lambda: rnx("runtime", "builds").stdout, lambda out: b"7/14" in out)
        assert build_units() == before
        os.kill(client.pid, signal.SIGINT)
        client.communicate(timeout=60)
    assert client.returncode == 130
    eventually(build_units, lambda units: not units)


def test_a_build_without_packages_fails_and_leaves_nothing(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "runtime.yaml"
    path.write_text(DEFINITION)
    with configured("runtimes: {mirrors: {debian: 'http://127.0.0.1:9/debian'}}\n"):
        told = said(1, "runtime", "build", "-f", str(path))
        assert "rnx: cannot build runtime small@1.0.0" in told
        assert (build_units(), staged(), trees()) == ([], [], set())
