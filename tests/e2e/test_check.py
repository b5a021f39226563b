"""``joblet-agent check`` on a real host: this one, whose control groups may have no controllers."""

import json
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.agent import agent_stopped, command
from tests.e2e.host import AGENT

pytestmark = pytest.mark.systemd

CONTROLLERS = frozenset({"cpu", "cpuset", "io", "memory", "pids"})
LACKING = CONTROLLERS - set(Path("/sys/fs/cgroup/cgroup.controllers").read_text(encoding="ascii").split())


def check(*words: str, user: str = "root") -> tuple[int, dict[str, Any]]:
    """Return the exit status, and the findings by their ids."""
    done = subprocess.run(
        ["runuser", "-u", user, "--", "joblet-agent", "check", "--json", *words],
        check=False,
        capture_output=True,
        timeout=120,
    )
    assert not done.stderr, done.stderr
    return done.returncode, {each["id"]: each for each in json.loads(done.stdout)["findings"]}


def with_result(found: dict[str, Any], result: str) -> set[str]:
    return {name for name, each in found.items() if each["result"] == result}


@contextmanager
def drop_in(unit: str, text: str) -> Iterator[None]:
    """Let systemd have read the drop-in; what runs goes on as it is."""
    file = Path(f"/run/systemd/system/{unit}.d/check.conf")
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="utf-8")
    command("systemctl", "daemon-reload")
    try:
        yield
    finally:
        file.unlink()
        file.parent.rmdir()
        command("systemctl", "daemon-reload")


def test_it_says_exactly_which_controllers_are_missing_and_what_is_refused_without() -> None:
    status, found = check()
    assert with_result(found, "failed") == {f"CGROUP_CONTROLLER_{name.upper()}" for name in LACKING}
    assert status == (1 if LACKING else 0)
    if "memory" in LACKING:
        assert "--max-memory are refused" in found["CGROUP_CONTROLLER_MEMORY"]["consequence"]
    assert found["AGENT_SERVICE"]["result"] == "ok"


def test_without_root_it_looks_at_the_same_and_says_what_it_could_not_look_at() -> None:
    _, all_found = check()
    status, found = check(user="nobody")
    assert status == (1 if LACKING else 0)
    assert with_result(found, "failed") == with_result(all_found, "failed")
    assert "DISK_QUOTAS" in with_result(found, "unknown")
    assert found["DISK_QUOTAS"]["remedy"] == "run it as root"


def test_it_works_while_the_agent_does_not_run() -> None:
    _, before = check()
    with agent_stopped():
        _, found = check()
    assert (found["AGENT_SERVICE"]["result"], found["AGENT_SERVICE"]["remedy"]) == (
        "warning",
        f"systemctl start {AGENT}",
    )
    assert found.keys() == before.keys()


def test_a_drop_in_that_takes_a_protection_away_is_told() -> None:
    with drop_in(AGENT, "[Service]\nProtectSystem=no\nCapabilityBoundingSet=~\nSystemCallFilter=\n"):
        _, found = check()
    told = found["AGENT_PROTECTION"]
    assert told["result"] == "warning"
    for name in ("ProtectSystem", "CapabilityBoundingSet", "SystemCallFilter"):
        assert f"{name} of {AGENT}" in told["text"]
    assert f"/run/systemd/system/{AGENT}.d/check.conf" in told["remedy"]


def test_a_listener_whose_port_another_program_has_is_told(tmp_path: Path) -> None:
    config = tmp_path / "agent.yml"
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        config.write_text(f"listener:\n  enabled: yes\n  port: {port}\n", encoding="ascii")
        _, found = check("--config", str(config))
        assert (found["NETWORK_PORT"]["result"], found["NETWORK_PORT"]["text"]) == (
            "failed",
            f"another program has port {port}",
        )
    _, found = check("--config", str(config))
    assert found["NETWORK_PORT"]["result"] == "ok"


def test_a_firewall_in_the_way_of_jobs_is_told_with_what_allows_them() -> None:
    assert check()[1]["NETWORK_FIREWALLS"]["result"] == "ok"
    command("nft", "add table inet other")
    try:
        command("nft", "add chain inet other forward { type filter hook forward priority 0; policy drop; }")
        told = check()[1]["NETWORK_FIREWALLS"]
    finally:
        command("nft", "delete table inet other")
    assert told["result"] == "warning"
    assert "chain forward of table inet other" in told["text"]
    assert "nft insert rule inet other forward iifname 'joblet*' accept" in told["remedy"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system in memory, from which nothing can be executed."""
    place = tmp_path / "disk"
    place.mkdir()
    command("mount", "-t", "tmpfs", "-o", "size=32m,noexec", "tmpfs", str(place))
    try:
        yield place
    finally:
        command("umount", str(place))


def test_the_disk_of_the_state_is_looked_at(disk: Path, tmp_path: Path) -> None:
    config = tmp_path / "agent.yml"
    config.write_text(f"state_dir: {disk}/joblet\n", encoding="utf-8")
    _, found = check("--config", str(config))
    assert f"{disk}/joblet is on tmpfs ({disk})" in found["DISK_TYPE"]["text"]
    assert found["DISK_QUOTAS"]["result"] == "warning"
    assert "noexec" in found["DISK_OPTIONS"]["text"]
    assert found["DISK_SPACE"]["result"] == "failed"
    assert not list(disk.glob("joblet"))


def test_it_writes_to_nothing_and_starts_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    changes = (
        "trace=%process,open,openat,openat2,creat,mkdir,mkdirat,unlink,unlinkat,rename,renameat,renameat2,"
    )
    changes += "link,linkat,symlink,symlinkat,chmod,fchmod,fchmodat,chown,fchown,fchownat,mount,sethostname"
    command(
        *("strace", "-f", "-o", str(trace), "-e", changes, "python3", "-B", "-m", "joblet_agent", "check"),
        check=False,
    )
    lines = trace.read_text(encoding="utf-8", errors="replace").splitlines()
    assert len(lines) > 100  # it was traced
    calls = "creat|mkdir|unlink|rename|link|symlink|chmod|fchmod|chown|fchown|mount|fork|vfork"
    words = rf"O_WRONLY|O_RDWR|O_CREAT|\b(?:{calls})(?:at|at2|2)?\("
    touched = [line for line in lines if re.search(words, line) and "/dev/null" not in line]
    started = [line for line in lines if re.search(r"\bexecve(?:at)?\(", line)]
    children = [line for line in lines if re.search(r"\bclone3?\(", line) and "CLONE_THREAD" not in line]
    assert (touched, started[1:], children) == ([], [], [])
