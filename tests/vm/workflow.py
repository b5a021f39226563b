"""A workflow that the host goes down under: a program for the inside of a virtual machine.

``python3 -m tests.vm.workflow start`` runs it until it waits for the host to go down, and prints its id;
``python3 -m tests.vm.workflow end ID`` prints, once it has ended, what has become of it, and deletes it.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import grpc

from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.pb import joblet_pb2_grpc as stubs

_DEADLINE = 120.0
_VOLUME = "tries"
_FILE = f"/volumes/{_VOLUME}/tries"
_NOTE = f"echo $NAME >> {_FILE}; sync {_FILE}"
# Waits for the host to go down, the first time.
_ONCE = f"{_NOTE}; test $(grep -c $NAME {_FILE}) -gt 1 || exec sleep 100000"
_ENDED = {"COMPLETED", "FAILED", "STOPPED", "CANCELED"}


def _job(script: str, name: str, **keys: Any) -> dict[str, Any]:
    return {"args": ["-c", script], "environment": {"NAME": name}, **keys}


_JOBS = {
    "before": _job(_NOTE, "before"),
    "again": _job(_ONCE, "again", requires="before", retries=1),
    "once": _job(_ONCE, "once", requires="before"),
    "goes-on": _job(_NOTE, "goes-on", requires="again"),
    "cannot": _job(_NOTE, "cannot", requires="once"),
    "instead": _job(_NOTE, "instead", requires={"once": "FAILED"}),
    "tidy": _job(_NOTE, "tidy", when="always"),
}
_TEXT = json.dumps(
    {
        "name": "over a reboot",
        "defaults": {"command": "sh", "network": "none", "volumes": [_VOLUME]},
        "jobs": _JOBS,
    }
)


class _Host:
    def __init__(self) -> None:
        channel = grpc.insecure_channel("unix:/run/joblet/agent.sock")
        self.jobs = stubs.JobServiceStub(channel)  # type: ignore[no-untyped-call]
        self.agent = stubs.AgentServiceStub(channel)  # type: ignore[no-untyped-call]
        self.volumes = stubs.VolumeServiceStub(channel)  # type: ignore[no-untyped-call]

    def start(self) -> str:
        """Run it until both jobs that wait for the host to go down do so; return its id."""
        volume = pb.CreateVolumeRequest(name=_VOLUME, size="16MB", type="filesystem")
        _call(self.volumes.CreateVolume, volume)
        reply = _call(self.jobs.RunWorkflow, pb.RunWorkflowRequest(yaml_content=_TEXT))
        self._until(reply.workflow_uuid, lambda _: {*self._notes()} >= {"again", "once"})
        return str(reply.workflow_uuid)

    def end(self, workflow_id: str) -> dict[str, Any]:
        """Return what has become of it, and delete it."""
        found = self._until(workflow_id, lambda found: found.workflow.status in _ENDED)
        once = next(job for job in found.jobs if job.job_name == "once")
        told = {
            "state": found.workflow.status,
            "jobs": {job.job_name: [job.status, job.tries] for job in found.jobs},
            "reason": _call(self.jobs.GetJobStatus, pb.GetJobStatusRequest(uuid=once.job_uuid)).reason,
            "notes": self._notes(),
        }
        _call(self.agent.DeleteWorkflow, pb.DeleteWorkflowRequest(workflow_uuid=workflow_id))
        _until(
            lambda: _call(self.volumes.RemoveVolume, pb.RemoveVolumeRequest(name=_VOLUME)),
            lambda reply: reply.success,
        )
        return told

    def _until(self, workflow_id: str, fits: Callable[[Any], bool]) -> Any:
        request = pb.GetWorkflowStatusRequest(workflow_uuid=workflow_id)
        return _until(lambda: _call(self.jobs.GetWorkflowStatus, request), fits)

    def _notes(self) -> list[str]:
        """Return the names that jobs have noted, in order."""
        path = _call(self.agent.GetVolumes, pb.GetVolumesRequest(name=_VOLUME)).volumes[0].path
        try:
            with open(f"{path}/tries", encoding="utf-8") as file:
                return file.read().split()
        except FileNotFoundError:
            return []


def _call(method: Callable[..., Any], request: object) -> Any:
    return method(request, timeout=_DEADLINE, wait_for_ready=True)


def _until(read: Callable[[], Any], fits: Callable[[Any], bool]) -> Any:
    deadline = time.monotonic() + _DEADLINE
    while True:
        value = read()
        if fits(value):
            return value
        if time.monotonic() > deadline:
            sys.exit(f"not within {_DEADLINE:.0f} s: {value}")
        time.sleep(0.1)


if __name__ == "__main__":
    verb, *ids = sys.argv[1:]
    print(json.dumps(getattr(_Host(), verb)(*ids)))
