"""What the shell offers: as rnx answers the scripts; tests/e2e/test_completion.py has the shells."""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from joblet_agent.pb import joblet_pb2 as pb
from rnx.cli import cli
from rnx.shells import SHELLS, script
from tests.unit.rnx.conftest import Rnx
from tests.unit.rnx.fake_agent import UUID, FakeAgent

OTHER = "99999999-2222-4333-8444-555555555555"
Offered = Callable[..., dict[str, str]]


@pytest.fixture
def offered(rnx: Rnx, monkeypatch: pytest.MonkeyPatch) -> Offered:
    """What is offered for a line, with its descriptions; files and directories by their kind."""

    def ask(line: str, shell: str = "zsh") -> dict[str, str]:
        monkeypatch.setenv("_RNX_COMPLETE", f"{shell}_complete")
        monkeypatch.setenv("COMP_LINE", line)
        monkeypatch.setenv("COMP_WORDBREAKS", " \t\n\"'><=;|&(:")
        result = rnx()
        assert (result.status, result.err) == (0, "")
        rows = [row.split("\t") for row in result.out.splitlines() if row]
        return {row[1] if row[0] == "plain" else f"<{row[0]}>": row[-1] for row in rows}

    return ask


def jobs_of(*jobs: pb.Job) -> Callable[[Any, Any], pb.QueryJobsResponse]:
    def answer(request: Any, _: Any) -> pb.QueryJobsResponse:
        found = [
            job
            for job in jobs
            if job.uuid.startswith(request.uuid_prefix)
            and (not request.states or job.status in request.states)
        ]
        return pb.QueryJobsResponse(jobs=found[: request.page_size])

    return answer


def test_commands_are_offered_with_what_they_do(offered: Offered) -> None:
    assert offered("rnx st") == {"status": "Show everything about a job.", "stop": "End a job."}
    assert offered("rnx network re") == {"remove": "Remove a network that no job uses."}
    assert offered("rnx --node=local job expl") == {"explain": "Show the systemd unit of a job."}


def test_ids_are_those_of_jobs_that_the_command_can_take(agent: FakeAgent, offered: Offered) -> None:
    running = pb.Job(uuid=UUID, status="RUNNING", name="web", command="/usr/bin/nginx", args=["-g", "x"])
    ended = pb.Job(uuid=OTHER, status="FAILED", command="false")
    agent.answers["QueryJobs"] = jobs_of(running, ended)
    assert offered("rnx stop ") == {UUID: "RUNNING web nginx -g x"}
    assert offered("rnx delete ") == {OTHER: "FAILED false"}
    assert list(offered("rnx log ")) == [UUID, OTHER]
    assert list(offered("rnx job log --tail 5 9999")) == [OTHER]
    assert agent.asked("QueryJobs")[-1].uuid_prefix == "9999"
    assert offered("rnx cancel ") == {}
    assert list(offered("rnx exec ")) == [UUID]


def test_only_a_paused_job_can_be_resumed(agent: FakeAgent, offered: Offered) -> None:
    paused = pb.Job(uuid=UUID, status="RUNNING", paused=True, command="true")
    agent.answers["QueryJobs"] = jobs_of(paused, pb.Job(uuid=OTHER, status="RUNNING", command="true"))
    assert offered("rnx job resume ") == {UUID: "PAUSED true"}
    assert list(offered("rnx job pause ")) == [OTHER]


def test_no_more_ids_are_asked_for_than_anybody_reads(agent: FakeAgent, offered: Offered) -> None:
    agent.answers["QueryJobs"] = jobs_of()
    offered("rnx log ")
    assert agent.asked("QueryJobs")[0].page_size == 200


