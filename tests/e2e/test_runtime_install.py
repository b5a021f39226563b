"""Runtimes from indexes, on the web and on this host; nothing is left of what fails."""

import hashlib
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.certificates import make_ca, make_server
from tests.e2e.agent import DEADLINE, Client, command, eventually, wait_for_agent
from tests.e2e.host import configured, refusal, rnx, rnx_json, said
from tests.e2e.runtimes import archive, digest_of, in_runtime, staged, trees

pytestmark = pytest.mark.systemd

DROP_INS = Path("/usr/share/joblet/runtimes.d")
NAME = "installed"


class Quiet(SimpleHTTPRequestHandler):
    """Files of a directory; one below /stuck/ stops in the middle until the server ends."""

    stuck = threading.Event()
    ended = threading.Event()

    def do_GET(self) -> None:
        if not self.path.startswith("/stuck/"):
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        self.wfile.write(b"x" * 1000)
        self.stuck.set()
        self.ended.wait(DEADLINE)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def web(directory: Path, context: ssl.SSLContext | None = None) -> Iterator[str]:
    Quiet.stuck, Quiet.ended = threading.Event(), threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(directory)))
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"{'https://localhost' if context else 'http://127.0.0.1'}:{server.server_address[1]}"
    finally:
        Quiet.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


