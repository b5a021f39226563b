"""The text of what leads from NAME@VERSION to a tree (layout.py, names). Pure.

Readers skip keys that they do not know, and take the default for those that are missing: agents of the
version before and of the version after read the same files.
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, fields
from datetime import datetime
from typing import Any

from joblet_agent.model.runtime import Runtime, RuntimeFacts

__all__ = ["read_runtime", "runtime_text"]

_TIME = "built_at"


def runtime_text(runtime: Runtime) -> bytes:
    """Return the file's content."""
    facts = asdict(runtime.facts)
    facts[_TIME] = runtime.facts.built_at and runtime.facts.built_at.isoformat()
    told = {
        "digest": runtime.digest,
        "size": runtime.size,
        "files": runtime.files,
        "added_at": runtime.added_at.isoformat(),
        "facts": facts,
    }
    return json.dumps(told, indent=2, sort_keys=True).encode() + b"\n"


def read_runtime(text: bytes) -> Runtime:
    """Read a file's content. Raises ValueError."""
    try:
        told = json.loads(text)
        return Runtime(
            facts=RuntimeFacts(
                **{field.name: _value(field, told["facts"]) for field in fields(RuntimeFacts)}
            ),
            digest=str(told["digest"]),
            size=int(told["size"]),
            files=int(told["files"]),
            added_at=datetime.fromisoformat(told["added_at"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a runtime: {error!r}") from error


def _value(field: "Field[Any]", facts: Mapping[str, Any]) -> Any:
    if field.name not in facts:
        if field.default is not MISSING:
            return field.default
        if field.default_factory is not MISSING:
            return field.default_factory()
        raise KeyError(field.name)
    value = facts[field.name]
    if field.name == _TIME:
        return None if value is None else datetime.fromisoformat(value)
    return tuple(value) if isinstance(value, list) else value
