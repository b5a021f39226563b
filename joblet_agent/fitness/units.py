"""The agent's own units: loaded, not masked, as the package has them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from joblet_agent.fitness.finding import Probe, Subject, Verdict, failed, ok, warning
from joblet_agent.fitness.scene import Host, Scene
from joblet_agent.systemd.names import AGENT_UNIT, JOBS_SLICE
from joblet_agent.systemd.survey import UnitFacts

NETWORKS_UNIT, NETWORKS_SOCKET = "joblet-networks.service", "joblet-networks.socket"
RENEWAL = "joblet-agent-renew.timer"
UNITS = (AGENT_UNIT, NETWORKS_UNIT, NETWORKS_SOCKET, JOBS_SLICE, RENEWAL)
"""Those that systemd is asked about."""

_PLACE = "/usr/lib/systemd/system"
_SETTING = re.compile(r"^([A-Z][A-Za-z]+)=(yes|strict|invisible|control-group)$", re.MULTILINE)
_CAP_SYS_PTRACE = 1 << 19  # of the full set, of none of ours, and no other setting takes it away
_REINSTALL = "apt-get install --reinstall joblet-agent"


def _configuration(scene: Scene) -> Verdict:
    """Pass on what is no fault of the files; with a fault there is no check at all."""
    if not scene.loaded.warnings:
        files = ", ".join(str(file) for file in scene.loaded.files)
        return ok(f"configuration: {files or 'defaults alone'}")
    return warning(
        "; ".join(scene.loaded.warnings),
        "the configuration is hardly what was wanted",
        "joblet-agent config show",
    )


def _agent(scene: Scene) -> Verdict | None:
    unit = _unit(scene, AGENT_UNIT)
    if unit is None:
        return None
    if unit.load != "loaded":
        return _unusable(AGENT_UNIT, unit, "the agent does not start")
    if unit.active == "failed":
        result = unit.settings.get("Result", "")
        return failed(
            f"{AGENT_UNIT} has failed ({result})",
            "nobody answers; jobs go on",
            "journalctl -t joblet-agent -n 20",
        )
    if unit.active != "active":
        return warning(f"{AGENT_UNIT} is {unit.active}", "nobody answers", f"systemctl start {AGENT_UNIT}")
    if unit.file_state not in {"enabled", "enabled-runtime"}:
        return warning(
            f"{AGENT_UNIT} runs, and is {unit.file_state}",
            "it does not start at the next boot",
            f"systemctl enable {AGENT_UNIT}",
        )
    return ok(f"{AGENT_UNIT} runs and is enabled")


def _networks(scene: Scene) -> Verdict | None:
    socket, service = _unit(scene, NETWORKS_SOCKET), _unit(scene, NETWORKS_UNIT)
    if socket is None or service is None:
        return None
    outcome = "jobs with a network do not start"
    for name, unit in ((NETWORKS_SOCKET, socket), (NETWORKS_UNIT, service)):
        if unit.load != "loaded":
            return _unusable(name, unit, outcome)
    if socket.active != "active":
        return failed(
            f"{NETWORKS_SOCKET} is {socket.active}", outcome, f"systemctl enable --now {NETWORKS_SOCKET}"
        )
    if service.active == "failed":
        return failed(f"{NETWORKS_UNIT} has failed", outcome, f"journalctl -u {NETWORKS_UNIT} -n 20")
    return ok(f"{NETWORKS_SOCKET} listens")


def _slice(scene: Scene) -> Verdict | None:
    unit = _unit(scene, JOBS_SLICE)
    if unit is None:
        return None
    return ok(JOBS_SLICE) if unit.load == "loaded" else _unusable(JOBS_SLICE, unit, "jobs do not start")


def _reload(scene: Scene) -> Verdict | None:
    if scene.survey is None:
        return None
    outdated = [name for name, unit in scene.survey.units.items() if unit.is_outdated]
    if not outdated:
        return ok("systemd has read the units as they are")
    return warning(
        f"files of {', '.join(outdated)} have changed",
        "what they say is not in force",
        "systemctl daemon-reload",
    )


def _drop_ins(scene: Scene) -> Verdict | None:
    """Compare what is in force with the package's unit files: drop-ins and units in /etc may weaken them."""
    if scene.survey is None:
        return None
    weaker: list[str] = []
    files: list[str] = []
    for name in (AGENT_UNIT, NETWORKS_UNIT):
        unit = scene.survey.units[name]
        files += unit.drop_ins
        weaker += [f"{key} of {name}" for key in _weakened(scene.host, name, unit.settings)]
    if weaker:
        places = ", ".join(files) or f"a unit in /etc/systemd/system in the place of that in {_PLACE}"
        return warning(
            f"{', '.join(weaker)} is not what the package says",
            "the agent is confined less",
            f"look at {places}",
        )
    return ok(f"no drop-in takes a protection away{': ' + ', '.join(files) if files else ''}")


def _weakened(host: Host, name: str, settings: Mapping[str, Any]) -> Iterator[str]:
    for key, value in _SETTING.findall(host.text(f"{_PLACE}/{name}") or ""):
        found = settings.get(key)
        if isinstance(found, bool):
            found = "yes" if found else "no"
        if isinstance(found, str) and found != value:
            yield key
    if settings.get("CapabilityBoundingSet", 0) & _CAP_SYS_PTRACE:
        yield "CapabilityBoundingSet"
    if "SystemCallFilter" in settings and not settings["SystemCallFilter"][1]:
        yield "SystemCallFilter"


def _unit(scene: Scene, name: str) -> UnitFacts | None:
    return scene.survey.units[name] if scene.survey else None


def _unusable(name: str, unit: UnitFacts, outcome: str) -> Verdict:
    remedy = f"systemctl unmask {name}" if unit.load == "masked" else _REINSTALL
    return failed(f"{name} is {unit.load}", outcome, remedy)


PROBES: Sequence[Probe] = (
    Probe("AGENT_CONFIGURATION", Subject.AGENT, _configuration),
    Probe("AGENT_SERVICE", Subject.AGENT, _agent),
    Probe("AGENT_NETWORKS", Subject.AGENT, _networks),
    Probe("AGENT_SLICE", Subject.AGENT, _slice),
    Probe("AGENT_RELOAD", Subject.AGENT, _reload),
    Probe("AGENT_PROTECTION", Subject.AGENT, _drop_ins),
)
