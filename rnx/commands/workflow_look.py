"""The commands that look at workflows: which there are, how one stands, what its jobs write, its picture."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rnx import candidates
from rnx.cli import Command
from rnx.context import Settings
from rnx.exits import UsageError
from rnx.output import Format, show, show_lines

if TYPE_CHECKING:
    from rnx.client import Client
    from rnx.workflows.picture import Picture

_ID = re.compile(r"[0-9A-Fa-f][0-9A-Fa-f-]{3,35}")


@click.command("list", cls=Command, short_help="List workflows, newest first.")
@click.option("--active", is_flag=True, help="only workflows that have not ended")
@click.option("-q", "--quiet", is_flag=True, help="print only ids, one a line")
@click.pass_obj
def list_workflows(settings: Settings, active: bool, quiet: bool) -> None:
    """List workflows, newest first, also those that have ended. Progress is jobs that have completed, of all.

    Permission: read. Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    show_workflows(settings, active=active, quiet=quiet)


def show_workflows(
    settings: Settings, *, active: bool = False, quiet: bool = False, first_form: bool = False
) -> None:
    """Print the list; the first form has other columns."""
    with settings.connect(quiet=quiet) as client:
        from rnx.client import LONG, pb  # noqa: PLC0415

        request = pb.ListWorkflowsRequest(include_completed=not active)
        found = list(client.call(client.jobs.ListWorkflows, request, LONG).workflows)
    if quiet:
        show_lines(settings.form, [each.uuid for each in found])
        return
    from rnx.workflows.views import list_data, list_table  # noqa: PLC0415

    data = [list_data(each, first_form=first_form) for each in found]
    show(settings.form, data, lambda: list_table(found, first_form=first_form))


@click.command("status", cls=Command, short_help="Show how a workflow and its jobs stand.")
@click.argument("uuid", shell_complete=candidates.workflows())
@click.option("-d", "--detail", is_flag=True, help="also its file, its slice, and the outputs of its jobs")
@click.option("-w", "--watch", is_flag=True, help="go on until it has ended: draw it again, or print changes")
@click.pass_obj
def status(settings: Settings, uuid: str, detail: bool, watch: bool) -> None:
    """Show how a workflow stands, and each of its jobs: id, name, state, exit code, what it waits for.

    UUID may be shortened to a beginning that fits one workflow only. A job that has not been started has
    the id 0. With --watch a terminal shows it as it is now until it has ended. Elsewhere, and with --json,
    it prints how it stands and then each change on lines of its own.

    Permission: read. Exit status: 0 done, 1 failed, 2 wrong usage.

    Example: rnx workflow status --watch 8f94c5b2
    """
    if watch and detail:
        raise UsageError("cannot use --watch together with --detail")
    if not watch:
        show_workflow(settings, uuid, detail=detail)
        return
    with settings.connect() as client:
        from rnx.workflows.live import watch_workflow  # noqa: PLC0415

        watch_workflow(settings.form, client, uuid)


def show_workflow(settings: Settings, uuid: str, *, detail: bool = False, first_form: bool = False) -> None:
    """Print one workflow; the first form names its file."""
    with settings.connect() as client:
        show_workflow_of(settings, client, uuid, detail=detail, first_form=first_form)


def show_workflow_of(
    settings: Settings, client: "Client", uuid: str, *, detail: bool = False, first_form: bool = False
) -> None:
    """Print one workflow of the agent. Raises RnxError."""
    from rnx.workflows.watching import get_status  # noqa: PLC0415

    reply = get_status(client, uuid)
    from rnx.workflows.views import status_data, status_text  # noqa: PLC0415

    workflow, jobs = reply.workflow, list(reply.jobs)
    show(
        settings.form,
        status_data(workflow, jobs, first_form=first_form, detail=detail),
        lambda: status_text(workflow, jobs, first_form=first_form, detail=detail),
    )


