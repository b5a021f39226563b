"""From a job of the file, with what it inherits, to one job, or one for each combination of its matrix."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from joblet_agent.workflow_file.combinations import MATRIX, combinations, count, name_of
from joblet_agent.workflow_file.environment import Variables
from joblet_agent.workflow_file.expression import Condition, jobs_of
from joblet_agent.workflow_file.outputs import OUTPUT, may_refer
from joblet_agent.workflow_file.raw import RawJob
from joblet_agent.workflow_file.room import Room
from joblet_agent.workflow_file.values import NEVER, NO_RETRIES, Retries, When, WorkflowJob
from joblet_agent.workflow_file.variables import references, replaced
from joblet_agent.yaml_file.problems import Mark, Problems, near, shown

MOST_JOBS = 10_000
"""Of one workflow, with all combinations."""
_LONGEST_NAME = 63
_FIELDS = {
    "command": "command",
    "args": "args",
    "runtime": "runtime",
    "network": "network",
    "volumes": "volumes",
    "workdir": "workdir",
}
"""Keys with texts that may refer to something, and the fields of WorkflowJob that they are."""
_SECTIONS = {
    "uploads": {"files": "upload_files", "directories": "upload_directories"},
    "outputs": {"files": "output_files"},
}
"""The same of keys of sections."""


class Reference(NamedTuple):
    """Where a text of a job refers to an output, as it is written there: ``jobs.JOB.KEY``."""

    job: str
    at: str
    mark: Mark
    name: str


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes the jobs of one workflow. ``key`` is where they are in the file."""

    key: str
    shared: Mapping[str, Mapping[str, str]]
    """The workflow's variables by the names of their keys."""
    room: Room
    problems: Problems
    references: list[Reference] = field(default_factory=list)
    """Found on the way; requirements.py says whether they can be."""

    def jobs_of(self, name: str, raw: RawJob, requires: Condition, most: int) -> Iterator[WorkflowJob]:
        """Yield the jobs, at most that many. Raises TooMuch."""
        key = f"{self.key}.{name}"
        if "command" not in raw.values:
            self.problems.add(raw.mark, key, "command is missing")
        matrix: Mapping[str, tuple[str, ...]] = raw.values.get("matrix", {})
        if "matrix" in raw.values and not self._is_usable(matrix, raw.marks["matrix"], key, most):
            return
        variables = Variables(self.shared, raw, key, self.problems)
        texts = _Texts(raw, variables)
        self._check(name, texts, matrix)
        fixed = {**_fixed(raw), **texts.fixed, "group": name, "requires": requires}
        required = sum(1 for _ in jobs_of(requires))
        for combination in combinations(matrix):
            plain, secret = variables.of(combination)
            job = WorkflowJob(
                **fixed,
                **texts.of(combination),
                name=name_of(name, combination)[:_LONGEST_NAME],
                matrix=combination,
                environment=plain,
                secret_environment=secret,
            )
            self.room.take(required + 1, len(job.command))
            for several in (job.args, job.volumes, plain.values(), secret.values()):
                self.room.take(len(several), sum(map(len, several)))
            yield job

    def _is_usable(self, matrix: Mapping[str, tuple[str, ...]], mark: Mark, key: str, most: int) -> bool:
        if not matrix or not all(matrix.values()):
            self.problems.add(mark, f"{key}.matrix", "expected names, each with values")
            return False
        if count(matrix) > most:
            text = f"{count(matrix)} combinations; a workflow has {MOST_JOBS} jobs at most"
            self.problems.add(mark, f"{key}.matrix", text)
            return False
        return True

    def _check(self, name: str, texts: "_Texts", matrix: Mapping[str, tuple[str, ...]]) -> None:
        for at, mark, text in texts.referring():
            for reference in references(text):
                if reference.startswith(OUTPUT):
                    self.references.append(Reference(name, at, mark, reference))
                elif reference.startswith(MATRIX) and reference.removeprefix(MATRIX) not in matrix:
                    missing = reference.removeprefix(MATRIX)
                    why = f"there is no {shown(missing)} in matrix{near(missing, matrix)}"
                    self.problems.add(mark, f"{self.key}.{name}.{at}", why)


class _Texts:
    """The texts of a job that may refer to something; fields of WorkflowJob."""

    def __init__(self, raw: RawJob, variables: Variables) -> None:
        self.raw = raw
        self.fixed: dict[str, Any] = {} if "command" in raw.values else {"command": ""}
        self._variables = variables
        self._varying: dict[str, str | tuple[str, ...]] = {}
        self._keys: dict[str, str] = {}
        for key, name, value in _values(raw.values):
            if "${" in value if isinstance(value, str) else any("${" in each for each in value):
                self._varying[name] = value
                self._keys[name] = key
            else:
                self.fixed[name] = value

    def of(self, combination: Mapping[str, str]) -> dict[str, Any]:
        """Return those that refer to something, with what the matrix has; outputs stay for later."""
        if not self._varying:
            return {}
        values = {f"{MATRIX}{name}": value for name, value in combination.items()}
        return {
            name: replaced(value, values.get)
            if isinstance(value, str)
            else tuple([replaced(each, values.get) for each in value])
            for name, value in self._varying.items()
        }

    def referring(self) -> Iterator[tuple[str, Mark, str]]:
        """Yield key, place and text of each that may refer to something."""
        for name, value in self._varying.items():
            key = self._keys[name]
            if isinstance(value, str):
                yield key, self._mark(key), value
            else:
                for number, text in enumerate(value):
                    yield f"{key}[{number}]", self._mark(f"{key}[{number}]"), text
        for key, text in self._variables.texts():
            yield key, self._mark(key), text
        for name, values in self.raw.values.get("matrix", {}).items():
            for number, text in enumerate(values):
                if may_refer(text):
                    yield f"matrix.{name}[{number}]", self._mark("matrix"), text

    def _mark(self, key: str) -> Mark:
        return self.raw.marks.get(key, self.raw.mark)


def _values(values: Mapping[str, Any]) -> Iterator[tuple[str, str, str | tuple[str, ...]]]:
    """Yield key, field and value of what is there of _FIELDS."""
    for key, name in _FIELDS.items():
        if key in values:
            yield key, name, values[key]
    for section, names in _SECTIONS.items():
        for key, value in values.get(section, {}).items():
            yield f"{section}.{key}", names[key], value


def _fixed(raw: RawJob) -> dict[str, Any]:
    values = raw.values
    return {
        "mark": raw.mark,
        "marks": raw.marks,
        "description": values.get("description", ""),
        "limits": _limits(values["resources"]) if "resources" in values else {},
        "when": values.get("when", When.SUCCESS),
        "retries": _retries(values["retries"]) if "retries" in values else NO_RETRIES,
        "timeout": values.get("timeout", ""),
        "max_wait": values.get("max_wait", NEVER),
    }


def _limits(resources: Mapping[str, Any]) -> dict[str, int | str]:
    spelled = {"max_iobps": "max_io_bps"}
    return {spelled.get(name, name): value for name, value in resources.items() if value}


def _retries(value: int | Mapping[str, Any]) -> Retries:
    return Retries(count=value) if isinstance(value, int) else Retries(**{"count": 1, **value})
