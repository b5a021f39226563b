"""What jobs leave to others, on fakes; the job may have made anything of its /work."""

import asyncio
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from joblet_agent.config import WorkflowsConfig
from joblet_agent.jobs.paths import AgentPaths
from joblet_agent.model.job import JobRecord, JobSpec
from joblet_agent.model.workflow import WorkflowId, new_workflow_id
from joblet_agent.units import KIB
from joblet_agent.workflows import output_files
from joblet_agent.workflows.output_files import OutputFiles
from joblet_agent.workflows.outputs import OutputCollector, Result
from tests.contract.job_records import record
from tests.unit.jobs.rig import Core, with_core
from tests.unit.workflows.test_belongings import PLAN, end, job_of, started, tree


@dataclass
class Left:
    """What an ended job of a workflow left, and who takes it."""

    home: Path
    config: WorkflowsConfig = field(default_factory=lambda: WorkflowsConfig(max_outputs=64 * KIB))
    workflow_id: WorkflowId = field(default_factory=new_workflow_id)
    job: JobRecord = field(init=False)
    paths: AgentPaths = field(init=False)

    def __post_init__(self) -> None:
        self.job = replace(record(1), workflow_id=self.workflow_id)
        self.paths = AgentPaths(self.home / "state", self.home / "run")
        for directory in self.paths.directories:
            directory.mkdir(parents=True, exist_ok=True)
        self.work.mkdir(parents=True)
        (self.home / "shadow").write_text("root:secret")

    @property
    def work(self) -> Path:
        return self.paths.job(self.job.id).work

    @property
    def kept(self) -> Path:
        return self.paths.workflow(self.workflow_id).output(5)

    def collect(self, *files: str) -> Result:
        """Take its outputs as the agent does at its end."""

        async def collect() -> Result:
            collector = OutputCollector(self.paths, self.config)
            collector.expect(self.job.id, self.workflow_id, 5, files)
            await collector.collect(self.job)
            return await collector.result(self.workflow_id, 5, self.job.id)

        return asyncio.run(collect())

    def write(self, name: str, content: bytes = b"x") -> None:
        file = self.work / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


@pytest.fixture
def left(tmp_path: Path) -> Left:
    return Left(tmp_path)


def test_values_and_files_are_taken(left: Left) -> None:
    left.write(".joblet-output", b"ROWS=12\nDIGEST=ab=\n")
    left.write("model/weights.bin", b"w" * 1000)
    left.write("model/sub/meta", b"m")
    left.write("report.txt", b"r")
    left.write("not-asked-for")
    os.chmod(left.work / "report.txt", 0o4755)
    result = left.collect("model/", "/work/report.txt", "./report.txt")
    assert result == ({"ROWS": "12", "DIGEST": "ab="}, "")
    assert tree(left.kept / "files") == {
        "model/weights.bin": b"w" * 1000,
        "model/sub/meta": b"m",
        "report.txt": b"r",
    }
    status = (left.kept / "files/report.txt").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o755, os.getuid())


def test_a_job_that_leaves_nothing_has_none(left: Left) -> None:
    assert left.collect() == ({}, "")
    assert list(left.paths.workflows.iterdir()) == []


def link_out(work: Path) -> None:
    (work / "out").symlink_to(work.parents[3] / "shadow")


def link_to_a_directory(work: Path) -> None:
    (work / "out").symlink_to(work.parents[3], target_is_directory=True)


def fifo(work: Path) -> None:
    os.mkfifo(work / "out")


def missing(_work: Path) -> None:
    pass


def large(work: Path) -> None:
    (work / "out").write_bytes(bytes(65 * KIB))


def large_together(work: Path) -> None:
    (work / "out").mkdir()
    for name in "abc":
        (work / "out" / name).write_bytes(bytes(25 * KIB))


def a_hole(work: Path) -> None:
    (work / "out").touch()
    os.truncate(work / "out", 2**40)


def many(work: Path) -> None:
    (work / "out").mkdir()
    for number in range(21):
        (work / "out" / str(number)).symlink_to("x")


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (
            link_out,
            "cannot read files: 'out': it leads through a symbolic link, or through what is no directory",
        ),
        (
            link_to_a_directory,
            "cannot read files: 'out': it leads through a symbolic link, or through what is no directory",
        ),
        (fifo, "cannot read files: 'out': it is neither a file nor a directory"),
        (missing, "cannot read files: there is no 'out'"),
        (large, "its output files have more than 64KiB (workflows.max_outputs); none is kept"),
        (large_together, "its output files have more than 64KiB (workflows.max_outputs); none is kept"),
        (a_hole, "its output files have more than 64KiB (workflows.max_outputs); none is kept"),
        (many, "there are more than 20 output files; none is kept"),
    ],
)
def test_a3_what_is_no_file_or_too_much_is_told_and_left(
    left: Left, make: Callable[[Path], None], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_files, "MOST_ENTRIES", 20)
    make(left.work)
    left.write(".joblet-output", b"A=1\n")
    assert left.collect("out") == ({"A": "1"}, problem)
    assert tree(left.kept).keys() == {"result"}


