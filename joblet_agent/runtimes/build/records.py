"""What an agent must know to go on with a build that it did not begin: one file in the build's directory.

Written before each phase and each step, and after each step. It need not outlast a loss of power, as no build
does: whatever began before the last boot is removed. So it is renamed into place, and not synced.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from joblet_agent.runtimes.build.events import BuildPhase
from joblet_agent.runtimes.build.step import BuildPlace

__all__ = ["BuildOptions", "BuildRecord", "PhaseNote", "read_record", "write_record"]

_FORM: Final = 1
_MOST_BYTES: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """What a caller wants of a build beside the definition."""

    force: bool = False
    """Replace a runtime of this name and version."""
    locked: bool = False
    """Fail when anything differs from the lock."""
    lock: str = ""
    """Text of the lock file; empty for none."""
    detach: bool = False
    """Go on when nobody follows."""
    only_lock: bool = False
    """Find out the versions, and keep nothing but the lock."""
    dry_run: bool = False
    """Show the plan, and change nothing."""


@dataclass(frozen=True, slots=True)
class PhaseNote:
    """A phase that began."""

    phase: BuildPhase
    message: str
    skipped: bool
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRecord:
    """A build under way."""

    id: str
    runtime: str
    """``NAME@VERSION``."""
    text: str
    """The definition."""
    options: BuildOptions
    caller: str = ""
    began_at: datetime
    boot_id: str
    """Of the kernel that it began on."""
    phases: tuple[PhaseNote, ...] = ()
    """Those that have begun."""
    step: str = ""
    """The step whose unit was about to start, or has; empty between steps."""
    done: Mapping[str, str] = field(default_factory=dict)
    """Steps that have succeeded, with what they left to be known."""
    resumed: int = 0
    """How often an agent went on with it."""


def _path(place: BuildPlace) -> Path:
    return place.root / "build.json"


def write_record(place: BuildPlace, record: BuildRecord) -> None:
    """Store the record. Blocking; raises OSError."""
    document = {
        "form": _FORM,
        "id": record.id,
        "runtime": record.runtime,
        "text": record.text,
        "options": {name: getattr(record.options, name) for name in BuildOptions.__slots__},
        "caller": record.caller,
        "began_at": record.began_at.isoformat(),
        "boot_id": record.boot_id,
        "phases": [
            {
                "phase": note.phase.value,
                "message": note.message,
                "skipped": note.skipped,
                "at": note.at.isoformat(),
            }
            for note in record.phases
        ],
        "step": record.step,
        "done": dict(record.done),
        "resumed": record.resumed,
    }
    new = _path(place).with_suffix(".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(document, file)
    new.replace(_path(place))


def read_record(place: BuildPlace) -> BuildRecord | None:
    """Return the record; None if there is none that can be read. Blocking."""
    try:
        with _path(place).open(encoding="utf-8") as file:
            document = json.loads(file.read(_MOST_BYTES))
        return _from_document(document) if document["form"] == _FORM else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _from_document(document: Mapping[str, Any]) -> BuildRecord:
    return BuildRecord(
        id=str(document["id"]),
        runtime=str(document["runtime"]),
        text=str(document["text"]),
        options=BuildOptions(**document["options"]),
        caller=str(document["caller"]),
        began_at=_time(document["began_at"]),
        boot_id=str(document["boot_id"]),
        phases=tuple(
            PhaseNote(
                BuildPhase(note["phase"]), str(note["message"]), bool(note["skipped"]), _time(note["at"])
            )
            for note in document["phases"]
        ),
        step=str(document["step"]),
        done={str(name): str(value) for name, value in document["done"].items()},
        resumed=int(document["resumed"]),
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
