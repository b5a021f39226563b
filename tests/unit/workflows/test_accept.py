"""From the text of a workflow to members, by the checks of single jobs."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from datetime import UTC, timedelta
from pathlib import Path
from textwrap import dedent

import pytest

from joblet_agent.config import LimitsConfig, MaximaConfig
from joblet_agent.errors import InvalidRequest
from joblet_agent.model.identity import Identity, Role
from joblet_agent.model.job import JobState
from joblet_agent.model.volume import Backing, Volume, VolumeMount, VolumeState, VolumeType
from joblet_agent.model.workflow import WorkflowState
from joblet_agent.units import MIB
from joblet_agent.workflows.accept import Accepted, WorkflowAccept
from joblet_agent.workflows.member_check import MOST_PROBLEMS
from joblet_agent.workflows.wanted import Planned, WantedWorkflow, WorkflowRefused
from tests.unit.jobs.rig import CALLER, Core, Host


@dataclass
class Rig:
    """An agent with the volume ``data``, and the check of workflows on it."""

    core: Core
    accept: WorkflowAccept
    masked: list[str]

    async def run(
        self, text: str, name: str = "", paths: Collection[str] = (), caller: Identity = CALLER
    ) -> Accepted:
        return await self.accept.accepted(WantedWorkflow(dedent(text), name, "w.yml"), caller, paths)

    async def problems(
        self, text: str, name: str = "", paths: Collection[str] = (), caller: Identity = CALLER
    ) -> list[str]:
        """Return what is wrong, each as a line."""
        with pytest.raises(WorkflowRefused) as caught:
            await self.run(text, name, paths, caller)
        return [problem.shown("w.yml") for problem in caught.value.problems]


def with_rig(home: Path, case: Callable[[Rig], Awaitable[None]], limits: LimitsConfig | None = None) -> None:
    host = Host(home)

    async def main() -> None:
        await host.volumes.save(
            Volume(
                "data",
                VolumeType.MEMORY,
                Backing.TMPFS,
                MIB,
                "1MB",
                number=70001,
                created_at=host.clock.now(),
                state=VolumeState.READY,
            )
        )
        core = Core(host, limits=limits)
        await core.open()
        masked: list[str] = []
        accept = WorkflowAccept(
            accept=core.service.accept,
            accept_like=core.service.accept_like,
            explain=core.service.explained,
            networks=lambda: [view.name for view in core.networks.all()],
            volumes=lambda: ["data"],
            mask=lambda text: masked.append(text) or "masked",  # type: ignore[func-returns-value]
            clock=core.clock,
        )
        try:
            async with asyncio.timeout(20):
                await case(Rig(core, accept, masked))
        finally:
            await core.close()

    asyncio.run(main())


def test_members_have_what_the_file_says(tmp_path: Path) -> None:
    text = """
    name: nightly
    description: all of it
    max_parallel: 3
    environment: {MODE: fast}
    jobs:
      load:
        command: load
        outputs: {files: out/data.csv}
      train:
        command: python3
        args: [train.py, "--n=${matrix.n}", "${jobs.load.ROWS}"]
        matrix: {n: [1, 2]}
        requires: load
        network: none
        volumes: ["data:/data:ro"]
        workdir: /data
        timeout: 5m
        resources: {max_cpu: 100, max_memory: 1G}
        retries: {count: 2, delay: 1s}
        max_wait: 1h
        environment: {N: "${matrix.n}"}
        secret_environment: {KEY: "hidden$${jobs.load.ROWS}"}
        uploads: {files: ./train.py, directories: lib/}
      sum:
        command: sum
        requires: [train: FINISHED]
      alarm: {command: alarm, when: failure}
    """

    async def case(rig: Rig) -> None:
        paths = ["train.py", "lib/a.py", "lib/sub", "lib/sub/b.py", "library"]
        accepted = await rig.run(text, paths=paths)
        workflow = accepted.workflow
        assert (workflow.name, workflow.file, workflow.description) == ("nightly", "w.yml", "all of it")
        assert (workflow.max_parallel, workflow.counts.total) == (3, 5)
        assert (workflow.started_by, workflow.role) == ("somebody", "admin")
        assert (workflow.state, workflow.scheduled_at) == (WorkflowState.PENDING, None)
        assert workflow.groups == {"train": ("train-1", "train-2")}
        assert workflow.has_files
        plans = {member.plan.name: member.plan for member in accepted.members}
        assert [plan.number for plan in plans.values()] == [0, 1, 2, 3, 4]
        assert list(plans) == ["load", "train-1", "train-2", "sum", "alarm"]
        assert [plan.has_outputs for plan in plans.values()] == [True] + [False] * 4
        assert plans["load"].output_files == ("out/data.csv",)
        assert [plan.inputs for plan in plans.values()] == [(), ("load",), ("load",), (), ("load",)]
        train = plans["train-2"]
        assert (train.group, train.retries.count, train.max_wait) == ("train", 2, timedelta(hours=1))
        assert (train.upload_files, train.upload_directories) == (("train.py",), ("lib",))
        assert [plan.is_for_failure for plan in plans.values()] == [False] * 4 + [True]
        template = accepted.members[2].template
        spec = template.spec
        assert (spec.command, spec.args) == ("python3", ("train.py", "--n=2", "${jobs.load.ROWS}"))
        assert (spec.name, spec.network, spec.work_dir) == ("train-2", "none", "/data")
        assert spec.volumes == (VolumeMount("data", "/data", is_read_only=True),)
        assert (spec.resources.max_cpu, spec.resources.max_memory) == (100, 1024 * MIB)
        assert spec.resources.timeout == timedelta(minutes=5)
        assert spec.environment == {"MODE": "fast", "N": "2"}
        assert spec.secret_environment == ("KEY",)
        assert spec.uploads == ("lib/a.py", "lib/sub/b.py", "train.py")
        assert (template.state, template.workflow_id) == (JobState.PENDING, workflow.id)
        assert template.dependencies == ("load",)
        assert (template.started_by, template.role) == ("somebody", "admin")
        assert {number: each.environment for number, each in accepted.secrets.items()} == {
            1: {"KEY": "hidden${jobs.load.ROWS}"},
            2: {"KEY": "hidden${jobs.load.ROWS}"},
        }
        assert "hidden" not in repr(accepted)
        assert (accepted.text, rig.masked) == ("masked", [dedent(text)])
        assert rig.core.host.records == []

    with_rig(tmp_path, case)


def test_everything_that_is_wrong_is_told_at_its_place(tmp_path: Path) -> None:
    text = """
    jobs:
      one:
        command: x
        network: brigde
        volumes: [data, "date:/srv/x"]
        uploads: {files: [here.txt, ther.txt], directories: [lib, empty]}
      two:
        command: x
        runtime: python-3.11
        workdir: relative
        resources: {max_cpu: 100000, max_memory: 1M, max_tasks: 5}
        secret_environment: {S: LONG}
    """

    async def case(rig: Rig) -> None:
        assert await rig.problems(
            text.replace("LONG", "x" * 32769), paths=["here.txt", "there.txt", "lib/x"]
        ) == [
            "w.yml:5:5: jobs.one.network: network validation failed: missing networks: [brigde]. "
            "Available networks: [none, isolated, bridge], did you mean bridge?",
            "w.yml:6:21: jobs.one.volumes[1]: volume validation failed: missing volumes: [date], "
            "did you mean data?",
            "w.yml:7:33: jobs.one.uploads.files[1]: file ther.txt referenced in job one not found among "
            "those that came along, did you mean there.txt?",
            "w.yml:7:63: jobs.one.uploads.directories[1]: file empty referenced in job one not found among "
            "those that came along",
            "w.yml:10:5: jobs.two.runtime: runtime validation failed: missing runtimes: [python-3.11]: there "
            "is none of this name",
            "w.yml:11:5: jobs.two.workdir: working directory 'relative' must be absolute",
            "w.yml:12:17: jobs.two.resources.max_cpu: --max-cpu is 100000%, at most 400% are possible: the "
            "host has 4 cores, 100% each",
            "w.yml:12:34: jobs.two.resources.max_memory: --max-memory must be from 4MiB to "
            "9223372036854775807, not 1MiB",
            "w.yml:13:26: jobs.two.secret_environment.S: environment variable validation failed: job 'two': "
            "variable 'S' has 32769 bytes, at most 32768 are allowed; let the command read large data from a "
            "file",
        ]

    with_rig(tmp_path, case)


def test_limits_are_those_of_the_caller_s_role(tmp_path: Path) -> None:
    text = "jobs: {a: {command: x, resources: {max_memory: 2G}}}"

    async def case(rig: Rig) -> None:
        assert await rig.run(text)
        (problem,) = await rig.problems(text, caller=Identity("other", Role.OPERATOR))
        assert problem.startswith(
            "w.yml:1:36: jobs.a.resources.max_memory: --max-memory is 2GiB, the maximum"
        )

    with_rig(tmp_path, case, LimitsConfig(operator=MaximaConfig(max_memory=1024 * MIB)))


def test_what_no_job_can_have_here_is_told_of_the_job(tmp_path: Path) -> None:
    async def case(rig: Rig) -> None:
        text = "jobs: {a: {command: x, args: [y], resources: {max_cpu: 50}}}"
        (problem,) = await rig.problems(text, caller=Identity("other", Role.OPERATOR))
        assert problem.startswith("w.yml:1:11: jobs.a: its workspace would not be limited to 1MiB")

    with_rig(tmp_path, case, LimitsConfig(operator=MaximaConfig(work_size=MIB)))


def test_ever_so_many_jobs_are_wrong(tmp_path: Path) -> None:
    jobs = [f"  j{number}: {{command: x, network: no{number}, runtime: r}}\n" for number in range(3000)]

    async def case(rig: Rig) -> None:
        problems = await rig.problems("jobs:\n" + "".join(jobs))
        assert len(problems) == MOST_PROBLEMS

    with_rig(tmp_path, case)


def test_what_fits_alone_and_not_together_is_told_of_the_job(tmp_path: Path) -> None:
    variables = ", ".join(f"V{number}: {'x' * 32000}" for number in range(60))
    text = f"jobs:\n  a:\n    command: x\n    environment: {{{variables}}}\n"

    async def case(rig: Rig) -> None:
        (problem,) = await rig.problems(text)
        assert problem.startswith("w.yml:3:5: jobs.a: arguments and variables take")

    with_rig(tmp_path, case)


def test_the_reader_s_problems_come_first_and_all(tmp_path: Path) -> None:
    async def case(rig: Rig) -> None:
        assert await rig.problems("jobs: {a: {comand: x, requires: b}}") == [
            "w.yml:1:11: jobs.a: command is missing",
            "w.yml:1:12: jobs.a.'comand': unknown key, did you mean command?",
            "w.yml:1:33: jobs.a.requires: there is no job 'b'",
        ]

    with_rig(tmp_path, case)


def test_one_of_several_workflows_and_one_job_alone(tmp_path: Path) -> None:
    text = """
    workflows:
      small: {jobs: {a: {command: x}}}
      large: {name: Large, jobs: {a: {command: x}, b: {command: x, network: no, requires: a}}}
    """

    async def case(rig: Rig) -> None:
        accepted = await rig.run(text, "small")
        assert (accepted.workflow.name, len(accepted.members)) == ("small", 1)
        (problem,) = await rig.problems(text, "large")
        assert problem.startswith("w.yml:4:64: workflows.large.jobs.b.network: network validation failed")
        (problem,) = await rig.problems(text, "larg")
        assert "did you mean large?" in problem

    with_rig(tmp_path, case)


def test_a_job_that_is_run_alone_has_nobody_s_outputs(tmp_path: Path) -> None:
    text = "jobs: {a: {command: x}, b: {command: x, args: ['${jobs.a.K}'], requires: a}}"

    async def case(rig: Rig) -> None:
        assert (await rig.problems(text, "b")) == [
            "w.yml:1:28: jobs.b: needs an output of job 'a', which is not part of this run"
        ]
        accepted = await rig.run(text, "a")
        assert not accepted.members[0].plan.has_outputs

    with_rig(tmp_path, case)


def test_what_outputs_will_be_is_left_open(tmp_path: Path) -> None:
    text = """
    jobs:
      a: {command: x}
      b: {command: "${jobs.a.TOOL}", workdir: "${jobs.a.DIR}/x", requires: a}
      c: {command: x, workdir: "/../${jobs.a.DIR}", requires: a}
    """

    async def case(rig: Rig) -> None:
        (problem,) = await rig.problems(text)
        assert problem.startswith("w.yml:5:19: jobs.c.workdir: working directory '/../x' must not contain ..")
        accepted = await rig.run(text.replace("/..", ""))
        assert accepted.members[1].template.spec.work_dir == "${jobs.a.DIR}/x"

    with_rig(tmp_path, case)


def test_a_workflow_starts_at_its_time(tmp_path: Path) -> None:
    def text(schedule: str) -> str:
        return f"schedule: {schedule}\njobs: {{a: {{command: x}}}}"

    async def case(rig: Rig) -> None:
        now = rig.core.clock.now()
        later = now + timedelta(hours=1)
        accepted = await rig.run(text(f"'{later.isoformat()}'"))
        assert (accepted.workflow.state, accepted.workflow.scheduled_at) == (WorkflowState.SCHEDULED, later)
        assert accepted.schedule == ""
        past = await rig.run(text("2001-01-01T00:00:00Z"))
        assert (past.workflow.state, past.workflow.scheduled_at is None) == (WorkflowState.PENDING, False)
        daily = await rig.run(text("daily"))
        assert (daily.schedule, daily.workflow.state) == ("daily", WorkflowState.PENDING)
        (problem,) = await rig.problems(text("'no; time'"))
        assert problem.startswith("w.yml:1:1: schedule: cannot read 'no; time'")
        far = now.astimezone(UTC).replace(year=now.year + 20)
        (problem,) = await rig.problems(text(f"'{far.isoformat()}'"))
        assert "more than 3660 days ahead" in problem

    with_rig(tmp_path, case)


def test_the_plan_tells_steps_conditions_and_units(tmp_path: Path) -> None:
    text = """
    jobs:
      last: {command: last, requires: [{expression: m=COMPLETED AND first=COMPLETED}]}
      m: {command: m, matrix: {n: [1, 2]}, requires: first}
      first: {command: first, network: none}
    """

    async def case(rig: Rig) -> None:
        accepted = await rig.run(text)
        planned = await rig.accept.planned(accepted, explain=True)
        assert [(each.name, each.step, each.requires) for each in planned] == [
            ("first", 1, ""),
            ("m-1", 2, "first=COMPLETED"),
            ("m-2", 2, "first=COMPLETED"),
            ("last", 3, "m=COMPLETED AND first=COMPLETED"),
        ]
        assert isinstance(planned[0], Planned)
        assert planned[0].explanation == rig.core.service.explained(accepted.members[3].template)
        bare = await rig.accept.planned(accepted, explain=False)
        assert {each.explanation for each in bare} == {None}

    with_rig(tmp_path, case)


def test_others_have_their_turn_while_many_jobs_are_checked(tmp_path: Path) -> None:
    text = "jobs: {a: {command: x, matrix: {n: [" + ", ".join(map(str, range(2000))) + "]}}}"

    async def case(rig: Rig) -> None:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        accepted = await rig.run(text)
        during = turns
        await rig.accept.planned(accepted, explain=True)
        assert (len(accepted.members), during > 5, turns > during) == (2000, True, True)
        task.cancel()
        await asyncio.wait([task])

    with_rig(tmp_path, case)


def test_the_name_of_the_file_is_checked(tmp_path: Path) -> None:
    async def case(rig: Rig) -> None:
        wanted = WantedWorkflow("jobs: {a: {command: x}}", file="w\n.yml")
        with pytest.raises(InvalidRequest) as caught:
            await rig.accept.accepted(wanted, CALLER, ())
        assert caught.value.reason == "BAD_FILE_NAME"
        assert await rig.accept.accepted(replace(wanted, file=""), CALLER, ())

    with_rig(tmp_path, case)
