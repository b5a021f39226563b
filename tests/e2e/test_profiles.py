"""Isolation profiles: what strict takes away, what privileged gives, and who sees it. Attack cases B1, B9."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import Client, command, wait_for_agent
from tests.e2e.host import AGENT, CONFIG, configured, refusal, rnx, rnx_json, shown, unit_of
from tests.e2e.inside import DENIED_CALLS, probe, processes, running

pytestmark = [pytest.mark.systemd, pytest.mark.both]

PRIVILEGED = "profiles:\n  privileged: true\n"
WAITING = "exec sleep 1000"


# -- strict --------------------------------------------------------------------------------------------

STRICT = (
    DENIED_CALLS
    + """
import mmap, os, socket, subprocess, threading
def tried(act):
    try:
        act()
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]
def writable_code():
    libc.mmap.restype = ctypes.c_void_p
    place = libc.mmap(None, 4096, 7, 0x22, -1, 0)
    if place == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap")
def code_later():
    libc.mmap.restype = ctypes.c_void_p
    place = libc.mmap(None, 4096, 3, 0x22, -1, 0)
    if libc.mprotect(ctypes.c_void_p(place), 4096, 5):
        raise OSError(ctypes.get_errno(), "mprotect")
threads = []
thread = threading.Thread(target=lambda: threads.append(1))
thread.start(); thread.join()
print(json.dumps({
    "writable code": tried(writable_code),
    "code later": tried(code_later),
    "netlink": tried(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)),
    "nice": tried(lambda: os.nice(1)),
    "affinity": tried(lambda: os.sched_setaffinity(0, {0})),
    "tcp": tried(lambda: socket.socket(socket.AF_INET)),
    "unix": tried(lambda: socket.socketpair()),
    "programs": subprocess.run(["sh", "-c", "ls / | sort >/work/x && exit 3"]).returncode,
    "threads": len(threads),
}))
"""
)


def test_strict_takes_away_what_programs_seldom_need(client: Client) -> None:
    got = probe(client, STRICT, profile="strict")
    assert {got.pop("writable code"), got.pop("code later")} <= {"EPERM", "EACCES"}
    assert got == {
        "netlink": "EAFNOSUPPORT",
        "nice": "EPERM",
        "affinity": "EPERM",
        "tcp": "done",
        "unix": "done",
        "programs": 3,
        "threads": 1,
    }


def test_default_leaves_it(client: Client) -> None:
    got = probe(client, STRICT)
    assert {name for name, value in got.items() if value not in ("done", 3, 1)} == set()


def test_the_nodes_own_profile_is_what_jobs_get_that_ask_for_none(client: Client) -> None:
    with configured("jobs:\n  default_profile: strict\n"):
        assert probe(client, STRICT)["netlink"] == "EAFNOSUPPORT"
        assert client.status(client.run("true")).profile == "strict"


# -- privileged ----------------------------------------------------------------------------------------

ROOT = """
import ctypes, json, os, socket, stat
libc = ctypes.CDLL(None, use_errno=True)
status = dict(line.rstrip("\\n").split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
def devices(top):
    return sorted(n for n in os.listdir(top) if stat.S_ISBLK(os.lstat(os.path.join(top, n)).st_mode))
mounted = libc.mount(b"none", b"/mnt", b"tmpfs", 0, None)
socket.sethostname("from-inside")
def written(path):
    try:
        open(path, "w").close()
        return "done"
    except OSError as error:
        return error.strerror
print(json.dumps({
    "ids": status["Uid"].split() + status["Gid"].split() + status["Groups"].split(),
    "capabilities": [status["CapPrm"], status["CapEff"], status["CapBnd"]],
    "no new privileges": status["NoNewPrivs"],
    "filters": status["Seccomp_filters"],
    "namespaces": {n: os.readlink("/proc/self/ns/" + n) for n in ("ipc", "mnt", "net", "pid", "uts")},
    "processes": [pid for pid in os.listdir("/proc") if pid.isdigit()],
    "devices": devices("/dev"),
    "interfaces": [name for _, name in socket.if_nameindex()],
    "mounted": mounted,
    "sys": os.path.isdir("/sys/class"),
    "written": [written(path) for path in ("/usr/x", "/etc/x", "/work/x", "/tmp/x")],
    "owner": os.stat("/work").st_uid,
    "names": [os.environ["USER"], os.environ["HOME"]],
    "group": open("/proc/self/cgroup").read(),
}))
"""


def test_a_privileged_job_is_root_in_namespaces_of_its_own(client: Client) -> None:
    host = dict(
        line.split(":\t", 1) for line in Path("/proc/1/status").read_text().splitlines() if ":\t" in line
    )
    name, mounts = os.uname().nodename, Path("/proc/self/mounts").read_text()
    with configured(PRIVILEGED):
        got = probe(client, ROOT, profile="privileged")
    assert set(got["ids"]) == {"0"}
    assert got["capabilities"] == [host["CapBnd"]] * 3
    assert (got["no new privileges"], got["filters"]) == ("0", host["Seccomp_filters"])
    shared = [kind for kind, own in got["namespaces"].items() if own == os.readlink(f"/proc/1/ns/{kind}")]
    assert shared == []
    assert len(got["processes"]) == 2
    assert got["devices"] == sorted(entry.name for entry in Path("/dev").iterdir() if entry.is_block_device())
    assert (got["interfaces"], got["mounted"], got["sys"]) == (["lo", "eth0"], 0, True)
    assert got["written"] == ["Read-only file system", "Read-only file system", "done", "done"]
    assert (got["owner"], got["names"]) == (0, ["root", "/work"])
    assert "/joblet-jobs.slice/joblet-job-" in got["group"]
    assert (os.uname().nodename, Path("/proc/self/mounts").read_text()) == (name, mounts)


def test_a_privileged_job_has_limits_and_ends_like_any_other(client: Client) -> None:
    with configured(PRIVILEGED):
        script = f"umask 0; (setsid sleep 1000 &); echo ready; {WAITING}"
        with running(client, "sh", "-c", script, profile="privileged") as job_id:
            unit = shown(unit_of(job_id))
            assert (unit["TasksMax"], unit["Slice"]) == ("4096", "joblet-jobs.slice")
            assert client.jobs.StopJob(pb.StopJobRequest(uuid=job_id), timeout=30).status == "STOPPED"
        assert unit_of(job_id) not in command("systemctl", "list-units", "--all", "--plain").stdout


def test_everybody_sees_that_a_job_is_privileged(client: Client) -> None:
    with configured(PRIVILEGED):
        job_id = client.run("true", profile="privileged")
        plain = client.run("true")
        client.ended(job_id)
        rows = {row["id"]: row["profile"] for row in rnx_json("list")}
        assert (rows[job_id], rows[plain]) == ("privileged", "default")
        assert rnx_json("status", job_id)["profile"] == "privileged"
        lines = {line.split()[0]: line.split() for line in rnx("list").stdout.decode().splitlines()}
        assert lines[job_id][6:] == ["[privileged]", "true"]  # behind date and time, which scripts count
        assert lines[plain][6:] == ["true"]
        assert "Profile: privileged" in rnx("status", job_id).stdout.decode()


def test_privileged_is_off_in_the_shipped_configuration(client: Client) -> None:
    for call in (lambda: client.run("true", profile="privileged"),):
        assert refusal(call) == ("UNIMPLEMENTED", "PROFILE_NOT_OFFERED")
    done = rnx("run", "--profile=privileged", "true")
    assert done.returncode == 1
    assert "the profile privileged is switched off on this node" in done.stderr.decode()
    assert refusal(lambda: client.run("true", profile="root")) == ("INVALID_ARGUMENT", "UNKNOWN_PROFILE")


def test_b9_a_queued_job_fails_when_its_profile_is_switched_off_meanwhile(client: Client) -> None:
    one = "jobs:\n  max_concurrent: 1\n"
    with configured(one + PRIVILEGED):
        with running(client, "sh", "-c", f"echo ready; {WAITING}"):
            waiting = client.run("touch", "/work/x", profile="privileged")
            assert client.status(waiting).status == "PENDING"
            CONFIG.write_text(one, encoding="utf-8")
            command("systemctl", "restart", AGENT)
            wait_for_agent(client)
            assert client.status(waiting).status == "PENDING"
        status = client.ended(waiting)
        assert (status.status, status.reason) == ("FAILED", "start-failed")
        assert "the profile privileged is switched off" in status.message
        assert "joblet-job-" + waiting not in command("journalctl", "--no-pager", "-o", "cat").stdout


def test_b9_a_scheduled_job_fails_when_its_profile_is_switched_off_meanwhile(client: Client) -> None:
    due = datetime.now(UTC) + timedelta(seconds=5)
    with configured(PRIVILEGED):
        later = client.run("touch", "/work/x", profile="privileged", schedule=due.isoformat())
        assert client.status(later).status == "SCHEDULED"
        CONFIG.unlink()
        command("systemctl", "restart", AGENT)
        wait_for_agent(client)
        status = client.ended(later)
        CONFIG.touch()  # for configured() to take away
    assert (status.status, status.reason) == ("FAILED", "start-failed")
    assert "the profile privileged is switched off" in status.message


# -- B1: programs of the host are not changed through /proc ---------------------------------------------

OVERWRITE = """
import errno, json, os, signal, time
def opened(path):
    try:
        os.close(os.open(path, os.O_WRONLY))
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]
# As in CVE-2019-5736: take hold of the program that runs, and write to it once nothing runs it any more.
def later(pid):
    try:
        held = os.open(f"/proc/{pid}/exe", os.O_PATH)
    except OSError as error:
        return errno.errorcode[error.errno]
    if pid != os.getpid() and pid != 1:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return opened(f"/proc/self/fd/{held}")
