"""``make runtimes``: the definitions that ship with the package, each built by the agent, used, and timed.

Each is built on both releases, and carried to a host of the other one, and what Debian 13 has built to one of
Ubuntu 24.04, too, where a real program runs in it. That takes too long for every run. What cannot be built
here is named, with the reason; the figures are in docs/performance.md. Arguments: names of some definitions.
"""

from __future__ import annotations

import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from subprocess import CompletedProcess
from urllib.error import URLError
from urllib.request import urlopen

from tests.runs import runtime_measures
from tests.runs.release import save_journal
from tests.runs.runtime_programs import MARKER, program_of, script_of
from tests.testbed import CHECKOUT, DEBIAN, Machine, Release, TestbedError, boot, mirror, unwind_on_sigterm
from tests.testbed.images import ubuntu_keys
from tests.testbed.install import install_package
from tests.testbed.upstreams import upstreams

DEFINITIONS = CHECKOUT / "units" / "runtimes"
IN_MACHINE = "/usr/share/joblet/definitions"
_KEPT = (Release.TRIXIE, runtime_measures.RUNTIME)
"""Where it is measured in the end."""
_UBUNTU_KEYS = "/usr/share/keyrings/ubuntu-archive-keyring.gpg"
_LONG = 3600.0
_CONFIG = f"""
runtimes:
  mirrors:
    debian: {mirror.URL}/debian
    debian_security: {mirror.URL}/debian-security
    ubuntu: {mirror.URL}/ubuntu
    pip_index: {mirror.URL}/pypi/simple
    npm_registry: {mirror.URL}/npm
"""


class _Fault(Exception):
    """What went wrong, in one line."""


def main(argv: Sequence[str]) -> int:
    """Build and use them; the exit status tells whether all that can be built here could be."""
    unwind_on_sigterm()
    names = argv or sorted(path.stem for path in DEFINITIONS.glob("*.yaml"))
    faults: list[str] = []
    try:
        with ExitStack() as booted:
            older, newer = (booted.enter_context(boot(release)) for release in DEBIAN)
            for machine in (older, newer):
                booted.enter_context(mirror.serving(machine))
            _take_ubuntu_keys(newer)
            foreign = booted.enter_context(boot(Release.NOBLE))
            for machine in (older, newer, foreign):
                _prepare(machine)
            faults += _all(older, newer, foreign, names)
            faults += _alone(newer, [older, newer], names)
            if faults:
                for machine in (older, newer, foreign):
                    save_journal(machine)
    except TestbedError as error:
        faults.append(str(error))
    for fault in faults:
        print(f"FAILED: {fault}", flush=True)
    return 1 if faults else 0


def _prepare(machine: Machine) -> None:
    install_package(machine)
    configure = (
        f"cat >> /etc/joblet/agent.yml; touch /usr/{MARKER} /etc/{MARKER}; systemctl restart joblet-agent"
    )
    machine.run("sh", "-ec", configure, stdin=_CONFIG.encode())
    machine.run("rnx", "volume", "create", "results", "--size=64M")


def _take_ubuntu_keys(machine: Machine) -> None:
    """Install the keys of Ubuntu's archive, and keep them for the image of a host with Ubuntu."""
    source = f"deb {mirror.URL}/debian {machine.release.value} main"
    install = "apt-get install --quiet --yes --no-install-recommends ubuntu-archive-keyring"
    script = (
        f"rm -f /etc/apt/sources.list.d/*; echo '{source}' >/etc/apt/sources.list; apt-get update; {install}"
    )
    machine.run("sh", "-ec", script, timeout=_LONG)
    machine.pull(_UBUNTU_KEYS, ubuntu_keys())


def _all(older: Machine, newer: Machine, foreign: Machine, names: Sequence[str]) -> list[str]:
    """Let both hosts build at once, one thing each; what has one name is on its way once at a time."""
    locks = {name: threading.Lock() for name in names}
    half = len(names) // 2
    with ThreadPoolExecutor(2) as pool:
        runs = (
            pool.submit(_faults, older, [newer], names, locks),
            pool.submit(_faults, newer, [older, foreign], [*names[half:], *names[:half]], locks),
        )
        return [fault for run in runs for fault in run.result()]


def _faults(
    builder: Machine, users: Sequence[Machine], names: Sequence[str], locks: Mapping[str, threading.Lock]
) -> list[str]:
    found: list[str] = []
    for name in names:
        with locks[name]:
            try:
                _proved(builder, users, name)
            except (_Fault, TestbedError) as fault:
                found.append(f"{name}, of {builder.release.value}: {fault}")
            finally:
                for machine in (builder, *users):
                    if (machine.release, name) != _KEPT:
                        machine.run("rnx", "runtime", "remove", "--force", name, check=False, timeout=_LONG)
    return found


def _proved(builder: Machine, users: Sequence[Machine], name: str) -> None:
    if reason := _not_here(builder, name):
        print(f"{name} on {builder.release.value}: skipped, {reason}", flush=True)
        return
    digest = _built(builder, name)
    for user in users:
        _carried(builder, user, name, digest)
        _used(user, name)


