"""A host in a directory: fit, until a test takes something away."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from joblet_agent.config import load_config
from joblet_agent.config.load import Loaded
from joblet_agent.errors import JobletError
from joblet_agent.fitness.finding import Finding, Result, Verdict
from joblet_agent.fitness.probes import PROBES, findings
from joblet_agent.fitness.scene import Host, Scene, Space
from joblet_agent.fitness.units import UNITS
from joblet_agent.jobs.host import Storage
from joblet_agent.systemd.survey import Survey, UnitFacts
from joblet_agent.units import GIB

RELEASE = "6.12.1-amd64"
NOW = datetime(2030, 6, 1, 12, tzinfo=UTC).timestamp()
_MODULES = [
    "net/bridge/bridge.ko.xz",
    "net/veth.ko",
    "net/netfilter/nf_tables.ko",
    "net/netfilter/nft_ct.ko",
    "net/netfilter/nft_chain_nat.ko",
    "net/netfilter/nft_masq.ko",
    "net/sched/sch_tbf.ko",
    "net/sched/sch_ingress.ko",
    "net/sched/cls_u32.ko",
    "net/sched/act_mirred.ko",
    "drivers/net/ifb.ko",
    "drivers/block/loop.ko",
]
UNIT_FILE = "[Service]\nKillMode=control-group\nProtectSystem=strict\nNoNewPrivileges=yes\n"
FILES = {
    "proc/sys/kernel/osrelease": RELEASE,
    "proc/sys/kernel/seccomp/actions_avail": "kill_process errno allow",
    "proc/sys/kernel/modules_disabled": "0",
    "proc/sys/fs/inotify/max_user_watches": "65536",
    "proc/modules": "nf_tables 376832 1 - Live 0x0\n",
    "proc/meminfo": "MemTotal:        2020100 kB\nMemFree: 1 kB",
    "proc/swaps": "Filename Type Size Used Priority\n",
    "proc/cgroups": "#subsys_name hierarchy num_cgroups enabled\n"
    "memory 0 90 1\ncpu 0 90 1\npids 0 90 1\nblkio 0 90 1",
    "proc/net/route": "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
    "eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
    "joblet0\t000014AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n",
    "proc/net/dev": "Inter-| Receive\n face |bytes\n lo: 0\n joblet0: 0",
    "proc/net/tcp": "sl local_address rem_address st tx_queue rx_queue tr retrnsmt uid timeout inode\n",
    "proc/self/mountinfo": "22 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw\n"
    "24 22 0:23 / /run rw,nosuid - tmpfs tmpfs rw\n",
    "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids",
    "sys/fs/cgroup/system.slice/cgroup.freeze": "0",
    "sys/fs/cgroup/system.slice/memory.swap.max": "max",
    "sys/kernel/security/lsm": "lockdown,capability,yama,apparmor",
    "sys/kernel/security/lockdown": "[none] integrity confidentiality",
    "sys/kernel/security/apparmor/profiles": "/usr/bin/man (enforce)\n",
    "sys/class/rtc/rtc0/since_epoch": str(int(NOW)),
    f"lib/modules/{RELEASE}/modules.builtin": "kernel/fs/ext4/ext4.ko\n",
    f"lib/modules/{RELEASE}/modules.dep": "".join(f"kernel/{name}: kernel/x.ko\n" for name in _MODULES),
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
    "etc/group": "root:x:0:\njoblet:x:998:\n",
    "etc/subuid": "alice:100000:65536\n",
    "etc/nsswitch.conf": "passwd: files systemd\ngroup: files systemd\n",
    "etc/resolv.conf": "nameserver 192.0.2.1\n",
    "run/systemd/system/.there": "",
    "run/systemd/journal/socket": "",
    "usr/lib/systemd/system/joblet-agent.service": UNIT_FILE,
    "usr/lib/systemd/system/joblet-job-.service.d/launcher.conf": "",
    **dict.fromkeys((f"proc/self/ns/{name}" for name in ("mnt", "pid", "net", "ipc", "uts")), ""),
    **dict.fromkeys(
        (f"proc/sys/user/max_{name}_namespaces" for name in ("mnt", "pid", "net", "ipc", "uts")), "7800"
    ),
}
PROGRAMS = [
    "usr/bin/perl",
    "usr/sbin/dnsmasq",
    "usr/sbin/mke2fs",
    "usr/sbin/e2fsck",
    "usr/sbin/resize2fs",
    "usr/sbin/losetup",
    "usr/bin/mount",
    "usr/bin/install",
    "usr/lib/joblet/joblet-launch",
]


class _Facts:
    """What no directory can pretend."""

    def __init__(self, host: "DirectoryHost") -> None:
        self._host = host
        self._real = super(DirectoryHost, host).__getattribute__("facts")

    def storage(self, path: Path) -> Storage:
        return self._host.storage

    def shares_by_weight(self, storage: Storage) -> bool:
        return True

    def has_address(self, address: str) -> bool:
        return address in {"0.0.0.0", "127.0.0.1"}

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


class DirectoryHost(Host):
    """The files of the directory; the rest is attributes that tests set."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.root = root
        self.left = Space(50 * GIB, 1_000_000)
        self.clock = NOW
        self.keeps_time = True
        self.has_instance = True
        self.storage = Storage("ext4", "254:1")
        self.facts = _Facts(self)  # type: ignore[assignment]

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def remove(self, path: str) -> None:
        (self.root / path).unlink()

    def space(self, path: Path) -> Space:
        return self.left

    def now(self) -> float:
        return self.clock

    def is_synchronised(self) -> bool:
        return self.keeps_time

    def has_group(self, name: str) -> bool:
        return any(line.startswith(f"{name}:") for line in self.lines("/etc/group"))

    def can_watch(self) -> bool:
        return self.has_instance


