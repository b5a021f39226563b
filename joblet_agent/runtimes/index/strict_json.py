"""JSON of strangers: bounded in size and depth, each key once, no numbers that are none."""

import json
import re
from typing import Any, Final

MOST_BYTES: Final = 4 << 20
_MOST_DEPTH = 16
_MOST_DIGITS = 20
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\Z)|[\[\]{}]', re.DOTALL)


def parse(data: bytes) -> Any:
    """Return what the text says. Blocking; raises ValueError, with the place."""
    if len(data) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES >> 20} MiB")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 at byte {error.start}") from None
    _check_depth(text)
    try:
        return json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_int=_whole, parse_float=_fraction
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error.msg} in line {error.lineno}") from None


def _check_depth(text: str) -> None:
    depth = 0
    for token in _TOKEN.finditer(text):
        match token.group()[0]:
            case "[" | "{":
                depth += 1
            case "]" | "}":
                depth -= 1
        if depth > _MOST_DEPTH:
            line = text.count("\n", 0, token.start()) + 1
            raise ValueError(f"it is nested more than {_MOST_DEPTH} deep in line {line}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"it has the key {key[:64]!r} twice in one object")
        found[key] = value
    return found


def _whole(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"it has a number of more than {_MOST_DIGITS} digits")
    return int(text)


def _fraction(text: str) -> float:
    raise ValueError(f"it has the number {text[:_MOST_DIGITS]}, expected whole numbers")


def _constant(text: str) -> float:
    raise ValueError(f"it has {text}, which is not JSON")