def test_names_are_asked_of_the_agent(agent: FakeAgent, offered: Offered) -> None:
    agent.answers["ListNetworks"] = pb.Networks(networks=[pb.Network(name="bridge", cidr="172.20.0.0/16")])
    agent.answers["ListVolumes"] = pb.Volumes(volumes=[pb.Volume(name="data", size="1GB", type="memory")])
    active, idle = pb.Schedule(uuid=UUID, status="ACTIVE", schedule="daily", command="true"), OTHER
    schedules = [active, pb.Schedule(uuid=idle, status="PAUSED", schedule="weekly", name="sum")]
    agent.answers["ListSchedules"] = pb.ListSchedulesResponse(schedules=schedules)
    volume = pb.Volume(snapshots=[pb.VolumeSnapshot(name="before")])
    agent.answers["GetVolumes"] = pb.GetVolumesResponse(volumes=[volume])
    assert offered("rnx network inspect b") == {"bridge": "172.20.0.0/16"}
    assert offered("rnx run --network=") == {"--network=bridge": "172.20.0.0/16"}
    assert offered("rnx run --volume ") == {"data": "1GB memory"}
    assert offered("rnx volume cp ") == {"data:": "1GB memory", "<file>": ""}
    assert offered("rnx volume restore data ") == {"before": ""}
    assert offered("rnx volume snapshot data ") == {}, "a new name is wanted"
    assert offered("rnx volume snapshot --remove data ") == {"before": ""}
    assert offered("rnx schedule pause ") == {UUID: "daily true"}
    assert offered("rnx schedule resume ") == {OTHER: "weekly sum"}


def test_ids_of_workflows_are_those_that_the_command_can_take(agent: FakeAgent, offered: Offered) -> None:
    running = pb.WorkflowInfo(uuid=UUID, status="RUNNING", name="nightly", completed_jobs=1, total_jobs=4)
    ended = pb.WorkflowInfo(uuid=OTHER, status="FAILED", workflow="w.yml", total_jobs=2)

    def found(request: Any, _: Any) -> pb.ListWorkflowsResponse:
        return pb.ListWorkflowsResponse(
            workflows=[running, ended] if request.include_completed else [running]
        )

    agent.answers["ListWorkflows"] = found
    assert offered("rnx workflow stop ") == {UUID: "RUNNING 1/4 nightly"}
    assert offered("rnx workflow retry --failed ") == {OTHER: "FAILED 0/2 w.yml"}
    assert list(offered("rnx workflow logs ")) == [UUID, OTHER]
    assert list(offered("rnx workflow status 9999")) == [OTHER]
    assert offered("rnx workflow resume ") == {}
    assert [each.include_completed for each in agent.asked("ListWorkflows")] == [
        False,
        True,
        True,
        True,
        False,
    ]
    assert list(offered("rnx workflow graph ")) == [UUID, OTHER, "<file>"]
    for line in ("rnx workflow run ", "rnx workflow validate ", "rnx run --workflow ", "rnx run --workflow="):
        assert list(offered(line)) == ["<file>"]
    jobs = [
        pb.WorkflowJob(job_name="load", status="RUNNING"),
        pb.WorkflowJob(job_name="test", status="WAITING"),
    ]
    agent.answers["GetWorkflowStatus"] = pb.GetWorkflowStatusResponse(jobs=jobs)
    assert offered(f"rnx workflow logs {UUID} lo") == {"load": "RUNNING"}


def test_nodes_are_those_of_the_file_that_the_line_names(offered: Offered, tmp_path: Path) -> None:
    (tmp_path / "rnx-config.yml").write_text("nodes: {default: {address: 'a:1'}}")
    (tmp_path / "mine.yml").write_text("nodes: {east: {address: 'b:1'}, evil;id: {address: 'c:1'}}")
    assert offered("rnx --node ") == {"default": "a:1", "local": "this host"}
    assert offered("rnx --config=mine.yml --node ") == {"east": "b:1", "local": "this host"}
    assert offered("rnx list --config mine.yml --node=e") == {"--node=east": "b:1"}


def test_flags_of_run_are_offered_until_its_command_and_then_files(offered: Offered) -> None:
    assert list(offered("rnx run --net")) == ["--network"]
    assert list(offered("rnx job run -a --profile ")) == ["default", "strict", "privileged"]
    assert offered("rnx run --upload-dir ") == {"<dir>": ""}
    for line in (
        "rnx run sh ",
        "rnx run -a -- ",
        "rnx run -- -",
        "rnx run sh --node ",
        "rnx run sh --node=l",
    ):
        assert "<file>" in offered(line), line
    assert offered("rnx run sh --ne") == {}


