"""A workflow's output as it comes, what becomes of its jobs, and its end as an exit status."""

import sys
from typing import Any

from rnx.client import Client
from rnx.exits import Exit, NoTrust, Unreachable
from rnx.output import Format, clean, status_word
from rnx.workflows.following import Following, LogEnd, Piece
from rnx.workflows.lines import LinePrinter
from rnx.workflows.views import progress_line, workflow_state
from rnx.workflows.watching import ENDED, JOB_ENDED, NO_JOB, Change, WorkflowWatcher


def attach(client: Client, uuid: str, *, shows_old: bool = True) -> int:
    """Show output and changes until the workflow has ended; return 0 if it is COMPLETED, else 1.

    Output goes to standard output, changes to standard error. Ctrl-C ends the watching alone.
    Without ``shows_old`` nothing is told of jobs that have ended before.
    """
    watcher = WorkflowWatcher(client, uuid)
    try:
        _Attached(watcher).show(Following(client, watcher, skips_ended=not shows_old))
    except KeyboardInterrupt:
        shown = clean(uuid)
        _tell(f"workflow {shown} goes on")
        print(
            f"hint: rnx workflow status {shown}; rnx workflow logs {shown}; rnx workflow stop {shown}",
            file=sys.stderr,
        )
        raise
    except (Unreachable, NoTrust) as lost:
        text = f"{lost}; workflow {uuid} goes on"
        raise type(lost)(text, hint=lost.hint, reason=lost.reason) from lost
    workflow = watcher.workflow
    _tell(f"workflow {_word(workflow.status)}: {progress_line(workflow)}")
    return Exit.DONE if workflow.status == "COMPLETED" else Exit.FAILED


class _Attached:
    """Prints events; the end of a job is told behind its output."""

    def __init__(self, watcher: WorkflowWatcher) -> None:
        self._watcher = watcher
        self._printer: LinePrinter | None = None
        self._told: dict[str, tuple[str, str]] = {}
        self._read: set[str] = set()
        self._wish = (False, "")

    def show(self, following: Following) -> None:
        for event in following.events():
            if self._printer is None:
                self._printer = LinePrinter(Format.TABLE, self._watcher.jobs, timestamps=False)
            match event:
                case Piece():
                    self._printer.write(event.job, event.uuid, event.time_ns, event.payload)
                case LogEnd():
                    self._end_log(event, self._printer)
                case Change():
                    self._tell_wish(event.workflow)
                    for job in event.jobs:
                        self._tell_state(job)

    def _end_log(self, event: LogEnd, printer: LinePrinter) -> None:
        printer.end(event.job, event.uuid)
        self._read.add(event.uuid)
        if event.problem:
            _tell(f"{clean(event.job)}: {clean(event.problem)}")
        job = self._watcher.jobs[event.job]
        if job.job_uuid == event.uuid:
            self._tell_state(job)

    def _tell_wish(self, workflow: Any) -> None:
        """Tell of a pause, and of a stop that has begun: jobs do not show why they stand still or end."""
        if workflow.status in ENDED:
            return
        wish, self._wish = self._wish, (workflow.paused, workflow.ending)
        if wish != self._wish:
            _tell(f"workflow {_word(workflow_state(workflow))}")

    def _tell_state(self, job: Any) -> None:
        state = (job.job_uuid, job.status)
        has_ended = job.status in JOB_ENDED
        ran = job.job_uuid not in NO_JOB
        if self._told.get(job.job_name) == state or (has_ended and ran and job.job_uuid not in self._read):
            return
        self._told[job.job_name] = state
        if job.status != "WAITING" or job.tries:
            _tell(f"{clean(job.job_name)} {_word(job.status)}{_more(job)}")


def _more(job: Any) -> str:
    told = [f"exit code {job.exit_code}"] if job.status == "FAILED" and job.exit_code else []
    if job.status == "WAITING" and job.tries:
        told.append(f"try {job.tries + 1} of {job.most_tries} follows")
    elif job.tries > 1:
        told.append(f"try {job.tries} of {job.most_tries}")
    message = f": {clean(job.message)}" if job.message else ""
    return (f" ({', '.join(told)})" if told else "") + message


def _word(status: str) -> str:
    return status_word(status, stream=sys.stderr)


def _tell(text: str) -> None:
    sys.stdout.flush()
    print(f"rnx: {text}", file=sys.stderr, flush=True)
