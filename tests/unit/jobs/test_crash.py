"""R3: the agent dies at every point where it waits for the store or for systemd, and is started again.

A point is before or after a call had its effect. Whatever the point, every job must come to one end
that fits what systemd did, no unit may stay, no job may start twice, no uid may be lost.
"""

import asyncio
import random
from collections.abc import Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from joblet_agent.config import JobsConfig
from joblet_agent.errors import JobletError
from joblet_agent.model.job import JobId, JobSpec, JobState, Reason, Token
from joblet_agent.model.network import NetworkSpec
from joblet_agent.model.secrets import NO_SECRETS, Secrets
from joblet_agent.ports import UnitPhase
from tests.unit.jobs.mortal import CrashNow, CrashPlan, Mortal
from tests.unit.jobs.rig import CALLER, Core, Host, mortal_threads, until

pytestmark = pytest.mark.exhaustive

SECRETS = Secrets({"KEY": "s3cr3t"}, {"key": b"s3cr3t"})
COMMANDS = [
    ("sleep",),
    ("sleep",),
    ("exit", "0"),
    ("exit", "9"),
    ("signal", "9"),
    ("refused",),
    ("unanswered",),
]
_ACTS = [
    *("run", "run", "run", "stop", "cancel", "end", "resync", "kill", "update"),
    *("schedule", "schedule", "minute"),
    *("network", "network", "no network"),
]
LIMITS = JobsConfig(max_concurrent=2, uid_count=2)


class Story:
    """One schedule of what users and commands do, the same for each point."""

    def __init__(self, core: Core, seed: int) -> None:
        self._core = core
        self._random = random.Random(seed)
        self._known: list[JobId] = []
        self._calls: list[asyncio.Task[Any]] = []

    async def tell(self) -> None:
        for _ in range(12):
            await self._step()
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def close(self) -> None:
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def _step(self) -> None:
        match self._random.choice(_ACTS):
            case "run":
                self._call(self._run(self._random.choice(COMMANDS)))
            case "schedule":
                self._call(self._quietly(self._schedule(timedelta(seconds=self._random.randrange(1, 90)))))
            case "network":
                self._call(self._quietly(self._core.networks.create(NetworkSpec("mine", "10.10.0.0/24"))))
            case "no network":
                self._call(self._quietly(self._core.networks.remove("mine")))
            case "minute":
                self._core.host.timers.advance(timedelta(minutes=1))
            case "stop" | "kill" as verb if self._known:
                await self._quietly(
                    self._core.service.stop(self._random.choice(self._known), force=verb == "kill")
                )
            case "cancel" if self._known:
                await self._quietly(self._core.service.cancel(self._random.choice(self._known)))
            case "update" if self._known:
                changes = {"max_cpu": self._random.randrange(1, 400)}
                self._call(
                    self._quietly(
                        self._core.service.update(self._random.choice(self._known), changes, CALLER)
                    )
                )
            case "end":
                for job_id in running(self._core.host)[:1]:
                    self._core.host.units.end(job_id, "exited", 4, "exit-code")
            case "resync":
                self._core.resync.set()
        for _ in range(self._random.randrange(20)):
            await asyncio.sleep(0)

    def _call(self, call: Coroutine[Any, Any, None]) -> None:
        self._calls.append(asyncio.create_task(call))

    async def _run(self, command: tuple[str, ...]) -> None:
        await self._quietly(self._remember(*command))

    async def _remember(self, *command: str) -> None:
        secrets = self._random.choice([NO_SECRETS, SECRETS])
        token = self._random.choice([None, Token(f"token {self._random.random()}", "digest")])
        network = self._random.choice(["none", "bridge", "mine"])
        spec = JobSpec(command[0], command[1:], network=network)
        job = await self._core.service.run(spec, CALLER, secrets=secrets, token=token)
        self._known.append(job.id)

    async def _schedule(self, after: timedelta) -> None:
        due = (self._core.clock.time + after).isoformat()
        self._known.append((await self._core.service.run(JobSpec("sleep", schedule=due), CALLER)).id)

    async def _quietly(self, call: Coroutine[Any, Any, Any]) -> None:
        try:
            await call
        except JobletError:
            """A job that has ended, or was refused: part of the story."""


