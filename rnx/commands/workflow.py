"""The commands on workflow files."""

import json
from typing import TYPE_CHECKING

import click

from rnx import candidates
from rnx.cli import Command
from rnx.context import Settings
from rnx.exits import Exit
from rnx.output import clean, show

if TYPE_CHECKING:
    from rnx.workflows.files import WorkflowInvalid


@click.command("run", cls=Command, short_help="Run the jobs of a workflow file.")
@click.argument("file", metavar="FILE[:NAME]", shell_complete=candidates.files)
@click.option("-a", "--attach", is_flag=True, help="show the output of all jobs and wait for the end")
@click.option("--dry-run", is_flag=True, help="start nothing; show the steps and the unit of each job")
@click.option("-q", "--quiet", is_flag=True, help="print only the id of the workflow")
@click.option(
    "--token",
    default="",
    metavar="TEXT",
    help="a run that is repeated with the same token makes no second workflow",
)
@click.pass_obj
def run(settings: Settings, *, file: str, attach: bool, dry_run: bool, quiet: bool, token: str) -> int:
    """Check a workflow file and run its jobs, each as soon as what it waits for has come true.

    NAME is one of several workflows in the file, or one job, alone. Files that jobs upload are looked for
    beside FILE first, then as they are written. Returns as soon as the agent has accepted the workflow.

    With --attach it shows the output of all jobs, each line behind the name of its job, on standard output,
    and what becomes of the jobs on standard error, also across restarts of the agent. Ctrl-C ends the
    watching, not the workflow.

    With --dry-run the agent checks the file, too, and shows in which order the jobs can start, what each
    waits for, and with which systemd unit it would run.

    Permission: run. Exit status: 0 accepted, 1 failed, 2 wrong usage. With --attach 0 if the workflow has
    completed, 1 if it has ended otherwise, 130 after Ctrl-C.

    Example: rnx workflow run nightly.yml --attach
    """
    from rnx.workflows.running import Wanted, run_workflow  # noqa: PLC0415

    return run_workflow(settings, Wanted(file, attach, dry_run, quiet, token))


@click.command("validate", cls=Command, short_help="Check a workflow file; say everything that is wrong.")
@click.argument("file", metavar="FILE[:NAME]", shell_complete=candidates.files)
@click.option(
    "--server",
    is_flag=True,
    envvar="RNX_VALIDATE_SERVER",
    help="let the agent check it, too: volumes, networks, runtimes, limits",
)
@click.pass_obj
def validate(settings: Settings, file: str, server: bool) -> int:
    """Check a workflow file, and say everything that is wrong with it: file, line, column, key.

    NAME is one of several workflows in the file, or one job. No agent is asked without --server, so that the
    answer is the same everywhere; with it, the agent says as well what it lacks to run the file.
    Permission: run, with --server; else none. Exit status: 0 valid, 1 not valid, 2 wrong usage.

    Example: rnx workflow validate nightly.yml
    """
    from rnx.workflows.files import WorkflowInvalid, read_workflow  # noqa: PLC0415

    try:
        source = read_workflow(file)
        if server:
            with settings.connect() as client:
                from rnx.workflows.checking import ask_agent  # noqa: PLC0415
                from rnx.workflows.uploads import workflow_uploads  # noqa: PLC0415

                ask_agent(client, source, workflow_uploads(source))
    except WorkflowInvalid as error:
        return _show_problems(settings, error)
    count = len(source.workflow.jobs)
    data = {"valid": True, "problems": [], "total_jobs": count}
    jobs = "1 job" if count == 1 else f"{count} jobs"
    agrees = ", and the agent can run it" if server else ""
    show(settings.form, data, lambda: f"{source.path}: valid, {jobs}{agrees}")
    return Exit.DONE


@click.command("schema", cls=Command, short_help="Print the JSON Schema of workflow files.")
def schema() -> None:
    """Print the JSON Schema of workflow files, with which editors check and complete.

    Exit status: 0 done, 2 wrong usage.
    """
    from joblet_agent.workflow_file.schema import workflow_schema  # noqa: PLC0415

    print(json.dumps(workflow_schema(), indent=2))


def _show_problems(settings: Settings, error: "WorkflowInvalid") -> int:
    problems = [
        {"line": each.mark.line, "column": each.mark.column, "key": each.key, "message": each.text}
        for each in error.problems
    ]
    show(settings.form, {"valid": False, "problems": problems}, lambda: "\n".join(map(clean, error.more)))
    return Exit.FAILED
