"""Variables of a job: the workflow's, then its own, with ``${NAME}`` replaced."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from joblet_agent.workflow_file.combinations import MATRIX
from joblet_agent.workflow_file.graph import find_cycle, in_waves
from joblet_agent.workflow_file.inherit import laid_over
from joblet_agent.workflow_file.outputs import may_refer
from joblet_agent.workflow_file.raw import RawJob
from joblet_agent.workflow_file.variables import between, expanded, references
from joblet_agent.yaml_file.problems import Problems

MOST_VALUE = 32768
"""Characters of a value: what every published client knows as the limit."""
MOST_TOTAL = 2 * 1024 * 1024
"""Characters of all values of a job: the kernel takes less."""

Both = tuple[Mapping[str, str], Mapping[str, str]]
"""Plain and secret variables."""


class Variables:
    """The variables of one job of a file, for each combination of its matrix."""

    def __init__(self, shared: Mapping[str, Any], raw: RawJob, key: str, problems: Problems) -> None:
        """``shared`` has the workflow's by the names of their keys, ``raw`` the job's own."""
        values = laid_over(shared, raw.values)
        self._plain: Mapping[str, str] = values.get("environment", {})
        self._secret: Mapping[str, str] = values.get("secret_environment", {})
        self._raw = raw
        self._key = key
        self._problems = problems
        self._order: list[str] = []
        """Those that refer to others, each behind the ones that it refers to."""
        self._of_all: Both | None = None
        """Where the matrix makes no difference."""
        self._check()

    def of(self, combination: Mapping[str, str]) -> Both:
        """Return the variables with the values of the combination. Many jobs may have the same ones."""
        if self._of_all is not None:
            return self._of_all
        known = {
            **self._secret,
            **self._plain,
            **{f"{MATRIX}{name}": value for name, value in combination.items()},
        }
        try:
            found = expanded(known, self._order, most=MOST_VALUE, total=MOST_TOTAL)
        except ValueError as error:
            name = str(error)
            self._tell(name, f"is longer than {MOST_VALUE} characters, or all are than {MOST_TOTAL}")
            return self._plain, self._secret
        return {name: found[name] for name in self._plain}, {name: found[name] for name in self._secret}

    def texts(self) -> Iterator[tuple[str, str]]:
        """Yield key and value of those that refer to anything."""
        for name in self._order:
            yield self._at(name), self._plain[name] if name in self._plain else self._secret[name]

    def _check(self) -> None:
        for name in self._plain.keys() & self._secret.keys():
            self._tell(name, "is in secret_environment, too")
        variables = {**self._secret, **self._plain}
        referring = {name: value for name, value in variables.items() if "${" in value}
        if not referring:
            self._of_all = (self._plain, self._secret)
            return
        names = {name: [*references(value)] for name, value in referring.items()}
        for name, found in names.items():
            for each in found if name in self._plain else ():
                if each in self._secret:
                    self._tell(name, f"would show the secret variable {each}; put it into secret_environment")
        self._settle(variables, referring)
        if not any(each.startswith(MATRIX) for found in names.values() for each in found):
            self._of_all = self.of({})

    def _settle(self, variables: Mapping[str, str], referring: Mapping[str, str]) -> None:
        known = between(referring)
        circle = find_cycle(known)
        if circle:
            self._tell("", f"variables refer to one another in a circle: {' -> '.join(circle)}")
            self._of_all = (self._plain, self._secret)
            return
        self._order = [*itertools.chain.from_iterable(in_waves(known))]
        outputs: set[str] = set()
        for name in self._order:
            if may_refer(variables[name]) or outputs & set(known[name]):
                outputs.add(name)
                if name in self._secret and not may_refer(variables[name]):
                    self._tell(name, "refers to a variable with outputs of a job, which are no secrets")

    def _at(self, name: str) -> str:
        where = "secret_environment" if name in self._secret and name not in self._plain else "environment"
        return f"{where}.{name}" if name else where

    def _tell(self, name: str, text: str) -> None:
        at = self._at(name)
        marks = self._raw.marks
        mark = marks.get(at) or marks.get(at.partition(".")[0]) or self._raw.mark
        self._problems.add(mark, f"{self._key}.{at}", text)
