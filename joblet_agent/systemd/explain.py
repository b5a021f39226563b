"""A job's unit, told to a person: unit-file spelling of every property, and a systemd-run line.

Pure. The D-Bus spelling of a property differs from the one in unit files (systemd.unit(5)); people
know the latter, so that is what they see.
"""

import shlex
from collections.abc import Callable, Iterable
from datetime import timedelta
from ipaddress import ip_address
from typing import Any

from joblet_agent.model.job import ExplainedProperty, Explanation, JobSpec
from joblet_agent.ports import CREDENTIALS_DIRECTORY, LaunchPlan
from joblet_agent.systemd.environment import launch_variables
from joblet_agent.systemd.limits import cpus_of_mask
from joblet_agent.systemd.names import unit_name
from joblet_agent.systemd.properties import LAUNCHER, UnitSettings, says_user, unit_properties
from joblet_agent.systemd.property import Property

_CAPABILITIES = {6: "CAP_SETGID", 7: "CAP_SETUID", 8: "CAP_SETPCAP", 21: "CAP_SYS_ADMIN"}
_NAMESPACES = {0x0002_0000: "mnt", 0x2000_0000: "pid"}

# What systemd-run is told by options of its own or does in another way (--pipe for the log file).
_NOT_FOR_SYSTEMD_RUN = frozenset(
    {
        "After",
        "EnvironmentFile",
        "ExecStart",
        "RemainAfterExit",
        "StandardError",
        "StandardInput",
        "StandardOutput",
        "Type",
        "User",  # without the prefix "!", the launcher would not start as root
    }
)


def explain_unit(plan: LaunchPlan, settings: UnitSettings) -> Explanation:
    """Return the unit's properties and a command line that starts the same, for a root shell."""
    properties = [(entry, *_unit_file_form(entry)) for entry in unit_properties(plan, settings)]
    return Explanation(
        unit=unit_name(plan.job_id),
        properties=tuple(
            ExplainedProperty(key, text, entry.origin, entry.manual) for entry, key, text in properties
        ),
        systemd_run=_systemd_run(
            [(key, text) for _, key, text in properties], launch_variables(plan, settings)
        ),
        notes=(
            "the command line uses the job's /work, which exists until the job has ended",
            "words of the command arrive as JOBLET_ARG_n, variables as JOBLET_ENV_NAME, "
            "--workdir as JOBLET_DIR (joblet-launch)",
            *_notes_on_user(plan, settings),
            *_notes_on_network(plan),
            *_notes_on_secrets(plan.spec),
        ),
    )


def _notes_on_user(plan: LaunchPlan, settings: UnitSettings) -> list[str]:
    if says_user(plan, settings):
        return [
            "the launcher starts as root in spite of User= (drop-in joblet-job-.service.d); "
            "systemd-run has no way to say so, so its line has no User="
        ]
    return []


def _notes_on_network(plan: LaunchPlan) -> list[str]:
    if plan.namespace is None:
        return []
    return [f"the network namespace, {plan.namespace.name} for ip netns, is there until the job has ended"]


def _notes_on_secrets(spec: JobSpec) -> list[str]:
    notes = []
    if spec.secret_environment:
        notes.append(f"*** stands for the secret variables: {', '.join(spec.secret_environment)}")
    if spec.secret_files:
        notes.append(f"{CREDENTIALS_DIRECTORY} has the secret files: {', '.join(spec.secret_files)}")
    return notes


def _systemd_run(properties: list[tuple[str, str]], variables: Iterable[tuple[str, str]]) -> str:
    words = ["systemd-run", "--wait", "--pipe", "--collect", "--service-type=exec"]
    words += [
        f"--property={key}={value}"
        for key, text in properties
        if key not in _NOT_FOR_SYSTEMD_RUN
        for value in text.split("\n")
    ]
    words += [f"--setenv={name}={value}" for name, value in variables]
    return shlex.join([*words, "--", LAUNCHER])


def _unit_file_form(entry: Property) -> tuple[str, str]:
    key, render = _SPELLING.get(entry.name, (entry.name, _plain))
    return key, render(entry.value)


def _plain(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case bytes():
            return value.decode()
        case list():
            return " ".join(_plain(item) for item in value)
        case _:
            return str(value)


def _command_line(value: Any) -> str:
    return shlex.join(str(word) for word in value[0][1])


def _binds(value: Any) -> str:
    # Unit files say "recursive" unless told otherwise, the bus the other way round.
    return " ".join(
        f"{'-' if may_be_missing else ''}{source}:{target}" + ("" if flags else ":norbind")
        for source, target, may_be_missing, flags in value
    )


def _tmpfs(value: Any) -> str:
    return " ".join(f"{target}:{options}" for target, options in value)


def _filter(value: Any) -> str:
    allow, names = value
    return ("" if allow else "~") + " ".join(names)


def _names(table: dict[int, str]) -> Callable[[Any], str]:
    return lambda mask: " ".join(name for bit, name in table.items() if mask & bit)


def _addresses(value: Any) -> str:
    return " ".join(f"{ip_address(address)}/{bits}" for _, address, bits in value)


def _appended(value: Any) -> str:
    return f"append:{value}"


def _seconds(value: Any) -> str:
    return f"{timedelta(microseconds=value) / timedelta(seconds=1):g}s"


def _lines(value: Any) -> str:
    return "\n".join(f"{path} {rate}" for path, rate in value)


_SPELLING: dict[str, tuple[str, Callable[[Any], str]]] = {
    "ExecStart": ("ExecStart", _command_line),
    "EnvironmentFiles": ("EnvironmentFile", lambda value: str(value[0][0])),
    "StandardOutputFileToAppend": ("StandardOutput", _appended),
    "StandardErrorFileToAppend": ("StandardError", _appended),
    "BindPaths": ("BindPaths", _binds),
    "BindReadOnlyPaths": ("BindReadOnlyPaths", _binds),
    "TemporaryFileSystem": ("TemporaryFileSystem", _tmpfs),
    "TimeoutStopUSec": ("TimeoutStopSec", _seconds),
    "RuntimeMaxUSec": ("RuntimeMaxSec", _seconds),
    "CPUQuotaPerSecUSec": ("CPUQuota", lambda value: f"{value // 10_000}%"),
    "AllowedCPUs": ("AllowedCPUs", cpus_of_mask),
    "IOReadBandwidthMax": ("IOReadBandwidthMax", _lines),
    "IOWriteBandwidthMax": ("IOWriteBandwidthMax", _lines),
    "DeviceAllow": ("DeviceAllow", _lines),
    "IPAddressDeny": ("IPAddressDeny", _addresses),
    "IPAddressAllow": ("IPAddressAllow", _addresses),
    "UMask": ("UMask", lambda value: f"{value:04o}"),
    "SystemCallErrorNumber": ("SystemCallErrorNumber", lambda _: "EPERM"),
    "SystemCallFilter": ("SystemCallFilter", _filter),
    "RestrictAddressFamilies": ("RestrictAddressFamilies", _filter),
    "RestrictNamespaces": ("RestrictNamespaces", _names(_NAMESPACES)),
    "CapabilityBoundingSet": (
        "CapabilityBoundingSet",
        _names({1 << bit: name for bit, name in _CAPABILITIES.items()}),
    ),
}
