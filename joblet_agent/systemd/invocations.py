"""How a unit ended that systemd no longer knows, from the journal (ports.EndedInvocations).

What PID 1 writes for a job's unit, the same on 252 and 257::

    exited with 0          7ad2d189 "Deactivated successfully", once the unit is stopped or collected
    exited with N, signal  98e32220 EXIT_CODE= EXIT_STATUS=, then d9b373ed UNIT_RESULT=
    systemctl stop         de5b426a "Stopping", then 7ad2d189; how the command ended is not told
    RuntimeMaxSec=         d9b373ed UNIT_RESULT=timeout alone
    out of memory          fe6faa94, 98e32220 killed 9, d9b373ed UNIT_RESULT=oom-kill
    not executed           98e32220 EXIT_STATUS=200 to 245, then d9b373ed
    reset-failed           nothing

Death by HUP, INT, TERM or PIPE counts as success for systemd and is not written down: without a
"Stopping" it cannot be told from exit status 0.
"""

import asyncio
import logging
import re
import signal
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import islice
from types import ModuleType
from typing import Any

from joblet_agent.model.job import JobId
from joblet_agent.ports import UnitPhase, UnitStatus
from joblet_agent.systemd.names import unit_name

_STARTED = "39f53479d3a045ac8e11786248231fbf"
_STOPPING = "de5b426a63be47a7b6ac3eaac82e2f6f"
_EXITED = "98e322203f7a4ed290d09fe03c09fe15"
_SUCCEEDED = "7ad2d189f7e94e70a38c781354912448"
_FAILED = "d9b373ed55a64feb8242e02dbe79a49c"

_INVOCATION = re.compile(r"[0-9a-f]{32}")
_ENTRIES_MOST = 1000
_USEC_PER_SECOND = 1_000_000

_log = logging.getLogger(__name__)

# The library's own would make numbers, UUIDs and naive times of some fields.
_CONVERTERS: dict[str, Callable[[Any], str]] = {
    "MESSAGE_ID": bytes.decode,
    "EXIT_STATUS": bytes.decode,
    "__REALTIME_TIMESTAMP": str,
}

Entry = Mapping[str, str]


class JournalInvocations:
    """Reads the journal in a thread, through python3-systemd where it is installed."""

    def __init__(self) -> None:
        self._was_reported = False

    async def status(self, job_id: JobId, invocation_id: str) -> UnitStatus | None:
        """Return how that start of the job's unit ended; see ports.EndedInvocations."""
        if not _INVOCATION.fullmatch(invocation_id):
            return None
        library = self._library()
        if library is None:
            return None
        entries = await asyncio.to_thread(_read, library, job_id, invocation_id)
        return status_of(job_id, invocation_id, entries)

    def _library(self) -> ModuleType | None:
        try:
            from systemd import journal  # noqa: PLC0415  # a C library most runs of the agent never need
        except ImportError:
            if not self._was_reported:
                self._was_reported = True
                _log.warning("cannot look for ended jobs in the journal: python3-systemd is not installed")
            return None
        module: ModuleType = journal
        return module


def status_of(job_id: JobId, invocation_id: str, entries: list[Entry]) -> UnitStatus | None:
    """Put together what the records of PID 1 about one invocation, oldest first, tell of its end."""
    by_id = {entry.get("MESSAGE_ID", ""): entry for entry in entries}
    ending = by_id.get(_EXITED) or by_id.get(_FAILED) or by_id.get(_SUCCEEDED)
    if ending is None:
        return None
    kind, number = _exit(by_id)
    return UnitStatus(
        job_id=job_id,
        phase=UnitPhase.GONE,
        invocation_id=invocation_id,
        exit_kind=kind,
        exit_status=number,
        result=by_id[_FAILED].get("UNIT_RESULT", "") if _FAILED in by_id else "success",
        started_at=_time(by_id.get(_STARTED)),
        ended_at=_time(ending),
    )


def _exit(by_id: Mapping[str, Entry]) -> tuple[str, int]:
    exited = by_id.get(_EXITED)
    if exited is not None and exited.get("EXIT_STATUS", "").isdigit():
        return exited.get("EXIT_CODE", ""), int(exited["EXIT_STATUS"])
    if _FAILED in by_id:
        # A time limit: the stop signal ended it. Anything else: there was no process.
        is_timeout = by_id[_FAILED].get("UNIT_RESULT") == "timeout"
        return ("killed", signal.SIGTERM.value) if is_timeout else ("", 0)
    if _STOPPING in by_id:
        return "killed", signal.SIGTERM.value
    return "exited", 0


def _time(entry: Entry | None) -> datetime | None:
    if entry is None:
        return None
    return datetime.fromtimestamp(int(entry["__REALTIME_TIMESTAMP"]) / _USEC_PER_SECOND, UTC)


def _read(library: ModuleType, job_id: JobId, invocation_id: str) -> list[Entry]:
    """Return the records of PID 1 about the invocation.

    ``_PID`` is the journal's own field and says who wrote a record: any user may write the others.
    """
    try:
        with library.Reader(library.LOCAL_ONLY | library.SYSTEM, converters=_CONVERTERS) as reader:
            reader.add_match(f"UNIT={unit_name(job_id)}")
            reader.add_match(f"INVOCATION_ID={invocation_id}")
            reader.add_match("_PID=1")
            return list(islice(iter(reader.get_next, {}), _ENTRIES_MOST))
    except OSError as error:
        _log.warning("cannot look for the end of job %s in the journal: %s", job_id, error)
        return []
