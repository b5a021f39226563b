"""The smallest Debian with what debian/control names: that is enough, and a purge gives it back as it was.

There is no systemd in charge here, as in a chroot in which an image of a host is made.
"""

import shutil
from pathlib import Path

import pytest

from tests.testbed import CHECKOUT, DEBIAN, Release
from tests.testbed.clean import CleanSystem
from tests.testbed.install import build_packages
from tests.testbed.packages import control_depends

pytestmark = pytest.mark.package

_FILES = r"""
find / -xdev '(' -path /packages -o -path /tmp -o -path /var/log -o -path /var/cache -o -path /var/lib/apt \
    -o -path /var/lib/dpkg -o -path '/etc/group*' -o -path '/etc/gshadow*' \
    -o -path /etc/.pwd.lock ')' -prune -o -printf '%p %y %m %u:%g %l\n' | sort"""

# Every module is loaded, since what is missing may be wanted late; last those which keep modules away that
# they do not need.
_LOAD = """
import importlib, pathlib
site = pathlib.Path("/usr/lib/python3/dist-packages")
files = [file for name in ("joblet_agent", "rnx") for file in (site / name).rglob("*.py")]
for file in sorted(files, key=lambda file: "netlink" in file.parts or file.stem == "daemon"):
    if file.name != "__main__.py":
        importlib.import_module(".".join(file.relative_to(site).with_suffix("").parts))
assert len(files) > 200
"""

_CYCLES = f"""
set -e
export DEBIAN_FRONTEND=noninteractive
# The tree was made without manual pages; these packages come with theirs.
rm -f /etc/dpkg/dpkg.cfg.d/*
files() {{ {_FILES}; }}
files >/tmp/before
for cycle in 1 2; do
    apt-get install --yes --quiet /packages/*.deb
    dpkg --verify joblet-agent rnx | tee /tmp/changed
    [ ! -s /tmp/changed ]
    for program in dnsmasq ip mke2fs mount nft perl; do command -v $program; done
    python3 -W error::ImportWarning -c '{_LOAD}'
    joblet-agent --help >/dev/null
    joblet-agent config validate
    rnx --help >/dev/null
    apt-get remove --yes --quiet joblet-agent rnx
    apt-get purge --yes --quiet joblet-agent rnx
    files >/tmp/after
    diff /tmp/before /tmp/after
done
"""


@pytest.mark.parametrize("release", DEBIAN, ids=str)
def test_r15_what_the_control_file_names_is_enough_and_a_purge_gives_the_system_back(
    release: Release, tmp_path: Path
) -> None:
    depends = control_depends((CHECKOUT / "debian" / "control").read_text(encoding="utf-8"))
    for package in build_packages():
        shutil.copy(package, tmp_path)
    system = CleanSystem(release, "bare", depends)
    system.run(["sh", "-c", _CYCLES], binds={tmp_path: "/packages"})
