"""``rnx workflow logs``: what jobs have written, then what they write."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rnx.client import Client, pb
from rnx.exits import RnxError, UsageError, near
from rnx.output import Format, clean
from rnx.workflows.following import JOB_GONE, Following, LogEnd, Piece, has_begun, whole_log
from rnx.workflows.lines import LinePrinter
from rnx.workflows.watching import ENDED, JOB_ENDED, WorkflowWatcher, get_status


@dataclass(frozen=True, slots=True)
class Asked:
    """Which output is asked for."""

    uuid: str
    jobs: tuple[str, ...]
    """Names of jobs or groups; none for all."""
    follow: bool
    tail: int | None
    timestamps: bool

    def wants(self, job: Any) -> bool:
        """Tell whether the output of the job (WorkflowJob) is."""
        return not self.jobs or job.job_name in self.jobs or job.group in self.jobs

    def request(self, uuid: str, *, follow: bool = True) -> Any:
        """Return the request for the log of one job."""
        tail = -1 if self.tail == 0 else self.tail or 0
        return pb.GetJobLogsRequest(
            uuid=uuid, no_follow=not follow, tail_lines=tail, timestamps=self.timestamps
        )


def write_logs(form: Format, client: Client, asked: Asked) -> None:
    """Print what is asked for, until the workflow has ended if it is to be followed."""
    reply = get_status(client, asked.uuid)
    _check_names(asked.jobs, reply.jobs)
    printer = LinePrinter(form, [job.job_name for job in reply.jobs], timestamps=asked.timestamps)
    begun = sorted(
        (job for job in reply.jobs if has_begun(job) and asked.wants(job)),
        key=lambda job: (job.start_time.seconds, job.start_time.nanos),
    )
    goes_on = asked.follow and reply.workflow.status not in ENDED
    shown = [job for job in begun if job.status in JOB_ENDED or not goes_on]
    for job in shown:
        _write_whole(client, printer, asked, job)
    if goes_on:
        _follow(client, printer, asked, reply.workflow.uuid, [job.job_uuid for job in shown])


def _write_whole(client: Client, printer: LinePrinter, asked: Asked, job: Any) -> None:
    try:
        for time_ns, piece in whole_log(client, asked.request(job.job_uuid, follow=False)):
            printer.write(job.job_name, job.job_uuid, time_ns, piece)
    except RnxError as error:
        if error.reason != JOB_GONE:
            raise
        _tell(job.job_name, str(error))
    printer.end(job.job_name, job.job_uuid)


def _follow(client: Client, printer: LinePrinter, asked: Asked, uuid: str, shown: Sequence[str]) -> None:
    following = Following(
        client,
        WorkflowWatcher(client, uuid),
        log_request=asked.request,
        wanted=asked.wants,
        known=frozenset(shown),
    )
    for event in following.events():
        match event:
            case Piece():
                printer.write(event.job, event.uuid, event.time_ns, event.payload)
            case LogEnd():
                printer.end(event.job, event.uuid)
                if event.problem:
                    _tell(event.job, event.problem)
            case _:
                pass


def _check_names(names: Sequence[str], jobs: Sequence[Any]) -> None:
    known = {job.job_name for job in jobs} | {job.group for job in jobs if job.group}
    for name in names:
        if name not in known:
            raise UsageError(f"there is no job {name} in the workflow", hint=near(name, sorted(known)))


def _tell(job: str, problem: str) -> None:
    print(f"rnx: {clean(job)}: {clean(problem)}", file=sys.stderr)
