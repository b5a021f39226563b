"""Which Debian packages an image holds.

What the project's own packages depend on is read from ``debian/control``, so that they
install without a network and the list has one home.
"""

from __future__ import annotations

import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]

SYSTEM = frozenset(
    {"systemd", "systemd-sysv", "dbus", "e2fsprogs", "iproute2", "kmod", "procps", "util-linux"}
)
TESTING = frozenset(
    {"busybox-static", "python3", "python3-pytest", "python3-h2", "python3-hypothesis", "strace", "openssl"}
)
# Where completion of what is typed is tested, in containers alone.
SHELLS = frozenset({"bash-completion", "fish", "zsh"})
# Tests of networks: the other firewalls are installed, and do not run until a test lets them.
NETWORKS = frozenset({"dnsmasq-base", "firewalld", "iperf3", "iptables", "nftables", "ufw"})
# How Ansible comes in (tests/fleet), containers alone: a login, and what its modules are written for.
REMOTE = frozenset({"openssh-server", "python3-apt"})
# What runs debian/tests, in containers alone.
PACKAGE_TESTS = frozenset({"autopkgtest"})
KERNEL = frozenset({"initramfs-tools", "linux-image-cloud-amd64", "lz4", "udev"})

# Until debian/control names them, and for tests that look below the agent.
LIBRARIES = frozenset(
    {
        "python3-click",
        "python3-dbus-next",
        "python3-grpcio",
        "python3-nftables",
        "python3-protobuf",
        "python3-pyroute2",
        "python3-pystemd",
        "python3-regex",
        "python3-systemd",
        "python3-yaml",
    }
)


def image_packages(checkout: Path = CHECKOUT) -> frozenset[str]:
    """Everything a machine needs before the project is installed in it."""
    control = checkout / "debian" / "control"
    depends = control_depends(control.read_text(encoding="utf-8")) if control.exists() else frozenset()
    return SYSTEM | TESTING | NETWORKS | LIBRARIES | depends


def control_depends(control: str) -> frozenset[str]:
    """Names in the ``Depends`` and ``Recommends`` of a control file's binary packages.

    Of alternatives the first; without the packages of the file itself and ``${…}``.
    """
    paragraphs = [_fields(text) for text in re.split(r"\n\s*\n", control)]
    own = {fields["Package"] for fields in paragraphs if "Package" in fields}
    names: set[str] = set()
    for fields in paragraphs:
        if "Package" in fields:
            relations = ",".join((fields.get("Depends", ""), fields.get("Recommends", "")))
            names.update(re.findall(r"(?:^|,)\s*([a-z0-9][a-z0-9+.-]+)", relations))
    return frozenset(names - own)


def build_depends(control: str) -> frozenset[str]:
    """Names in the ``Build-Depends`` of a control file, and what every build may take for granted."""
    relations = _fields(control.split("\n\n", maxsplit=1)[0])["Build-Depends"]
    names = {re.split(r"[\s(]", relation.strip())[0] for relation in relations.split(",") if relation.strip()}
    return frozenset(names | {"build-essential"})


def _fields(paragraph: str) -> dict[str, str]:
    """The fields of one paragraph, continuation lines joined, comments dropped."""
    fields: dict[str, str] = {}
    name = ""
    for line in paragraph.splitlines():
        if line.startswith("#"):
            continue
        if line[:1].isspace():
            fields[name] = fields.get(name, "") + " " + line.strip()
        elif ":" in line:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    return fields
