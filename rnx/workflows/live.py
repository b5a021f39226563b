"""``rnx workflow status --watch``: drawn again on a terminal, else told change by change."""

import sys
from datetime import UTC, datetime
from shutil import get_terminal_size
from typing import Any

from rnx.client import Client
from rnx.output import Format, clean, show_record, status_word
from rnx.screen import Screen
from rnx.workflows.job_rows import job_lines
from rnx.workflows.views import progress_line, status_data, status_text, title, workflow_state
from rnx.workflows.watching import Change, WorkflowWatcher

_WORTH_SEEING = ("RUNNING", "STOPPING", "INITIALIZING", "FAILED", "PENDING", "SCHEDULED", "WAITING")
"""Where there is no room for all jobs; the others come after these."""


def watch_workflow(form: Format, client: Client, uuid: str) -> None:
    """Show it until it has ended, or until Ctrl-C."""
    watcher = WorkflowWatcher(client, uuid)
    if form is Format.TABLE and sys.stdout.isatty():
        Screen(watcher.changes, lambda: _screenful(watcher)).show()
        return
    try:
        for change in watcher.changes():
            _print_change(form, change)
    except KeyboardInterrupt:
        return


def _screenful(watcher: WorkflowWatcher) -> str:
    """Return as much of it as the terminal has room for."""
    workflow, now = watcher.workflow, datetime.now(UTC)
    jobs = list(watcher.jobs.values())
    name = f"Workflow: {clean(title(workflow))}  " if title(workflow) else ""
    head = [
        f"{name}UUID: {clean(workflow.uuid)}",
        f"Status: {status_word(workflow_state(workflow))}  Progress: {progress_line(workflow)}",
        "",
    ]
    room = get_terminal_size().lines - len(head) - 1
    lines = job_lines(jobs[:room], now)
    if len(lines) > room or len(jobs) > room:
        lines = _most_worth_seeing(jobs, max(room - 3, 2) // 2, now)
    return "\n".join([*head, *lines])


def _most_worth_seeing(jobs: list[Any], most: int, now: datetime) -> list[str]:
    rank = {state: place for place, state in enumerate(_WORTH_SEEING)}
    places = sorted(range(len(jobs)), key=lambda place: rank.get(jobs[place].status, len(rank)))[:most]
    left_out = len(jobs) - len(places)
    return [*job_lines([jobs[place] for place in sorted(places)], now), f"and {left_out} more"]


def _print_change(form: Format, change: Change) -> None:
    if form is not Format.TABLE:
        show_record(form, status_data(change.workflow, change.jobs, first_form=False, detail=False))
        return
    if change.is_first:
        print(status_text(change.workflow, change.jobs), end="\n\n", flush=True)
        return
    now = datetime.now().astimezone().strftime("%H:%M:%S")
    for job in change.jobs:
        message = f" {clean(job.message)}" if job.message else ""
        print(f"{now} {clean(job.job_name)} {status_word(job.status)}{message}", flush=True)
    state = status_word(workflow_state(change.workflow))
    print(f"{now} Status: {state} Progress: {progress_line(change.workflow)}", flush=True)
