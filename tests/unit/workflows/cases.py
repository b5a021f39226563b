"""Small workflows, how their jobs end, and what somebody does to them meanwhile."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import dedent

from joblet_agent.workflow_file import load
from joblet_agent.workflow_file.expression import End
from tests.unit.workflows import reference


@dataclass(frozen=True)
class Act:
    """What somebody asks for once all of these members run, which end only after it was answered."""

    verb: str
    while_running: tuple[str, ...] = ()
    """Empty: once the workflow has ended."""


@dataclass(frozen=True)
class Case:
    """A workflow. Every try of a job succeeds for which ``exits`` has nothing."""

    name: str
    text: str
    exits: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Exit statuses of a member's tries, in order."""
    acts: tuple[Act, ...] = ()
    expected: Mapping[str, str] = field(default_factory=dict)
    """Ends of the members, with the number of their tries; empty for what the reference says."""
    state: str = ""
    args: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What jobs of these members have to be started with."""
    run_again: frozenset[str] = frozenset()
    """Members that a retry of the whole has started once more, which counts as their first try."""

    def status(self, name: str, number: int) -> int:
        """Return the exit status of a member's try of this number, which counts from 0."""
        statuses = self.exits.get(name, ())
        return statuses[number] if number < len(statuses) else 0

    @property
    def is_for_later(self) -> bool:
        """True if it starts a while after it was submitted."""
        return "schedule: " in self.text

    def end(self) -> tuple[str, dict[str, str]]:
        """Return the state that the workflow has to come to, and its members with their tries."""
        if self.expected:
            return self.state, dict(self.expected)
        made = reference.run(self._jobs(), load(self.text).select().max_parallel)
        return made.state.value, {name: f"{end}/{made.tries[name]}" for name, end in made.ends.items()}

    def _jobs(self) -> list[reference.Job]:
        found = load(self.text).select()
        return [
            reference.Job(
                name=name,
                requires=job.requires,
                group=job.group,
                is_for_failure=job.when == "failure",
                tries=tuple(
                    End.FAILED if self.status(name, number) else End.COMPLETED
                    for number in range(1 + job.retries.count)
                ),
            )
            for name, job in found.jobs.items()
        ]


def _case(
    name: str,
    jobs: str,
    *,
    head: str = "",
    exits: Mapping[str, Sequence[int]] | None = None,
    args: Mapping[str, tuple[str, ...]] | None = None,
) -> Case:
    return Case(name, _text(jobs, head), exits or {}, args=args or {})


def _acted(
    name: str,
    jobs: str,
    state: str,
    ended: str,
    *acts: Act,
    exits: Mapping[str, Sequence[int]] | None = None,
    run_again: frozenset[str] = frozenset(),
) -> Case:
    expected = dict(each.split(":") for each in ended.split())
    return Case(name, _text(jobs), exits or {}, acts, expected, state, run_again=run_again)


def _text(jobs: str, head: str = "") -> str:
    """Let every job run until it is ended, without a network."""
    lines = "".join(f"  {line}\n" for line in dedent(jobs).strip().splitlines())
    return f"{head}\ndefaults: {{command: sleep, network: none}}\njobs:\n{lines}"


CASES = [
    _case("one", "a: {}"),
    _case("at a time", "a: {}\nb: {requires: a}", head="schedule: 2026-03-01T12:00:30Z"),
    _case(
        "outputs",
        """
        a: {retries: 1, outputs: {files: [left]}}
        b: {requires: a, args: ["${jobs.a.try}"]}
        c: {requires: [a, b], args: ["${jobs.a.try}"], retries: 1}
        """,
        exits={"a": [1, 0], "c": [1, 0]},
        args={"b": ("1",), "c": ("1",)},
    ),
    _case("chain", "a: {}\nb: {requires: a}\nc: {requires: b}"),
    _case("diamond", "a: {}\nb: {requires: a}\nc: {requires: a}\nd: {requires: [b, c]}"),
    _case("fan-out", "a: {}\nb: {requires: a}\nc: {requires: a}\nd: {requires: a}"),
    _case(
        "failing branch",
        """
        a: {}
        b: {requires: a}
        c: {requires: a}
        d: {requires: b}
        tell: {when: failure}
        tidy: {when: always}
        """,
        exits={"b": [3]},
    ),
    _case(
        "for a failure that has not come",
        "a: {}\ntell: {requires: a, when: failure}\nb: {requires: {tell: SKIPPED}}",
    ),
    _case("retries", "a: {retries: 2}\nb: {requires: a}", exits={"a": [1, 1, 0]}),
    _case(
        "retries in vain",
        "a: {retries: 1}\nb: {requires: a}\nc: {requires: {a: FAILED}}",
        exits={"a": [1, 1]},
    ),
    _case(
        "expressions",
        """
        a: {}
        b: {}
        either: {requires: {expression: "a=COMPLETED OR b=COMPLETED"}}
        neither: {requires: {expression: "NOT a IN (COMPLETED, FAILED) AND b=FAILED"}}
        any: {requires: {neither: FINISHED}}
        """,
        exits={"b": [1]},
    ),
    _case(
        "matrix",
        """
        a: {matrix: {x: [1, 2], y: [p]}}
        b: {requires: a}
        c: {requires: {a-1-p: COMPLETED}}
        d: {requires: {a: FAILED}}
        """,
        exits={"a-2-p": [1]},
    ),
    _case(
        "one at a time",
        "a: {}\nb: {}\nc: {requires: a}\nd: {retries: 1}",
        head="max_parallel: 1",
        exits={"d": [1, 0]},
    ),
    _acted(
        "stopped",
        "a: {retries: 3}\nb: {requires: a}\nlast: {when: always}\nfree: {}",
        "STOPPED",
        "a:STOPPED/1 b:CANCELED/0 last:CANCELED/0 free:STOPPED/1",
        Act("stop", ("a", "free")),
    ),
    _acted(
        "canceled",
        "a: {}\nb: {requires: a}\nlast: {when: always}",
        "CANCELED",
        "a:COMPLETED/1 b:CANCELED/0 last:CANCELED/0",
        Act("cancel", ("a",)),
    ),
    _acted(
        "paused and resumed",
        "a: {}\nb: {requires: a}",
        "COMPLETED",
        "a:COMPLETED/1 b:COMPLETED/1",
        Act("pause", ("a",)),
        Act("resume", ("a",)),
    ),
    _acted(
        "what failed is run again",
        "a: {}\nb: {requires: a}\nc: {requires: b}",
        "COMPLETED",
        "a:COMPLETED/1 b:COMPLETED/1 c:COMPLETED/1",
        Act("retry_failed"),
        exits={"b": [1, 0]},
        run_again=frozenset({"b"}),
    ),
]
