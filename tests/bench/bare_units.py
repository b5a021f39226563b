"""The units of the agent's jobs by a bare D-Bus client, as cheaply as it can.

No store, no API, no log reader: it prepares the files of a job, starts the unit, learns of its end by
signals and releases it. What it takes is what systemd and D-Bus from Python cost; it reads signals in
the same short way as the agent, so a gain there makes both faster and does not flatter the agent.
"""

import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dbus_next.constants import MessageType
from dbus_next.message import Message
from dbus_next.signature import Variant

from joblet_agent.config import AgentConfig
from joblet_agent.jobs import files
from joblet_agent.jobs.paths import AgentPaths
from joblet_agent.jobs.plan import launch_plan
from joblet_agent.model.job import JobRecord, JobSpec, JobState, new_job_id
from joblet_agent.ports import LaunchPlan
from joblet_agent.systemd.connection import Connection
from joblet_agent.systemd.environment import environment_file_text
from joblet_agent.systemd.names import unit_name, unit_path
from joblet_agent.systemd.properties import UnitSettings, unit_properties
from joblet_agent.systemd.signals import Signal
from joblet_agent.systemd.users import UserRecords
from joblet_agent.systemd.version import require_host
from tests.bench.agent_service import RUN, STATE

_SYSTEMD = "org.freedesktop.systemd1"
_MANAGER = f"{_SYSTEMD}.Manager"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_UNITS_CHANGED = (
    f"type='signal',sender='{_SYSTEMD}',interface='{_PROPERTIES}',member='PropertiesChanged',"
    "path_namespace='/org/freedesktop/systemd1/unit'"
)
_PATHS = AgentPaths(STATE / "bare", RUN / "bare")
_FIRST_UID = AgentConfig().jobs.uid_first + AgentConfig().jobs.uid_count


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that has ended: when its start was sent and when its end was heard, CLOCK_REALTIME ns."""

    plan: LaunchPlan
    sent_ns: int
    heard_ns: int


class BareUnits:
    """One connection to the system bus."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._ends: dict[str, asyncio.Future[None]] = {}
        self._number = 0
        self._users = UserRecords()

    async def open(self) -> None:
        """Connect and subscribe to the signals of units."""
        for directory in (_PATHS.jobs, _PATHS.environments, _PATHS.launch_reports):
            directory.mkdir(parents=True, exist_ok=True)
        self._bus = Connection(self._on_signal)
        await self._bus.connect()
        bus = "org.freedesktop.DBus"
        await self._call(bus, "/org/freedesktop/DBus", bus, "AddMatch", "s", [_UNITS_CHANGED])
        await self._systemd("Subscribe")
        version = await self._call(
            _SYSTEMD, "/org/freedesktop/systemd1", _PROPERTIES, "Get", "ss", [_MANAGER, "Version"]
        )
        self._settings = UnitSettings(
            AgentConfig(),
            require_host(version[0].value),
            has_user_records=not self._users.trouble(),
        )

    def close(self) -> None:
        """Disconnect."""
        self._bus.disconnect()  # type: ignore[no-untyped-call]

    def prepare(self, command: str, *args: str) -> LaunchPlan:
        """Make the files of a job."""
        self._number += 1
        record = JobRecord(
            id=new_job_id(),
            spec=JobSpec(command, args, network="none"),
            state=JobState.INITIALIZING,
            created_at=datetime.now(UTC),
            uid=_FIRST_UID + self._number,
        )
        plan = launch_plan(record, _PATHS, self._root)
        files.prepare(_PATHS.job(record.id), record.uid)
        plan.environment_file.write_text(environment_file_text(plan, self._settings), encoding="utf-8")
        self._users.write(record.id, record.uid)
        return plan

    async def run(self, plan: LaunchPlan, without: Collection[str] = ()) -> Ended:
        """Start the job, its unit ``without`` some properties, and wait for its end; the unit stays."""
        end = asyncio.get_running_loop().create_future()
        self._ends[unit_path(plan.job_id)] = end
        sent_ns = time.time_ns()
        properties = [
            [entry.name, Variant(entry.signature, entry.value)]
            for entry in unit_properties(plan, self._settings)
            if entry.name not in without
        ]
        await self._systemd(
            "StartTransientUnit", "ssa(sv)a(sa(sv))", unit_name(plan.job_id), "fail", properties, []
        )
        await end
        return Ended(plan, sent_ns, time.time_ns())

    async def release(self, ended: Ended) -> None:
        """Let systemd forget the unit."""
        await self._systemd("StopUnit", "ss", unit_name(ended.plan.job_id), "replace")

    def remove(self, ended: Ended) -> None:
        """Remove the files of the job."""
        files.remove_all(_PATHS.job(ended.plan.job_id))
        self._users.remove(ended.plan.job_id)

    def _on_signal(self, signal: Signal) -> None:
        end = self._ends.get(signal.path)
        if end is None or signal.member != "PropertiesChanged":
            return
        state = signal.body[0].get("SubState")
        if state in {"exited", "failed"}:
            del self._ends[signal.path]
            if state == "exited":
                end.set_result(None)
            else:
                end.set_exception(RuntimeError(f"unit failed: {signal.path}"))

    async def _systemd(self, member: str, signature: str = "", *body: Any) -> Sequence[Any]:
        return await self._call(_SYSTEMD, "/org/freedesktop/systemd1", _MANAGER, member, signature, body)

    async def _call(
        self, destination: str, path: str, interface: str, member: str, signature: str, body: Sequence[Any]
    ) -> Sequence[Any]:
        reply = await self._bus.call(
            Message(
                destination=destination,
                path=path,
                interface=interface,
                member=member,
                signature=signature,
                body=list(body),
            )
        )
        assert reply is not None
        if reply.message_type is MessageType.ERROR:
            raise RuntimeError(f"{member}: {reply.error_name}: {reply.body}")
        words: Sequence[Any] = reply.body
        return words
