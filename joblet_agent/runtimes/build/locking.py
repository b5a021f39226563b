"""Locks in builds: what one was given is used, what was taken is found out, and the two are compared.

What package tools have left in the build's space was written by hostile programs, too: it is read as such.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from joblet_agent.errors import InvalidRequest, LaunchFailed
from joblet_agent.runtime_file import Definition, FileInvalid
from joblet_agent.runtime_file.lock import (
    FILE_NAME,
    Lock,
    LockedPackage,
    LockedWheel,
    differences,
    load_lock,
    wants_of,
)
from joblet_agent.runtimes.build.plan import BaseKind, BuildPlan
from joblet_agent.runtimes.build.records import BuildOptions
from joblet_agent.runtimes.build.step import BuildPlace
from joblet_agent.runtimes.build.tree_files import read_file

__all__ = ["Installed", "LockUse", "installed_in", "lock_text", "require_same", "use_lock"]

_MOST_NAMED: Final = 10
_NEW_LOCK: Final = "make a new one: rnx runtime lock"


@dataclass(frozen=True, slots=True)
class Installed:
    """What a build has taken."""

    packages: tuple[LockedPackage, ...] = ()
    wheels: tuple[LockedWheel, ...] = ()
    package_lock: str = ""

    def names(self) -> tuple[str, ...]:
        """Return ``NAME=VERSION`` of each, for people."""
        node = sorted(f"{name}={version}" for name, version in _node_packages(self.package_lock))
        return (
            *sorted(str(package) for package in self.packages),
            *sorted(f"{wheel.name}={wheel.version}" for wheel in self.wheels),
            *dict.fromkeys(node),
        )


@dataclass(frozen=True, slots=True)
class LockUse:
    """The lock that a build was given, if it is of this definition."""

    lock: Lock | None = None
    remarks: tuple[str, ...] = ()
    """For the log."""

    def applied(self, plan: BuildPlan) -> BuildPlan:
        """Return the plan with the lock's versions."""
        lock = self.lock
        if lock is None:
            return plan
        pip = plan.pip and replace(plan.pip, requirements=lock.requirements, locked=True)
        npm = plan.npm and replace(plan.npm, package_lock=lock.package_lock)
        return replace(
            plan,
            base=replace(plan.base, digest=lock.base.removeprefix("sha256:")),
            packages=tuple(map(str, lock.packages)) if lock.packages else plan.packages,
            package_digests={str(package): package.sha256 for package in lock.packages},
            pip=pip,
            npm=npm,
            is_locked=True,
        )

    def require_base(self, plan: BuildPlan, digest: str) -> None:
        """Raise InvalidRequest if the tree begins as something else than the lock says."""
        wanted = plan.base.digest
        if self.lock is not None and wanted != digest.removeprefix("sha256:"):
            what = "runtime" if plan.base.kind is BaseKind.RUNTIME else "image"
            raise _differs(
                plan, [f"the {what} {plan.base.source} has the digest {digest}, not {wanted or 'none'}"]
            )


def use_lock(definition: Definition, options: BuildOptions, architecture: str) -> LockUse:
    """Return how to use the lock of the request.

    Raises InvalidRequest if it is none, or is of something else and the build is to be ``locked``.
    """
    if options.only_lock:
        return LockUse()
    if not options.lock:
        if options.locked:
            raise InvalidRequest(
                f"cannot build runtime {definition}: there is no lock, and it is to be locked",
                reason="RUNTIME_BUILD_LOCK_MISSING",
                hint="make one: rnx runtime lock",
            )
        return LockUse()
    try:
        lock = load_lock(options.lock)
    except FileInvalid as error:
        raise InvalidRequest(
            f"cannot build runtime {definition}: {'; '.join(error.shown(FILE_NAME))}",
            reason="RUNTIME_LOCK_INVALID",
            hint=_NEW_LOCK,
        ) from error
    found = differences(definition, lock, architecture)
    if not found:
        return LockUse(lock)
    if options.locked:
        raise _differs(definition, found)
    return LockUse(None, tuple(f"the lock is not used: {each}" for each in found))


