"""Amounts as people type them, to the units of the wire. Pure.

A plain whole number has its old meaning: percent of a core, MB, bytes per second. What cannot be read, or
cannot be said on the wire exactly, is an AmountError.
"""

import re
from fractions import Fraction

INT32_MAX = 2**31 - 1

_CPU = re.compile(r"([0-9]{1,9})(\.[0-9]{1,9})?(%?)")
_SIZE = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?)([KMGT]?)(i?B)?(/s)?", re.IGNORECASE)
_BYTES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_MEGABYTE = 2**20
_LARGEST = 2**63 - 1


class AmountError(ValueError):
    """Not such an amount; ``hint`` has examples, or what to write."""

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.hint = hint


def parse_cpu(text: str) -> int:
    """Return percent of one core: ``150`` and ``150%`` are, and ``1.5`` cores."""
    match = _CPU.fullmatch(text)
    if match is None or (match[2] and match[3]):
        raise AmountError(
            "not an amount of CPU", "for example 150 or 150% (percent of one core), or 1.5 (cores)"
        )
    percent = Fraction(f"{match[1]}{match[2] or ''}") * (100 if match[2] else 1)
    return _whole(percent, "percent")


def parse_megabytes(text: str) -> int:
    """Return MB (of 1024 KB): ``512`` and ``512M`` are, and ``1.5G``."""
    number, unit = parse_size(text, "for example 512 (MB), 512M, 2G or 1.5G")
    if not unit and number.denominator != 1:
        raise AmountError("a fraction wants a unit", f"write {text}G")
    return _whole(number * _BYTES[unit or "M"] / _MEGABYTE, "MB")


def parse_bytes(text: str) -> int:
    """Return bytes: ``1000000`` are, and ``10M``."""
    number, unit = parse_size(text, "for example 512M, 2G or 1.5G")
    size = number * _BYTES[unit]
    if size.denominator != 1 or size > _LARGEST:
        raise AmountError(f"not a whole number of bytes below {_LARGEST}")
    return int(size)


def parse_rate(text: str) -> int:
    """Return bytes per second: ``1000000`` is, and ``10M``."""
    number, unit = parse_size(text, "for example 1000000 (bytes per second), 10M or 1.5M")
    return _whole(number * _BYTES[unit], "bytes per second")


def parse_size(text: str, examples: str) -> tuple[Fraction, str]:
    """Return number and unit (``""``, K, M, G or T) as they stand there."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise AmountError("not a size", examples)
    return Fraction(match[1]), match[2].upper()


def _whole(number: Fraction, unit: str) -> int:
    if number.denominator != 1:
        raise AmountError(f"it is no whole number of {unit}")
    if number > INT32_MAX:
        raise AmountError(f"the largest number is {INT32_MAX} {unit}")
    return int(number)
