"""The root directory of jobs without a runtime: a skeleton that the host's ``/usr`` is mounted into.

Shared by all such jobs and owned by root, so no job can change it. What programs need of the
host's ``/etc`` is copied, not mounted: every mount would cost each start a millisecond or so.
"""

import os
import shutil
import threading
from pathlib import Path

_DIRECTORIES = (
    *("data", "dev", "etc", "media", "mnt", "opt", "proc", "run", "srv", "sys", "tmp", "usr", "volumes"),
    *("work", "var", "var/lib"),
)
_LINKS = {
    "bin": "usr/bin",
    "lib": "usr/lib",
    "lib32": "usr/lib32",
    "lib64": "usr/lib64",
    "libx32": "usr/libx32",
    "sbin": "usr/sbin",
    "var/run": "../run",
    "var/tmp": "../tmp",
    "etc/mtab": "../proc/self/mounts",
    "etc/os-release": "../usr/lib/os-release",
    "etc/localtime": "../usr/share/zoneinfo/Etc/UTC",
}
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/usr/sbin/nologin\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/resolv.conf": "",
    "etc/hostname": "localhost\n",
}
# Read by programs below /usr: the linker's cache, what `awk` is, trusted certificates, port names.
_HOST_FILES = (
    "alternatives",
    "ca-certificates",
    "fonts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "mime.types",
    "protocols",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
)


class DefaultRoot:
    """Keeps the skeleton up to date with the host. Blocking; call from a thread."""

    def __init__(self, path: Path, host: Path = Path("/")) -> None:
        self.path = path
        self._etc = host / "etc"
        self._copied: dict[str, int] = {}
        self._lock = threading.Lock()

    def refresh(self) -> None:
        """Make the skeleton, or copy again what has changed in the host's ``/etc``.

        Cheap when nothing changed: eleven stat calls. Files are replaced by rename, so running jobs
        see the old or the new one. Raises OSError.
        """
        with self._lock:  # many jobs may start at once, each in a thread of its own
            if not self._copied:
                self._build()
            for name in _HOST_FILES:
                changed = _modified(self._etc / name)
                if self._copied.get(name) != changed:
                    self._copy(name)
                    self._copied[name] = changed

    def _build(self) -> None:
        _make_directory(self.path)
        for name in _DIRECTORIES:
            _make_directory(self.path / name)
        for name, target in _LINKS.items():
            link = self.path / name
            if not link.is_symlink():
                link.symlink_to(target)
        for name, text in _FILES.items():
            file = self.path / name
            if not file.exists() or file.read_text(encoding="utf-8") != text:
                file.write_text(text, encoding="utf-8")
            file.chmod(0o644)

    def _copy(self, name: str) -> None:
        source, target = self._etc / name, self.path / "etc" / name
        _make_directory(target.parent)
        fresh = target.with_name(f".{target.name}.new")
        _discard(fresh)
        if source.is_dir():
            shutil.copytree(source, fresh, symlinks=True)
        elif source.exists():
            shutil.copy2(source, fresh)
        _swap(fresh, target)


def _make_directory(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o755)  # whatever the umask: users of jobs go through it


def _swap(fresh: Path, target: Path) -> None:
    if target.is_dir() and not target.is_symlink():  # a directory cannot be renamed over
        old = target.with_name(f".{target.name}.old")
        _discard(old)
        target.rename(old)
        if fresh.exists():
            fresh.rename(target)
        _discard(old)
    elif fresh.exists():
        fresh.rename(target)
    else:
        _discard(target)


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _modified(path: Path) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return 0