class Registry:
    """A directory with an index and its archives, where the agent sees it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.versions: dict[str, dict[str, Any]] = {}

    def add(self, version: str, **changes: Any) -> Path:
        path = archive(self.directory / f"{version}.tar", {"etc/who": f"{version}\n".encode()})
        content = path.read_bytes()
        checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
        told = {"download_url": path.name, "checksum": checksum, "size": len(content)}
        self.versions[version] = {**told, "platforms": ["linux-amd64", "linux-arm64"], **changes}
        self.write()
        return path

    def write(self) -> None:
        (self.directory / "registry.json").write_text(json.dumps({"runtimes": {NAME: self.versions}}))

    def write_manifest(self) -> None:
        """Have the older form instead."""
        entries = [
            {
                "name": NAME,
                "version": version,
                "archive_url": told["download_url"],
                "archive_size": told["size"],
                "checksum": told["checksum"],
            }
            for version, told in self.versions.items()
        ]
        (self.directory / "registry.json").unlink()
        (self.directory / "runtime-manifest.json").write_text(json.dumps({"runtimes": entries}))

    def sign(self, key: Path, namespace: str = "joblet-runtime") -> None:
        index = self.directory / "registry.json"
        index.with_name("registry.json.sig").unlink(missing_ok=True)
        command("ssh-keygen", "-Y", "sign", "-n", namespace, "-f", str(key), str(index))


def new_key(path: Path) -> Path:
    command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"{path.name}@example", "-f", str(path))
    return path


@pytest.fixture
def registry() -> Iterator[Registry]:
    directory = Path("/srv/joblet-test-registry")
    command("rm", "-rf", str(directory))
    directory.mkdir()
    found = Registry(directory)
    found.add("1.2.0")
    found.add("1.10.0")
    yield found
    command("rm", "-rf", str(directory))


@pytest.fixture(autouse=True)
def _nothing_left(client: Client) -> Iterator[None]:
    before = trees()
    yield
    wait_for_agent(client)
    for runtime in rnx_json("runtime", "list"):
        if runtime["name"] in {NAME, "dropped"}:
            said(0, "runtime", "remove", f"{runtime['name']}@{runtime['version']}")
    assert (trees(), staged()) == (before, [])


def installed() -> list[str]:
    return [each["version"] for each in rnx_json("runtime", "list") if each["name"] == NAME]


def test_a_registry_of_the_older_form_is_read(client: Client, registry: Registry) -> None:
    registry.write_manifest()
    with web(registry.directory) as address:
        (offered,) = rnx_json("runtime", "list", f"--github-repo={address}")
        assert (offered["name"], offered["versions"]) == (NAME, ["1.10.0", "1.2.0"])
        said(0, "runtime", "install", f"{NAME}@1.2.0", f"--github-repo={address}")
    assert in_runtime(client, NAME, "cat /etc/who") == "1.2.0\n"


def test_a_runtime_from_a_web_server_runs_a_job(client: Client, registry: Registry) -> None:
    with web(registry.directory) as address:
        (offered,) = rnx_json("runtime", "list", f"--registry={address}")
        assert (offered["name"], offered["latest"]) == (NAME, "1.10.0")
        assert said(0, "runtime", "list", f"--registry={address}/registry.json").split()[:4] == [
            "RUNTIME",
            "VERSIONS",
            "LATEST",
            "PLATFORMS",
        ]
        done = rnx("runtime", "install", NAME, f"--registry={address}")
        assert done.returncode == 0, done.stderr
        assert [line.split()[0] for line in done.stderr.decode().splitlines() if line.startswith("[")] == [
            f"[{number}/5]" for number in range(1, 6)
        ]
        assert f"{NAME}@1.10.0".encode() in done.stdout
        assert in_runtime(client, NAME, "cat /etc/who") == "1.10.0\n"
        source = rnx_json("runtime", "info", NAME)
        assert address in json.dumps(source)
        said(0, "runtime", "install", f"{NAME}@1.2.0", f"--registry={address}")
        assert in_runtime(client, f"{NAME}@1.2.0", "cat /etc/who") == "1.2.0\n"
    # What is there needs no server any more.
    again = said(0, "runtime", "install", f"{NAME}@1.2.0", f"--registry={address}")
    assert "was there already" in again


def test_a_directory_of_this_host_is_a_registry_and_can_be_the_nodes_own(
    client: Client, registry: Registry
) -> None:
    error = said(1, "runtime", "install", NAME)
    assert "this agent has no registry" in error
    assert "runtimes.registry" in said(1, "runtime", "install", NAME, "--registry=some/body")
    with configured(f"runtimes:\n  registry: file://{registry.directory}\n"):
        said(0, "runtime", "install", NAME)
        assert installed() == ["1.10.0"]
        assert in_runtime(client, NAME, "cat /etc/who") == "1.10.0\n"
        assert [each["name"] for each in rnx_json("runtime", "list", "--registry")] == [NAME]
        (registry.directory / "some").mkdir()
        (registry.directory / "some" / "body").symlink_to(registry.directory)
        assert [each["name"] for each in rnx_json("runtime", "list", "--registry=some/body")] == [NAME]


@pytest.mark.usefixtures("client")
def test_a_server_with_a_certificate_of_ones_own(registry: Registry, tmp_path: Path) -> None:
    ca = make_ca()
    own = make_server(ca)
    (tmp_path / "own.pem").write_bytes(own.pem + own.key)
    trusted = registry.directory / "ca.pem"
    trusted.write_bytes(ca.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "own.pem")
    with web(registry.directory, context) as address:
        install = ("runtime", "install", NAME, f"--registry={address}")
        assert "its certificate is not trusted" in said(1, *install)
        with configured(f"runtimes:\n  ca_file: {trusted}\n"):
            said(0, *install)
        assert installed() == ["1.10.0"]


def test_published_calls_install_too(client: Client, registry: Registry) -> None:
    runtimes = client.runtimes
    request = pb.InstallRuntimeRequest(runtime_spec=NAME, registry_url=f"file://{registry.directory}")
    reply = runtimes.InstallRuntimeFromGithub(request, timeout=DEADLINE)
    assert (reply.runtime_spec, reply.status) == (f"{NAME}@1.10.0", "installed")
    assert Path(reply.resolved_path).is_dir()
    *_, last = runtimes.StreamingInstallRuntimeFromGithub(request, timeout=DEADLINE)
    assert last.result.success
    assert "was there already" in last.result.message
    content = (registry.directory / "1.2.0.tar").read_bytes()
    local = pb.InstallRuntimeFromLocalRequest(
        runtime_spec=f"{NAME}@1.2.0", files=[pb.RuntimeFile(path="a.tar", content=content)]
    )
    *_, last = runtimes.StreamingInstallRuntimeFromLocal(local, timeout=DEADLINE)
    assert last.result.success
    assert installed() == ["1.2.0", "1.10.0"]
    scripts = pb.InstallRuntimeFromLocalRequest(
        runtime_spec=NAME,
        files=[pb.RuntimeFile(path="setup.sh", content=b"#!/bin/sh\ntouch /etc/was-here\n")],
    )
    assert refusal(lambda: runtimes.InstallRuntimeFromLocal(scripts, timeout=DEADLINE)) == (
        "INVALID_ARGUMENT",
        "RUNTIME_SETUP_SCRIPTS",
    )
    assert not Path("/etc/was-here").exists()


@pytest.mark.usefixtures("client")
def test_an_archive_that_was_changed_is_refused(registry: Registry) -> None:
    path = registry.directory / "1.10.0.tar"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with web(registry.directory) as address:
        for where in (address, f"file://{registry.directory}"):
            assert "has the SHA-256" in said(1, "runtime", "install", NAME, f"--registry={where}")
            assert (installed(), staged()) == ([], [])
        path.write_bytes(content[:-1])
        assert "has the SHA-256" in said(1, "runtime", "install", NAME, f"--registry={address}")
        path.unlink()
        assert "does not have it" in said(1, "runtime", "install", NAME, f"--registry={address}")
    assert "Connection refused" in said(1, "runtime", "install", NAME, f"--registry={address}")
    assert (installed(), staged()) == ([], [])


@pytest.mark.usefixtures("client")
def test_setup_scripts_of_others_are_not_run(registry: Registry) -> None:
    scripts = registry.directory / "python-3.11.tar.gz"
    (registry.directory / "setup.sh").write_text("#!/bin/sh\ntouch /etc/was-here\n")
    command("tar", "-czf", str(scripts), "-C", str(registry.directory), "setup.sh")
    checksum = f"sha256:{hashlib.sha256(scripts.read_bytes()).hexdigest()}"
    entry = {"version": "1.3.1", "download_url": scripts.name, "checksum": checksum}
    (registry.directory / "registry.json").write_text(
        json.dumps({"runtimes": {"python-3.11": {"1.3.1": entry}}})
    )
    error = said(1, "runtime", "install", "python:3.11", f"--registry=file://{registry.directory}")
    assert "its archive has setup scripts" in error
    assert "/usr/share/joblet/definitions/python-3.11.yaml" in error
    assert not Path("/etc/was-here").exists()


@pytest.mark.usefixtures("client")
def test_whoever_goes_away_in_the_middle_leaves_nothing(registry: Registry) -> None:
    with web(registry.directory) as address:
        registry.add("1.10.0", download_url=f"{address}/stuck/x", size=0)
        with subprocess.Popen(
            ["rnx", "runtime", "install", NAME, f"--registry={address}"], stderr=subprocess.DEVNULL
        ) as client:
            assert Quiet.stuck.wait(DEADLINE)
            assert len(staged()) == 1
            client.terminate()
        eventually(staged, lambda left: left == [])
        assert installed() == []


def test_an_agent_that_is_killed_in_the_middle_leaves_nothing(client: Client, registry: Registry) -> None:
    with web(registry.directory) as address:
        registry.add("1.10.0", download_url=f"{address}/stuck/x", size=0)
        with subprocess.Popen(
            ["rnx", "runtime", "install", NAME, f"--registry={address}"], stderr=subprocess.DEVNULL
        ) as caller:
            assert Quiet.stuck.wait(DEADLINE)
            command("systemctl", "kill", "--signal=KILL", "joblet-agent.service")
            assert caller.wait(DEADLINE) != 0
        wait_for_agent(client)
        eventually(staged, lambda left: left == [])
        assert installed() == []


@pytest.mark.usefixtures("client")
def test_where_a_signature_is_asked_for_nothing_counts_without(registry: Registry, tmp_path: Path) -> None:
    key, other = new_key(tmp_path / "release"), new_key(tmp_path / "other")
    keys = Path("/etc/joblet/runtime-keys")
    keys.mkdir()
    (keys / "release.pub").write_bytes(key.with_suffix(".pub").read_bytes())
    install = ("runtime", "install", NAME, f"--registry=file://{registry.directory}")
    try:
        with configured("runtimes:\n  require: signature\n"):
            assert "it has no signature" in said(1, *install)
            registry.sign(other)
            assert "by a key that this host does not trust" in said(1, *install)
            registry.sign(key, "file")
            assert "for the namespace 'file'" in said(1, *install)
            registry.sign(key)
            registry.add("1.11.0")
            assert "the file is not the one that was signed" in said(1, *install)
            registry.sign(key)
            done = rnx(*install)
            assert done.returncode == 0, done.stderr
            assert b"signed by release@example" in done.stderr
            assert installed() == ["1.11.0"]
    finally:
        command("rm", "-rf", str(keys))


@contextmanager
def dropped(**files: bytes) -> Iterator[None]:
    command("rm", "-rf", str(DROP_INS))
    DROP_INS.mkdir(parents=True)
    for name, content in files.items():
        (DROP_INS / name.replace("_", ".")).write_bytes(content)
    try:
        yield
    finally:
        command("rm", "-rf", str(DROP_INS))


def test_archives_in_runtimes_d_are_taken_in_once(client: Client, registry: Registry) -> None:
    said(0, "runtime", "install", NAME, f"--registry=file://{registry.directory}")
    exported = registry.directory / "exported.tar"
    said(0, "runtime", "export", NAME, "-o", str(exported))
    digest, content = digest_of(NAME), exported.read_bytes()
    said(0, "runtime", "remove", NAME)
    with dropped(a_tar=b"no archive", b_tar=content):
        command("systemctl", "restart", "joblet-agent.service")
        wait_for_agent(client)
        eventually(installed, lambda versions: versions == ["1.10.0"])
        assert digest_of(NAME) == digest
        assert in_runtime(client, NAME, "cat /etc/who") == "1.10.0\n"
        log = command("journalctl", "-u", "joblet-agent.service", "-o", "cat", "--since=-2min").stdout
        assert f"cannot take in {DROP_INS}/a.tar: " in log
        # What an admin removes stays away, until the file is another one.
        said(0, "runtime", "remove", NAME)
        command("systemctl", "restart", "joblet-agent.service")
        wait_for_agent(client)
        (DROP_INS / "c.tar").write_bytes(content)
        command("systemctl", "restart", "joblet-agent.service")
        wait_for_agent(client)
        eventually(installed, lambda versions: versions == ["1.10.0"])
