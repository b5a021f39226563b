"""The project in a machine: as its package, or a working tree laid over it."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from tests.testbed import host
from tests.testbed.guest import Guest
from tests.testbed.packages import CHECKOUT

TESTS = "/opt/joblet"
_PACKAGE_TESTS = "/opt/joblet-package"
_SITE = "/usr/lib/python3/dist-packages"
# The tests, and what some of them read.
_TESTED = ("tests", "pyproject.toml", "docs", "proto", "units")

# Replaces each package of the tree, keeps generated code the tree does not have, and restarts
# the agent only if something of it changed and it is installed.
_LAY_OVER = """
set -eu
new=$(mktemp -d)
tar -C "$new" -x
mkdir -p /opt/joblet
if [ -e /usr/lib/systemd/system/joblet-networks.socket ]; then
    systemctl stop joblet-networks.socket joblet-networks.service
fi
for package in joblet_agent rnx; do
    [ -d "$new/$package" ] || continue
    if [ -e "$1/$package/pb/joblet_pb2.py" ] && [ ! -e "$new/$package/pb/joblet_pb2.py" ]; then
        mkdir -p "$new/$package/pb"
        cp -a "$1/$package/pb/." "$new/$package/pb/"
    fi
    rm -rf "${1:?}/$package"
    mv "$new/$package" "$1/$package"
done
if [ -d "$new/units" ] && [ -e /usr/lib/systemd/system/joblet-agent.service ]; then
    (cd "$new/units" &&
        cp -r ./*.service ./*.slice ./*.socket ./*.timer ./*.path ./*.d /usr/lib/systemd/system/)
    install -m 755 "$new/units/joblet-launch" /usr/lib/joblet/joblet-launch
fi
for entry in "$new"/*; do rm -rf "/opt/joblet/${entry##*/}"; done
mv "$new"/* /opt/joblet/
rmdir "$new"
systemctl daemon-reload
if systemctl is-enabled --quiet joblet-agent.service 2>/dev/null; then
    systemctl enable --quiet joblet-networks.socket
    systemctl restart joblet-networks.socket
    systemctl restart joblet-agent.service
fi
"""


def build_packages(version: str | None = None) -> list[Path]:
    """Build the ``.deb`` files unless they are up to date.

    ``version`` replaces the project's: something to upgrade to.
    """
    script = CHECKOUT / "debian" / "build-packages"
    host.call([str(script), *([version] if version else [])], timeout=600)
    return sorted((CHECKOUT / "dist" / (version or "")).glob("*.deb"))


def install_package(guest: Guest, packages: list[Path] | None = None) -> None:
    """Install the built ``.deb`` files as a user would, without a network.

    Without ``packages``: builds them from the checkout first.
    """
    packages = build_packages() if packages is None else packages
    for package in packages:
        guest.push(package, f"/root/dist/{package.name}")
    names = [f"/root/dist/{package.name}" for package in packages]
    guest.run(
        "apt-get",
        "install",
        "--yes",
        "--quiet",
        "--allow-downgrades",
        *names,
        env={"DEBIAN_FRONTEND": "noninteractive"},
        timeout=600,
    )


def push_tests(guest: Guest) -> None:
    """Put the tests where ``cd /opt/joblet && python3 -m pytest`` finds them."""
    guest.unpack(_tree(*_TESTED), TESTS)


def push_package_tests(guest: Guest) -> str:
    """Put debian/tests alone where autopkgtest(1) takes it for a source package, and return where."""
    guest.unpack(_tree("debian/tests"), _PACKAGE_TESTS)
    return _PACKAGE_TESTS


def sync(guest: Guest) -> None:
    """Put the checkout's code, units and tests over what is installed; restart the agent."""
    content = _tree("joblet_agent", "rnx", *_TESTED)
    guest.run("sh", "-c", _LAY_OVER, "sync", _SITE, stdin=content)


def _tree(*names: str) -> bytes:
    """Those of the checkout's files and folders that exist, as a tar archive."""

    def leave_out(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        member.uid = member.gid = 0
        return None if "__pycache__" in member.name else member

    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name in names:
            if (CHECKOUT / name).exists():
                archive.add(CHECKOUT / name, name, filter=leave_out)
    return content.getvalue()
