"""A workflow whose agent dies at a point that is given, and the agents that come after it.

What outlives an agent is the host (tests/unit/jobs/rig.py): the stores, systemd, the files. The world ends
units as the case says, and a client repeats what it got no answer to.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from joblet_agent.errors import WrongState
from joblet_agent.jobs.plan import OUTPUT_NAME
from joblet_agent.model.job import JobId, Token
from joblet_agent.model.workflow import Workflow, WorkflowFilter
from joblet_agent.ports import UnitPhase
from joblet_agent.workflows.wanted import WantedWorkflow
from tests.unit.jobs.mortal import CrashNow, CrashPlan, Mortal
from tests.unit.jobs.rig import CALLER, Core, Host, mortal_threads, until
from tests.unit.workflows.cases import Act, Case

_LONGEST = 30.0


@dataclass(frozen=True)
class Result:
    """What has become of a workflow."""

    state: str
    members: dict[str, str]
    """END/TRIES by name."""
    starts: dict[str, int]
    """Units that were started, by member."""


@dataclass
class World:
    """What goes on around the agent: commands end, a client asks."""

    case: Case
    host: Host
    answered: int = 0
    """Acts that the client knows to be done."""
    is_submitted: bool = False
    deaths: int = 0
    most_at_once: int = 0
    """Units that ran at the same time."""
    result: Result | None = None

    def running(self) -> list[JobId]:
        units = self.host.units.units
        return [job_id for job_id, status in units.items() if status.phase is UnitPhase.RUNNING]

    def name_of(self, job_id: JobId) -> str:
        return self.host.units.plans[job_id].spec.name

    def end_one(self) -> bool:
        """Let the command end that has run longest; False if none may."""
        running = self.running()
        self.most_at_once = max(self.most_at_once, len(running))
        acts = [
            act
            for number, act in enumerate(self.case.acts)
            if number >= self.answered or act.verb == "stop"  # then nothing but the stop ends them
        ]
        held = {name for act in acts for name in act.while_running}
        for job_id in running:
            if self.name_of(job_id) in held or self.host.units.units[job_id].is_frozen:
                continue
            name = self.name_of(job_id)
            tries = [each for each in self.host.units.starts if self.name_of(each) == name]
            number = tries.index(job_id)
            status = self.case.status(name, number)
            work = self.host.paths.job(job_id).work
            (work / OUTPUT_NAME).write_text(f"try={number}\n", encoding="utf-8")
            (work / "left").write_text(f"{number}", encoding="utf-8")
            self.host.units.end(job_id, "exited", status, "exit-code" if status else "success")
            return True
        return False

    def end_all(self) -> None:
        """Let every command end that may."""
        while self.end_one():
            pass

    def pass_time(self) -> None:
        """Let a minute pass if anybody waits for it."""
        if self.case.is_for_later and self.is_submitted:
            self.host.timers.advance(timedelta(minutes=1))

    async def turn(self) -> None:
        while True:
            self.end_one()
            self.pass_time()
            for _ in range(5):
                await asyncio.sleep(0)

    async def workflow(self) -> Workflow | None:
        found = await self.host.workflows.all(WorkflowFilter())
        assert len(found) <= 1, "submitted twice"
        return found[0] if found else None

    async def ask(self, core: Core) -> None:
        """Do what the client does, from where it has got to, until the workflow has ended."""
        if not self.is_submitted:
            wanted = WantedWorkflow(self.case.text, file="case.yml")
            await core.workflows.run(wanted, CALLER, token=Token("once", "digest"))
            self.is_submitted = True
        for act in self.case.acts[self.answered :]:
            await self._until(act)
            await self._do(core, act.verb)
            self.answered += 1
        await self._until(Act("end"))

    async def _do(self, core: Core, verb: str) -> None:
        found = await self.workflow()
        assert found is not None
        try:
            if verb == "retry_failed":
                await core.workflows.retry(found.id, failed_only=True)
            else:
                await getattr(core.workflows, verb)(found.id)
        except WrongState:
            assert self.deaths, "refused what was not asked for before"

    async def _until(self, act: Act) -> None:
        while True:
            found = await self.workflow()
            has_ended = found is not None and found.state.has_ended
            names = {self.name_of(job_id) for job_id in self.running()}
            if has_ended or (act.while_running and names >= set(act.while_running)):
                return
            await asyncio.sleep(0)


def replayed(home: Path, case: Case, deaths: Sequence[int], *, ends_meanwhile: bool) -> tuple[Result, bool]:
    """Run the workflow with an agent that dies at these points, each counted from its start.

    Without one it lives to the end. With ``ends_meanwhile`` commands go on to their ends before the
    next agent comes. Returns also whether the last death came to pass.
    """

    async def main() -> tuple[Result, bool]:
        world = World(case, Host(home))
        plans = [CrashPlan(at) for at in deaths]
        async with asyncio.timeout(_LONGEST):
            for plan in plans:
                async with mortal_threads():
                    await _live(world, plan)
                world.deaths += 1
                if ends_meanwhile:
                    world.end_all()
                    world.pass_time()
            await _live_on(world)
        assert world.result is not None
        return world.result, all(plan.is_due for plan in plans)

    return asyncio.run(main())


async def _live(world: World, plan: CrashPlan) -> None:
    host = world.host
    core = Core(
        host,
        store=Mortal(host.store, plan),
        units=Mortal(host.units, plan),
        workflow_store=Mortal(host.workflows, plan),
        slices=Mortal(host.units.slices, plan),
        timers=Mortal(host.timers, plan),
    )
    tasks: list[asyncio.Task[object]] = []
    try:
        await core.open()
        tasks = [asyncio.create_task(each) for each in (world.turn(), world.ask(core), plan.crashed.wait())]
        await asyncio.wait(tasks[1:], return_when=asyncio.FIRST_COMPLETED)
    except CrashNow:
        pass
    finally:
        plan.crashed.set()  # also when the workflow was over: what follows is the next agent's
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        await core.close()
    for fault in ended:
        if isinstance(fault, AssertionError):
            raise fault


async def _live_on(world: World) -> None:
    host = world.host
    core = Core(host)
    await core.open()
    turns = asyncio.create_task(world.turn())
    try:
        await world.ask(core)
        await until(lambda: not host.units.units and not list(core.registry))
        found = await world.workflow()
        assert found is not None
        members = await host.workflows.members(found.id)
        for job_id, plan in host.units.plans.items():
            name = world.name_of(job_id)
            assert plan.spec.args == world.case.args.get(name, plan.spec.args), name
        world.result = Result(
            found.state.value,
            {each.plan.name: f"{each.progress.state}/{each.progress.tries}" for each in members},
            dict(Counter(world.name_of(job_id) for job_id in host.units.starts)),
        )
        assert await core.workflows.delete(found.id) == (found.id, len(set(host.units.starts)))
        assert host.records == []
        assert list(host.paths.workflows.iterdir()) == []
        await until(lambda: not host.units.slices.titles)
    finally:
        turns.cancel()
        await core.close()
