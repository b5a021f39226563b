"""A host for jobs/host.py: the few files of /sys and /proc that it reads."""

from pathlib import Path

from joblet_agent.jobs.host import HostFacts

ALL_CONTROLLERS = "cpuset cpu io memory hugetlb pids rdma misc"


class FakeHost(HostFacts):
    """A host with four CPUs and every controller, unless a test changes its files."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.root = root
        self.write("sys/devices/system/cpu/online", "0-3")
        self.write("sys/fs/cgroup/cgroup.controllers", ALL_CONTROLLERS)
        self.write("proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n")

    def has_address(self, address: str) -> bool:
        return address in {"0.0.0.0", "::", "127.0.0.1", "::1", "192.0.2.1", "2001:db8::1"}

    def write(self, name: str, text: str) -> None:
        """Let the file say this."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
