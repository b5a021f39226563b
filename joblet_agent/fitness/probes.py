"""All probes, and how they are run: one after the other, each with a deadline, none in another's way."""

import asyncio
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from joblet_agent.config.load import Loaded
from joblet_agent.errors import HostUnavailable, JobletError
from joblet_agent.fitness import (
    certificates,
    cgroups,
    clock,
    disk,
    kernel,
    manager,
    modules,
    network,
    programs,
    security,
    units,
    users,
)
from joblet_agent.fitness.finding import Finding, Probe, Verdict, unknown
from joblet_agent.fitness.scene import Host, Scene
from joblet_agent.systemd.survey import Survey, survey

PROBES: Final[Sequence[Probe]] = (
    *manager.PROBES,
    *cgroups.PROBES,
    *kernel.PROBES,
    *modules.PROBES,
    *security.PROBES,
    *disk.PROBES,
    *clock.PROBES,
    *users.PROBES,
    *network.PROBES,
    *programs.PROBES,
    *units.PROBES,
    *certificates.PROBES,
)
"""In the order of the output."""

_DEADLINE: Final = 5.0
"""Seconds for one probe: a disk of the network may never answer."""


def look_around(loaded: Loaded, *, is_root: bool) -> Scene:
    """Return what probes look at on this host."""
    host = Host()
    return Scene(host, loaded, _ask_systemd(host), is_root)


def _ask_systemd(host: Host) -> Survey | JobletError:
    if not host.is_there("/run/systemd/system"):
        return HostUnavailable("cannot ask systemd: it does not run here", reason="SYSTEMD_UNAVAILABLE")
    try:
        return asyncio.run(survey(units.UNITS))
    except JobletError as error:
        return error


def findings(
    scene: Scene, probes: Iterable[Probe] = PROBES, deadline: float = _DEADLINE
) -> Iterator[Finding]:
    """Run the probes and yield what they found; those that do not apply to this host say nothing."""
    for probe in probes:
        verdict = _bounded(probe, scene, deadline)
        if verdict is not None:
            yield Finding(probe.id, probe.subject, verdict)


def _bounded(probe: Probe, scene: Scene, deadline: float) -> Verdict | None:
    """Run the probe in a thread of its own, which is left behind if it does not come back."""
    outcome: list[Verdict | None] = []
    thread = threading.Thread(
        target=lambda: outcome.append(_guarded(probe, scene)), daemon=True, name=probe.id
    )
    thread.start()
    thread.join(deadline)
    return (
        outcome[0] if outcome else unknown(f"it did not answer within {deadline:g} s", "is a disk hanging?")
    )


def _guarded(probe: Probe, scene: Scene) -> Verdict | None:
    try:
        return probe.look(scene)
    except PermissionError as error:
        where = f": {error.filename}" if error.filename else ""
        return unknown(f"not permitted to look{where}", "run it as root" if not scene.is_root else "")
    except OSError as error:
        words = ": ".join(str(part) for part in (error.filename, error.strerror or error) if part)
        return unknown(f"cannot look: {words}")
    except (
        Exception
    ) as error:  # a bug of one probe, or a file like no other, must not hide what the others find
        return unknown(f"cannot look: {type(error).__name__}: {error}", "please report it")
