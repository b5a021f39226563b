"""Commands in a clean Debian system: minbase and named packages, no network, thrown away afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.testbed import cache, host
from tests.testbed.releases import Release

# Raise it whenever the same package list must give another tree.
BUILDER_VERSION = 1
BUILDER = 1000
"""A user id for commands that need no root; it has no name in the tree."""

# In a mount namespace of its own, so that the view ends with the command, in whatever way.
_IN_VIEW = """
set -eu
view=$(mktemp -d)
mount -t tmpfs -o mode=755 clean "$view"
rmdir_later() { umount -l "$view"; rmdir "$view"; }
trap rmdir_later EXIT
# What nspawn keeps about containers stays in here, too.
mkdir -p /run/systemd/nspawn
mount -t tmpfs -o mode=755 clean /run/systemd/nspawn
mkdir "$view/upper" "$view/work" "$view/root"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$view/upper,workdir=$view/work" "$view/root"
shift
systemd-nspawn --quiet --directory="$view/root" --machine="joblet-clean-$$" --as-pid2 --pipe \\
    --register=no --keep-unit --settings=no --link-journal=no --resolv-conf=off --timezone=off \\
    --private-network "$@"
"""


@dataclass(frozen=True)
class CleanSystem:
    """A release with packages; the tree is made once and cached (30 to 60 s)."""

    release: Release
    purpose: str
    """One word for the name of the tree in the cache."""
    packages: frozenset[str]

    def run(
        self,
        argv: Sequence[str],
        *,
        binds: Mapping[Path, str] | None = None,
        user: int = 0,
        folder: str = "/",
        env: Mapping[str, str] | None = None,
        umask: int = 0o022,
        timeout: float = 300.0,
    ) -> str:
        """Return what the command prints. Raises CommandFailed with its output.

        ``binds`` are folders of the host that it may write to, and where it sees them.
        """
        with cache.artifact(f"{self.release.value}-{self.purpose}", self._key(), self._make) as tree:
            command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
            command += [
                "env",
                f"--chdir={folder}",
                *(f"{name}={value}" for name, value in (env or {}).items()),
            ]
            command += ["sh", "-c", f'umask {umask:04o} && exec "$@"', "sh", *argv]
            bound = [f"--bind={there}:{here}" for there, here in (binds or {}).items()]
            return host.call(
                ["unshare", "--mount", "sh", "-c", _IN_VIEW, "sh", str(tree), *bound, "--", *command],
                timeout=timeout,
            )

    def _key(self) -> str:
        recipe = json.dumps([BUILDER_VERSION, self.release.value, sorted(self.packages)])
        return hashlib.sha256(recipe.encode()).hexdigest()[:12]

    def _make(self, path: Path) -> None:
        what = f"a clean {self.release.value} system for {self.purpose}"
        print(f"testbed: making {what} (once)", file=sys.stderr, flush=True)
        host.call(
            [
                "mmdebstrap",
                "--quiet",
                "--variant=minbase",
                f"--include={','.join(sorted(self.packages))}",
                "--dpkgopt=path-exclude=/usr/share/man/*",
                "--dpkgopt=path-exclude=/usr/share/locale/*",
                self.release.value,
                str(path),
            ],
            timeout=1800,
        )


def give(folder: Path, user: int) -> None:
    """Make a user of a clean system the owner of a folder of the host and of all in it."""
    entries: Iterable[Path] = (folder, *folder.rglob("*"))
    for entry in entries:
        os.chown(entry, user, user, follow_symlinks=False)
