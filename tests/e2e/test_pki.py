"""joblet-agent pki: from a host without certificates to clients that run jobs over the network."""

import json
import os
import re
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import rmtree
from typing import Any

import grpc
import pytest
import yaml

from joblet_agent.model.identity import Role
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.pb import joblet_pb2_grpc as stubs
from joblet_agent.pki.authority import CertificateAuthority
from joblet_agent.pki.host import find_host
from tests.e2e.agent import DEADLINE, Client, command, eventually, main_pid
from tests.e2e.host import AGENT, configured, in_parallel, journal, rnx_json, shown
from tests.e2e.network import PKI, PORT

pytestmark = pytest.mark.systemd

RENEW, TIMER = "joblet-agent-renew.service", "joblet-agent-renew.timer"


@pytest.fixture(scope="module", autouse=True)
def _agent_alone() -> Iterator[None]:
    with configured(""):
        try:
            yield
        finally:
            rmtree(PKI, ignore_errors=True)


@pytest.fixture(autouse=True)
def _no_certificates() -> None:
    rmtree(PKI, ignore_errors=True)
    command("systemctl", "restart", AGENT)


def pki(*words: str) -> subprocess.CompletedProcess[str]:
    return command("joblet-agent", "pki", *words, check=False)


def done(*words: str) -> str:
    result = pki(*words)
    assert result.returncode == 0, result.stderr
    return result.stdout


def listed() -> dict[str, dict[str, str]]:
    return {row["name"]: row for row in json.loads(done("list", "-o", "json"))}


def connects() -> bool:
    try:
        socket.create_connection(("127.0.0.1", PORT), timeout=DEADLINE).close()
    except ConnectionError:
        return False
    return True


