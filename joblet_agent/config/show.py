"""The configuration that counts, for people and for programs. There is no secret in it."""

import json

from joblet_agent.config.keys import every_key
from joblet_agent.config.load import Loaded

_INDENT = "  "


def as_yaml(loaded: Loaded, *, with_origins: bool) -> str:
    """Return every key with its value, as a configuration file that sets the same.

    With origins, each has its file and line as a comment, or that it is the default.
    """
    lines: list[str] = []
    sections: list[str] = []
    for key in every_key():
        *inside, name = key.name.split(".")
        kept = 0
        while kept < min(len(sections), len(inside)) and sections[kept] == inside[kept]:
            kept += 1
        lines += [f"{_INDENT * depth}{inside[depth]}:" for depth in range(kept, len(inside))]
        sections = inside
        line = f"{_INDENT * len(inside)}{name}: {key.text(loaded.config)}"
        lines.append(f"{line}  # {_origin(loaded, key.name)}" if with_origins else line)
    return "\n".join(lines) + "\n"


def as_json(loaded: Loaded) -> str:
    """Return the files that were read, and of every key its value, its origin, and when a change counts."""
    keys = {
        key.name: {
            "value": key.plain(loaded.config),
            "origin": _origin(loaded, key.name),
            "change": key.change.value,
        }
        for key in every_key()
    }
    return json.dumps({"files": [str(file) for file in loaded.files], "keys": keys}, indent=2) + "\n"


def _origin(loaded: Loaded, key: str) -> str:
    return str(loaded.origins.get(key, "default"))