child = os.posix_spawn("/usr/bin/sleep", ["sleep", "1000"], {})
while not os.readlink(f"/proc/{child}/exe").endswith("sleep"):
    time.sleep(0.01)
print(json.dumps({
    "own": opened("/proc/self/exe"),
    "init": opened("/proc/1/exe"),
    "init, held": later(1),
    "own, held": later(os.getpid()),
    "another, held": later(child),
    "by name": opened("/usr/bin/sleep"),
    "launcher": opened("/usr/lib/joblet/joblet-launch"),
}))
"""
REFUSALS = {"EACCES", "EROFS", "ETXTBSY"}
PROGRAMS = ("/usr/bin/sleep", "/usr/bin/perl", "/usr/bin/python3", "/usr/lib/joblet/joblet-launch")


@pytest.mark.parametrize("profile", ["default", "strict", "privileged"])
def test_b1_no_program_of_the_host_can_be_opened_for_writing(client: Client, profile: str) -> None:
    before = [Path(path).read_bytes() for path in PROGRAMS]
    with configured(PRIVILEGED):
        got: dict[str, Any] = probe(client, OVERWRITE, profile=profile)
    assert set(got.values()) <= REFUSALS, got
    assert [Path(path).read_bytes() for path in PROGRAMS] == before


def test_the_agents_namespaces_are_the_hosts(client: Client) -> None:
    """The launcher refuses a job that is in one of them: so they must be told right."""
    wait_for_agent(client)
    pid = command("systemctl", "show", "-P", "MainPID", AGENT).stdout.strip()
    own = {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("net", "ipc", "uts")}
    assert own == {kind: os.readlink(f"/proc/1/ns/{kind}") for kind in own}
    with running(client, "sh", "-c", f"echo ready; {WAITING}") as job_id:
        launcher, *_ = processes(job_id)
        told = Path(f"/proc/{launcher}/environ").read_text(encoding="utf-8")
    assert all(namespace in told for namespace in own.values())
    assert json.dumps(sorted(own)) == '["ipc", "net", "uts"]'


def test_errors_name_the_profile(client: Client) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client.run("true", profile="x\x1b[2J")
    assert "there is no profile 'x\\x1b[2J'" in str(caught.value.details())