def test_flags_of_exec_are_over_with_the_id(agent: FakeAgent, offered: Offered) -> None:
    assert "--workdir" in offered("rnx exec -")
    assert offered(f"rnx exec {UUID} -- ls ") == {"<file>": ""}
    assert offered(f"rnx exec {UUID} ls --wor") == {}


def test_bash_gets_the_part_of_a_word_that_it_replaces(agent: FakeAgent, offered: Offered) -> None:
    agent.answers["ListNetworks"] = pb.Networks(networks=[pb.Network(name="bridge")])
    assert list(offered("rnx run --network=b", "bash")) == ["bridge"]
    assert list(offered("rnx run --network b", "bash")) == ["bridge"]


def test_a7_nothing_that_a_job_is_called_reaches_the_shell_or_the_terminal(
    agent: FakeAgent, offered: Offered
) -> None:
    name = "$(reboot)`id`\x1b[31m\n\tplain\trm"
    agent.answers["QueryJobs"] = jobs_of(pb.Job(uuid=UUID, status="RUNNING", name=name, command="x" * 99))
    agent.answers["ListNetworks"] = pb.Networks(
        networks=[pb.Network(name=bad) for bad in ("$(reboot)", "a b", "a\nplain\trm", "*", "", "good")]
    )
    for shell in SHELLS:
        ((value, text),) = offered("rnx stop ", shell).items()
        assert value == UUID
        assert text.startswith("RUNNING $(reboot)`id`\\x1b[31m plain rm xxx")
        assert text.isprintable()
        assert len(text) == 60
        assert list(offered("rnx network inspect ", shell)) == ["good"]


def test_without_an_agent_nothing_is_offered(rnx: Rnx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNX_ADDRESS", "unix:/nowhere/agent.sock")
    monkeypatch.setenv("_RNX_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_LINE", "rnx stop ")
    assert rnx().out == ""


def test_an_agent_that_does_not_answer_is_given_up(agent: FakeAgent) -> None:
    is_over = threading.Event()
    agent.answers["QueryJobs"] = lambda *_: is_over.wait(60) and pb.QueryJobsResponse()
    env = {"RNX_ADDRESS": agent.address, "_RNX_COMPLETE": "zsh_complete", "COMP_LINE": "rnx stop "}
    root = str(Path(__file__).resolve().parents[3])
    ran = subprocess.run(
        [sys.executable, "-m", "rnx"],
        env={**env, "PYTHONPATH": root},
        capture_output=True,
        timeout=10,
        check=True,
    )
    is_over.set()
    assert ran.stdout == b""


def test_the_script_is_printed_for_each_shell(rnx: Rnx) -> None:
    for shell in SHELLS:
        result = rnx("completion", shell)
        assert (result.status, result.out) == (0, script("rnx", shell))
        assert "_RNX_COMPLETE" in result.out
    assert rnx("completion", "tcsh").status == 2


def test_every_command_can_be_completed(offered: Offered) -> None:
    assert set(offered("rnx ")) == set(cli.list_commands(None))  # type: ignore[arg-type]


def test_runtimes_and_builds_are_offered(agent: FakeAgent, offered: Offered) -> None:
    agent.answers["ListRuntimes"] = pb.ListRuntimesResponse(
        runtimes=[
            pb.RuntimeInfo(name="go-1.24", version="1.0.0", description="Go"),
            pb.RuntimeInfo(name="go-1.24", version="1.1.0", description="Go", latest=True),
            pb.RuntimeInfo(name="node-20", version="1.0.0", latest=True),
        ]
    )
    assert list(offered("rnx run --runtime=n")) == ["--runtime=node-20", "--runtime=node-20@1.0.0"]
    assert offered("rnx runtime info go-1.24@") == {"go-1.24@1.0.0": "Go", "go-1.24@1.1.0": "Go"}
    assert offered("rnx runtime validate node-20") == {"node-20": "", "node-20@1.0.0": "", "<file>": ""}
    phase = pb.BuildPhaseProgress(phase_name="pip packages")
    agent.answers["GetRuntimeBuilds"] = pb.GetRuntimeBuildsResponse(
        builds=[pb.RuntimeBuild(build_id="b0", name="go-1.24", version="1.0.0", phase=phase)]
    )
    assert offered("rnx runtime attach ") == {"go-1.24@1.0.0": "pip packages"}
