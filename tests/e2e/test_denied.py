"""Kernel interfaces that a job must not have: attack case B7."""

import json
import os
import platform
import shutil

import pytest

from tests.e2e.agent import JOBS, Client, command, eventually
from tests.e2e.inside import DENIED_CALLS, probe, running

pytestmark = pytest.mark.systemd

# System call numbers of x86_64 and of the architectures with the generic table (aarch64, riscv64).
NUMBERS = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "fanotify_init": (300, 262),
    "file_setattr": (469, 469),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "open_by_handle_at": (304, 265),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
}
COLUMN = 0 if platform.machine() == "x86_64" else 1
FILTERED = {name: numbers[COLUMN] for name, numbers in NUMBERS.items()}


def test_b7_system_calls_that_jobs_do_not_need_are_denied(client: Client) -> None:
    script = DENIED_CALLS + "print(json.dumps({n: call(v, *[0] * 6) for n, v in json.loads(%r).items()}))"
    got = probe(client, script % json.dumps(FILTERED))
    assert got == dict.fromkeys(FILTERED, "EPERM")


UNSHARE, CLONE3 = (272, 97)[COLUMN], 435
KINDS = {"user": 0x10000000, "mount": 0x20000, "pid": 0x20000000, "net": 0x40000000, "cgroup": 0x2000000}


def test_b7_no_namespaces(client: Client) -> None:
    script = (
        DENIED_CALLS
        + f"""
print(json.dumps([
    {{name: call({UNSHARE}, flag) for name, flag in {KINDS}.items()}},
    call({CLONE3}, ctypes.create_string_buffer((0x10000000).to_bytes(8, "little") + bytes(80)), 88),
]))
"""
    )
    unshared, cloned = probe(client, script)
    assert unshared == dict.fromkeys(KINDS, "EPERM")
    assert cloned in {"ENOSYS", "EPERM"}


PROJECTS = """
import errno, fcntl, json, os
def tried(request, size):
    try:
        fcntl.ioctl(work, request, bytes(size))
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]
work = os.open("/work", os.O_RDONLY)
seen = [tried(0x80086601, 8), tried(0x801c581f, 28)]  # FS_IOC_GETFLAGS, FS_IOC_FSGETXATTR
print(json.dumps([seen, tried(0x40086602, 8), tried(0x401c5820, 28)]))
"""


def test_b4_a_job_does_not_change_the_project_of_its_files(client: Client) -> None:
    """As owners may elsewhere: it would free them of its limit. Nor do commands that join it."""
    denied = [["done", "done"], "EPERM", "EPERM"]
    assert probe(client, PROJECTS) == denied
    with running(client, "sh", "-c", "echo ready; exec sleep 1000") as job_id:
        joined = command("rnx", "exec", job_id, "--", "python3", "-I", "-c", PROJECTS)
    assert json.loads(joined.stdout) == denied


ATTEMPTS = """
import ctypes, errno, json, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def tried(act):
    try:
        done = act()
    except OSError as error:
        return errno.errorcode[error.errno]
    return errno.errorcode[ctypes.get_errno()] if done == -1 else "done"
open("/work/file", "w").close()
os.mkdir("/work/directory")
print(json.dumps({
    "mount": tried(lambda: libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)),
    "bind": tried(lambda: libc.mount(b"/usr", b"/work/directory", None, 4096, None)),
    "remount": tried(lambda: libc.mount(None, b"/usr", None, 4096 | 32, None)),
    "umount": tried(lambda: libc.umount2(b"/sys", 2)),
    "umount proc": tried(lambda: libc.umount2(b"/proc", 2)),
    "hostname": tried(lambda: socket.sethostname("x")),
    "setuid": tried(lambda: os.setuid(0)),
    "setgroups": tried(lambda: os.setgroups([0])),
    "setuid file": tried(lambda: os.chmod("/work/file", 0o4755)),
    "setgid directory": tried(lambda: os.chmod("/work/directory", 0o2755)),
    "file capability": tried(lambda: os.setxattr(
        "/work/file", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))),
    "device": tried(lambda: os.mknod("/work/device", 0o60600, os.makedev(7, 0))),
    "chown": tried(lambda: os.chown("/work/file", 0, 0)),
    "nice": tried(lambda: os.nice(-5)),
    "realtime": tried(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))),
    "personality": tried(lambda: libc.personality(8)),
    "own group": tried(lambda: open("/sys/fs/cgroup/cgroup.procs", "w")),
    "memory of the init": tried(lambda: open("/proc/1/mem")),
}))
"""


def test_b7_privileged_acts_are_denied(client: Client) -> None:
    got = probe(client, ATTEMPTS)
    assert got.pop("nice") in {"EPERM", "EACCES"}
    assert got.pop("own group") in {"EACCES", "ENOENT"}
    assert got.pop("memory of the init") == "EACCES"
    assert set(got.values()) == {"EPERM"}, got


def test_b7_a_setuid_program_gives_nothing(client: Client) -> None:
    """Of the host, in /usr, where su has the bit: the file system is mounted without it."""
    script = """
import json, os, stat
bit = bool(os.stat("/usr/bin/su").st_mode & stat.S_ISUID)
quiet = [(os.POSIX_SPAWN_CLOSE, 1), (os.POSIX_SPAWN_CLOSE, 2)]
child = os.posix_spawn("/usr/bin/su", ["su", "-c", "id"], {}, file_actions=quiet)
print(json.dumps([bit, os.waitpid(child, 0)[1] != 0, os.statvfs("/usr/bin/su").f_flag & os.ST_NOSUID != 0]))
"""
    assert probe(client, script) == [True, True, True]


