"""The launcher of jobs whose root is a runtime, with all that it needs.

units/joblet-launch is Perl, and a tree need have none, nor a C library that fits the host's. So loader, perl,
its libraries and the launcher are copied into one directory, which such jobs have read-only in the place of
/usr/lib/joblet: the command of all units is the same. The launcher still has privileges there, and nothing of
a tree may act on it:

* the kernel finds the loader by the path in perl, which is changed to that of the copy;
* the loader reads no /etc/ld.so.preload: its text is changed to a path in the directory, where there is none;
* it looks into LD_LIBRARY_PATH (systemd/environment.py) before /etc/ld.so.cache, and finds all libraries;
* perl gets no @INC, and has no use for one; nor is there the sitecustomize.pl that some are built with.

The launcher takes the directory away from the job before the command runs. Blocking.
"""

import hashlib
import os
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from joblet_agent.durable import sync_directory
from joblet_agent.errors import LaunchFailed
from joblet_agent.runtimes.elf import Elf, NoElf, read_elf

HOME: Final = "/usr/lib/joblet"
"""Where jobs see the directory."""
LOADER: Final = "ld.so"
PERL: Final = "perl"
LAUNCHER: Final = "joblet-launch"

_LOADER_PATH = f"{HOME}/{LOADER}".encode() + b"\0"
_PRELOAD = b"/etc/ld.so.preload\0"
_NO_PRELOAD = f"{HOME}/no".encode() + b"\0"
# What the kit's launcher has in the place of what the host's has, once each.
_IN_LAUNCHER = (
    (b"#!/usr/bin/perl\n", f"#!{HOME}/{PERL}\n".encode()),
    (b"\nuse strict;\n", b"\nBEGIN { @INC = () }\n"),
)
_LIBRARIES = ("usr/lib64", "lib64", "usr/lib", "lib")
"""Directories of libraries, after that of the loader."""
_CURRENT = "current"
_NEW = ".new"


class LaunchKit:
    """Keeps the directory up to date with the host. Call from a thread."""

    def __init__(self, path: Path, host: Path = Path("/")) -> None:
        """``path`` is a link in a directory of the kit's own (AgentPaths.launch_kit)."""
        self.path = path
        self._host = host
        self._made_of: dict[Path, tuple[int, int, int]] = {}
        self._lock = threading.Lock()

    def refresh(self) -> None:
        """Make the directory, or make it anew when it, or perl, its libraries or the launcher have changed.

        Cheap when nothing has. Jobs that start see the old or the new one, whole. Raises LaunchFailed.
        """
        with self._lock:
            if self._made_of and all(_state(path) == state for path, state in self._made_of.items()):
                return
            try:
                sources, contents = self._contents()
                self._store(contents)
            except OSError as error:
                where = f" {error.filename}" if error.filename else ""
                raise _cannot(f"{error.strerror}{where}") from error
            # Its own files as well: a start that does not find them would only say so in systemd's words.
            self._made_of = sources | {file: _state(file) for file in map(self.path.joinpath, contents)}

    def _contents(self) -> tuple[dict[Path, tuple[int, int, int]], dict[str, bytes]]:
        """Return what the files of the kit are made of, and what is in them."""
        perl = self._host / "usr/bin/perl"
        launcher = self._host / HOME[1:] / LAUNCHER
        sources = {perl: _state(perl), launcher: _state(launcher)}
        contents = {LAUNCHER: _own_launcher(launcher.read_bytes()), PERL: perl.read_bytes()}
        program = _elf(perl, contents[PERL])
        if not program.interpreter:  # a static one
            return sources, contents
        loader = Path(os.path.realpath(self._host / program.interpreter[1:]))
        sources[loader] = _state(loader)
        contents[LOADER] = _own_loader(loader.read_bytes())
        contents[PERL] = _own_perl(contents[PERL], program)
        places = [loader.parent, *(self._host / each for each in _LIBRARIES)]
        provided = {read_elf(contents[LOADER]).soname}
        missing = list(program.needed)
        while missing:
            name = missing.pop()
            if name in provided:
                continue
            library = next((place / name for place in places if (place / name).is_file()), None)
            if library is None or "/" in name:
                raise _cannot(f"library {name} is in none of {', '.join(map(str, places))}")
            sources[library], contents[name] = _state(library), library.read_bytes()
            provided.add(name)
            missing += _elf(library, contents[name]).needed
        return sources, contents

    def _store(self, contents: Mapping[str, bytes]) -> None:
        parent = self.path.parent
        parent.mkdir(mode=0o755, exist_ok=True)
        name = _name_of(contents)
        before = os.readlink(self.path) if self.path.is_symlink() else ""
        if not _has(parent / name, contents):
            fresh = parent / f"{name}{_NEW}"
            _discard(fresh)
            _write(fresh, contents)
            _discard(parent / name)
            fresh.rename(parent / name)
        if before != name:
            link = parent / f"{_CURRENT}{_NEW}"
            link.unlink(missing_ok=True)
            link.symlink_to(name)
            link.rename(self.path)
            sync_directory(parent)
        # The one before may be that of a job which is just being started.
        for other in parent.iterdir():
            if other.name not in {name, before, self.path.name}:
                _discard(other)


def _own_launcher(text: bytes) -> bytes:
    for of_host, of_kit in _IN_LAUNCHER:
        if text.count(of_host) != 1:
            raise _cannot(f"the launcher has no line {of_host.decode().strip()!r}")
        text = text.replace(of_host, of_kit)
    return text


def _own_loader(content: bytes) -> bytes:
    if _PRELOAD not in content:
        raise _cannot("the loader is of a kind that is not known")
    return content.replace(_PRELOAD, _NO_PRELOAD.ljust(len(_PRELOAD), b"\0"))


def _own_perl(content: bytes, program: Elf) -> bytes:
    at, room = program.interpreter_at, program.interpreter_room
    if room < len(_LOADER_PATH):
        raise _cannot("perl has no room for the path of another loader")
    content = content[:at] + _LOADER_PATH.ljust(room, b"\0") + content[at + room :]
    return content.replace(b"/sitecustomize.pl", b"/sitecustomize.no")


def _elf(path: Path, content: bytes) -> Elf:
    try:
        return read_elf(content)
    except NoElf as error:
        raise _cannot(f"{path}: {error}") from error


def _cannot(why: str) -> LaunchFailed:
    return LaunchFailed(
        f"cannot make the launcher for jobs with a runtime: {why}",
        reason="NO_LAUNCH_KIT",
        hint="it is made of /usr/bin/perl (perl-base), its libraries and the agent's launcher",
    )


def _state(path: Path) -> tuple[int, int, int]:
    """Return what changes when somebody replaces the file; nothing of it is there for a file that is gone."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return (0, 0, 0)
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def _name_of(contents: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, content in sorted(contents.items()):
        digest.update(f"{name}\n{len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def _has(directory: Path, contents: Mapping[str, bytes]) -> bool:
    try:
        return all((directory / name).read_bytes() == content for name, content in contents.items())
    except OSError:
        return False


def _write(directory: Path, contents: Mapping[str, bytes]) -> None:
    directory.mkdir()
    directory.chmod(0o755)  # whatever the umask: the launcher goes through it with the job's user
    for name, content in contents.items():
        with open(directory / name, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        (directory / name).chmod(0o755)
    sync_directory(directory)


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
