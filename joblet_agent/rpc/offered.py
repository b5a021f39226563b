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


_NO_GPU = "it does not assign GPUs"
_NO_WORKFLOWS = "it runs single jobs, not workflows"
_LEAVE_OUT = "leave the option out"

REFUSED_OPTIONS = {
    "volumes": Option("--volume", "it has no volumes", "leave the option out; /work is writable"),
    "runtime": Option("--runtime", "it has no runtimes", "leave the option out; jobs see the host's /usr"),
    "workflow_uuid": Option("workflow_uuid", _NO_WORKFLOWS, _LEAVE_OUT),
    "job_uuid": Option("job_uuid", "it makes the UUID of a job itself", "read the UUID from the reply"),
    "requirements": Option("requirements", _NO_WORKFLOWS, "run the job when the others have ended"),
    "gpu_count": Option("--gpu", _NO_GPU, _LEAVE_OUT),
    "gpu_memory_mb": Option("--gpu-memory", _NO_GPU, _LEAVE_OUT),
}
"""Fields of RunJobRequest by their name. The others are enforced (convert.py)."""

_NOUNS = {
    "Workflow": "workflows",
    "System": "monitoring",
    "Telematics": "job telematics",
    "Network": "networks",
    "Volume": "volumes",
    "Runtime": "runtimes",
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
