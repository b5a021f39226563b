"""Root file systems for containers: one cached tree per release and package list."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.testbed import cache, host
from tests.testbed.errors import TestbedError
from tests.testbed.packages import PACKAGE_TESTS, REMOTE, SHELLS, image_packages
from tests.testbed.releases import DEBIAN, Release
from tests.testbed.upstreams import upstreams

# Raise it whenever the same package list must give another tree.
BUILDER_VERSION = 4

# Manual pages that are installed: the project's own.
OWN_PAGES = ("rnx*", "joblet-*", "agent.yml*")

# Nobody logs in, and nothing may start by itself in the middle of a measurement.
MASKED_UNITS = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "console-getty.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "firewalld.service",
    "fstrim.timer",
    "ssh.service",
    "ssh.socket",
    "systemd-networkd-wait-online.service",
)


def ubuntu_keys() -> Path:
    """The keys of Ubuntu's archive: Debian 13 has them, 12 has not, so ``make runtimes`` puts them there."""
    return cache.subdirectory("keys") / "ubuntu-archive-keyring.gpg"


@contextmanager
def container_image(release: Release) -> Iterator[Path]:
    """The root tree for that release, built if it is not there; never write to it."""
    packages = sorted(image_packages() | REMOTE | SHELLS | PACKAGE_TESTS)
    with cache.artifact(
        release.value, image_key(release, packages), lambda path: build_tree(release, packages, path)
    ) as path:
        yield path


def image_key(release: Release, packages: list[str]) -> str:
    """Changes whenever an image must be built anew."""
    recipe = json.dumps([BUILDER_VERSION, release.value, packages, MASKED_UNITS, OWN_PAGES])
    return hashlib.sha256(recipe.encode()).hexdigest()[:12]


def build_tree(release: Release, packages: list[str], path: Path) -> None:
    """Unpack and configure the packages below ``path``: 30 to 60 s.

    The mirrors are the ones that the host's apt is set up for.
    """
    print(
        f"testbed: building the {release.value} image, {len(packages)} packages (once)",
        file=sys.stderr,
        flush=True,
    )
    host.call(
        [
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            f"--include={','.join(packages)}",
            "--dpkgopt=path-exclude=/usr/share/man/*",
            *(f"--dpkgopt=path-include=/usr/share/man/*/{name}" for name in OWN_PAGES),
            "--dpkgopt=path-exclude=/usr/share/locale/*",
            *([] if release in DEBIAN else _ubuntu_options()),
            release.value,
            str(path),
            *([] if release in DEBIAN else [upstreams().ubuntu]),
        ],
        timeout=1800,
    )
    mask_units(path, MASKED_UNITS)
    # Makes sockets for logins to wherever there is a sshd (257).
    generators = path / "etc/systemd/system-generators"
    generators.mkdir(exist_ok=True)
    (generators / "systemd-ssh-generator").symlink_to("/dev/null")
    # The host's, copied by mmdebstrap; a machine is called by its own name.
    for copied in ("hostname", "resolv.conf"):
        (path / "etc" / copied).unlink(missing_ok=True)
    # Empty, not missing: an id of its own at each boot, without the "first boot" presets.
    (path / "etc/machine-id").write_text("", encoding="ascii")
    # The image is complete: no caches are to be renewed at each boot (ConditionNeedsUpdate=).
    for folder in ("etc", "var"):
        (path / folder / ".updated").touch()


def _ubuntu_options() -> list[str]:
    """Who vouches for the archive, and where our libraries are."""
    if not ubuntu_keys().exists():
        raise TestbedError(f"cannot build an image of Ubuntu: there is no {ubuntu_keys()}")
    return [f"--keyring={ubuntu_keys()}", "--components=main,universe"]


def mask_units(tree: Path, names: Iterable[str]) -> None:
    """Keep those units from starting."""
    for name in names:
        link = tree / "etc/systemd/system" / name
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")
