"""Jobs whose root is a runtime: the tree and nothing else of the host, with all that other jobs have."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.e2e.agent import Client, command, kill_agent, wait_for_agent
from tests.e2e.execs import STDIN_END, TERMINAL, execute, stdin
from tests.e2e.host import configured, rnx_json, running, said
from tests.e2e.runtimes import STORE, digest_of, imported, in_runtime, tree_of
from tests.e2e.uploading import uploaded
from tests.e2e.volumes import made

pytestmark = pytest.mark.systemd

QUIET = "echo ready; exec sleep 1000"
MARKER = "of-the-host-alone"


@pytest.fixture(scope="module")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with imported(tmp_path_factory.mktemp("runtimes"), "busybox", "1.0.0") as runtime:
        yield runtime


def entries(top: Path) -> list[tuple[str, int]]:
    return sorted((str(path.relative_to(top)), path.lstat().st_mode) for path in top.rglob("*"))


@contextmanager
def markers() -> Iterator[None]:
    places = [Path(place, MARKER) for place in ("/usr", "/usr/lib", "/usr/share", "/etc", "/opt", "/srv")]
    for place in places:
        place.write_text("x", encoding="ascii")
    try:
        yield
    finally:
        for place in places:
            place.unlink()


# -- what a job sees -----------------------------------------------------------------------------------


def test_nothing_of_the_host_is_visible(client: Client, busybox: str) -> None:
    script = (
        f"cat /etc/who; find / -xdev -name '*{MARKER}*'; find / -xdev -name '*perl*' -o -xdev -name 'ld*.so*'"
    )
    with markers():
        assert in_runtime(client, busybox, script) == "busybox 1.0.0\n"
    look = "ls -A /usr/lib/joblet /mnt /root /home /srv /opt/runtime 2>&1; mount"
    shown = in_runtime(client, busybox, look, network="none")
    assert "/var/lib/joblet" not in shown
    places = {line.split()[2] for line in shown.splitlines() if " on " in line}
    assert "/usr" not in places
    assert "/usr/lib/joblet" not in places
    assert "/mnt" not in places


def test_a_job_sees_its_own_processes_only(client: Client, busybox: str) -> None:
    seen = in_runtime(client, busybox, "for p in /proc/[0-9]*; do cat $p/comm; done; ! readlink /proc/1/exe")
    assert seen.splitlines()[:2] == ["joblet-launch", "sh"]


def test_names_of_the_job_and_of_localhost_are_there(client: Client, busybox: str) -> None:
    writable = "test -w /tmp && test -w /var/tmp && test -w /dev/shm"
    script = f"echo $HOME $USER $SHELL; cat /etc/hosts; wc -l </etc/passwd; {writable} && pwd"
    told = in_runtime(client, busybox, script)
    assert told.splitlines() == [
        "/work job /bin/sh",
        "127.0.0.1 localhost",
        "::1 localhost ip6-localhost ip6-loopback",
        "2",
        "/work",
    ]


def test_no_start_changes_the_tree(client: Client, tmp_path: Path) -> None:
    """It has nothing but /bin and /etc; systemd makes what it misses in a root."""
    with imported(tmp_path, "bare") as runtime, made(client, "data", "10MB"):
        before = entries(tree_of(runtime))
        for profile in ("default", "strict"):
            in_runtime(client, runtime, "true", profile=profile, volumes=["data:/srv/a/b"])
        in_runtime(client, runtime, "echo x >/etc/x || ! touch /bin/x || exit 1")
        assert entries(tree_of(runtime)) == before
        assert "damage" not in said(0, "runtime", "verify", runtime).replace("no damage", "")


# -- its environment and its command -------------------------------------------------------------------


def test_the_runtimes_environment_comes_first_and_then_the_requests(client: Client, tmp_path: Path) -> None:
    tool = b"#!/bin/sh\necho the tool of $JOBLET_RUNTIME\n"
    environment = ("PATH=/bin", "PATH_PREPEND=/opt/runtime/bin", "KEPT=of runtime", "CHANGED=of runtime")
    with imported(
        tmp_path, "tools", files={"opt/runtime/bin/tool": tool}, environment=environment
    ) as runtime:
        job_id = client.run("tool", runtime="tools")
        assert client.ended(job_id).status == "COMPLETED"
        assert client.log(job_id) == f"the tool of {runtime}\n".encode()
        told = in_runtime(
            client,
            runtime,
            "echo $PATH $KEPT, $CHANGED",
            environment={"CHANGED": "of request", "PATH": "/x:/bin"},
        )
        assert told == "/opt/runtime/bin:/x:/bin of runtime, of request\n"
        job_id = client.run("python3", runtime="tools")
        status = client.ended(job_id)
        assert (status.status, status.reason, status.exit_code) == ("FAILED", "program-not-found", 127)
        assert status.message == (
            f"program not found: 'python3' in PATH=/opt/runtime/bin:/bin of runtime {runtime}"
        )


def test_a_program_whose_interpreter_is_not_in_the_tree_says_so(client: Client, tmp_path: Path) -> None:
    with imported(tmp_path, "scripts", files={"bin/script": b"#!/usr/bin/perl\n"}) as runtime:
        job_id = client.run("script", runtime=runtime)
        assert "needs /usr/bin/perl, which is missing" in client.ended(job_id).message


def test_status_and_explanation_name_version_digest_and_tree(client: Client, busybox: str) -> None:
    digest = digest_of(busybox)
    job_id = client.run("true", runtime="busybox")
    client.ended(job_id)
    status = rnx_json("job", "status", job_id)
    assert status["runtime"] == "busybox"
    assert status["pinnedRuntime"] == {"name": "busybox", "version": "1.0.0", "digest": digest}
    text = said(0, "job", "status", job_id)
    assert "Version: busybox@1.0.0" in text
    assert f"Digest: sha256:{digest}" in text
    explained = rnx_json("job", "explain", job_id)
    (root,) = [each for each in explained["properties"] if each["name"] == "RootDirectory"]
    assert root["value"] == str(STORE / "trees" / digest)
    assert digest in root["origin"]


# -- what jobs have otherwise --------------------------------------------------------------------------


def test_volumes_uploads_secrets_and_memory_work_as_without(client: Client, busybox: str) -> None:
    with made(client, "kept", "10MB"):
        script = (
            "cat in.txt /run/secrets/key; echo $TOKEN; echo kept >/volumes/kept/x; "
            "echo there >/srv/deep/er/y; cat /volumes/kept/y; ! touch /opt/x 2>/dev/null"
        )
        fields: dict[str, Any] = {
            "upload_id": uploaded(client, {"in.txt": b"uploaded\n"}),
            "secret_files": {"key": b"secret file\n"},
            "secret_environment": {"TOKEN": "secret variable"},
            "volumes": ["kept", "kept:/srv/deep/er"],
        }
        told = in_runtime(client, busybox, script, **fields)
        assert told == "uploaded\nsecret file\nsecret variable\nthere\n"
        assert in_runtime(client, busybox, "cat /data/x", volumes=["kept:/data:ro"]) == "kept\n"
    assert "/work tmpfs" not in in_runtime(client, busybox, "grep ' /work ' /proc/self/mounts")


def test_networks_work_as_without(client: Client, busybox: str) -> None:
    with running(client, QUIET, runtime=busybox, name="peer", network="bridge"):
        told = in_runtime(
            client, busybox, "cat /etc/resolv.conf; nslookup peer 2>&1 | grep -c Address", network="bridge"
        )
    assert "nameserver" in told
    assert int(told.split()[-1]) >= 2
    assert in_runtime(client, busybox, "cat /etc/resolv.conf", network="none") == ""


def test_commands_join_a_job_with_a_runtime(client: Client, busybox: str) -> None:
    with running(client, QUIET, runtime=busybox) as job_id:
        out, err, end = execute(
            client,
            job_id,
            "sh",
            "-c",
            "cat; cat /etc/who; echo $FROM_IMAGE",
            stdin=True,
            given=(stdin(b"x\n"), STDIN_END),
        )
        assert (out, err, end.exit_code) == (b"x\nbusybox 1.0.0\nyes\n", b"", 0)
        out, _, end = execute(
            client, job_id, "sh", "-c", "tty; stty size; ls -A /usr/lib/joblet", terminal=TERMINAL
        )
        assert (out, end.exit_code) == (b"/dev/pts/0\r\n33 77\r\n", 0)


@pytest.mark.parametrize("profile", ["strict", "privileged"])
def test_other_profiles_work_as_without(client: Client, busybox: str, profile: str) -> None:
    with configured("profiles:\n  privileged: true\n"):
        told = in_runtime(client, busybox, "id -u; cat /etc/who; ls -A /usr/lib/joblet", profile=profile)
    user, *others = told.splitlines()
    assert others == ["busybox 1.0.0"]
    assert (user == "0") == (profile == "privileged")


def test_a_python_of_debian_runs_in_a_tree_of_its_own_files(client: Client, tmp_path: Path) -> None:
    with imported(tmp_path, "python", files=python_files(), environment=("PATH=/usr/bin:/bin",)) as runtime:
        program = (
            "import json, sqlite3, sys, os; "
            "print(json.dumps([sys.version_info[:2], os.getcwd(), os.listdir('/usr/bin')]))"
        )
        job_id = client.run("python3", "-c", program, runtime=runtime)
        assert client.ended(job_id).status == "COMPLETED", client.log(job_id)
        assert json.loads(client.log(job_id)) == [list(sys.version_info[:2]), "/work", ["python3"]]


def python_files() -> dict[str, bytes]:
    """Python of this machine, with its library and all that it is linked with."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    library = Path("/usr/lib", version)
    extensions = [*library.joinpath("lib-dynload").glob("*.so")]
    linked = command("ldd", f"/usr/bin/{version}", *map(str, extensions)).stdout.split()
    files = {
        word[1:]: Path(word).read_bytes()
        for word in set(linked)
        if word.startswith("/") and ".so" in word and not word.endswith(":")
    }
    for path in library.rglob("*"):
        if (
            path.is_file()
            and path.suffix in {".py", ".so"}
            and not {"test", "dist-packages"} & set(path.parts)
        ):
            files[str(path)[1:]] = path.read_bytes()
    return {**files, "usr/bin/python3": Path("/usr/bin", version).read_bytes()}


