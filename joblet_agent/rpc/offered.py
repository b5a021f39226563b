"""What the wire API knows and this agent does not offer yet: refused, never ignored."""

from dataclasses import dataclass
from typing import Never

from joblet_agent.errors import NotOffered
from joblet_agent.pb import joblet_pb2 as pb


@dataclass(frozen=True, slots=True)
class Option:
    """An option of RunJobRequest that is refused: its name on the command line, why, and what to do."""

    name: str
    why: str
    instead: str


_NO_GPU_MEMORY = "no driver tells how much memory a GPU has without a program of its own"
_JOINS_NONE = "a job is of the workflow that it was submitted with"
_RUN_WORKFLOW = "submit all jobs as one workflow (JobService.RunWorkflow, rnx workflow run FILE)"

REFUSED_OPTIONS = {
    "workflow_uuid": Option("workflow_uuid", _JOINS_NONE, _RUN_WORKFLOW),
    "job_uuid": Option("job_uuid", "it makes the UUID of a job itself", "read the UUID from the reply"),
    "requirements": Option("requirements", "single jobs wait for nothing", _RUN_WORKFLOW),
    "gpu_memory_mb": Option("--gpu-memory", _NO_GPU_MEMORY, "ask for a number of them: --gpu=1"),
}
"""Fields of RunJobRequest by their name. The others are enforced (convert.py)."""

_NOUNS = {
    "System": "monitoring",
    "Telematics": "job telematics",
}
"""What a method is about, by a word in its name; the first that fits."""


def refuse_options(request: pb.RunJobRequest) -> None:
    """Raise NotOffered if the request asks for what this agent would have to ignore."""
    for field, _ in request.ListFields():
        option = REFUSED_OPTIONS.get(field.name)
        if option is not None:
            raise NotOffered(
                f"cannot run job: this agent does not offer {option.name} yet: {option.why}",
                reason="OPTION_NOT_OFFERED",
                hint=option.instead,
            )


def refuse_method(method: str) -> Never:
    """Raise NotOffered for a method (``Service/Method``) that no servicer has."""
    name = method.partition("/")[2]
    noun = next((noun for word, noun in _NOUNS.items() if word in name), name)
    raise NotOffered(
        f"cannot call {method}: this agent does not offer {noun} yet",
        reason="NOT_OFFERED",
        hint="rnx and every published client can run, list, follow, stop and delete jobs",
    )
