"""What a workflow file says, checked: values for the engine and for people. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from joblet_agent.workflow_file.expression import All, Condition
from joblet_agent.yaml_file.problems import Mark

NEVER = timedelta(0)
NOTHING_REQUIRED = All(())


class When(StrEnum):
    """What the jobs before have to come to, where ``requires`` names them without a status."""

    SUCCESS = "success"
    ALWAYS = "always"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a job that failed is started again, and after which pauses."""

    count: int = 0
    delay: timedelta = NEVER
    """Before the first of them."""
    backoff: float = 1.0
    """Each pause is the one before times this."""
    max_delay: timedelta = NEVER
    """No pause is longer; 0 for no bound."""

    def pause(self, number: int) -> timedelta:
        """Return the pause before the retry of that number, which counts from 1."""
        longest = self.max_delay or timedelta(days=365)
        seconds = self.delay.total_seconds()
        for _ in range(number - 1):
            seconds *= self.backoff
            if seconds >= longest.total_seconds():
                break
        return min(timedelta(seconds=seconds), longest)


NO_RETRIES = Retries()


@dataclass(frozen=True, slots=True)
class WorkflowJob:
    """One job, with what it inherits."""

    name: str
    mark: Mark
    group: str
    """The name in the file: the same for all jobs of one matrix, else the job's own."""
    command: str
    args: tuple[str, ...] = ()
    description: str = ""
    runtime: str = ""
    network: str = ""
    volumes: tuple[str, ...] = ()
    """As ``rnx run --volume`` takes them: NAME[:/PATH][:ro]."""
    upload_files: tuple[str, ...] = ()
    upload_directories: tuple[str, ...] = ()
    limits: Mapping[str, int | str] = field(default_factory=dict)
    """By field of RunJobRequest, in its units."""
    environment: Mapping[str, str] = field(default_factory=dict)
    secret_environment: Mapping[str, str] = field(default_factory=dict)
    workdir: str = ""
    requires: Condition = NOTHING_REQUIRED
    """Names in it are jobs' or groups'."""
    when: When = When.SUCCESS
    retries: Retries = NO_RETRIES
    timeout: str = ""
    """Of each try; a duration as on the wire."""
    max_wait: timedelta = NEVER
    """Longest wait for what it requires; the job is canceled then."""
    output_files: tuple[str, ...] = ()
    """Paths in its ``/work`` that jobs which wait for it get."""
    matrix: Mapping[str, str] = field(default_factory=dict)
    marks: Mapping[str, Mark] = field(default_factory=dict)
    """Where each of its keys stands."""


@dataclass(frozen=True, slots=True)
class Workflow:
    """Jobs that depend on one another."""

    name: str
    jobs: Mapping[str, WorkflowJob]
    """In the order of the file."""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of the jobs of each matrix."""
    description: str = ""
    max_parallel: int = 0
    """Jobs that run at once; 0 for no bound of its own."""
    schedule: str = ""
    """When to start: RFC 3339 or a calendar expression (systemd.time(7)); empty for at once."""
    key: str = ""
    """What stands before its keys in problems: nothing, or ``workflows.NAME.``."""
    marks: Mapping[str, Mark] = field(default_factory=dict)
    """Where its own keys stand."""
