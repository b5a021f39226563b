"""Configurations as files have them."""

import json
from collections.abc import Mapping
from typing import Any


def written(values: Mapping[str, str]) -> str:
    """Return a file with these values, by key with its sections: texts as they stand in a file."""
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *sections, name = key.split(".")
        section = tree
        for each in sections:
            section = section.setdefault(each, {})
        section[name] = value
    return _flow(tree)


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_flow(inner)}" for name, inner in value.items()) + "}"
    text = str(value)
    return json.dumps(text) if ":" in text and not text.startswith('"') else text
