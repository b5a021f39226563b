"""The network service's own unit: what it may, whose mounts it sees, and that it starts no processes."""

import json
import re
from pathlib import Path

import pytest

from tests.e2e.agent import Client, command, eventually, main_pid, wait_for_agent
from tests.e2e.netlink import SERVICE

pytestmark = pytest.mark.systemd

EXPOSURE = 4.2
"""Of 10; why the rest is as it is, says units/joblet-networks.service."""
CAPABILITIES = {"NET_BIND_SERVICE": 10, "NET_ADMIN": 12, "SYS_ADMIN": 21}
PROGRAM = "/usr/bin/python3 -P -m joblet_agent.netlink"


@pytest.fixture(autouse=True)
def _service_runs(client: Client) -> None:
    """The agent asks for it when it starts."""
    wait_for_agent(client)
    command("systemctl", "start", SERVICE)


def status() -> dict[str, str]:
    text = Path(f"/proc/{main_pid(SERVICE)}/status").read_text(encoding="ascii")
    return dict(re.findall(r"^(\w+):\t(\w+)", text, re.MULTILINE))


def test_the_exposure_of_the_service() -> None:
    shown = command("systemd-analyze", "security", "--no-pager", SERVICE, check=False).stdout
    level = re.search(r": ([0-9.]+) ", shown.splitlines()[-1])
    assert level is not None
    assert float(level[1]) == EXPOSURE


def test_the_service_has_three_capabilities_and_gets_no_others() -> None:
    told = status()
    expected = sum(1 << bit for bit in CAPABILITIES.values())
    assert {told[name] for name in ("CapPrm", "CapEff", "CapBnd")} == {f"{expected:016x}"}
    assert (told["CapAmb"], told["NoNewPrivs"], told["Seccomp"]) == ("0" * 16, "1", "2")


def test_names_of_namespaces_are_mounts_of_the_host() -> None:
    own, hosts = (Path(f"/proc/{pid}/ns/mnt").readlink() for pid in (main_pid(SERVICE), 1))
    assert own == hosts


def test_the_socket_is_roots_alone() -> None:
    for path, mode in (("/run/joblet-networks", 0o700), ("/run/joblet-networks/socket", 0o600)):
        found = Path(path).stat()
        assert (found.st_mode & 0o777, found.st_uid, found.st_gid) == (mode, 0, 0)


def test_network_work_starts_no_process_neither_in_the_agent_nor_in_the_service(client: Client) -> None:
    before = {unit: children_time(unit) for unit in (SERVICE, "joblet-agent.service")}
    for _ in range(3):
        client.ended(client.run("true"))
    processes = command("systemctl", "show", "-P", "ControlGroup", SERVICE).stdout.strip()
    members = Path(f"/sys/fs/cgroup{processes}/cgroup.procs")
    if members.exists():
        assert members.read_text(encoding="ascii").split() == [str(main_pid(SERVICE))]
    assert {unit: children_time(unit) for unit in before} == before


def children_time(unit: str) -> tuple[str, ...]:
    """Return the faults and times that the kernel counted for ended children (proc(5), cminflt, cutime)."""
    text = Path(f"/proc/{main_pid(unit)}/stat").read_text(encoding="ascii")
    fields = text.rpartition(")")[2].split()
    return (fields[8], fields[10], fields[13], fields[14])


def test_the_program_imports_no_grpc() -> None:
    words = (
        "/usr/bin/python3",
        "-c",
        "import sys, json, joblet_agent.netlink.__main__; print(json.dumps(sorted(sys.modules)))",
    )
    loaded = json.loads(command(*words).stdout)
    assert "pyroute2" in loaded
    assert not {"grpc", "google.protobuf", "dbus_next"} & set(loaded)


def test_the_agents_side_imports_no_netlink() -> None:
    words = (
        "/usr/bin/python3",
        "-c",
        "import sys, json, joblet_agent.netlink.client; print(json.dumps(sorted(sys.modules)))",
    )
    assert not {"pyroute2", "nftables"} & set(json.loads(command(*words).stdout))


def test_a_restart_at_an_upgrade_does_not_reach_jobs(client: Client) -> None:
    job_id = client.run("sleep", "60")
    try:
        namespace = Path(f"/run/netns/joblet-{job_id}")
        before = namespace.stat().st_ino
        command("systemctl", "restart", SERVICE)
        assert namespace.stat().st_ino == before
        wait_for_agent(client)
        shown = command("systemctl", "is-active", f"joblet-job-{job_id}.service").stdout.strip()
        assert shown == "active"
    finally:
        command("systemctl", "stop", f"joblet-job-{job_id}.service")
        client.ended(job_id)
    eventually(namespace.exists, lambda is_there: not is_there)
