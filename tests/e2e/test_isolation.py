"""What a job is and what it can reach, as seen from inside: attack case B3."""

import json
import os
import socket
from pathlib import Path

import pytest

from tests.e2e.agent import Client, command
from tests.e2e.inside import probe, processes, running

pytestmark = [pytest.mark.systemd, pytest.mark.both]

UID_FIRST, UID_LAST = 0x70000000, 0x70000000 + 65535
NAMESPACES = ["ipc", "mnt", "net", "pid", "uts"]
WAITING = "exec sleep 1000"
COREDUMPS = Path("/var/lib/systemd/coredump")


def test_running_jobs_never_share_a_user(client: Client) -> None:
    script = f"id -u; id -g; id -G; echo ready; {WAITING}"
    with (
        running(client, "sh", "-c", script) as first,
        running(client, "sh", "-c", script) as second,
        running(client, "sh", "-c", script) as third,
    ):
        ids = [client.log(job_id).split()[:3] for job_id in (first, second, third)]
    assert all(user == group == groups for user, group, groups in ids)
    users = {int(user) for user, _, _ in ids}
    assert len(users) == 3
    assert all(UID_FIRST <= user <= UID_LAST for user in users)


STATUS = """
import json
lines = [line.split(":", 1) for line in open("/proc/self/status")]
print(json.dumps({key: value.split() for key, value in lines}))
"""


