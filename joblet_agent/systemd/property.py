"""One property of a unit, as ``StartTransientUnit`` and ``SetUnitProperties`` want it."""

from dataclasses import dataclass

Value = bool | int | str | bytes | list["Value"]


@dataclass(frozen=True, slots=True)
class Property:
    """One property of a job's unit."""

    name: str
    signature: str
    value: Value
    origin: str
    """The option or configuration key it comes from, or the promise it keeps."""
    manual: str
