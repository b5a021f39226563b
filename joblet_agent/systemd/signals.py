"""Reads the signals of systemd from the bytes of D-Bus messages, and of those only what is wanted.

systemd sends some twenty ``PropertiesChanged`` of twenty properties each for every job, and others for
units that are no job's. dbus-next turns each into objects in 0.3 ms, which was 7 of the 10 ms of CPU
that a job cost the agent; reading ten values in place takes a tenth of that. Pure; the format is the
"Message Protocol" of the D-Bus Specification. Raises MalformedMessage for what breaks its rules.
"""

from collections.abc import Callable, Container
from dataclasses import dataclass
from struct import Struct
from struct import error as struct_error
from typing import Any

LITTLE_ENDIAN = ord("l")
SIGNAL = 4

_UINT32 = Struct("<I")
_FIXED = {
    "y": Struct("<B"),
    "b": Struct("<I"),
    "n": Struct("<h"),
    "q": Struct("<H"),
    "i": Struct("<i"),
    "u": Struct("<I"),
    "x": Struct("<q"),
    "t": Struct("<Q"),
    "d": Struct("<d"),
    "h": Struct("<I"),
}
_ALIGNMENT = {"y": 1, "g": 1, "v": 1, "n": 2, "q": 2, "x": 8, "t": 8, "d": 8, "(": 8, "{": 8}
_DEFAULT_ALIGNMENT = 4
_FIXED_HEADER = 16
_PATH, _MEMBER, _SIGNATURE = 1, 3, 8
_MOST_MESSAGE = 128 * 1024 * 1024  # of the specification
_MOST_DEPTH = 64


class MalformedMessage(ValueError):
    """The bytes are no D-Bus message."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal; ``body`` has its strings and numbers, and for PropertiesChanged the wanted properties."""

    path: str
    member: str
    body: list[Any]


def message_size(buffer: bytes | bytearray) -> int | None:
    """Return the size of the message that the buffer begins with; None if too little is there yet."""
    if len(buffer) < _FIXED_HEADER:
        return None
    if buffer[0] not in b"lB":
        raise MalformedMessage("no message begins like this")
    order = Struct("<I" if buffer[0] == LITTLE_ENDIAN else ">I")
    (body,) = order.unpack_from(buffer, 4)
    (fields,) = order.unpack_from(buffer, 12)
    size: int = _aligned(_FIXED_HEADER + fields, 8) + body
    if size > _MOST_MESSAGE:
        raise MalformedMessage(f"a message of {size} bytes")
    return size


def is_signal(message: bytes) -> bool:
    """Say whether ``read_signal`` can read it: a signal in the byte order of this machine."""
    return message[0] == LITTLE_ENDIAN and message[1] == SIGNAL


def read_signal(message: bytes, is_wanted: Callable[[str], bool], names: Container[str]) -> Signal | None:
    """Return the signal; None for PropertiesChanged of an object path that is not wanted.

    Of PropertiesChanged (``sa{sv}as``) the body is one dict: the properties in ``names``, as plain values.
    """
    try:
        path, member, signature, offset = _read_header(message)
        if member == "PropertiesChanged":
            return Signal(path, member, [_changed(message, offset, names)]) if is_wanted(path) else None
        return Signal(path, member, _simple_body(message, offset, signature))
    except (struct_error, IndexError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(str(error)) from error


def _read_header(message: bytes) -> tuple[str, str, str, int]:
    found = {_PATH: "", _MEMBER: "", _SIGNATURE: ""}
    (length,) = _UINT32.unpack_from(message, 12)
    offset, end = _FIXED_HEADER, _FIXED_HEADER + length
    while offset < end:
        offset = _aligned(offset, 8)
        code = message[offset]
        kind, offset = _read_signature(message, offset + 1)
        if code in found:
            found[code], offset = _read(message, offset, kind)
        else:
            offset = _skip(message, offset, kind)
    return found[_PATH], found[_MEMBER], found[_SIGNATURE], _aligned(end, 8)


def _changed(message: bytes, offset: int, names: Container[str]) -> dict[str, Any]:
    changed = {}
    _, offset = _read_string(message, offset)  # the interface: names of both interfaces differ
    offset = _aligned(offset, 4)
    (length,) = _UINT32.unpack_from(message, offset)
    offset = _aligned(offset + 4, 8)
    end = offset + length
    while offset < end:
        name, offset = _read_string(message, _aligned(offset, 8))
        kind, offset = _read_signature(message, offset)
        if name in names:
            changed[name], offset = _read(message, offset, kind)
        else:
            offset = _skip(message, offset, kind)
    return changed


def _simple_body(message: bytes, offset: int, signature: str) -> list[Any]:
    body = []
    for kind in signature:
        value, offset = _read(message, offset, kind)
        body.append(value)
    return body


def _read(message: bytes, offset: int, kind: str) -> tuple[Any, int]:
    if kind in {"s", "o"}:
        return _read_string(message, offset)
    if kind == "g":
        return _read_signature(message, offset)
    if kind == "ay":
        offset = _aligned(offset, 4)
        (length,) = _UINT32.unpack_from(message, offset)
        return bytes(message[offset + 4 : offset + 4 + length]), offset + 4 + length
    if kind not in _FIXED:
        raise MalformedMessage(f"a value of type {kind!r} was not expected here")
    form = _FIXED[kind]
    offset = _aligned(offset, form.size)
    (value,) = form.unpack_from(message, offset)
    return bool(value) if kind == "b" else value, offset + form.size


def _read_string(message: bytes, offset: int) -> tuple[str, int]:
    offset = _aligned(offset, 4)
    (length,) = _UINT32.unpack_from(message, offset)
    end = offset + 4 + length
    if end >= len(message):
        raise MalformedMessage("a string goes beyond the message")
    return message[offset + 4 : end].decode(), end + 1


def _read_signature(message: bytes, offset: int) -> tuple[str, int]:
    end = offset + 1 + message[offset]
    return message[offset + 1 : end].decode("ascii"), end + 1


def _skip(message: bytes, offset: int, signature: str, depth: int = 0) -> int:
    """Return the offset behind a value of one complete type."""
    kind = signature[0]
    if kind in _FIXED:
        size = _FIXED[kind].size
        return _aligned(offset, size) + size
    if kind in "soa":
        offset = _aligned(offset, 4)
        (length,) = _UINT32.unpack_from(message, offset)
        if kind == "a":
            element = signature[1]
            return _aligned(offset + 4, _ALIGNMENT.get(element, _DEFAULT_ALIGNMENT)) + int(length)
        return offset + 4 + int(length) + 1
    if kind == "g":
        return offset + message[offset] + 2
    if depth > _MOST_DEPTH:
        raise MalformedMessage("nested too deep")
    if kind == "v":
        inner, offset = _read_signature(message, offset)
        return _skip(message, offset, inner, depth + 1)
    if kind == "(":
        offset = _aligned(offset, 8)
        for member in _members(signature):
            offset = _skip(message, offset, member, depth + 1)
        return offset
    raise MalformedMessage(f"no value has the type {signature!r}")


def _members(signature: str) -> list[str]:
    """Split the signature of a struct, "(a(ss)ub)", into the complete types of its members."""
    members, start, position = [], 1, 1
    while signature[position] != ")":
        while signature[position] == "a":
            position += 1
        depth = 0
        while True:
            depth += {"(": 1, "{": 1, ")": -1, "}": -1}.get(signature[position], 0)
            position += 1
            if depth == 0:
                break
        members.append(signature[start:position])
        start = position
    return members


def _aligned(offset: int, size: int) -> int:
    return (offset + size - 1) & -size