@click.command("logs", cls=Command, short_help="Write the output of the jobs of a workflow.")
@click.argument("uuid", shell_complete=candidates.workflows())
@click.argument("jobs", nargs=-1, metavar="[JOB]...", shell_complete=candidates.workflow_jobs)
@click.option(
    "--follow/--no-follow", "-f", default=True, envvar="RNX_LOG_FOLLOW", help="go on until the workflow ends"
)
@click.option(
    "--tail", type=click.IntRange(min=0), metavar="N", help="begin with the last N lines of each job"
)
@click.option(
    "--timestamps", "-t", is_flag=True, envvar="RNX_LOG_TIMESTAMPS", help="begin each line with its time"
)
@click.pass_obj
def logs(
    settings: Settings, *, uuid: str, jobs: tuple[str, ...], follow: bool, tail: int | None, timestamps: bool
) -> None:
    """Write the output of all jobs of a workflow, or of some, each line behind the name of its job.

    Jobs that have ended come first, one after the other as they were started; then those that run as they
    write, and new ones as they start. JOB is the name of a job, or that of all jobs of one matrix. Of a job
    that was tried again it is the newest try. Ctrl-C ends the watching, not the workflow.
    With --json each line is an object. Times are as of rnx log.

    Permission: read. Exit status: 0 done, 1 failed, 2 wrong usage.

    Example: rnx workflow logs --tail=20 8f94c5b2 build test
    """
    with settings.connect() as client:
        from rnx.workflows.logs import Asked, write_logs  # noqa: PLC0415

        try:
            write_logs(settings.form, client, Asked(uuid, jobs, follow, tail, timestamps))
        except KeyboardInterrupt:
            print("Stopping log stream...", file=sys.stderr)


@click.command("graph", cls=Command, short_help="Draw the jobs of a workflow, or of a workflow file.")
@click.argument(
    "what", metavar="FILE[:NAME]|UUID", required=False, shell_complete=candidates.workflows_and_files
)
@click.option("--dot", "as_dot", is_flag=True, help="in the language of graphviz, for dot(1)")
@click.option(
    "--svg",
    "target",
    metavar="[FILE]",
    is_flag=False,
    flag_value="-",
    help="as SVG, into the file or to standard output; needs graphviz",
)
@click.pass_obj
def graph(settings: Settings, what: str | None, as_dot: bool, target: str | None) -> None:
    """Draw the jobs in the order in which they can start, and what each waits for.

    Of a file nothing is asked of an agent. Of a workflow, which UUID or the beginning of one names, the
    picture shows how each job stands.
    Permission: read, for a UUID. Exit status: 0 done, 1 failed or not valid, 2 wrong usage.

    Example: rnx workflow graph nightly.yml --svg nightly.svg
    """
    if what is None and target not in (None, "-"):  # --svg FILE, and no word is left
        what, target = target, "-"
    if what is None:
        raise UsageError("nothing to draw", hint="name a workflow file, or a workflow by its id")
    if as_dot and target is not None:
        raise UsageError("cannot use --dot together with --svg")
    if (as_dot or target is not None) and settings.form is not Format.TABLE:
        one = "--dot" if as_dot else "--svg"
        raise UsageError(f"cannot use {one} together with -o {settings.form}: it is a form of its own")
    from rnx.workflows.picture import dot, tree  # noqa: PLC0415

    picture = _picture(settings, what)
    if target is not None:
        from rnx.workflows.graphviz import save_svg  # noqa: PLC0415

        save_svg(dot(picture), target)
        return
    data = {"steps": picture.steps()}
    show(settings.form, data, lambda: dot(picture) if as_dot else tree(picture))


def _picture(settings: Settings, what: str) -> "Picture":
    from rnx.workflows.files import read_workflow, split_name  # noqa: PLC0415
    from rnx.workflows.picture import picture_of_file, picture_of_jobs  # noqa: PLC0415

    if not _ID.fullmatch(what) or Path(what).exists() or split_name(what)[1]:
        return picture_of_file(read_workflow(what).workflow)
    with settings.connect() as client:
        from rnx.workflows.watching import get_status  # noqa: PLC0415

        return picture_of_jobs(get_status(client, what).jobs)
