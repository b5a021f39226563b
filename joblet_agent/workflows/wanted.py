"""What a caller asks for with a workflow, and what the answer to it tells."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from joblet_agent.errors import InvalidRequest
from joblet_agent.model.job import Explanation
from joblet_agent.yaml_file.problems import Problem


@dataclass(frozen=True, slots=True)
class WantedWorkflow:
    """A workflow as it was sent."""

    text: str
    """Of the file, YAML, with its secrets."""
    name: str = ""
    """Which workflow or job of the file is meant; empty for the only one."""
    file: str = ""
    """Name of the file, for people."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A job of a checked workflow: when and how it would run."""

    name: str
    step: int
    """Jobs of one step can run at the same time; from 1."""
    requires: str
    """What it waits for, as an expression; empty for nothing."""
    explanation: Explanation | None
    """Of its unit; None where nobody asked for it: it costs more than all checks of the job."""


class WorkflowRefused(InvalidRequest):
    """A workflow that cannot run; ``problems`` has everything that is wrong with it, by its place."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = problems
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(
            f"workflow validation failed: {_line(first)}{more}",
            reason="WORKFLOW_INVALID",
            hint="everything that is wrong: rnx workflow validate FILE",
        )

    def anew(self) -> Self:
        """See JobletError."""
        return type(self)(self.problems)


def _line(problem: Problem) -> str:
    place = f"line {problem.mark.line}" if problem.mark.line else ""
    return ": ".join(part for part in (place, problem.key, problem.text) if part)
