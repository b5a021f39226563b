"""Every command that prints data prints the same as JSON and as YAML, and nothing else to standard output."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from joblet_agent.pb import joblet_pb2 as pb
from tests.unit.rnx.conftest import Rnx
from tests.unit.rnx.fake_agent import UUID, FakeAgent

JOB = pb.Job(uuid=UUID, command="true", status="RUNNING")
ENDED = pb.WorkflowInfo(uuid=UUID, status="COMPLETED")
ANSWERS: dict[str, Any] = {
    "RunJob": pb.RunJobResponse(job_uuid=UUID, command="true", status="RUNNING"),
    "QueryJobs": pb.QueryJobsResponse(jobs=[JOB]),
    "GetJobStatus": pb.GetJobStatusResponse(uuid=UUID, command="true", status="RUNNING"),
    "StopJob": pb.StopJobResponse(uuid=UUID, status="STOPPED"),
    "CancelJob": pb.CancelJobResponse(uuid=UUID, status="CANCELED"),
    "DeleteJob": pb.DeleteJobResponse(uuid=UUID, success=True),
    "DeleteAllJobs": pb.DeleteAllJobsResponse(success=True, deleted_count=2),
    "ExplainJob": pb.ExplainJobResponse(uuid=UUID, unit="u"),
    "PauseJob": pb.PauseJobResponse(uuid=UUID, status="RUNNING"),
    "ResumeJob": pb.ResumeJobResponse(uuid=UUID, status="RUNNING"),
    "KillJob": pb.KillJobResponse(uuid=UUID, status="RUNNING"),
    "UpdateJob": pb.UpdateJobResponse(uuid=UUID, status="RUNNING"),
    "GetRunningMetrics": pb.GetRunningMetricsResponse(),
    "ListSchedules": pb.ListSchedulesResponse(schedules=[pb.Schedule(uuid=UUID)]),
    "GetSchedule": pb.GetScheduleResponse(schedule=pb.Schedule(uuid=UUID), jobs=[JOB]),
    "PauseSchedule": pb.PauseScheduleResponse(schedule=pb.Schedule(uuid=UUID)),
    "ResumeSchedule": pb.ResumeScheduleResponse(schedule=pb.Schedule(uuid=UUID)),
    "RemoveSchedule": pb.RemoveScheduleResponse(uuid=UUID),
    "CreateNetwork": pb.CreateNetworkResponse(name="n", cidr="10.10.0.0/24", bridge="joblet-n"),
    "ListNetworks": pb.Networks(networks=[pb.Network(name="bridge"), pb.Network(name="n")]),
    "GetNetworks": pb.GetNetworksResponse(networks=[pb.Network(name="n")]),
    "RemoveNetwork": pb.RemoveNetworkResponse(success=True),
    "CreateVolume": pb.CreateVolumeResponse(name="v", size="1GB", type="memory", path="/v"),
    "ListVolumes": pb.Volumes(volumes=[pb.Volume(name="v", warning="came back empty")]),
    "GetVolumes": pb.GetVolumesResponse(
        volumes=[pb.Volume(name="v", snapshots=[pb.VolumeSnapshot(name="s")])]
    ),
    "GrowVolume": pb.GrowVolumeResponse(volume=pb.Volume(name="v")),
    "RemoveVolume": pb.RemoveVolumeResponse(success=True),
    "SnapshotVolume": pb.SnapshotVolumeResponse(snapshot=pb.VolumeSnapshot(name="s")),
    "RestoreVolume": pb.RestoreVolumeResponse(),
    "RemoveVolumeSnapshot": pb.RemoveVolumeSnapshotResponse(),
    "GetNode": pb.GetNodeResponse(),
    "ListWorkflows": pb.ListWorkflowsResponse(workflows=[ENDED]),
    "GetWorkflowStatus": pb.GetWorkflowStatusResponse(workflow=ENDED, jobs=[pb.WorkflowJob(job_name="a")]),
    "StopWorkflow": pb.StopWorkflowResponse(workflow=ENDED),
    "CancelWorkflow": pb.CancelWorkflowResponse(workflow=ENDED),
    "PauseWorkflow": pb.PauseWorkflowResponse(workflow=ENDED),
    "ResumeWorkflow": pb.ResumeWorkflowResponse(workflow=ENDED),
    "RetryWorkflow": pb.RetryWorkflowResponse(workflow=ENDED),
    "DeleteWorkflow": pb.DeleteWorkflowResponse(workflow_uuid=UUID, deleted_jobs=2),
    "ListRuntimes": pb.ListRuntimesResponse(runtimes=[pb.RuntimeInfo(name="r", version="1.0.0")]),
    "GetRuntimeInfo": pb.GetRuntimeInfoResponse(found=True, runtime=pb.RuntimeInfo(name="r")),
    "TestRuntime": pb.TestRuntimeResponse(success=True, output="works"),
    "RemoveRuntime": pb.RemoveRuntimeResponse(success=True, message="removed r@1.0.0"),
    "GetOfferedRuntimes": pb.GetOfferedRuntimesResponse(runtimes=[pb.OfferedRuntime(name="r")]),
    "GetRuntimeBuilds": pb.GetRuntimeBuildsResponse(builds=[pb.RuntimeBuild(build_id="b", name="r")]),
    "CancelRuntimeBuild": pb.CancelRuntimeBuildResponse(build=pb.RuntimeBuild(build_id="b", name="r")),
    "GcRuntimes": pb.GcRuntimesResponse(trees=1),
    "VerifyRuntime": pb.VerifyRuntimeResponse(runtime=pb.JobRuntime(name="r")),
    "ValidateRuntimeSpec": pb.ValidateRuntimeSpecResponse(valid=True, normalized_spec="r"),
    "FollowRuntimeBuild": pb.BuildRuntimeProgress(result=pb.BuildResult(success=True, runtime_name="r")),
    "StreamingInstallRuntimeFromGithub": pb.RuntimeInstallationChunk(
        result=pb.RuntimeInstallationResult(success=True, runtime_spec="r@1.0.0")
    ),
}
COMMANDS = [
    "run true",
    "run -q true",
    "list",
    "list -q",
    f"status {UUID}",
    f"stop {UUID}",
    f"cancel {UUID}",
    f"delete {UUID}",
    "delete-all",
    f"explain {UUID}",
    f"job pause {UUID}",
    f"job resume {UUID}",
    f"job kill {UUID}",
    f"job update --max-cpu=50 {UUID}",
    "job top",
    "schedule list",
    "schedule list -q",
    f"schedule show {UUID}",
    f"schedule pause {UUID}",
    f"schedule resume {UUID}",
    f"schedule remove {UUID}",
    "network create n --cidr=10.10.0.0/24",
    "network list",
    "network inspect n",
    "network graph",
    "network remove n",
    "network delete n",
    "volume create v --size=1GB",
    "volume list",
    "volume inspect v",
    "volume grow v --size=2GB",
    "volume snapshot v s",
    "volume snapshot v s --remove",
    "volume snapshots v",
    "volume restore v s",
    "volume remove v",
    "volume delete v",
    "workflow list",
    "workflow list -q",
    "list --workflow",
    f"workflow status {UUID}",
    f"status --workflow {UUID}",
    f"workflow graph {UUID}",
    f"workflow stop {UUID}",
    f"workflow cancel {UUID}",
    f"workflow pause {UUID}",
    f"workflow resume {UUID}",
    f"workflow retry {UUID}",
    f"workflow delete {UUID}",
    "runtime list",
    "runtime list --registry",
    "runtime info r",
    "runtime test r",
    "runtime verify",
    "runtime remove r",
    "runtime gc",
    "runtime builds",
    "runtime cancel b",
    "runtime attach b",
    "runtime install r",
    "runtime validate r",
    "monitor status",
    "--version",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_json_and_yaml_are_the_same_data(agent: FakeAgent, rnx: Rnx, command: str) -> None:
    agent.answers.update(ANSWERS)
    read: dict[str, Callable[[str], Any]] = {"json": json.loads, "yaml": yaml.safe_load}
    printed = []
    for form, load in read.items():
        result = rnx("-o", form, *command.split())
        assert (result.status, result.err) == (0, "")
        printed.append(load(result.out))
    assert printed[0] == printed[1]
    assert isinstance(printed[0], dict | list)
