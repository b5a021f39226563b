"""Looks for GPUs on the host: in CDI files, or itself. Blocking.

What is found is only what is there: nodes are devices, libraries are files of root. A CDI file that cannot be
read, or that names what is not there, means no GPUs, and says why: what a driver's own tool says comes first.
"""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from joblet_agent.gpu.cdi import MOST_BYTES, CdiFault, read
from joblet_agent.model.gpu import GpuDriver, GpuNode

CDI_DIRECTORIES = ("run/cdi", "etc/cdi")
"""Below the root; the first that has GPUs counts. ``/var/run`` is ``/run``."""

OWNER = 0
"""Whose files may say what is mounted into jobs."""
DEVICES = ("run/joblet/dev", "dev")
"""Below the root: the agent's own /dev has none of the host's, so its unit shows them elsewhere."""

_NEEDED = ("libcuda.so.1", "libnvidia-ml.so.1", "libnvidia-ptxjitcompiler.so.1")
_MORE = re.compile(r"libnvidia-(nvvm\.so\.4|gpucomp\.so\.[0-9.]+)")
"""What newer drivers load besides."""
_PLACES = (
    *("usr/lib/{}-linux-gnu/nvidia/current", "usr/lib/{}-linux-gnu", "usr/lib64", "usr/lib"),
    *("usr/lib/nvidia/current", "usr/local/lib"),
)
_CONTROL, _MEMORY = "nvidiactl", ("nvidia-uvm", "nvidia-uvm-tools")
_GPU = re.compile(r"nvidia([0-9]{1,4})")


class NoDriver(Exception):
    """There is no GPU for jobs; the text says why."""


def find_driver(root: Path = Path("/")) -> GpuDriver:
    """Return the GPUs of the host. Raises NoDriver."""
    devices = next((place for each in DEVICES if (place := root / each).is_dir()), root / DEVICES[-1])
    for path in _cdi_files(root):
        try:
            driver = read(_content(path), str(path))
        except CdiFault as error:
            raise NoDriver(f"{path}: {error}") from error
        if driver is not None:
            return _checked(driver, root, devices)
    return _searched(root, devices)


def _cdi_files(root: Path) -> Iterator[Path]:
    for directory in CDI_DIRECTORIES:
        try:
            found = sorted((root / directory).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise NoDriver(f"cannot read /{directory}: {error.strerror}") from error
        yield from (path for path in found if path.suffix in {".json", ".yaml", ".yml"})


def _content(path: Path) -> str:
    """Return the text of a file that nobody but root can have written."""
    try:
        with path.open("rb") as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode) or state.st_uid != OWNER or state.st_mode & 0o022:
                raise CdiFault("it is no file that root alone can write")
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise CdiFault(f"cannot be read: {error.strerror}") from error
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise CdiFault("it is not UTF-8") from error


def _checked(driver: GpuDriver, root: Path, devices: Path) -> GpuDriver:
    nodes = [*driver.shared, *(node for _index, own in driver.gpus for node in own)]
    for node in nodes:
        if not _is_device(devices / node.host.removeprefix("/dev/")):
            raise NoDriver(f"{driver.source} names {node.host}, which is no device of this host")
    libraries: dict[str, str] = {}
    for host, name in driver.libraries:
        for other in (name, *_names_of(root / host[1:], driver.source)):
            libraries.setdefault(other, host)
    return GpuDriver(driver.source, driver.gpus, driver.shared, _pairs(libraries))


def _names_of(path: Path, source: str) -> Iterator[str]:
    """Yield the links beside a library that lead to it: ``libcuda.so.1`` to ``libcuda.so.535.104``."""
    try:
        real = path.resolve(strict=True)
        if not _is_library(real):
            raise NoDriver(f"{source} names {path}, which is no file that root alone can write")
        stem = path.name.partition(".so")[0]
        for each in path.parent.glob(f"{stem}.so*"):
            if each.is_symlink() and each.resolve() == real:
                yield each.name
    except OSError as error:
        raise NoDriver(f"{source} names {path}, which cannot be read: {error.strerror}") from error


def _searched(root: Path, devices: Path) -> GpuDriver:
    try:
        names = {path.name for path in devices.iterdir() if path.name.startswith("nvidia")}
    except OSError as error:
        raise NoDriver(f"cannot read /dev: {error.strerror}") from error
    indices = sorted(int(match[1]) for name in names if (match := _GPU.fullmatch(name)))
    indices = [index for index in indices if _is_device(devices / f"nvidia{index}")]
    if not indices or not _is_device(devices / _CONTROL):
        raise NoDriver("there is no CDI file of NVIDIA's, and no /dev/nvidia0 and /dev/nvidiactl")
    libraries = _searched_libraries(root)
    missing = [name for name in _NEEDED if name not in libraries]
    if missing:
        raise NoDriver(f"the driver's libraries are not there: {', '.join(missing)}")
    shared = [name for name in (_CONTROL, *_MEMORY) if _is_device(devices / name)]
    return GpuDriver(
        source="search",
        gpus=tuple((index, (_node(f"nvidia{index}"),)) for index in indices),
        shared=tuple(map(_node, shared)),
        libraries=_pairs(libraries),
    )


def _searched_libraries(root: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for place in _PLACES:
        directory = root / place.format(os.uname().machine)
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue
        for name in names:
            if (name in _NEEDED or _MORE.fullmatch(name)) and name not in found:
                real = (directory / name).resolve()
                if _is_library(real):
                    found[name] = f"/{real.relative_to(root.resolve())}"
    return found


def _pairs(libraries: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((host, name) for name, host in sorted(libraries.items()))


def _node(name: str) -> GpuNode:
    return GpuNode(f"/dev/{name}", f"/dev/{name}")


def _is_device(path: Path) -> bool:
    try:
        return stat.S_ISCHR(os.lstat(path).st_mode)
    except OSError:
        return False


def _is_library(path: Path) -> bool:
    try:
        state = path.stat()
    except OSError:
        return False
    return stat.S_ISREG(state.st_mode) and state.st_uid == OWNER and not state.st_mode & 0o022
