"""The commands that change a workflow; each is one call, and stop waits for what comes of it."""

from typing import Any

import click

from rnx import candidates
from rnx.cli import Command
from rnx.context import Settings
from rnx.exits import Exit
from rnx.output import clean, show, status_word


@click.command("stop", cls=Command, short_help="End a workflow and all its jobs.")
@click.argument("uuid", shell_complete=candidates.workflows(candidates.WORKFLOW_ALIVE))
@click.pass_obj
def stop(settings: Settings, uuid: str) -> None:
    """Stop the jobs of a workflow that run, cancel those that wait, and wait until it has ended.

    Jobs are stopped as rnx stop does it.
    Permission: run. Exit status: 0 stopped, 1 failed, 2 wrong usage.
    """
    with settings.connect() as client:
        from rnx.client import STOP, pb  # noqa: PLC0415
        from rnx.workflows.watching import until_ended  # noqa: PLC0415

        request = pb.StopWorkflowRequest(workflow_uuid=uuid)
        workflow = client.call(client.agent.StopWorkflow, request, STOP).workflow
        workflow = until_ended(client, workflow, STOP)
    _show(settings, "Workflow stopped successfully:", workflow)


@click.command("cancel", cls=Command, short_help="Start nothing more of a workflow.")
@click.argument("uuid", shell_complete=candidates.workflows(candidates.WORKFLOW_ALIVE))
@click.pass_obj
def cancel(settings: Settings, uuid: str) -> None:
    """Cancel the jobs of a workflow that wait. Those that run go on to their end, and the workflow with them.

    Permission: run. Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    _show(settings, "Workflow canceled successfully:", _call(settings, "CancelWorkflow", uuid).workflow)


@click.command("pause", cls=Command, short_help="Let a workflow and its jobs stand still.")
@click.argument("uuid", shell_complete=candidates.workflows(candidates.WORKFLOW_ALIVE, paused=False))
@click.pass_obj
def pause(settings: Settings, uuid: str) -> None:
    """Start nothing more of a workflow, and let its running jobs stand still, until rnx workflow resume.

    Permission: run. Exit status: 0 paused, 1 failed, 2 wrong usage.
    """
    _show(settings, "Workflow paused successfully:", _call(settings, "PauseWorkflow", uuid).workflow)


@click.command("resume", cls=Command, short_help="Let a paused workflow go on.")
@click.argument("uuid", shell_complete=candidates.workflows(candidates.WORKFLOW_ALIVE, paused=True))
@click.pass_obj
def resume(settings: Settings, uuid: str) -> None:
    """Let a paused workflow go on, with its jobs.

    Permission: run. Exit status: 0 resumed, 1 failed, 2 wrong usage.
    """
    _show(settings, "Workflow resumed successfully:", _call(settings, "ResumeWorkflow", uuid).workflow)


@click.command("retry", cls=Command, short_help="Run the jobs of an ended workflow again.")
@click.argument("uuid", shell_complete=candidates.workflows(candidates.ENDED))
@click.option("--failed", is_flag=True, help="keep what has completed; run the others again")
@click.option("-a", "--attach", is_flag=True, help="show the output of all jobs and wait for the end")
@click.pass_obj
def retry(settings: Settings, uuid: str, failed: bool, attach: bool) -> int:
    """Run the jobs of an ended workflow again, all or those that have not completed, under the same id.

    Permission: run. Exit status: 0 it runs, 1 failed, 2 wrong usage. With --attach as of rnx workflow run.

    Example: rnx workflow retry --failed 8f94c5b2
    """
    reply = _call(settings, "RetryWorkflow", uuid, failed_only=failed)
    if not attach:
        _show(settings, "Workflow runs again:", reply.workflow)
        return Exit.DONE
    with settings.connect(quiet=True) as client:
        from rnx.workflows.attach import attach as follow  # noqa: PLC0415

        return follow(client, reply.workflow.uuid, shows_old=False)


@click.command("delete", cls=Command, short_help="Remove a workflow that has ended.")
@click.argument("uuid", shell_complete=candidates.workflows(candidates.ENDED))
@click.pass_obj
def delete(settings: Settings, uuid: str) -> None:
    """Remove a workflow that has ended, with the records, output and files of its jobs.

    Permission: run. Exit status: 0 removed, 1 failed, 2 wrong usage.
    """
    reply = _call(settings, "DeleteWorkflow", uuid)
    data = {"uuid": reply.workflow_uuid, "deleted_jobs": reply.deleted_jobs}
    lines = [
        "Workflow deleted successfully:",
        f"ID: {clean(reply.workflow_uuid)}",
        f"Deleted Jobs: {reply.deleted_jobs}",
    ]
    show(settings.form, data, lambda: "\n".join(lines))


def _call(settings: Settings, method: str, uuid: str, **more: object) -> Any:
    """Return the reply of a method that changes one workflow."""
    with settings.connect() as client:
        from rnx.client import LONG, pb  # noqa: PLC0415

        request = getattr(pb, f"{method}Request")(workflow_uuid=uuid, **more)
        return client.call(getattr(client.agent, method), request, LONG)


def _show(settings: Settings, done: str, workflow: Any) -> None:
    from rnx.workflows.views import progress_line, status_data  # noqa: PLC0415

    data = status_data(workflow, [], first_form=False, detail=False)
    del data["jobs"]
    lines = [
        done,
        f"ID: {clean(workflow.uuid)}",
        f"Status: {status_word(workflow.status)}",
        f"Progress: {progress_line(workflow)}",
    ]
    show(settings.form, data, lambda: "\n".join(lines))
