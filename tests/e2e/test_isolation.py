"""What a job is and what it can reach, as seen from inside: attack case B3."""

import os
import socket

import pytest

from tests.e2e.agent import Client
from tests.e2e.inside import probe, processes, running

pytestmark = pytest.mark.systemd

UID_FIRST, UID_LAST = 0x70000000, 0x70000000 + 65535
NAMESPACES = ["ipc", "mnt", "net", "pid", "uts"]
WAITING = "exec sleep 1000"


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
        return errno.errorcode[error.errno]
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
        got = probe(client, NETWORK)
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
    "/run/credentials",
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