def test_a_job_has_no_privileges(client: Client) -> None:
    status = probe(client, STATUS)
    capabilities = {key: status[key] for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    assert set(map(tuple, capabilities.values())) == {("0000000000000000",)}
    assert (status["NoNewPrivs"], status["Seccomp"]) == (["1"], ["2"])
    assert len(set(status["Uid"] + status["Gid"] + status["Groups"])) == 1


NAMESPACES_OF = """
import json, os
print(json.dumps({name: os.readlink("/proc/self/ns/" + name) for name in os.listdir("/proc/self/ns")}))
"""


def test_a_job_has_namespaces_of_its_own(client: Client) -> None:
    first, second = probe(client, NAMESPACES_OF), probe(client, NAMESPACES_OF)
    host = {name: os.readlink(f"/proc/1/ns/{name}") for name in NAMESPACES}
    shared = [name for name in NAMESPACES if host[name] in {first[name], second[name]}]
    assert shared == []


PROCESSES = """
import json, os
seen = {pid: open(f"/proc/{pid}/comm").read().strip() for pid in os.listdir("/proc") if pid.isdigit()}
print(json.dumps([seen, os.getpid(), os.getppid()]))
"""


def test_a_job_sees_its_own_processes_only(client: Client) -> None:
    with running(client, "sh", "-c", f"echo ready; {WAITING}"):
        seen, own, parent = probe(client, PROCESSES)
    assert parent == 1  # an init that reaps, so that the command has no duties
    assert seen == {"1": "joblet-launch", str(own): "python3"}


WRITABLE = """
import json, os, stat
directories, files = [], []
for top, below, names in os.walk("/"):
    if top == "/":
        below.remove("proc")
    if os.access(top, os.W_OK):
        directories.append(top)
    for name in names:
        path = os.path.join(top, name)
        if stat.S_ISREG(os.lstat(path).st_mode) and os.access(path, os.W_OK):
            files.append(path)
refused = {}
for path in ("/x", "/etc/passwd", "/usr/bin/x", "/usr/lib/joblet/joblet-launch", "/opt/x", "/var/x"):
    try:
        open(path, "a")
    except OSError as error:
        refused[path] = error.strerror
print(json.dumps([directories, files, refused]))
"""
OWN_PLACES = {"/work", "/tmp", "/dev/shm"}
# Empty file systems in the memory of the job alone; systemd 252 lets anybody write to a job's /run.
EMPTY_PLACES = {"/dev/mqueue", "/run", "/run/lock"}


def test_a_job_writes_to_its_own_places_only(client: Client) -> None:
    directories, files, refused = probe(client, WRITABLE)
    assert set(directories) >= OWN_PLACES
    assert set(directories) <= OWN_PLACES | EMPTY_PLACES
    assert files == []
    assert set(refused.values()) <= {"Read-only file system", "Permission denied"}
    assert len(refused) == 6


SETTINGS = """
import json, os
print(json.dumps([
    os.path.join(top, name)
    for top, _, names in os.walk("/proc/sys") for name in names if os.access(os.path.join(top, name), os.W_OK)
] + [path for path in ("/proc/sysrq-trigger", "/proc/kcore", "/proc/kmsg") if os.access(path, os.W_OK)]))
"""


def test_a_job_changes_no_setting_of_the_kernel(client: Client) -> None:
    # Open to all by its mode; what is written to it needs a capability.
    assert probe(client, SETTINGS) == ["/proc/sys/kernel/ns_last_pid"]


NETWORK = """
import errno, json, socket
def tried(act):
    try:
        act()
        return "done"
    except OSError as error:
        return errno.errorcode.get(error.errno, "no answer")
def connect(family, address):
    with socket.socket(family) as s:
        s.settimeout(2)
        s.connect(address)
print(json.dumps({
    "interfaces": [name for _, name in socket.if_nameindex()],
    "metadata": tried(lambda: connect(socket.AF_INET, ("169.254.169.254", 80))),
    "link-local": tried(lambda: connect(socket.AF_INET6, ("fe80::1", 80, 0, 1))),
    "agent": tried(lambda: connect(socket.AF_INET, ("127.0.0.1", 50051))),
    "abstract": tried(lambda: connect(socket.AF_UNIX, "\\0joblet-test")),
    "packet": tried(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
    "raw": tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)),
    "vsock": tried(lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)),
}))
"""


def test_a_job_has_no_network_but_its_own_loopback(client: Client) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0joblet-test")
        listener.listen()
        got = probe(client, NETWORK, network="none")
    assert got.pop("link-local") in {"ENETUNREACH", "EADDRNOTAVAIL"}
    assert got == {
        "interfaces": ["lo"],
        "metadata": "ENETUNREACH",
        "agent": "ECONNREFUSED",
        "abstract": "ECONNREFUSED",
        "packet": "EAFNOSUPPORT",
        "raw": "EPERM",
        "vsock": "EAFNOSUPPORT",
    }


@pytest.mark.parametrize("network", ["bridge", "isolated"])
def test_b8_a_job_on_a_network_has_no_socket_that_goes_around_its_rules(client: Client, network: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0joblet-test")
        listener.listen()
        got = probe(client, NETWORK, network=network)
    assert got.pop("link-local") in {"ENETUNREACH", "EADDRNOTAVAIL"}
    assert got == {
        "interfaces": ["lo", "eth0"],
        "metadata": "no answer",
        "agent": "ECONNREFUSED",
        "abstract": "ECONNREFUSED",
        "packet": "EAFNOSUPPORT",
        "raw": "EPERM",
        "vsock": "EAFNOSUPPORT",
    }


HIDDEN = """
import json, os, socket, sys
found = []
for path in sys.argv[1:]:
    try:
        if os.listdir(path):
            found.append(path)
    except NotADirectoryError:
        found.append(path)
    except OSError:
        pass
for top, _, names in os.walk("/run"):
    found += [os.path.join(top, name) for name in names if name != "os-release"]  # systemd 257 puts it there
for path in ("/dev/log", "/dev/kmsg", "/dev/mem", "/dev/fuse", "/dev/kvm", "/dev/net/tun"):
    if os.path.exists(path):
        found.append(path)
print(json.dumps(found))
"""
HOST_PLACES = [
    "/etc/shadow",
    "/etc/machine-id",
    "/etc/joblet",
    "/etc/ssh",
    "/var/lib/joblet",
    "/var/lib/dbus",
    "/var/log",
    "/root",
    "/home",
    "/boot",
    "/sys",
    "/mnt",
    "/opt",
    "/srv",
    "/run/joblet",
    "/run/secrets",
    "/run/systemd/private",
    "/run/systemd/notify",
    "/run/systemd/journal",
    "/run/systemd/journal/socket",
    "/run/systemd/journal/stdout",
    "/run/dbus/system_bus_socket",
    "/proc/1/root/etc",
    "/proc/1/fd",
    "/proc/1/cwd/etc",
]


def test_b3_nothing_of_the_host_is_in_reach(client: Client) -> None:
    assert probe(client, HIDDEN, *HOST_PLACES) == []


NEIGHBOUR = """
import errno, json, os, signal, sys
def signalled(pid):
    try:
        os.kill(pid, signal.SIGKILL)
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]
seen = [path for place in ("/work", "/tmp", "/dev/shm", "/dev/mqueue") for path in os.listdir(place)]
variables = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        variables.append(open(f"/proc/{pid}/environ").read())
    except OSError:
        pass
killed = [signalled(int(pid)) for pid in sys.argv[1:]]
print(json.dumps([seen, "a-secret" in "".join(variables), killed, signalled(1)]))
"""


def test_b3_jobs_see_nothing_of_each_other(client: Client) -> None:
    script = f"umask 0; touch /work/secret /tmp/secret /dev/shm/secret; echo ready; {WAITING}"
    with running(client, "sh", "-c", script, environment={"SECRET": "a-secret"}) as neighbour:
        pids = [pid for pid in processes(neighbour) if pid > 10]  # lower ones may exist in the other job
        seen, has_secret, killed, init = probe(client, NEIGHBOUR, *map(str, pids))
        assert client.status(neighbour).status == "RUNNING"
    assert len(pids) == 3
    assert (seen, has_secret) == ([], False)
    assert set(killed) == {"ESRCH"}
    assert init == "EPERM"


SOCKETS = """
import json, socket, sys
reached = []
for path in json.loads(sys.argv[1]):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        with socket.socket(socket.AF_UNIX, kind) as s:
            s.settimeout(2)
            try:
                s.connect(path)
                reached.append(path)
            except OSError:
                pass
print(json.dumps(reached))
"""


def test_b3_no_unix_socket_of_the_host_is_in_reach(client: Client) -> None:
    """D-Bus, journald, systemd, the agent, and whatever else listens when the test runs."""
    lines = Path("/proc/net/unix").read_text(encoding="utf-8").splitlines()[1:]
    names = {fields[7] for fields in (line.split(None, 7) for line in lines) if len(fields) > 7}
    paths = sorted({"\0" + name[1:] if name.startswith("@") else name for name in names})
    assert {"/run/joblet/agent.sock", "/run/systemd/private", "/run/dbus/system_bus_socket"} <= set(paths)
    assert probe(client, SOCKETS, json.dumps(paths)) == []


USERS = """
import json, os
print(json.dumps([line.split(":")[0] for line in open("/etc/passwd")] + [os.path.exists("/etc/shadow")]))
"""


def test_a_job_does_not_learn_the_users_of_the_host(client: Client) -> None:
    assert probe(client, USERS) == ["root", "nobody", False]


QUEUES = """
import ctypes, json, os
libc = ctypes.CDLL(None, use_errno=True)
def lines(path):
    return len(open(path).read().splitlines()) - 1
print(json.dumps({
    "listed": {name: lines("/proc/sysvipc/" + name) for name in ("shm", "msg", "sem")},
    "opened": [libc.shmget(0x4a6f62, 0, 0), libc.msgget(0x4a6f62, 0), libc.semget(0x4a6f62, 0, 0)],
    "posix": [libc.mq_open(b"/joblet-test", os.O_RDWR), os.listdir("/dev/mqueue")],
}))
"""
MAKE_QUEUES = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
made = [libc.shmget(0x4a6f62, 4096, 0o1666), libc.msgget(0x4a6f62, 0o1666), libc.semget(0x4a6f62, 1, 0o1666),
        libc.mq_open(b"/joblet-test", os.O_RDWR | os.O_CREAT, 0o666, None)]
assert -1 not in made
print("ready", flush=True)
"""
REMOVE_QUEUES = """
import ctypes
libc = ctypes.CDLL(None)
libc.shmctl(libc.shmget(0x4a6f62, 0, 0), 0, None)
libc.msgctl(libc.msgget(0x4a6f62, 0), 0, None)
libc.semctl(libc.semget(0x4a6f62, 0, 0), 0, 0)
libc.mq_unlink(b"/joblet-test")
"""
NO_QUEUES = {
    "listed": {"shm": 0, "msg": 0, "sem": 0},
    "opened": [-1, -1, -1],
    "posix": [-1, []],
}


def test_b3_no_ipc_object_of_the_host_is_in_reach(client: Client) -> None:
    command("python3", "-c", MAKE_QUEUES)
    try:
        assert probe(client, QUEUES) == NO_QUEUES
    finally:
        command("python3", "-c", REMOVE_QUEUES)


def test_b3_no_ipc_object_of_another_job_is_in_reach(client: Client) -> None:
    with running(client, "python3", "-I", "-c", MAKE_QUEUES + "import time; time.sleep(1000)"):
        assert probe(client, QUEUES) == NO_QUEUES


MOUNTS = """
import json
rows = [line.split() for line in open("/proc/self/mountinfo")]
print(json.dumps([[row[4], row[5].split(",")] for row in rows]))
"""
MOUNTED = {"/", "/dev", "/etc/resolv.conf", "/proc", "/root", "/run", "/sys", "/tmp", "/usr", "/work"}
WRITABLE_MOUNTS = {"/dev/shm", "/run", "/tmp", "/work"}


def test_a_job_has_mounts_of_its_own_and_none_gives_rights(client: Client) -> None:
    mounts = probe(client, MOUNTS)
    assert {path for path, _ in mounts if not path.startswith(("/dev/", "/proc/", "/run/"))} == MOUNTED
    assert {path for path, options in mounts if "nosuid" not in options} == set()
    may_be_written = {path for path, options in mounts if "rw" in options}
    assert may_be_written >= WRITABLE_MOUNTS - {"/run"}
    kernels = {"/proc", "/proc/sys/net", "/dev/pts", "/dev/mqueue", "/dev/hugepages"}  # no job's to write to
    assert may_be_written <= WRITABLE_MOUNTS | kernels
    with running(client, "sh", "-c", f"echo ready; {WAITING}"):
        host = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
        assert " /work " not in host


KEYS = """
import json
print(json.dumps(open("/proc/keys").read()))
"""
ADD_KEY = (
    "import ctypes, platform; number = 248 if platform.machine() == 'x86_64' else 217;"
    "assert ctypes.CDLL(None).syscall(number, b'user', b'joblet-test-key', b'x', 1, -4) > 0"
)


def test_b3_no_key_of_the_host_is_seen(client: Client) -> None:
    command("python3", "-c", ADD_KEY)  # into root's keyring
    assert "joblet-test-key" not in probe(client, KEYS)


CORE = "sh -c 'kill -ABRT $$'; ls -A /work; ulimit -c; ulimit -Hc; ulimit -c unlimited || echo refused"


def test_no_memory_of_a_job_is_written_to_disk(client: Client) -> None:
    before = set(COREDUMPS.iterdir()) if COREDUMPS.exists() else set()
    job_id = client.run("sh", "-c", CORE)
    assert client.ended(job_id).status == "COMPLETED"
    words = client.log(job_id).decode().split()
    assert words[:1] == ["Aborted"]
    assert (words[1:3], words[-1]) == (["0", "0"], "refused")
    assert (set(COREDUMPS.iterdir()) if COREDUMPS.exists() else set()) == before
