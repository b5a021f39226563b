"""What the agent's package depends on: programs that it lets systemd start, Python modules, its own files."""

from collections.abc import Sequence
from importlib.util import find_spec

from joblet_agent.fitness.finding import Probe, Subject, Verdict, failed, ok
from joblet_agent.fitness.scene import Scene
from joblet_agent.systemd.properties import LAUNCHER
from joblet_agent.systemd.users import LAUNCHER_DROP_IN

_PROGRAMS = {
    "/usr/bin/perl": ("perl-base", "jobs do not start"),
    "/usr/sbin/dnsmasq": ("dnsmasq-base", "jobs find no names on their networks"),
    "/usr/sbin/mke2fs": ("e2fsprogs", "volumes of the type filesystem are refused, without project quotas"),
    "/usr/sbin/e2fsck": ("e2fsprogs", "volumes in images are not usable"),
    "/usr/sbin/resize2fs": ("e2fsprogs", "volumes in images do not grow"),
    "/usr/sbin/losetup": ("mount", "volumes in images do not grow"),
    "/usr/bin/mount": ("mount", "volumes of the type memory do not grow"),
    "/usr/bin/install": ("coreutils", "volumes are not made"),
}
_MODULES = {
    "cryptography": "python3-cryptography",
    "dbus_next": "python3-dbus-next",
    "grpc": "python3-grpcio",
    "nftables": "python3-nftables",
    "google.protobuf": "python3-protobuf",
    "pyroute2": "python3-pyroute2",
    "pystemd": "python3-pystemd",
    "regex": "python3-regex",
    "systemd": "python3-systemd",
    "yaml": "python3-yaml",
}


def _programs(scene: Scene) -> Verdict:
    missing = {path: why for path, why in _PROGRAMS.items() if not scene.host.is_program(path)}
    if not missing:
        return ok("dnsmasq, e2fsprogs, mount, perl")
    packages = sorted({package for package, _ in missing.values()})
    return failed(
        f"no {', '.join(missing)}",
        "; ".join(dict.fromkeys(outcome for _, outcome in missing.values())),
        f"apt-get install {' '.join(packages)}",
    )


def _modules(_: Scene) -> Verdict:
    missing = {name: package for name, package in _MODULES.items() if not _is_there(name)}
    if not missing:
        return ok("the Python modules that the agent uses")
    return failed(
        f"no Python module {', '.join(missing)}",
        "the agent, or the service of its networks, does not start",
        f"apt-get install {' '.join(missing.values())}",
    )


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # not even what it is in
        return False


def _files(scene: Scene) -> Verdict:
    if not scene.host.is_program(LAUNCHER):
        missing = LAUNCHER
    elif not scene.host.is_there(LAUNCHER_DROP_IN):
        missing = str(LAUNCHER_DROP_IN)
    else:
        return ok("launcher of jobs")
    return failed(f"no {missing}", "jobs do not start", "apt-get install --reinstall joblet-agent")


PROBES: Sequence[Probe] = (
    Probe("PROGRAMS", Subject.PROGRAMS, _programs),
    Probe("PROGRAMS_PYTHON", Subject.PROGRAMS, _modules),
    Probe("PROGRAMS_LAUNCHER", Subject.PROGRAMS, _files),
)
