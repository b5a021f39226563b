"""Each thing that can be missing on a host is found, with its consequence and what to do."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from joblet_agent.errors import HostUnavailable
from joblet_agent.fitness.finding import Probe, Result, Subject, Verdict, ok
from joblet_agent.fitness.probes import PROBES, findings
from joblet_agent.fitness.scene import Scene, Space
from joblet_agent.jobs.host import Storage
from joblet_agent.units import MIB
from tests.unit.fitness.host import RELEASE, SURVEY, UNIT_FILE, Look, make_host

OPERATIONS = Path(__file__).resolve().parents[3] / "docs" / "operations.md"
Change = Callable[[Look], object]
FAILED, WARNING, UNKNOWN = Result.FAILED, Result.WARNING, Result.UNKNOWN
MODULES = f"lib/modules/{RELEASE}/modules.dep"


@pytest.fixture
def look(tmp_path: Path) -> Look:
    return Look(make_host(tmp_path / "host"))


def write(path: str, text: str) -> Change:
    return lambda look: look.host.write(path, text)


def remove(path: str) -> Change:
    return lambda look: look.host.remove(path)


def without(path: str, word: str) -> Change:
    def change(look: Look) -> None:
        lines = (look.host.root / path).read_text(encoding="utf-8").splitlines(keepends=True)
        look.host.write(path, "".join(line for line in lines if word not in line))

    return change


def host(**attributes: object) -> Change:
    def change(look: Look) -> None:
        for name, value in attributes.items():
            setattr(look.host, name, value)

    return change


def survey(**fields: object) -> Change:
    return lambda look: setattr(look, "survey", replace(SURVEY, **fields))  # type: ignore[arg-type]


def unit(name: str, **fields: object) -> Change:
    return lambda look: look.unit(name, **fields)


def both(*changes: Change) -> Change:
    return lambda look: [change(look) for change in changes]


def config(text: str) -> Change:
    return lambda look: setattr(look, "config", text)


CASES: list[tuple[str, Result, str, Change]] = [
    ("SYSTEMD", FAILED, "252 or newer", survey(version="247.3-7")),
    ("SYSTEMD_SECCOMP", FAILED, "without seccomp", survey(features=frozenset({"-SECCOMP"}))),
    ("SYSTEMD_JOURNAL", WARNING, "journald", remove("run/systemd/journal/socket")),
    (
        "CGROUP_VERSION",
        FAILED,
        "systemd.unified_cgroup_hierarchy=1",
        remove("sys/fs/cgroup/cgroup.controllers"),
    ),
    *(
        (
            f"CGROUP_CONTROLLER_{name.upper()}",
            FAILED,
            option,
            write(
                "sys/fs/cgroup/cgroup.controllers",
                " ".join({"cpu", "cpuset", "io", "memory", "pids"} - {name}),
            ),
        )
        for name, option in (
            ("cpu", "--max-cpu, --cpu-weight"),
            ("cpuset", "--cpu-cores"),
            ("io", "--max-iobps, --io-weight"),
            ("memory", "--max-memory"),
            ("pids", "nothing limits the processes"),
        )
    ),
    (
        "CGROUP_CONTROLLER_MEMORY",
        FAILED,
        "cgroup_enable=memory",
        both(
            write("sys/fs/cgroup/cgroup.controllers", "cpu cpuset io pids"),
            write("proc/cgroups", "#subsys_name hierarchy num_cgroups enabled\nmemory 0 1 0"),
        ),
    ),
    (
        "CGROUP_CONTROLLER_IO",
        FAILED,
        "cgroup_no_v1=all",
        both(
            write("sys/fs/cgroup/cgroup.controllers", "cpu cpuset memory pids"),
            write("proc/cgroups", "#subsys_name hierarchy num_cgroups enabled\nblkio 7 1 1"),
        ),
    ),
    (
        "CGROUP_CONTROLLER_MEMORY",
        WARNING,
        "limits.unenforced is accept",
        both(
            write("sys/fs/cgroup/cgroup.controllers", "cpu cpuset io pids"),
            config("limits:\n  unenforced: accept\n"),
        ),
    ),
    (
        "CGROUP_CONTROLLER_MEMORY",
        FAILED,
        "those that get them from the section limits",
        both(
            write("sys/fs/cgroup/cgroup.controllers", "cpu cpuset io pids"),
            config("limits:\n  operator:\n    max_memory: 1GiB\n"),
        ),
    ),
    ("CGROUP_FREEZER", WARNING, "rnx pause", remove("sys/fs/cgroup/system.slice/cgroup.freeze")),
    (
        "CGROUP_SWAP",
        WARNING,
        "swapaccount=1",
        both(
            remove("sys/fs/cgroup/system.slice/memory.swap.max"),
            write("proc/swaps", "Filename Type\n/dev/vda2 partition"),
        ),
    ),
    ("KERNEL_NAMESPACES", FAILED, "no namespaces of kind net", remove("proc/self/ns/net")),
    (
        "KERNEL_NAMESPACES",
        FAILED,
        "user.max_net_namespaces is 0",
        write("proc/sys/user/max_net_namespaces", "0"),
    ),
    (
        "KERNEL_NAMESPACES",
        WARNING,
        "sysctl -w user.max_pid_namespaces=1256",
        write("proc/sys/user/max_pid_namespaces", "500"),
    ),
    ("KERNEL_SECCOMP", FAILED, "CONFIG_SECCOMP_FILTER", remove("proc/sys/kernel/seccomp/actions_avail")),
    ("KERNEL_WATCHES", WARNING, "polled", write("proc/sys/fs/inotify/max_user_watches", "100")),
    ("KERNEL_WATCHES", FAILED, "max_user_instances", host(has_instance=False)),
    ("KERNEL_NETWORKS", FAILED, "no veth", without(MODULES, "veth")),
    (
        "KERNEL_NETWORKS",
        WARNING,
        "another network than none",
        both(without(MODULES, "bridge"), config("jobs:\n  default_network: none\n")),
    ),
    (
        "KERNEL_NETWORKS",
        FAILED,
        "/etc/modprobe.d/hard.conf",
        write("etc/modprobe.d/hard.conf", "install veth /bin/false\n"),
    ),
    (
        "KERNEL_NETWORKS",
        FAILED,
        "/etc/modules-load.d",
        write("proc/sys/kernel/modules_disabled", "1"),
    ),
    ("KERNEL_NETWORKS", UNKNOWN, "whether there are bridges", remove(MODULES)),
    ("KERNEL_BANDWIDTH", WARNING, "--bandwidth fail", without(MODULES, "ifb")),
    ("KERNEL_IMAGES", WARNING, "no loop", without(MODULES, "loop")),
    ("SECURITY_MODULES", WARNING, "SELinux enforces", write("sys/fs/selinux/enforce", "1")),
    ("SECURITY_MODULES", UNKNOWN, "securityfs", remove("sys/kernel/security/lsm")),
    (
        "SECURITY_APPARMOR_DNSMASQ",
        WARNING,
        "jobs find no names",
        write("sys/kernel/security/apparmor/profiles", "/usr/sbin/dnsmasq (enforce)\n"),
    ),
    (
        "DISK_TYPE",
        FAILED,
        "local disk",
        write("proc/self/mountinfo", "22 1 0:40 / / rw,relatime - nfs4 server:/ rw\n"),
    ),
    (
        "DISK_TYPE",
        WARNING,
        "after a reboot",
        write("proc/self/mountinfo", "22 1 0:40 / / rw,relatime - tmpfs tmpfs rw\n"),
    ),
    (
        "DISK_OPTIONS",
        FAILED,
        "remount,rw",
        write("proc/self/mountinfo", "22 1 0:40 / / ro,relatime - ext4 /dev/vda1 rw\n"),
    ),
    (
        "DISK_OPTIONS",
        WARNING,
        "noexec",
        write("proc/self/mountinfo", "22 1 0:40 / / rw,noexec - ext4 /dev/vda1 rw\n"),
    ),
    ("DISK_SPACE", FAILED, "STORE_FULL", host(left=Space(10 * MIB, 10**6))),
    ("DISK_SPACE", WARNING, "512MiB are free", host(left=Space(512 * MIB, 10**6))),
    ("DISK_FILES", FAILED, "inodes", host(left=Space(2**40, 12))),
    ("DISK_RUN", WARNING, "/run", host(left=Space(10 * MIB, 10**6))),
    ("DISK_IO_LIMITS", WARNING, "--max-iobps", host(storage=Storage("overlay"))),
    ("MEMORY", WARNING, "256MiB of memory", write("proc/meminfo", "MemTotal: 262144 kB")),
    ("CLOCK_TIME", FAILED, "before the agent was made", host(clock=0.0)),
    ("CLOCK_SYNCHRONISED", WARNING, "timedatectl set-ntp true", host(keeps_time=False)),
    ("CLOCK_HARDWARE", WARNING, "hwclock", write("sys/class/rtc/rtc0/since_epoch", "1000000000")),
    ("USERS_GROUP", FAILED, "systemd-sysusers", write("etc/group", "root:x:0:\n")),
    ("USERS_IDS", FAILED, "bob of /etc/subuid", write("etc/subuid", "bob:1879000000:100000\n")),
    ("USERS_IDS", FAILED, "eve of /etc/passwd", write("etc/passwd", "eve:x:1879113800:1::/:\n")),
    ("USERS_NAMES", WARNING, "libnss-systemd", write("etc/nsswitch.conf", "passwd: files\n")),
    ("USERS_NAMES", WARNING, "would ask sss", write("etc/nsswitch.conf", "passwd: files systemd sss\n")),
    (
        "NETWORK_RANGES",
        FAILED,
        "networks.bridge 172.20.0.0/16 overlaps with 172.16.0.0/12",
        write("proc/net/route", "header\neth0\t000010AC\t00000000\t1\t0\t0\t0\t0000F0FF\t0\t0\t0\n"),
    ),
    ("NETWORK_NAMES", WARNING, "no names of the outside", write("etc/resolv.conf", "search example\n")),
    (
        "NETWORK_ADDRESS",
        FAILED,
        "192.0.2.9 is no address",
        config("listener:\n  enabled: yes\n  address: 192.0.2.9\n"),
    ),
    (
        "NETWORK_PORT",
        FAILED,
        "another program has port 50051",
        both(
            config("listener:\n  enabled: yes\n"),
            write("proc/net/tcp", "header\n 0: 00000000:C383 00000000:0000 0A 0:0 0:0 0 0 0 4242 1\n"),
        ),
    ),
    ("PROGRAMS", FAILED, "apt-get install dnsmasq-base", remove("usr/sbin/dnsmasq")),
    ("PROGRAMS_LAUNCHER", FAILED, "joblet-launch", remove("usr/lib/joblet/joblet-launch")),
    ("AGENT_SERVICE", FAILED, "systemctl unmask", unit("joblet-agent.service", load="masked")),
    ("AGENT_SERVICE", FAILED, "journalctl", unit("joblet-agent.service", active="failed")),
    ("AGENT_SERVICE", WARNING, "systemctl start", unit("joblet-agent.service", active="inactive")),
    ("AGENT_SERVICE", WARNING, "systemctl enable", unit("joblet-agent.service", file_state="disabled")),
    ("AGENT_NETWORKS", FAILED, "enable --now", unit("joblet-networks.socket", active="inactive")),
    ("AGENT_SLICE", FAILED, "unmask", unit("joblet-jobs.slice", load="masked")),
    ("AGENT_RELOAD", WARNING, "daemon-reload", unit("joblet-agent.service", is_outdated=True)),
    (
        "AGENT_PROTECTION",
        WARNING,
        "look at /etc/systemd/system/joblet-agent.service.d/mine.conf",
        unit(
            "joblet-agent.service",
            settings={"ProtectSystem": "no", "NoNewPrivileges": True, "KillMode": "control-group"},
            drop_ins=("/etc/systemd/system/joblet-agent.service.d/mine.conf",),
        ),
    ),
    (
        "AGENT_CONFIGURATION",
        WARNING,
        "hardly",
        lambda look: setattr(look, "warnings", ("a.yml is hardly meant",)),
    ),
    ("CERTIFICATES", FAILED, "no ca.crt", config("listener:\n  enabled: yes\n")),
    ("CERTIFICATES", WARNING, "no ca.crt, server.key", write("etc/joblet/pki/server.crt", "")),
    (
        "CERTIFICATES_RENEWAL",
        WARNING,
        "joblet-agent-renew.timer is inactive",
        both(
            write("etc/joblet/pki/ca/index.json", "{}"), unit("joblet-agent-renew.timer", active="inactive")
        ),
    ),
]


def test_nothing_is_wrong_with_a_host_that_has_everything(look: Look) -> None:
    assert look.bad() == {}


@pytest.mark.parametrize(
    ("name", "result", "words", "change"), CASES, ids=[f"{c[0]}-{c[1]}-{c[2][:20]}" for c in CASES]
)
def test_what_is_missing_is_told(look: Look, name: str, result: Result, words: str, change: Change) -> None:
    change(look)
    verdict = look.verdict(name)
    assert verdict.result is result, verdict
    assert words in f"{verdict.text}; {verdict.consequence}; {verdict.remedy}"
    if result is not UNKNOWN:
        assert verdict.consequence
        assert verdict.remedy


@pytest.mark.parametrize(
    ("release", "result"),
    [("4.19.0", FAILED), ("5.10.0-amd64", WARNING), ("6.1.0-44-amd64", Result.OK), ("7.0.0", Result.OK)],
)
def test_an_old_kernel_is_told(look: Look, release: str, result: Result) -> None:
    look.host.write("proc/sys/kernel/osrelease", release)
    assert look.verdict("KERNEL_VERSION").result is result


def test_without_systemd_the_rest_is_looked_at_all_the_same(look: Look) -> None:
    look.survey = HostUnavailable(
        "cannot reach the system bus: no answer", reason="NO_SYSTEM_BUS", hint="see dbus"
    )
    found = look.found()
    verdict = found["SYSTEMD"].verdict
    assert (verdict.result, verdict.remedy) == (FAILED, "see dbus")
    assert found["CGROUP_VERSION"].verdict.result is Result.OK
    assert "AGENT_SERVICE" not in found


def test_the_agent_may_have_its_own_port(look: Look) -> None:
    look.config = "listener:\n  enabled: yes\n"
    look.host.write("proc/net/tcp6", f"header\n 0: {'0' * 32}:C383 0:0 0A 0:0 0:0 0 0 0 4242 1\n")
    look.unit("joblet-agent.service", settings={"MainPID": 77})
    descriptors = look.host.root / "proc/77/fd"
    descriptors.mkdir(parents=True)
    (descriptors / "5").symlink_to("socket:[4242]")
    assert look.verdict("NETWORK_PORT") == ok("the agent listens on port 50051")


def test_certificates_that_the_first_start_makes_are_not_missed(look: Look) -> None:
    look.config = "listener:\n  enabled: yes\n"
    look.host.write("usr/lib/systemd/system/joblet-agent-certificates.service", UNIT_FILE)
    assert look.verdict("CERTIFICATES").result is Result.OK


def probe(act: Callable[[Scene], Verdict | None]) -> Probe:
    return Probe("BROKEN", Subject.DISK, act)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            PermissionError(13, "Permission denied", "/var/lib/joblet"),
            "not permitted to look: /var/lib/joblet",
        ),
        (OSError(5, "Input/output error", "/x"), "/x: Input/output error"),
        (ValueError("no number"), "ValueError: no number"),
    ],
)
def test_a_probe_that_fails_says_so_and_the_others_go_on(look: Look, error: Exception, words: str) -> None:
    def fail(_: Scene) -> Verdict:
        raise error

    broken, fine = findings(look.scene(), [probe(fail), probe(lambda _: ok("fine"))])
    assert broken.verdict.result is UNKNOWN
    assert words in broken.verdict.text
    assert fine.verdict == ok("fine")


def test_a_probe_that_hangs_is_left_behind(look: Look) -> None:
    release = threading.Event()

    def hang(_: Scene) -> Verdict:
        release.wait()
        return ok("late")

    try:
        stuck, fine = findings(look.scene(), [probe(hang), probe(lambda _: ok("fine"))], deadline=0.05)
    finally:
        release.set()
    assert (stuck.verdict.result, fine.verdict) == (UNKNOWN, ok("fine"))


def test_every_probe_has_a_name_of_its_own_and_a_line_in_the_documentation() -> None:
    names = [each.id for each in PROBES]
    assert len(set(names)) == len(names)
    text = OPERATIONS.read_text(encoding="utf-8")
    assert [name for name in names if f"`{name}`" not in text] == []
