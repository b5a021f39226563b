"""``rnx workflow run`` and ``rnx run --workflow``: check here, send once, say what came of it."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from rnx.client import Client, pb
from rnx.context import Settings
from rnx.exits import Exit, NotOffered, RnxError, UsageError
from rnx.output import Format, clean, show
from rnx.submit import submit_to
from rnx.times import is_recurring
from rnx.uploads import Upload, fit_inside, send_uploads
from rnx.workflows.checking import ask_agent, plan_data, plan_text
from rnx.workflows.files import Source, read_workflow
from rnx.workflows.uploads import workflow_uploads


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody wants with a workflow file."""

    file: str
    """FILE or FILE:NAME."""
    attach: bool = False
    dry_run: bool = False
    quiet: bool = False
    """Print only the id."""
    token: str = ""
    first_form: bool = False


Say: TypeAlias = Callable[[str], None]
"""Prints a line for people."""

_WORDS = {
    False: ("Workflow validation passed", "Running workflow from: {}", "Uploading {} files"),
    True: (
        "Workflow validation completed successfully",
        "Starting workflow from: {}",
        "Found {} files to upload",
    ),
}


def run_workflow(settings: Settings, wanted: Wanted) -> int:
    """Do it, and return the exit status."""
    if wanted.attach and wanted.quiet:
        raise UsageError("cannot use --attach together with --quiet")
    if wanted.attach and settings.form is not Format.TABLE and not wanted.dry_run:
        raise UsageError(
            f"cannot print the output of jobs as {settings.form}: --attach passes it on as it is"
        )
    source = read_workflow(wanted.file)
    if wanted.attach and is_recurring(source.workflow.schedule):
        raise UsageError(
            f"cannot use --attach with a workflow that recurs ({clean(source.workflow.schedule)}): "
            "each start is a workflow of its own"
        )
    uploads = workflow_uploads(source)
    with settings.connect(quiet=wanted.quiet) as client:
        if wanted.dry_run:
            return _show_plan(settings, client, source, uploads)
        say = _speaker(settings, wanted)
        reply = _submitted(client, source, uploads, wanted, say)
        _tell(settings, wanted, reply, _count(uploads), say)
        if not wanted.attach:
            return Exit.DONE
        from rnx.workflows.attach import attach  # noqa: PLC0415 - most do without

        return attach(client, reply.workflow_uuid)


def _show_plan(settings: Settings, client: Client, source: Source, uploads: Sequence[Upload]) -> int:
    reply = ask_agent(client, source, uploads, explain=True)
    show(settings.form, plan_data(source, reply), lambda: plan_text(source, reply))
    return Exit.DONE


def _speaker(settings: Settings, wanted: Wanted) -> Say:
    """Return what prints a line for people: to standard error where other things go to standard output."""
    if wanted.quiet or settings.form is not Format.TABLE:
        return lambda _: None
    stream = sys.stderr if wanted.attach else sys.stdout

    def say(text: str) -> None:
        print(text, file=stream, flush=True)

    return say


def _submitted(client: Client, source: Source, uploads: list[Upload], wanted: Wanted, say: Say) -> Any:
    """Return the agent's answer. Raises WorkflowInvalid with all that is wrong."""
    comes_at_once = fit_inside(uploads)
    if not comes_at_once:
        _check(client, source, uploads)
        _tell_passed(wanted, uploads, say)
    request = _request(client, source, uploads, wanted.token)
    try:
        reply = submit_to(client, client.jobs.RunWorkflow, request)
    except RnxError as error:
        if error.reason == "WORKFLOW_INVALID":
            _check(client, source, uploads)
        raise
    if comes_at_once:
        _tell_passed(wanted, uploads, say)
    return reply


def _tell_passed(wanted: Wanted, uploads: Sequence[Upload], say: Say) -> None:
    passed, running, sending = _WORDS[wanted.first_form]
    say(passed)
    say(running.format(clean(wanted.file)))
    if count := _count(uploads):
        say(sending.format(count))


def _count(uploads: Sequence[Upload]) -> int:
    return sum(not each.is_directory for each in uploads)


def _check(client: Client, source: Source, uploads: Sequence[Upload]) -> None:
    """Let the agent say what is wrong, all of it. Raises WorkflowInvalid."""
    try:
        ask_agent(client, source, uploads)
    except NotOffered:
        return  # an agent that only says so when it is to run it


def _request(client: Client, source: Source, uploads: list[Upload], token: str) -> Any:
    jobs = source.workflow.jobs
    fields = send_uploads(client, uploads, field="workflow_files") if uploads else {}
    return pb.RunWorkflowRequest(
        workflow=source.path.name,
        total_jobs=len(jobs),
        job_order=list(jobs),
        yaml_content=source.text,
        name=source.name,
        token=token,
        **fields,
    )


def _tell(settings: Settings, wanted: Wanted, reply: Any, files: int, say: Say) -> None:
    uuid = clean(reply.workflow_uuid or reply.schedule_uuid)
    if settings.form is not Format.TABLE:
        show(settings.form, _data(reply, files), str)
    elif wanted.quiet:
        if not wanted.attach:
            print(uuid)
    elif reply.schedule_uuid and not reply.workflow_uuid:
        say(f"Schedule created with UUID: {uuid}")
        if reply.scheduled_time:
            say(f"Scheduled Time: {clean(reply.scheduled_time)}")
        say(f"Look at it: rnx schedule show {uuid}")
    else:
        say(f"Workflow created with UUID: {uuid}")
        if reply.scheduled_time:
            say(f"Scheduled Time: {clean(reply.scheduled_time)}")
        if not wanted.attach:
            form = f"rnx status --workflow {uuid}" if wanted.first_form else f"rnx workflow status {uuid}"
            say(f"Look at it: {form}")


def _data(reply: Any, files: int) -> dict[str, object]:
    data = {
        "workflow_uuid": reply.workflow_uuid,
        "status": reply.status,
        "total_jobs": reply.total_jobs,
        "scheduled_time": reply.scheduled_time,
        "schedule_uuid": reply.schedule_uuid,
        "files_uploaded": files,
    }
    always = ("workflow_uuid", "status")
    return {name: value for name, value in data.items() if value or name in always}
