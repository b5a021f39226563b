"""What systemd says of itself and of units, for one who only looks and is gone again."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from joblet_agent.errors import HostUnavailable
from joblet_agent.systemd.bus import SystemBus
from joblet_agent.systemd.names import any_unit_path

_DEADLINE = 5.0
_FEATURE = re.compile(r"[+-][A-Z0-9_]+")


@dataclass(frozen=True, slots=True)
class UnitFacts:
    """One unit; the words are systemd's."""

    load: str
    active: str
    file_state: str
    drop_ins: tuple[str, ...]
    is_outdated: bool
    """Its file is another one than systemd has read."""
    settings: Mapping[str, Any]
    """Properties of a service."""


@dataclass(frozen=True, slots=True)
class Survey:
    """The service manager and the units that were asked for."""

    version: str
    features: frozenset[str]
    """As ``+SECCOMP``, ``-SELINUX``."""
    virtualization: str
    """``kvm``, ``systemd-nspawn``, …; empty for hardware."""
    units: Mapping[str, UnitFacts]


async def survey(names: Sequence[str]) -> Survey:
    """Return what systemd says now. Raises HostUnavailable, within seconds. Nothing on the host changes."""
    bus = SystemBus(lambda _: None, lambda: None)
    try:
        async with asyncio.timeout(_DEADLINE):
            await bus.open()
            version, features, virtualization = [
                str(await bus.manager_property(name)) for name in ("Version", "Features", "Virtualization")
            ]
            units = {name: await _unit(bus, name) for name in names}
    except TimeoutError as error:
        raise HostUnavailable(
            f"cannot ask systemd: no answer within {_DEADLINE:.0f} s", reason="SYSTEMD_UNAVAILABLE"
        ) from error
    finally:
        await bus.close()
    return Survey(version, frozenset(_FEATURE.findall(features)), virtualization, units)


async def _unit(bus: SystemBus, name: str) -> UnitFacts:
    path = any_unit_path(name)
    unit = await bus.properties(path, "Unit")
    is_service = name.endswith(".service") and unit["LoadState"] == "loaded"
    return UnitFacts(
        load=unit["LoadState"],
        active=unit["ActiveState"],
        file_state=unit["UnitFileState"],
        drop_ins=tuple(unit["DropInPaths"]),
        is_outdated=unit["NeedDaemonReload"],
        settings=await bus.properties(path, "Service") if is_service else {},
    )
