"""Limits as they are typed, to the units of the wire.

A plain whole number has its old meaning: percent of a core, MB, bytes per second. What cannot be read,
or cannot be said on the wire exactly, is an error.
"""

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from rnx.argv import INT32_MAX, LIMIT_FLAGS, FlagValues
from rnx.exits import UsageError

_CPU = re.compile(r"([0-9]{1,9})(\.[0-9]{1,9})?(%?)")
_SIZE = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?)([KMGT]?)(i?B)?(/s)?", re.IGNORECASE)
_BYTES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_MEGABYTE = 2**20
_LARGEST = 2**63 - 1


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
    match = _CPU.fullmatch(text)
    if match is None or (match[2] and match[3]):
        raise UsageError(
            f"cannot read {flag}={text}: not an amount of CPU",
            hint="for example 150 or 150% (percent of one core), or 1.5 (cores)",
        )
    percent = Fraction(f"{match[1]}{match[2] or ''}") * (100 if match[2] else 1)
    return _whole(flag, text, percent, "percent")


def read_megabytes(flag: str, text: str) -> int:
    """Return MB (of 1024 KB): ``512`` and ``512M`` are, and ``1.5G``."""
    number, unit = _size(flag, text, "for example 512 (MB), 512M, 2G or 1.5G")
    if not unit and number.denominator != 1:
        raise UsageError(f"cannot read {flag}={text}: a fraction wants a unit", hint=f"write {flag}={text}G")
    return _whole(flag, text, number * _BYTES[unit or "M"] / _MEGABYTE, "MB")


def read_bytes(flag: str, text: str) -> int:
    """Return bytes: ``1000000`` are, and ``10M``."""
    number, unit = _size(flag, text, "for example 512M, 2G or 1.5G")
    size = number * _BYTES[unit]
    if size.denominator != 1 or size > _LARGEST:
        raise UsageError(f"cannot read {flag}={text}: not a whole number of bytes below {_LARGEST}")
    return int(size)


def read_rate(flag: str, text: str) -> int:
    """Return bytes per second: ``1000000`` is, and ``10M``."""
    number, unit = _size(flag, text, "for example 1000000 (bytes per second), 10M or 1.5M")
    return _whole(flag, text, number * _BYTES[unit], "bytes per second")


def _size(flag: str, text: str, examples: str) -> tuple[Fraction, str]:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UsageError(f"cannot read {flag}={text}: not a size", hint=examples)
    return Fraction(match[1]), match[2].upper()


def _whole(flag: str, text: str, number: Fraction, unit: str) -> int:
    if number.denominator != 1:
        raise UsageError(f"cannot read {flag}={text}: it is no whole number of {unit}")
    if number > INT32_MAX:
        raise UsageError(f"cannot read {flag}={text}: the largest number is {INT32_MAX} {unit}")
    return int(number)


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