def test_a3_what_is_no_file_in_a_directory_is_left_out_and_told(left: Left) -> None:
    left.write("out/file", b"f")
    (left.work / "out/link").symlink_to(left.home / "shadow")
    (left.work / "out/up").symlink_to("..")
    os.mkfifo(left.work / "out/pipe")
    (left.work / "out/own").hardlink_to(left.work / "out/file")
    (left.work / os.fsdecode(b"out/\xff")).write_bytes(b"x")
    problems = OutputFiles(left.home / "taken", 64 * KIB).take(left.work, ("out",))
    assert sorted(problems) == [
        "'out/\\\\xff' is left out: its name is not UTF-8",
        "'out/link' is left out: a symbolic link",
        "'out/pipe' is left out: no regular file",
        "'out/up' is left out: a symbolic link",
    ]
    assert left.collect("out").problem.endswith("; and 1 more")
    assert tree(left.kept / "files") == {"out/file": b"f", "out/own": b"f"}
    assert (left.kept / "files/out/own").stat().st_nlink == 1


@pytest.mark.parametrize("path", ["..", "../x", "a/../../x", "/etc/shadow", "", "/", "x\0", "%2e%2e/x"])
def test_a3_paths_that_lead_out_are_refused(left: Left, path: str) -> None:
    result = left.collect(path)
    assert "cannot take outputs: path" in result.problem
    assert tree(left.kept / "files") == {}


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/etc/shadow")])
def test_a3_the_file_of_values_may_be_anything(left: Left, make: Callable[[Path], None]) -> None:
    make(left.work / ".joblet-output")
    result = left.collect()
    assert result.outputs == {}
    assert result.problem.startswith("cannot read files: '.joblet-output'")


def test_a3_a_gigabyte_of_values_is_not_read(left: Left) -> None:
    left.write(".joblet-output", b"A=1\n")
    os.truncate(left.work / ".joblet-output", 2**30)
    assert left.collect() == ({}, ".joblet-output has more than 64 KiB; nothing of it is taken")


def test_a_disk_that_is_nearly_full_keeps_its_room(left: Left, monkeypatch: pytest.MonkeyPatch) -> None:
    left.write("out")
    room = os.statvfs(left.home)
    monkeypatch.setattr(
        os,
        "statvfs",
        lambda _: os.statvfs_result((*room[:3], room.f_blocks // 20, room.f_blocks // 20, *room[5:])),
    )
    assert left.collect("out").problem == (
        "too little room on the agent's disk for its output files; none is kept"
    )


def test_what_the_disk_refuses_is_the_jobs_problem(left: Left) -> None:
    left.paths.workflow(left.workflow_id).home.write_text("in the way")
    assert left.collect("out").problem.startswith("its outputs cannot be kept: ")


def test_a_workspace_in_memory_has_no_outputs(left: Left) -> None:
    left.job = replace(left.job, spec=JobSpec("x", work_in_memory=True))
    assert left.collect("out").problem == (
        "no output files: with a work size its /work is memory of its own here"
    )


def test_r3_what_is_taken_stays_until_another_job_of_the_member_ends(left: Left) -> None:
    left.write("out", b"first")
    left.write(".joblet-output", b"TRY=1\n")
    first = left.collect("out")
    half = left.kept.with_name("5.new")
    half.mkdir()
    (half / "files").write_text("of an agent that died")
    (left.work / "out").unlink()  # settled, and then the agent died before the end was stored
    assert left.collect("out") == first == ({"TRY": "1"}, "")
    assert tree(left.kept / "files") == {"out": b"first"}
    left.job = replace(left.job, id=record(2).id)
    left.work.mkdir(parents=True)
    assert asyncio.run(OutputCollector(left.paths, left.config).result(left.workflow_id, 5, left.job.id)) == (
        {},
        "",
    )
    left.write("out", b"second")
    assert left.collect("out") == ({}, "")
    assert tree(left.kept / "files") == {"out": b"second"}
    assert [each.name for each in left.kept.parent.iterdir()] == ["5"]


def test_they_are_taken_before_the_jobs_files_are_settled_and_told_by_its_end(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        workflow_id = new_workflow_id()
        job, other = (job_of(workflow_id, JobSpec("sleep")) for _ in range(2))
        core.outputs.expect(job.id, workflow_id, PLAN.number, ("out",))
        for each in (job, other):
            await started(core, each)
            work = core.host.paths.job(each.id).work
            (work / "out").write_text("result")
            (work / ".joblet-output").write_text("A=1\n")
            environment = core.host.units.plans[each.id].environment
            assert environment["JOBLET_OUTPUT"] == "/work/.joblet-output"
            assert environment["JOBLET_WORKFLOW_ID"] == workflow_id
            assert environment["JOBLET_WORKFLOW_JOB"] == "build"
            await end(core, each.id)
        assert await core.outputs.result(workflow_id, PLAN.number, job.id) == ({"A": "1"}, "")
        assert await core.outputs.result(workflow_id, PLAN.number, other.id) == ({}, "")
        kept = core.host.paths.workflow(workflow_id).output_files(PLAN.number)
        assert tree(kept) == {"out": b"result"}

    with_core(tmp_path, case)


def test_nothing_is_taken_of_a_job_that_never_ran(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        workflow_id = new_workflow_id()
        job = job_of(workflow_id, JobSpec("sleep"))
        core.outputs.expect(job.id, workflow_id, PLAN.number, ("out",))
        await core.store.save(job)
        core.registry.queue.hold(job.id)
        core.waiting.take_in(job.id)
        await core.service.cancel(job.id)
        assert await core.outputs.result(workflow_id, PLAN.number, job.id) == ({}, "")
        assert list(core.host.paths.workflows.iterdir()) == []

    with_core(tmp_path, case)
