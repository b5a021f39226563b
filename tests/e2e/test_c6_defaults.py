"""What an installation is that nobody has configured: attack case C6."""

import grp
import os
import re
import stat
from pathlib import Path

import pytest

from tests.e2e.agent import Client, command, main_pid
from tests.e2e.host import CONFIG
from tests.e2e.network import PKI

pytestmark = pytest.mark.systemd

PACKAGES = ("joblet-agent", "rnx")
KEY_OR_CERTIFICATE = re.compile(rb"-----BEGIN [A-Z ]*(PRIVATE KEY|CERTIFICATE)-----\s+[A-Za-z0-9+/=]{16}")
LISTENING = "0A"  # proc(5), /proc/net/tcp: TCP_LISTEN


def test_c6_it_listens_to_nobody_but_root_and_a_group_without_members(client: Client) -> None:
    settings = [
        line for line in CONFIG.read_text(encoding="utf-8").splitlines() if line.lstrip()[:1] not in {"", "#"}
    ]
    assert settings == []  # as the package brings it
    assert not PKI.exists()
    assert _listeners(main_pid()) == set()
    found = {path.name: path.stat() for path in Path("/run/joblet").iterdir()}
    sockets = {name: status for name, status in found.items() if stat.S_ISSOCK(status.st_mode)}
    reload, status = sockets.pop("reload.sock"), sockets.pop("agent.sock")
    assert sockets == {}
    assert (reload.st_uid, stat.S_IMODE(reload.st_mode) & 0o077) == (0, 0)
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (0, 0o660)
    group = grp.getgrgid(status.st_gid)
    assert (group.gr_name, group.gr_mem) == ("joblet", [])


def _listeners(pid: int) -> set[str]:
    """Return the inodes of sockets of TCP that the process listens on."""
    sockets = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        name = os.readlink(link)
        if name.startswith("socket:["):
            sockets.add(name[len("socket:[") : -1])
    listening = set()
    for table in ("tcp", "tcp6"):
        rows = Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]
        listening |= {row.split()[9] for row in rows if row.split()[3] == LISTENING}
    return sockets & listening


def test_c6_no_package_has_a_key_or_a_certificate() -> None:
    files = {
        Path(line) for line in command("dpkg", "-L", *PACKAGES).stdout.splitlines() if line.startswith("/")
    }
    files |= {path for name in PACKAGES for path in Path("/var/lib/dpkg/info").glob(f"{name}.*")}
    files = {path for path in files if path.is_file() and not path.is_symlink()}
    assert {"agent.yml", "joblet-launch", "joblet-agent.postinst"} <= {path.name for path in files}
    found = [path for path in files if KEY_OR_CERTIFICATE.search(path.read_bytes())]
    assert found == []
    assert [path for path in files if path.suffix in {".pem", ".key", ".crt", ".p12", ".csr"}] == []


def test_c6_nothing_of_the_installation_can_be_changed_by_others(client: Client) -> None:
    """Programs, configuration, state: root's alone, and no setuid bit."""
    listed = command("dpkg", "-L", *PACKAGES).stdout.splitlines()
    paths = {Path(line) for line in listed if line.startswith("/") and line != "/."}
    paths |= {CONFIG, Path("/var/lib/joblet"), Path("/run/joblet")}
    for path in filter(Path.exists, paths):  # machines may be set up without manuals
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            continue
        assert (status.st_uid, status.st_mode & 0o6022) == (0, 0), path
    assert stat.S_IMODE(Path("/var/lib/joblet").stat().st_mode) & 0o077 == 0
