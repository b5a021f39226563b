"""Workflows of any shape come to what the reference says, whatever ends first, and read again at any time."""

from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.model.ids import JobId
from joblet_agent.model.job import JobRecord, JobSpec, JobState, Outcome
from joblet_agent.model.workflow import Member, MemberPlan, MemberState, Workflow, WorkflowId
from joblet_agent.workflow_file.expression import End, evaluate
from joblet_agent.workflow_file.values import Retries
from joblet_agent.workflows.run import Run
from tests.unit.workflows import reference
from tests.unit.workflows.generated import Generated, workflows

pytestmark = pytest.mark.exhaustive

NOW = datetime(2026, 11, 29, tzinfo=UTC)


class Play:
    """A generated workflow in the hands of the agent's code."""

    def __init__(self, of: Generated) -> None:
        self._jobs = {job.name: job for job in of.jobs}
        self._of = of
        plans = [
            MemberPlan(
                number,
                job.name,
                job.group or job.name,
                requires=job.requires,
                is_for_failure=job.is_for_failure,
                retries=Retries(len(job.tries) - 1),
            )
            for number, job in enumerate(of.jobs)
        ]
        workflow = Workflow(WorkflowId("w"), NOW, groups=of.groups, max_parallel=of.max_parallel)
        self.run = Run(workflow, [Member(plan) for plan in plans])

    def members(self) -> list[Member]:
        return [self.run.member(number) for number in range(self.run.size)]

    def read_again(self) -> None:
        """Go on from what is stored, as after a kill."""
        self.run = Run(self.run.summary(NOW), self.members())

    def start(self) -> None:
        """Start what may start; it is what the conditions say, each looked at anew."""
        self.run.elapse(NOW)
        waiting = {
            member.plan.number
            for member in self.members()
            if member.progress.state is MemberState.WAITING and evaluate(member.plan.requires, self._end_of)
        }
        room = (self._of.max_parallel or len(self._jobs)) - len(self.run.active)
        taken = self.run.take_ready(len(self._jobs))
        assert set(taken) <= waiting
        assert len(taken) == min(room, len(waiting))
        for number in taken:
            tries = self.run.member(number).progress.tries
            self.run.started(number, JobId(f"{number}-{tries}"), NOW)

    def _end_of(self, name: str) -> End | None:
        names = self._of.groups.get(name, (name,))
        ends = [self.run.member(self.run.number_of(each)).progress.state.end for each in names]
        known = [end for end in ends if end is not None]
        return max(known, key=reference.WORST_LAST.index) if len(known) == len(ends) else None

    def end(self, number: int) -> None:
        member = self.run.member(number)
        assert member.progress.job_id is not None
        state = JobState(self._jobs[member.plan.name].tries[member.progress.tries - 1].value)
        record = JobRecord(
            member.progress.job_id, JobSpec("x"), state, NOW, ended_at=NOW, outcome=Outcome(state)
        )
        self.run.job_ended(number, record, NOW)


@given(workflows(), st.data())
def test_it_comes_to_what_the_reference_says(of: Generated, data: st.DataObject) -> None:
    play = Play(of)
    play.start()
    while play.run.active:
        play.end(data.draw(st.sampled_from(play.run.active)))
        if data.draw(st.booleans()):
            play.read_again()
        play.start()
    made = reference.run(of.jobs, of.max_parallel)
    members = {member.plan.name: member.progress for member in play.members()}
    assert {name: each.state.end for name, each in members.items()} == made.ends
    assert {name: each.tries for name, each in members.items()} == made.tries
    workflow = play.run.summary(NOW)
    assert workflow.state.value == made.state.value
    counts = workflow.counts
    assert counts.total == counts.ended == len(of.jobs)


@given(workflows(), st.randoms(use_true_random=False))
def test_the_reference_comes_to_the_same_whatever_ends_first(of: Generated, random: Random) -> None:
    one, other = reference.run(of.jobs, of.max_parallel), reference.run(of.jobs, 0, random.choice)
    assert (one.ends, one.tries) == (other.ends, other.tries)
    assert one.most_at_once <= (of.max_parallel or len(of.jobs))
