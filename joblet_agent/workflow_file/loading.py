"""A workflow file as a whole, and which of its workflows is meant."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from joblet_agent.workflow_file.assemble import assembled
from joblet_agent.workflow_file.keys import FILE
from joblet_agent.workflow_file.room import MOST_BYTES, MOST_TEXT, Room, TooMuch
from joblet_agent.workflow_file.values import NOTHING_REQUIRED, When, Workflow
from joblet_agent.yaml_file.garbage import collections_paused
from joblet_agent.yaml_file.kinds import UNREADABLE
from joblet_agent.yaml_file.nodes import Entries, Text, parse
from joblet_agent.yaml_file.problems import (
    FileInvalid,
    Mark,
    Problem,
    Problems,
    TooManyProblems,
    near,
    shown,
)

_TOO_MUCH = f"its jobs come to more than {MOST_TEXT} characters, with what they inherit and wait for"


@dataclass(frozen=True, slots=True)
class WorkflowFile:
    """What a file has: ``own`` is the workflow of its top-level ``jobs``, None without these."""

    own: Workflow | None
    others: Mapping[str, Workflow]

    def select(self, name: str = "") -> Workflow:
        """Return the workflow that is meant: the named one, the only one, or a job of ``jobs`` alone.

        Raises FileInvalid if there is none, or if it is not clear.
        """
        if name:
            return self._named(name)
        if self.own is not None:
            return self.own
        if len(self.others) == 1:
            return next(iter(self.others.values()))
        raise _invalid(f"the file has several workflows; name one of {', '.join(self.others)} (FILE:NAME)")

    def _named(self, name: str) -> Workflow:
        if name in self.others:
            return self.others[name]
        own = self.own
        if own is None or name not in {*own.jobs, *own.groups}:
            known = [*self.others, *(own.jobs if own else ())]
            raise _invalid(f"there is no workflow or job {shown(name)} in the file{near(name, known)}")
        members = own.groups.get(name, (name,))
        alone = {
            each: replace(own.jobs[each], requires=NOTHING_REQUIRED, when=When.SUCCESS) for each in members
        }
        groups = {name: members} if name in own.groups else {}
        return replace(own, name=name, jobs=alone, groups=groups)


def load(text: str) -> WorkflowFile:
    """Read and check the text of a file; raise FileInvalid with all that is wrong."""
    problems = Problems()
    try:
        with collections_paused():
            return _load(text, problems)
    except TooManyProblems:
        raise FileInvalid(problems.sorted()) from None


def _load(text: str, problems: Problems) -> WorkflowFile:
    if len(text) > MOST_BYTES:
        raise _invalid(f"the file has more than {MOST_BYTES} characters")
    root = parse(text, problems, "use extends or defaults")
    if root is None or (isinstance(root, Text) and root.is_nothing):
        if not problems.found:
            problems.add(Mark(1, 1), "", "the file is empty; it needs jobs, each with a command")
        raise FileInvalid(problems.sorted())
    values = FILE.read(root, "", problems)
    found = None
    try:
        found = _file(values, root, problems) if values is not UNREADABLE else None
    except TooMuch:
        problems.add(Mark(1, 1), "", _TOO_MUCH)
    if problems.found or found is None:
        raise FileInvalid(problems.sorted())
    return found


def _file(values: Mapping[str, Any], root: object, problems: Problems) -> WorkflowFile:
    marks = root.marks if isinstance(root, Entries) else {}
    if "jobs" not in marks and "workflows" not in marks:
        problems.add(Mark(1, 1), "", "jobs is missing: the jobs by their names, each with a command")
    room = Room()
    own = assembled(values, "", marks, room, problems) if "jobs" in marks else None
    shared = ("environment", "secret_environment", "defaults", "max_parallel")
    others = {}
    for name, each in values.get("workflows", {}).items():
        taken_over = {key: values[key] for key in shared if key in values}
        key = f"workflows.{name}."
        if "jobs" not in each:
            problems.add(marks["workflows"], key.removesuffix("."), "jobs is missing")
        others[name] = assembled(
            {**taken_over, "name": name, **each}, key, _marks_of(root, name), room, problems
        )
        if own is not None and name in own.jobs:
            problems.add(marks["workflows"], key.removesuffix("."), "there is a job of this name, too")
    return WorkflowFile(own, others)


def _marks_of(root: object, name: str) -> Mapping[str, Mark]:
    workflows = root.entries["workflows"] if isinstance(root, Entries) else None
    one = workflows.entries[name] if isinstance(workflows, Entries) else None
    return one.marks if isinstance(one, Entries) else {}


def _invalid(text: str) -> FileInvalid:
    return FileInvalid([Problem(Mark(), "", text)])