SIBLING = (
    DENIED_CALLS
    + f"""
import os, time
child = os.posix_spawn("/usr/bin/sleep", ["sleep", "1000"], {{}})
ATTACH, SEIZE, TRACEME = 16, 0x4206, 0
print(json.dumps({{
    "attach": call({FILTERED["ptrace"]}, ATTACH, child, 0, 0),
    "seize": call({FILTERED["ptrace"]}, SEIZE, child, 0, 0),
    "traceme": call({FILTERED["ptrace"]}, TRACEME, 0, 0, 0),
    "init": call({FILTERED["ptrace"]}, ATTACH, 1, 0, 0),
}}))
os.kill(child, 9)
"""
)


def test_b7_no_process_is_traced(client: Client) -> None:
    assert probe(client, SIBLING) == dict.fromkeys(("attach", "seize", "traceme", "init"), "EPERM")


GAINED = """
import json, os, subprocess, sys, time
open("/work/ready", "w").close()
while not os.path.exists("/work/go"):
    time.sleep(0.01)
def ids(program):
    words = subprocess.run([program, "/proc/self/status"], capture_output=True, text=True).stdout.splitlines()
    return [line.split()[1:] for line in words if line.startswith(("Uid", "Gid", "CapPrm", "CapEff"))]
own = [[str(os.getuid())] * 4, [str(os.getgid())] * 4, ["0" * 16], ["0" * 16]]
print(json.dumps([ids(p) == own for p in ("/work/setuid", "/work/capable", "/work/plain")] + [
    bool(os.stat("/work/setuid").st_mode & 0o4000), "security.capability" in os.listxattr("/work/capable")]))
"""
CAP_SETUID_FILE = bytes.fromhex("0100000280000000000000000000000000000000")


def test_b7_a_setuid_program_or_capable_file_in_work_gives_nothing(client: Client) -> None:
    """Which no job can make: root of the host does, as a volume or an archive might bring one along."""
    job_id = client.run("python3", "-I", "-c", GAINED)
    work = JOBS / job_id / "work"
    eventually((work / "ready").exists, bool)
    for name in ("plain", "setuid", "capable"):
        shutil.copy("/usr/bin/cat", work / name)
    (work / "setuid").chmod(0o6755)
    os.setxattr(work / "capable", "security.capability", CAP_SETUID_FILE)
    (work / "go").touch()
    assert client.ended(job_id).status == "COMPLETED", client.log(job_id)
    assert json.loads(client.log(job_id)) == [True] * 5


LIMITS = """
import json, os
def tried(act):
    try:
        return act()
    except OSError as error:
        return error.strerror
group = open("/proc/self/cgroup").read().strip().rpartition(":")[2]
tops = ("/sys/fs/cgroup", "/sys/fs/cgroup" + group, "/mnt")  # below /mnt it is while the launcher begins
names = ("cgroup.procs", "cgroup.freeze", "cgroup.kill", "pids.max", "memory.max", "cpu.max", "release_agent")
print(json.dumps([
    [tried(lambda: os.open(f"{top}/{name}", os.O_WRONLY)) for top in tops for name in names],
    [tried(lambda: os.listdir(path)) for path in ("/sys", "/mnt")],
]))
"""


def test_b4_no_limit_is_the_jobs_to_change(client: Client) -> None:
    written, (sys, group) = probe(client, LIMITS)
    assert set(written) <= {"No such file or directory", "Permission denied"}
    assert (sys, group) == ("Permission denied", [])


MODULES = {"init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106)}


def test_no_module_is_loaded(client: Client) -> None:
    numbers = {name: pair[COLUMN] for name, pair in MODULES.items()}
    script = DENIED_CALLS + "print(json.dumps({n: call(v, 0, 0, 0) for n, v in json.loads(%r).items()}))"
    assert probe(client, script % json.dumps(numbers)) == dict.fromkeys(MODULES, "EPERM")


TUNABLES = """
import json, os
written = []
for top, _, names in os.walk("/proc/sys"):
    for name in names:
        path = os.path.join(top, name)
        try:
            value = open(path).read()
        except OSError:
            continue
        try:
            with open(path, "w") as file:
                file.write(value)
            written.append(path)
        except OSError:
            pass
print(json.dumps(written))
"""


def test_no_kernel_tunable_is_written(client: Client) -> None:
    assert probe(client, TUNABLES) == []


DEVICES = """
import json, os, stat
def tried(path):
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        return True
    except OSError:
        return False
nodes = {}
for top, _, names in os.walk("/dev"):
    for path in (os.path.join(top, name) for name in names):
        mode = os.stat(path, follow_symlinks=False).st_mode
        if stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
            nodes[path] = tried(path)
print(json.dumps(nodes))
"""
HARMLESS_DEVICES = {"full", "null", "random", "tty", "urandom", "zero", "ptmx", "pts/ptmx"}
TERMINAL = "import json, os; os.openpty(); print(json.dumps(sorted(os.listdir('/dev/pts'))))"


def test_a_job_has_harmless_devices_only(client: Client) -> None:
    primary, secondary = os.openpty()
    try:
        assert probe(client, DEVICES).keys() <= {f"/dev/{name}" for name in HARMLESS_DEVICES}
        assert probe(client, TERMINAL) == ["0", "ptmx"]
    finally:
        os.close(primary)
        os.close(secondary)
