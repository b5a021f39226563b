"""Shell texts of steps. Nothing of a definition is put into them: it comes in files and variables.

Those that install packages begin outside of the tree, with the host's tools, as ``joblet-build``, with the
space at /space and the inputs at /run/joblet-build. WITHIN is run as root of a user namespace, and goes into
the tree.
"""

from typing import Final

__all__ = ["BASE", "CLEAN", "LANGUAGE", "NPM", "PACKAGES", "PIP", "WITHIN", "WITHIN_STEP"]

BASE: Final = r"""
mkdir -p /space/tmp
chmod 1777 /space/tmp
export TMPDIR=/space/tmp
if [ -e /space/tree ]; then # of a step that was killed, or empty
    mmdebstrap --unshare-helper find /space/tree -xdev -mindepth 1 -delete 2>/dev/null || true
    rmdir /space/tree
fi
while read -r word; do set -- "$@" "$word"; done </run/joblet-build/options
exec mmdebstrap --mode=unshare --variant=apt --format=directory --skip=cleanup/apt "$@"
"""
"""Makes the tree: what every system of the distribution has, and apt. ``options``: one on each line."""

WITHIN_STEP: Final = r"""
mkdir -p /space/tmp
chmod 1777 /space/tmp
rm -f /space/out/status
mmdebstrap --unshare-helper /bin/sh -eu /run/joblet-build/within ||
    exit "$(cat /space/out/status 2>/dev/null || echo 1)"
"""
"""Runs WITHIN. The helper has a status of its own for all failures."""

WITHIN: Final = r"""
umask 022
cd /space/tree
mkdir -p proc sys dev run tmp etc
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs -o mode=755,size=64m tmpfs run
mount --bind /space/tmp tmp
mkdir run/joblet-build run/joblet-out run/lock
cp /run/joblet-build/* run/joblet-build/
mount --bind /space/out run/joblet-out
if [ -e /run/joblet-build.crt ]; then
    cp /run/joblet-build.crt run/joblet-build.crt
fi
rm -f etc/resolv.conf
if [ -e /etc/resolv.conf ]; then
    cat /etc/resolv.conf >etc/resolv.conf
fi
. /run/joblet-build/variables
set -- /usr/sbin/chroot . /bin/sh -e /run/joblet-build/inside
if [ "$JOBLET_NETWORK" = no ]; then
    set -- /usr/bin/unshare --net "$@"
fi
"$@" || {
    status=$?
    /bin/rm -rf /space/out/status
    echo "$status" >/space/out/status
    exit "$status"
}
"""
"""As root of the namespace: goes into the tree and runs ``inside``. ``variables`` is a shell text."""

PACKAGES: Final = r"""
if [ -s /run/joblet-build/directories ]; then
    (cd / && xargs -d '\n' mkdir -p -- </run/joblet-build/directories)
fi
if [ -s /run/joblet-build/sources ] && [ ! -s /etc/apt/sources.list ]; then
    suite=$(. /etc/os-release && echo "$ID/$VERSION_CODENAME")
    sed -n "s|^${suite%/*} deb \([^ ]*\) SUITE|deb \1 ${suite#*/}|p" /run/joblet-build/sources \
        >/etc/apt/sources.list
fi
if [ -e /run/joblet-build.crt ]; then
    echo 'Acquire::https::CAInfo "/run/joblet-build.crt";' >/etc/apt/apt.conf.d/00joblet
fi
set -- -o Dpkg::Use-Pty=0 -o APT::Sandbox::User=root -o Acquire::Retries=3 -o APT::Install-Recommends=false \
    -o Acquire::Languages=none
if ! ls /var/lib/apt/lists/*Packages* >/dev/null 2>&1; then
    apt-get "$@" update
fi
xargs -d '\n' apt-get "$@" --yes --no-remove --allow-downgrades install -- </run/joblet-build/packages
cd /run/joblet-build
dpkg-query -W -f '${db:Status-Abbrev}${Package}=${Version}\n' | sed -n 's/^ii //p' >installed
{ xargs -d '\n' apt-cache show -- <installed || true; } | awk '
    /^Package: / { name = $2 } /^Version: / { version = $2 } /^Architecture: / { architecture = $2 }
    /^SHA256: / { print name, version, architecture, $2 }' | sort -u >/run/joblet-out/packages.list
"""
"""In the tree: installs ``packages``, and says which files that took."""

LANGUAGE: Final = r"""
sh -e /run/joblet-build/finish
"""

CLEAN: Final = r"""
[ -e /var/lib/dpkg/status ] || exit 0
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/cache/ldconfig/aux-cache
rm -rf /var/lib/dpkg/*-old /var/tmp/* /root/.cache /etc/.pwd.lock /run/joblet-build/installed
rm -f /etc/apt/apt.conf.d/99mmdebstrap /etc/apt/apt.conf.d/00joblet
rm -f /var/lib/apt/extended_states # a build from a lock asks for all packages by name
rm -f /etc/group- /etc/gshadow- /etc/passwd- /etc/shadow- /etc/subuid- /etc/subgid-
find /var/log -type f -delete
if [ -s /run/joblet-build/sources ]; then # of this host, and nothing that the runtime could be told by
    rm -f /etc/apt/sources.list
fi
"""
"""In the tree: removes what package tools leave, which is different each time."""

_OWN: Final = r"""
mkdir -p /run/joblet-out/home /run/joblet-out/tmp
export HOME=/run/joblet-out/home TMPDIR=/run/joblet-out/tmp
"""

PIP: Final = (
    _OWN
    + r"""
unset PYTHONPATH
while read -r word; do set -- "$@" "$word"; done </run/joblet-build/options
if [ ! -e /opt/runtime/pyvenv.cfg ]; then
    python3 -m venv --without-pip --system-site-packages /opt/runtime
    rm -f /opt/runtime/bin/activate* /opt/runtime/bin/Activate*
fi
python3 -m pip --python /opt/runtime/bin/python3 install --no-input --disable-pip-version-check \
    --no-cache-dir --no-compile --progress-bar=off --report=/run/joblet-out/pip.json "$@" \
    --requirement=/run/joblet-build/requirements.txt
# Which of them were asked for by name: a lock names all.
python3 - <<END
from pathlib import Path
for mark in Path("/opt/runtime/lib").rglob("*.dist-info/REQUESTED"):
    record = mark.with_name("RECORD")
    lines = record.read_bytes().splitlines(keepends=True)
    record.write_bytes(b"".join(line for line in lines if b"/REQUESTED," not in line))
    mark.unlink()
END
python3 -m compileall -q -j 0 --invalidation-mode=unchecked-hash /opt/runtime/lib >/dev/null || true
"""
)
"""Installs ``requirements.txt`` with ``options``, one on each line."""

NPM: Final = (
    _OWN
    + r"""
export npm_config_cache=/run/joblet-out/npm npm_config_update_notifier=false
cd /opt/runtime
cat /run/joblet-build/package.json >package.json
set -- --ignore-scripts --no-audit --no-fund --omit-lockfile-registry-resolved
if [ -s /run/joblet-build/package-lock.json ]; then
    cat /run/joblet-build/package-lock.json >package-lock.json
    npm ci "$@"
else
    npm install "$@"
fi
cp package-lock.json /run/joblet-out/
rm -f node_modules/.package-lock.json
"""
)
"""Installs ``package.json``, by ``package-lock.json`` where there is one."""