def rnx(config: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return command("rnx", f"--config={config}", *words, check=False)


def issued(directory: Path, name: str, role: str) -> Path:
    """Issue a certificate, and return the client's configuration."""
    file = directory / f"{name}.yml"
    done("issue", name, "--role", role, "-o", str(file), "--connect", "127.0.0.1")
    return file


@contextmanager
def following(config: Path, job: str) -> Iterator[Any]:
    """Follow a job as the client of this configuration; one line has come."""
    node = yaml.safe_load(config.read_text())["nodes"]["default"]
    credentials = grpc.ssl_channel_credentials(*(node[key].encode() for key in ("ca", "key", "cert")))
    options = [("grpc.ssl_target_name_override", "joblet"), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(node["address"], credentials, options) as channel:
        follower = stubs.JobServiceStub(channel).GetJobLogs(pb.GetJobLogsRequest(uuid=job))  # type: ignore[no-untyped-call]
        assert next(follower).payload == b"begun\n"
        yield follower


def serial_shown() -> str:
    """Serial number of the certificate that the agent shows to a new connection."""
    seen = command("openssl", "s_client", "-connect", f"127.0.0.1:{PORT}", check=False, input="").stdout
    return command("openssl", "x509", "-noout", "-serial", input=seen).stdout.strip().removeprefix("serial=")


def made_days_ago(days: int, life: int = 3650) -> CertificateAuthority:
    """The CA of this host, made in the past."""
    now = datetime.now(UTC) - timedelta(days=days)
    made = CertificateAuthority(PKI, find_host, lambda: now)
    made.init(days=life)
    return made


def test_c6_a_new_installation_has_no_keys_and_does_not_listen_until_somebody_makes_them(
    tmp_path: Path,
) -> None:
    assert not connects()
    for package in ("joblet-agent", "rnx"):
        files = command("dpkg", "--listfiles", package).stdout.splitlines()
        for path in map(Path, files):
            if path.is_file():
                assert not re.search(rb"PRIVATE KEY-+\s*[A-Za-z0-9+/=]{40}", path.read_bytes()), path
                assert path.suffix not in {".key", ".pem", ".crt"}, path
    assert not [path for path in Path("/etc/joblet").rglob("*") if b"PRIVATE KEY" in read(path)]
    done("init")
    eventually(connects, bool)
    assert set(listed()) == {"ca", "server"}  # nobody who may do something
    with_keys = [path for path in Path("/etc/joblet").rglob("*") if b"PRIVATE KEY" in read(path)]
    assert len(with_keys) == 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in with_keys} == {0o600}
    assert {path.parent.stat().st_mode & 0o777 for path in with_keys} == {0o700}


def read(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def test_from_nothing_to_a_job(tmp_path: Path) -> None:
    done("init")
    alice = issued(tmp_path, "alice", "operator")
    assert stat.S_IMODE(alice.stat().st_mode) == 0o600
    eventually(connects, bool)
    ran = rnx(alice, "run", "--attach", "sh", "-c", "echo $((6 * 7))")
    assert (ran.returncode, ran.stdout) == (0, "42\n"), ran.stderr
    bob = issued(tmp_path, "bob", "viewer")
    assert rnx(bob, "list").returncode == 0
    refused = rnx(bob, "run", "true")
    assert refused.returncode != 0
    assert "role viewer has no permission to run" in refused.stderr


def test_c6_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    done("init")
    before = {path: read(path) for path in PKI.rglob("*")}
    second = pki("init")
    assert (second.returncode, second.stdout) == (3, "")
    assert "there is a CA in /etc/joblet/pki/ca already; nothing was changed" in second.stderr
    assert {path: read(path) for path in PKI.rglob("*")} == before
    alice = issued(tmp_path, "alice", "viewer")
    text = alice.read_bytes()
    again = pki("issue", "carol", "--role", "admin", "-o", str(alice))
    assert again.returncode == 1
    assert f"cannot write {alice}: there is such a file" in again.stderr
    assert alice.read_bytes() == text
    assert set(listed()) == {"ca", "server", "alice"}  # and none was issued


def test_c6_no_role_is_given_that_was_not_asked_for(tmp_path: Path) -> None:
    done("init")
    for words in (("issue", "alice"), ("issue", "alice", "--role", "root"), ("issue", "alice", "--role", "")):
        refused = pki(*words, "-o", str(tmp_path / "alice.yml"))
        assert refused.returncode == 2, words
    assert list(tmp_path.iterdir()) == []
    assert set(listed()) == {"ca", "server"}


def test_c1_names_that_are_not_issued(tmp_path: Path) -> None:
    done("init")
    for name in ("local", "local:operator", "a\nb", "", "server"):
        refused = pki("issue", name, "--role", "admin", "-o", str(tmp_path / "x.yml"))
        assert refused.returncode == 1, name
        assert refused.stderr.startswith("joblet-agent: cannot issue a certificate for ")
        assert list(tmp_path.iterdir()) == []


def test_c1_a_name_with_a_role_in_it_is_a_name(tmp_path: Path) -> None:
    done("init")
    eve = tmp_path / "eve.yml"
    done("issue", "eve,OU=admin", "--role", "viewer", "-o", str(eve), "--connect", "127.0.0.1")
    eventually(connects, bool)
    assert rnx(eve, "list").returncode == 0
    assert "role viewer" in rnx(eve, "run", "true").stderr


def test_c6_nobody_but_root_gets_anything() -> None:
    done("init")
    for words in (
        ("list",),
        ("issue", "alice", "--role", "admin", "-o", "/tmp/alice.yml"),
        ("revoke", "alice"),
    ):
        refused = command(
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "joblet-agent",
            "pki",
            *words,
            check=False,
        )
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "Permission denied" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert not os.path.lexists("/tmp/alice.yml")


def test_certificates_over_a_pipe_and_as_files(tmp_path: Path) -> None:
    done("init")
    bundle = done("issue", "alice", "--role", "viewer", "-o", "-", "--connect", "127.0.0.1")
    assert bundle.startswith(
        "version: '3.0'\nnodes:\n  default:\n    address: 127.0.0.1:50051\n    cert: |\n"
    )
    (tmp_path / "alice.yml").write_text(bundle)
    eventually(connects, bool)
    assert rnx(tmp_path / "alice.yml", "list").returncode == 0
    assert done("export", "alice").strip() in bundle.replace("\n      ", "\n")
    (tmp_path / "ca.crt").write_text(done("export", "--ca"))
    words = ("openssl", "s_client", "-connect", f"127.0.0.1:{PORT}", "-CAfile", str(tmp_path / "ca.crt"))
    for more in (
        ("-verify_hostname", "joblet"),
        ("-verify_hostname", os.uname().nodename),
        ("-verify_ip", "127.0.0.1"),
    ):
        seen = command(*words, *more, "-verify_return_error", "-tls1_3", check=False, input="")
        assert "Verification: OK" in seen.stdout, more


def test_r14_renewals_of_everything_drop_no_stream_and_no_job(tmp_path: Path, client: Client) -> None:
    done("init")
    alice = issued(tmp_path, "alice", "operator")
    eventually(connects, bool)
    agent, job = main_pid(), client.run("sh", "-c", "echo begun; exec sleep 1000")
    with following(alice, job) as follower:
        for words in (("server",), ("ca",), ("server", "--name", "joblet.example.com"), ("--due",)):
            done("renew", *words)
            eventually(serial_shown, lambda serial: serial == listed()["server"]["serial"])
            assert rnx(alice, "list").returncode == 0  # with the CA that it knows
        bob = issued(tmp_path, "bob", "viewer")
        done("renew", "alice", "-o", str(tmp_path / "next.yml"), "--connect", "127.0.0.1")
        for config in (alice, bob, tmp_path / "next.yml"):
            assert rnx(config, "list").returncode == 0, config
        assert follower.is_active()
        client.jobs.StopJob(pb.StopJobRequest(uuid=job, force=True), timeout=DEADLINE)
        assert list(follower) == []  # to its proper end
    assert client.status(job).status == "STOPPED"
    assert main_pid() == agent


def test_c2_revoking_ends_the_streams_of_that_client_and_no_others(tmp_path: Path, client: Client) -> None:
    done("init")
    eve, bob = issued(tmp_path, "eve", "viewer"), issued(tmp_path, "bob", "viewer")
    eventually(connects, bool)
    job = client.run("sh", "-c", "echo begun; exec sleep 1000")
    with following(eve, job) as of_eve, following(bob, job) as of_bob:
        done("renew", "ca")
        assert "revoked" in done("revoke", "eve")
        with pytest.raises(grpc.RpcError) as caught:
            list(of_eve)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert "it has been revoked" in rnx(eve, "list").stderr
        assert rnx(bob, "list").returncode == 0
        assert of_bob.is_active()
        assert client.status(job).status == "RUNNING"
        client.jobs.StopJob(pb.StopJobRequest(uuid=job, force=True), timeout=DEADLINE)
        assert list(of_bob) == []
    assert listed()["eve"]["state"] == "revoked"


def test_the_timer_renews_in_time(tmp_path: Path) -> None:
    assert command("systemctl", "is-enabled", TIMER).stdout == "enabled\n"
    assert shown(TIMER)["ActiveState"] == "active"
    command("systemctl", "start", RENEW)
    assert shown(RENEW)["ConditionResult"] == "no"  # there is no CA
    made_days_ago(300).issue("alice", Role.VIEWER, 310)
    eventually(connects, bool)
    before = listed()["server"]
    assert before["state"] == "due"
    command("systemctl", "start", RENEW)
    assert shown(RENEW)["Result"] == "success"
    after = listed()["server"]
    assert (after["state"], after["serial"] != before["serial"]) == ("valid", True)
    eventually(serial_shown, lambda serial: serial == after["serial"])
    told = [
        record["MESSAGE"]
        for record in journal("--unit", RENEW, f"_SYSTEMD_INVOCATION_ID={shown(RENEW)['InvocationID']}")
    ]
    assert any(line.startswith(f"new certificate of the agent {after['serial']}") for line in told)
    assert any(line.startswith("the certificate of alice, viewer, ends on ") for line in told)


def test_the_timer_lets_one_ca_follow_the_other(tmp_path: Path) -> None:
    made_days_ago(900, 1000)
    command("systemctl", "start", RENEW)
    rows = json.loads(done("list", "-o", "json"))
    assert [(row["role"], row["state"]) for row in rows] == [("ca", "valid"), ("server", "valid")]
    eventually(connects, bool)
    assert rnx(issued(tmp_path, "alice", "viewer"), "list").returncode == 0


def test_options_of_renew_that_would_do_nothing_are_refused() -> None:
    done("init")
    for words in (
        (),
        ("--due", "server"),
        ("--due", "--days", "1"),
        ("server", "-o", "x"),
        ("server", "--days", "1"),
        ("ca", "--name", "x"),
        ("alice", "--name", "x"),
        ("alice", "--days", "0"),
    ):
        refused = pki("renew", *words)
        assert (refused.returncode, refused.stdout) == (2, ""), words


def test_r14_the_end_is_shown_and_told_in_time() -> None:
    since = f"--since=@{int(datetime.now(UTC).timestamp())}"
    assert rnx_json("monitor", "status")["certificates"] == []
    made_days_ago(300, 326)
    eventually(connects, bool)
    shown_now = {each["kind"]: each for each in rnx_json("monitor", "status")["certificates"]}
    assert {kind: each["state"] for kind, each in shown_now.items()} == {"server": "due", "ca": "due"}
    assert {each["daysLeft"] for each in shown_now.values()} == {25}
    assert shown_now["server"]["notAfter"] == listed()["server"]["not_after"]

    def told() -> list[str]:
        return [
            record["MESSAGE"]
            for record in journal("--unit", AGENT, since)
            if " ends at " in record["MESSAGE"]
        ]

    eventually(told, lambda lines: len(lines) == 2)
    assert told()[0].startswith("the agent's certificate ends at ")
    assert told()[0].endswith(
        "in 25 days: renew it: joblet-agent pki renew server, or with the CA of your own"
    )
    done("renew", "--due")
    eventually(
        lambda: {each["state"] for each in rnx_json("monitor", "status")["certificates"]},
        lambda states: states == {"valid"},
    )
    assert len(told()) == 2


def test_r14_what_has_expired_is_told() -> None:
    since = f"--since=@{int(datetime.now(UTC).timestamp())}"
    made_days_ago(300, 299)
    eventually(
        lambda: [record["MESSAGE"] for record in journal("--unit", AGENT, since)],
        lambda lines: any("the agent's certificate has expired at " in line for line in lines),
    )
    assert {each["state"] for each in rnx_json("monitor", "status")["certificates"]} == {"expired"}
    done("renew", "--due")
    eventually(
        lambda: [each["state"] for each in rnx_json("monitor", "status")["certificates"]],
        lambda states: states == ["valid", "valid"],
    )


def test_many_at_once_lose_nothing() -> None:
    done("init")
    names = [f"client-{number}" for number in range(12)]
    bundles = in_parallel(lambda name: done("issue", name, "--role", "viewer", "-o", "-"), names)
    assert len(set(bundles)) == len(names)
    assert set(listed()) == {"ca", "server", *names}
    in_parallel(lambda name: done("revoke", name), names)
    assert {listed()[name]["state"] for name in names} == {"revoked"}
    shown_list = command("openssl", "crl", "-in", str(PKI / "revoked.pem"), "-noout", "-text").stdout
    assert shown_list.count("Serial Number: ") == len(names)


def test_r14_kills_at_any_moment_leave_what_can_be_used(tmp_path: Path) -> None:
    done("init")
    alice = issued(tmp_path, "alice", "viewer")
    eventually(connects, bool)
    commands = (
        ("renew", "server"),
        ("renew", "ca"),
        ("issue", "bob", "--role", "viewer", "-o", "-"),
        ("revoke", "bob"),
    )
    for number in range(16):
        words = ("joblet-agent", "pki", *commands[number % len(commands)])
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                process.wait(0.1 * (number + 1))
            except subprocess.TimeoutExpired:
                process.kill()
        eventually(lambda: rnx(alice, "list").returncode, lambda status: status == 0)
    command("systemctl", "restart", AGENT)
    done("renew", "--due")
    eventually(lambda: rnx(alice, "list").returncode, lambda status: status == 0)
    assert listed()["alice"]["state"] == "valid"


def test_what_was_done_is_in_the_audit_trail_and_no_key_is(tmp_path: Path) -> None:
    since = f"--since=@{int(datetime.now(UTC).timestamp())}"
    done("init")
    alice = issued(tmp_path, "alice", "operator")
    serial = listed()["alice"]["serial"]
    done("revoke", "alice")
    records = [
        record for record in journal("JOBLET_EVENT=audit", since) if record["JOBLET_RPC"].startswith("pki/")
    ]
    told = [(record["JOBLET_RPC"], record["JOBLET_SERIAL"]) for record in records if "JOBLET_NAME" in record]
    assert told[-2:] == [("pki/issue", serial), ("pki/revoke", serial)]
    assert records[-1]["MESSAGE"].startswith(
        f"audit: pki/revoke: certificate {serial} of 'alice' (operator), until "
    )
    assert records[-1]["_UID"] == "0"
    key = yaml.safe_load(alice.read_text())["nodes"]["default"]["key"].splitlines()[1]
    assert not [record for record in journal(since) if key in str(record)]