def _alone(measured: Machine, builders: Sequence[Machine], names: Sequence[str]) -> Iterator[str]:
    """Measure what others would disturb."""
    try:
        if runtime_measures.RUNTIME in names:
            _measured(measured)
        for builder in builders:
            _canceled(builder)
    except (_Fault, TestbedError) as fault:
        yield f"measured: {fault}"


def _not_here(builder: Machine, name: str) -> str:
    """Return why the runtime cannot be built on that host; empty if it can."""
    text = (DEFINITIONS / f"{name}.yaml").read_text(encoding="utf-8")
    if 'version: "3.12"' not in text:
        return ""
    if builder.run("test", "-e", _UBUNTU_KEYS, check=False).returncode:
        return "its distribution has no keys of Ubuntu's archive"
    try:
        with urlopen(f"{upstreams().ubuntu}/dists/noble/InRelease", timeout=30):
            return ""
    except (URLError, ValueError):
        return "the archive of Ubuntu cannot be reached from here"


def _built(builder: Machine, name: str) -> str:
    """Build, twice from one lock; return the digest."""
    began = time.monotonic()
    _done(builder, "rnx", "runtime", "build", "-f", f"{IN_MACHINE}/{name}.yaml")
    seconds = time.monotonic() - began
    digest = _digest(builder, name)
    _done(builder, "rnx", "runtime", "test", name)
    print(f"{name} on {builder.release.value}: built in {seconds:.1f} s, tested, {digest[:12]}", flush=True)
    keep = f"rnx runtime info {name} --lock > /root/{name}.lock"
    again = f"rnx runtime build -f {IN_MACHINE}/{name}.yaml --locked --lock /root/{name}.lock --force"
    _done(builder, "sh", "-ec", f"{keep}; {again}")
    if _digest(builder, name) != digest:
        raise _Fault(f"its lock gave {_digest(builder, name)}, not {digest}")
    return digest


def _carried(builder: Machine, user: Machine, name: str, digest: str) -> None:
    path = f"/var/tmp/{name}.oci"
    _done(builder, "rnx", "runtime", "export", name, "-o", path)
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "runtime.oci"
        builder.pull(path, archive)
        user.push(archive, path)
    _done(user, "rnx", "runtime", "import", path)
    for machine in (builder, user):
        machine.run("rm", path)
    if _digest(user, name) != digest:
        raise _Fault(f"it was carried as {digest}, and came as {_digest(user, name)}")


def _used(user: Machine, name: str) -> None:
    program = program_of(name)
    user.run("sh", "-c", f"cat > /root/{program.file}", stdin=program.text.encode())
    words = ("--attach", f"--runtime={name}", "--volume=results", "--secret-env=TOKEN=told")
    began = time.monotonic()
    ended = _done(
        user, "rnx", "run", *words, f"--upload=/root/{program.file}", "sh", "-c", script_of(program)
    )
    if ended.stdout.split()[-1:] != ["done"]:
        raise _Fault(f"its program said {ended.stdout[-200:]!r}")
    seconds = time.monotonic() - began
    print(f"{name} on {user.release.value}: ran {program.command!r} in {seconds:.1f} s", flush=True)


def _measured(machine: Machine) -> None:
    inside, outside = runtime_measures.imports(machine)
    ratio = f"{inside:.2f} s in a job, {outside:.2f} s without a sandbox: {inside / outside:.2f}"
    print(f"import for machine learning on {machine.release.value}: {ratio}", flush=True)
    one, many = runtime_measures.page_cache(machine)
    ratio = f"{one >> 20} MiB for one job, {many >> 20} MiB for {runtime_measures.JOBS}: {many / one:.2f}"
    print(f"files in memory on {machine.release.value}: {ratio}", flush=True)


def _canceled(builder: Machine) -> None:
    """Cancel a build in the middle of an installation."""
    build = f"rnx runtime build --force --detach -f {IN_MACHINE}/python-3.11.yaml"
    follow = "rnx runtime attach python-3.11 -v 2>&1 | grep -q -m 1 Unpacking"
    _done(builder, "sh", "-c", f"{build} && {follow}")
    began = time.monotonic()
    _done(builder, "rnx", "runtime", "cancel", "python-3.11")
    seconds = time.monotonic() - began
    look = "ls -A /var/lib/joblet/runtimes/builds; pgrep -u joblet-build || true"
    left = builder.run("sh", "-c", look).stdout.strip()
    print(f"cancel in the middle of an installation on {builder.release.value}: {seconds:.2f} s", flush=True)
    if left:
        raise _Fault(f"it has left {left}")


def _digest(machine: Machine, name: str) -> str:
    told = _done(machine, "rnx", "runtime", "info", name).stdout
    found = re.search(r"\b[0-9a-f]{64}\b", told)
    if found is None:
        raise _Fault(f"rnx runtime info tells no digest: {told!r}")
    return found[0]


def _done(machine: Machine, *words: str) -> CompletedProcess[str]:
    ended = machine.run(*words, check=False, timeout=_LONG)
    if ended.returncode:
        said = (ended.stderr.strip() or ended.stdout.strip()).splitlines()[-2:]
        raise _Fault(f"{' '.join(words[:4])} ended with status {ended.returncode}: {' / '.join(said)}")
    return ended


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