def running(host: Host) -> list[JobId]:
    return [job_id for job_id, status in host.units.units.items() if status.phase is not UnitPhase.ENDED]


async def _live(host: Host, plan: CrashPlan, seed: int) -> None:
    core = Core(
        host,
        jobs=LIMITS,
        store=Mortal(host.store, plan),
        units=Mortal(host.units, plan),
        timers=Mortal(host.timers, plan),
        backend=Mortal(host.kernel, plan),
        network_store=Mortal(host.networks, plan),
    )
    story = Story(core, seed)
    try:
        await core.open()
        told = asyncio.create_task(story.tell())
        dies = asyncio.create_task(plan.crashed.wait())
        await asyncio.wait({told, dies}, return_when=asyncio.FIRST_COMPLETED)
        for task in (told, dies):
            task.cancel()
        await asyncio.gather(told, dies, return_exceptions=True)
    except CrashNow:
        pass
    finally:
        plan.crashed.set()  # also when the story was over: what follows is the next agent's
        await story.close()
        await core.close()


async def _come_to_an_end(host: Host) -> None:
    core = Core(host, jobs=LIMITS)
    await core.open()
    for job_id in running(host):
        record = host.store.records[job_id]
        told = host.units.limits.get(job_id, {"max_cpu": host.units.plans[job_id].spec.resources.max_cpu})
        assert (record.unapplied_limits, record.spec.resources.max_cpu) == ((), told["max_cpu"])
    while any(not record.has_ended for record in host.records):
        host.timers.advance(timedelta(minutes=1))
        for job_id in running(host):
            if not host.store.records[job_id].stop_requested:  # those are the agent's to stop
                host.units.end(job_id, "exited", 0)
        await asyncio.sleep(0)
    await until(lambda: not list(core.registry) and not host.units.units and not host.timers.timers)
    assert core.free_uids() == LIMITS.uid_count
    assert host.kernel.attachments == {}
    for view in core.networks.all():
        assert view.members == ()
    assert set(host.kernel.networks) == {"bridge", "isolated", *host.networks.networks}
    assert not any(stored.is_removed for stored in host.networks.networks.values())
    paths = host.paths
    for place in (paths.starting_secrets, paths.waiting_secrets, paths.credentials, paths.environments):
        assert list(place.iterdir()) == []
    await core.close()


def _fits(host: Host, job_id: JobId) -> bool:
    """Whether the end that is on record is one that systemd's side allows."""
    record = host.store.records[job_id]
    outcome = record.outcome
    assert outcome is not None
    assert outcome.state is record.state
    did_run = job_id in host.units.starts
    if not did_run:
        return record.state in {JobState.CANCELED, JobState.STOPPED} or outcome.reason is Reason.START_FAILED
    if record.state is JobState.STOPPED:
        return record.stop_requested
    ends = {
        (end.exit_kind, end.exit_status)
        for (ended_id, _), end in host.invocations.ends.items()
        if ended_id == job_id
    }
    told = ("killed", outcome.signal) if outcome.signal else ("exited", outcome.exit_code)
    return told in ends


@pytest.mark.parametrize("seed", range(10))
def test_an_agent_that_dies_anywhere_loses_nothing(tmp_path: Path, seed: int) -> None:
    async def life_and_death(at: int) -> bool:
        host = Host(tmp_path / str(at))
        plan = CrashPlan(at)
        was_reached = False
        async with asyncio.timeout(60):
            async with mortal_threads():
                await _live(host, plan, seed)
            was_reached = plan.is_due
            await _come_to_an_end(host)
        assert len(host.units.starts) == len(set(host.units.starts)), f"started twice, death at {at}"
        for record in host.records:
            assert record.has_ended
            assert _fits(host, record.id), f"death at {at}: {record}, {host.calls}"
        assert host.units.units == {}
        return was_reached

    at = 0
    while asyncio.run(life_and_death(at)):
        at += 1
    assert at > 10