# -- what goes wrong -----------------------------------------------------------------------------------


def test_a_tree_that_is_damaged_or_gone_is_named(client: Client, tmp_path: Path) -> None:
    with imported(tmp_path, "broken") as runtime:
        tree = tree_of(runtime)
        tree.joinpath("work").rmdir()
        status = client.ended(started(client, runtime))
        assert (status.status, status.reason) == ("FAILED", "start-failed")
        assert status.message == (
            f"could not start: the runtime {runtime} is damaged: /work is missing in it (RUNTIME_DAMAGED)"
        )
        elsewhere = tree.with_name("elsewhere")
        tree.rename(elsewhere)
        status = client.ended(started(client, runtime))
        assert (status.status, status.reason) == ("FAILED", "start-failed")
        assert f"the runtime {runtime} is gone" in status.message
        assert "RUNTIME_GONE" in status.message
        elsewhere.rename(tree)


def started(client: Client, runtime: str) -> str:
    """Run a job that cannot start, and return its id."""
    before = {job.uuid for job in client.by_name("broken")}
    with pytest.raises(grpc.RpcError) as caught:
        client.run("true", runtime=runtime, name="broken")
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    (job_id,) = {job.uuid for job in client.by_name("broken")} - before
    return str(job_id)


def test_an_agent_that_is_killed_while_jobs_start_leaves_none_without_its_root(
    client: Client, busybox: str
) -> None:
    ids = []
    for _ in range(3):
        for _ in range(5):
            try:
                ids.append(client.run("cat", "/etc/who", runtime=busybox, network="none"))
            except grpc.RpcError:
                continue  # the agent went in the middle; the job is found by its name or never was
        kill_agent()
        wait_for_agent(client)
    ended = [client.ended(job_id) for job_id in ids]
    assert ids
    for status in ended:
        assert "226" not in status.message
        assert status.status == "COMPLETED" or status.reason == "start-failed", status.message
        if status.status == "COMPLETED":
            assert client.log(status.uuid) == b"busybox 1.0.0\n"