def require_same(plan: BuildPlan, lock: Lock, found: Installed) -> None:
    """Raise InvalidRequest, which names what differs, unless what was taken is what the lock says."""
    found_out = [
        *_compare(
            {package.name: f"{package.version} (sha256:{package.sha256})" for package in lock.packages},
            {package.name: f"{package.version} (sha256:{package.sha256})" for package in found.packages},
        ),
    ]
    if found_out:
        raise _differs(plan, found_out)


def _compare(wanted: Mapping[str, str], taken: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*wanted, *taken}):
        if name not in taken:
            yield f"{name} {wanted[name]} was not installed"
        elif name not in wanted:
            yield f"{name} {taken[name]} was installed, and is not in the lock"
        elif wanted[name] != taken[name]:
            yield f"{name} is {taken[name]}, not {wanted[name]}"


def _differs(what: object, found: Iterable[str]) -> InvalidRequest:
    named = list(found)
    more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
    return InvalidRequest(
        f"cannot build runtime {what}: it differs from the lock: {'; '.join(named[:_MOST_NAMED])}{more}",
        reason="RUNTIME_BUILD_LOCK_DIFFERS",
        hint=f"{_NEW_LOCK}; archives forget old versions",
    )


def lock_text(definition: Definition, architecture: str, base_digest: str, found: Installed) -> str:
    """Return the lock that repeats a build. Raises LaunchFailed if what was found makes none."""
    digest = base_digest.removeprefix("sha256:")
    lock = Lock(
        wants=wants_of(definition),
        architecture=architecture,
        suite=definition.suite,
        base=f"sha256:{digest}" if digest else "",
        packages=found.packages,
        wheels=found.wheels,
        package_lock=found.package_lock,
    )
    try:
        return lock.text()
    except ValueError as error:
        raise _nonsense(definition, error) from error


def installed_in(place: BuildPlace, plan: BuildPlan) -> Installed:
    """Return what the steps say they have installed. Blocking. Raises LaunchFailed if that is nonsense."""
    try:
        return Installed(
            tuple(_packages(place)) if plan.packages else (),
            tuple(_wheels(place)) if plan.pip is not None else (),
            _text(place.out, "package-lock.json") if plan.npm is not None else "",
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _nonsense(plan, error) from error


def _nonsense(runtime: object, error: Exception) -> LaunchFailed:
    return LaunchFailed(
        f"cannot build runtime {runtime}: cannot tell what was installed: {str(error)[:300]}",
        reason="RUNTIME_BUILD_STEP_FAILED",
        hint="the log of the build has more (-v)",
    )


def _text(space: Path, name: str) -> str:
    return read_file(space, name).decode("utf-8")


def _packages(place: BuildPlace) -> Iterator[LockedPackage]:
    for line in sorted(set(_text(place.out, "packages.list").splitlines())):
        name, version, architecture, digest = line.split()
        yield LockedPackage(name, version, architecture, digest)


def _wheels(place: BuildPlace) -> Iterator[LockedWheel]:
    report = json.loads(_text(place.out, "pip.json") or "{}")
    for each in report.get("install", []):
        archive = each["download_info"]["archive_info"]
        hashes: Mapping[str, str] = archive.get("hashes") or {}
        digest = hashes.get("sha256") or str(archive.get("hash", "")).removeprefix("sha256=")
        if not digest:
            raise ValueError(f"no SHA-256 of {each['metadata']['name']}")
        yield LockedWheel(str(each["metadata"]["name"]), str(each["metadata"]["version"]), (digest,))


def _node_packages(package_lock: str) -> Iterator[tuple[str, str]]:
    if not package_lock:
        return
    packages: dict[str, Any] = json.loads(package_lock).get("packages", {})
    for path, each in packages.items():
        if path and isinstance(each, dict) and "version" in each:
            yield path.rpartition("node_modules/")[2], str(each["version"])
