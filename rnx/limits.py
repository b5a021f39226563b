"""Limits as they are typed, to the units of the wire.

A plain whole number has its old meaning: percent of a core, MB, bytes per second. What cannot be read,
or cannot be said on the wire exactly, is an error.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from joblet_agent.amounts import (
    AmountError,
    parse_bytes,
    parse_cpu,
    parse_megabytes,
    parse_rate,
    parse_size,
)
from rnx.argv import LIMIT_FLAGS, FlagValues
from rnx.exits import UsageError

T = TypeVar("T")


def limit_fields(flags: FlagValues) -> dict[str, Any]:
    """Return the limits that were given, by field of the request."""
    fields: dict[str, Any] = {}
    for flag in LIMIT_FLAGS:
        if flag.key in flags:
            read = _READERS.get(flag.long)
            value = flags[flag.key]
            fields[_WIRE_NAMES.get(flag.key, flag.key)] = read(flag.long, str(value)) if read else value
    return fields


def read_cpu(flag: str, text: str) -> int:
    """Return percent of one core: ``150`` and ``150%`` are, and ``1.5`` cores."""
    return _read(flag, text, parse_cpu)


def read_megabytes(flag: str, text: str) -> int:
    """Return MB (of 1024 KB): ``512`` and ``512M`` are, and ``1.5G``."""
    return _read(flag, text, parse_megabytes)


def read_bytes(flag: str, text: str) -> int:
    """Return bytes: ``1000000`` are, and ``10M``."""
    return _read(flag, text, parse_bytes)


def check_size(flag: str, text: str) -> None:
    """Refuse what is no size; the agent reads it as it was typed."""
    examples = "for example 500MB, 1.5GB or 2TB"
    number, _ = _read(flag, text, lambda size: parse_size(size, examples))
    if not number or text.endswith("/s"):
        raise UsageError(f"cannot read {flag}={text}: not a size above 0", hint=examples)


def read_rate(flag: str, text: str) -> int:
    """Return bytes per second: ``1000000`` is, and ``10M``."""
    return _read(flag, text, parse_rate)


def _read(flag: str, text: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(text)
    except AmountError as error:
        hint = error.hint.replace(f"write {text}", f"write {flag}={text}")
        raise UsageError(f"cannot read {flag}={text}: {error}", hint=hint) from error


_READERS = {"--max-cpu": read_cpu, "--max-memory": read_megabytes, "--max-iobps": read_rate}
_WIRE_NAMES = {"max_iobps": "max_io_bps"}
_JSON_NAMES = {
    "max_cpu": "maxCPU",
    "max_memory": "maxMemory",
    "max_io_bps": "maxIOBPS",
    "cpu_cores": "cpuCores",
    "max_tasks": "maxTasks",
    "timeout": "timeout",
    "nice": "nice",
    "cpu_weight": "cpuWeight",
    "io_weight": "ioWeight",
    "work_size": "workSize",
}
_FORMS = {
    "max_cpu": "Max CPU: {}%",
    "max_memory": "Max Memory: {} MB",
    "max_io_bps": "Max IO BPS: {}",
    "cpu_cores": "CPU Cores: {}",
    "max_tasks": "Max Tasks: {}",
    "timeout": "Time Limit: {}",
    "nice": "Nice: {}",
    "cpu_weight": "CPU Weight: {}",
    "io_weight": "IO Weight: {}",
    "work_size": "Work Size: {} bytes",
}
LIMIT_FIELDS = tuple(_FORMS)
"""Fields of the wire that are limits."""


def limits_text(limits: Mapping[str, object]) -> list[str]:
    """Return a line for people for each limit that is set, by field of the wire."""
    return [form.format(limits[name]) for name, form in _FORMS.items() if limits.get(name)]


def limit_data(limits: Mapping[str, object]) -> dict[str, object]:
    """Return the limits that are set, by their key in JSON."""
    return {_JSON_NAMES[name]: limits[name] for name in LIMIT_FIELDS if limits.get(name)}


def cpu_count(online: str) -> int:
    """Return how many CPUs a list such as ``0-3,6`` names."""
    ranges = [part.partition("-") for part in online.split(",") if part]
    return sum(int(last or first) - int(first) + 1 for first, _, last in ranges)