def make_host(root: Path) -> DirectoryHost:
    host = DirectoryHost(root)
    for path, text in FILES.items():
        host.write(path, text)
    for path in PROGRAMS:
        host.write(path, "#!")
        (root / path).chmod(0o755)
    (root / "var/lib/joblet").mkdir(parents=True)
    return host


SETTINGS = {"KillMode": "control-group", "ProtectSystem": "strict", "NoNewPrivileges": True, "MainPID": 0}
UNIT = UnitFacts("loaded", "active", "enabled", (), is_outdated=False, settings=SETTINGS)
SURVEY = Survey("257.13-1", frozenset({"+SECCOMP", "-SELINUX"}), "", dict.fromkeys(UNITS, UNIT))


@dataclass
class Look:
    """A host with what is said about it; ``found`` runs every probe."""

    host: DirectoryHost
    survey: Survey | JobletError = SURVEY
    config: str = ""
    is_root: bool = False
    warnings: tuple[str, ...] = ()

    def unit(self, name: str, **changed: object) -> None:
        assert isinstance(self.survey, Survey)
        unit = replace(self.survey.units[name], **changed)  # type: ignore[arg-type]
        self.survey = replace(self.survey, units={**self.survey.units, name: unit})

    def scene(self) -> Scene:
        file = self.host.root / "agent.yml"
        file.write_text(self.config, encoding="utf-8")
        loaded = Loaded(load_config(file), (file,), {}, self.warnings)
        return Scene(self.host, loaded, self.survey, self.is_root)

    def verdict(self, name: str) -> Verdict:
        """Run the one probe."""
        (found,) = findings(self.scene(), [each for each in PROBES if each.id == name])
        return found.verdict

    def found(self) -> dict[str, Finding]:
        return {each.id: each for each in findings(self.scene())}

    def bad(self) -> dict[str, Result]:
        """What is not well, but for what no directory can have: quotas, and rules that root alone reads."""
        return {
            id_: each.verdict.result
            for id_, each in self.found().items()
            if each.verdict.result is not Result.OK
            and id_ not in {"DISK_QUOTAS", "NETWORK_FIREWALLS", "PROGRAMS_PYTHON"}
        }
