"""The commands on jobs that exist already; each is one call."""

import sys
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from rnx import candidates
from rnx.cli import Command
from rnx.context import Settings
from rnx.exits import NotOffered, RnxError
from rnx.output import Column, Format, clean, show, show_record, status_word, table
from rnx.times import show_exact_time

if TYPE_CHECKING:
    from rnx.client import Client


@click.command("status", cls=Command, short_help="Show everything about a job.")
@click.argument("uuid", shell_complete=candidates.jobs())
@click.option("--workflow", "-w", is_flag=True, help="it is a workflow: rnx workflow status")
@click.pass_obj
def status(settings: Settings, uuid: str, workflow: bool) -> None:
    """Show everything about a job.

    UUID may be shortened to a beginning that fits one job only. One of a workflow shows that workflow.
    Permission: read. Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    from rnx.views import status_data, status_text  # noqa: PLC0415

    if workflow:
        from rnx.commands.workflow_look import show_workflow  # noqa: PLC0415

        show_workflow(settings, uuid, first_form=True)
        return
    with settings.connect() as client:
        from rnx.client import SHORT, pb  # noqa: PLC0415

        try:
            reply = client.call(client.jobs.GetJobStatus, pb.GetJobStatusRequest(uuid=uuid), SHORT)
        except RnxError as error:
            if error.reason != "JOB_NOT_FOUND":
                raise
            _show_workflow_instead(settings, client, uuid, error)
            return
    show(settings.form, status_data(reply), lambda: status_text(reply))


@click.command("log", cls=Command, short_help="Write the output of a job.")
@click.argument("uuid", shell_complete=candidates.jobs())
@click.option(
    "--follow/--no-follow", "-f", default=True, envvar="RNX_LOG_FOLLOW", help="go on until the job ends"
)
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="begin with the last N lines")
@click.option("--since", metavar="TIME", help="begin at a time: 10m, 2h30m, 2026-01-31 10:00, RFC 3339")
@click.option("--grep", metavar="PATTERN", help="only lines that match the regular expression")
@click.option(
    "--timestamps", "-t", is_flag=True, envvar="RNX_LOG_TIMESTAMPS", help="begin each line with its time"
)
@click.pass_obj
def log(
    settings: Settings,
    *,
    uuid: str,
    follow: bool,
    tail: int | None,
    since: str | None,
    grep: str | None,
    timestamps: bool,
) -> None:
    """Write the output of a job, byte by byte as the job wrote it.

    Waits for the end of a running job; Ctrl-C ends the watching, not the job.
    With --timestamps each line begins with when it was written (RFC 3339, UTC): never too early, and at most
    about a second too late, more for what was written while the agent was away.

    Permission: read. Exit status: 0 done, 1 failed, 2 wrong usage.

    Example: rnx log --tail=100 --grep=ERROR 8f94c5b2
    """
    from rnx.times import moment_before  # noqa: PLC0415

    since_time = int(moment_before(since, datetime.now().astimezone()).timestamp() * 1e9) if since else 0
    with settings.connect() as client:
        from rnx.attach import LogFollower  # noqa: PLC0415
        from rnx.client import pb  # noqa: PLC0415

        request = pb.GetJobLogsRequest(
            uuid=uuid,
            no_follow=not follow,
            tail_lines=-1 if tail == 0 else tail or 0,
            since_time=since_time,
            grep=grep or "",
            timestamps=timestamps,
        )
        try:
            _write_log(settings.form, LogFollower(client, request).timed_pieces(), timestamps=timestamps)
        except KeyboardInterrupt:
            print("Stopping log stream...", file=sys.stderr)


@click.command("stop", cls=Command, short_help="End a job.")
@click.argument("uuid", shell_complete=candidates.jobs(candidates.ALIVE))
@click.option(
    "--force", is_flag=True, envvar="RNX_STOP_FORCE", help="kill it at once, without the grace period"
)
@click.pass_obj
def stop(settings: Settings, uuid: str, force: bool) -> None:
    """End a job and wait until it has ended.

    Its processes get TERM and, after the agent's grace period, KILL. A job that has not started is canceled.
    Permission: run. Exit status: 0 stopped, 1 failed, 2 wrong usage.
    """
    with settings.connect() as client:
        from rnx.client import STOP, pb  # noqa: PLC0415

        reply = client.call(client.jobs.StopJob, pb.StopJobRequest(uuid=uuid, force=force), STOP)
    data = {
        "uuid": reply.uuid,
        "status": reply.status,
        "endTime": reply.end_time,
        "exitCode": reply.exit_code,
    }
    data |= {"reason": reply.reason, "signal": reply.signal}
    data = {key: value for key, value in data.items() if value}
    show(settings.form, data, lambda: _outcome("Job stopped successfully:", reply))


@click.command("cancel", cls=Command, short_help="Withdraw a job that has not started.")
@click.argument("uuid", shell_complete=candidates.jobs(candidates.WAITING))
@click.pass_obj
def cancel(settings: Settings, uuid: str) -> None:
    """Withdraw a job that has not started. Its record stays.

    Permission: run. Exit status: 0 canceled, 1 failed, 2 wrong usage.
    """
    with settings.connect() as client:
        from rnx.client import SHORT, pb  # noqa: PLC0415

        reply = client.call(client.jobs.CancelJob, pb.CancelJobRequest(uuid=uuid), SHORT)
    note = "The record of the job stays; rnx job delete removes it"
    data = {"canceled": True, "job_id": reply.uuid, "status": reply.status, "message": note}
    show(
        settings.form,
        data,
        lambda: f"{_outcome('Scheduled job canceled successfully:', reply)}\nNote: {note}",
    )


@click.command("delete", cls=Command, short_help="Remove a job that has ended.")
@click.argument("uuid", shell_complete=candidates.jobs(candidates.ENDED))
@click.pass_obj
def delete(settings: Settings, uuid: str) -> None:
    """Remove the record, output and files of a job that has ended.

    Permission: manage. Exit status: 0 removed, 1 failed, 2 wrong usage.
    """
    with settings.connect() as client:
        from rnx.client import DELETE, pb  # noqa: PLC0415

        reply = client.call(client.jobs.DeleteJob, pb.DeleteJobRequest(uuid=uuid), DELETE)
    if not reply.success:
        raise RnxError(reply.message or f"cannot delete job {uuid}: the agent refused")
    data = {"uuid": reply.uuid, "success": reply.success, "message": reply.message}
    show(
        settings.form,
        data,
        lambda: f"Job deleted successfully:\nID: {clean(reply.uuid)}\nMessage: {clean(reply.message)}",
    )


@click.command("delete-all", cls=Command, short_help="Remove all jobs that have ended.")
@click.pass_obj
def delete_all(settings: Settings) -> None:
    """Remove all jobs that have ended.

    Permission: manage. Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    with settings.connect() as client:
        from rnx.client import LONG, pb  # noqa: PLC0415

        reply = client.call(client.jobs.DeleteAllJobs, pb.DeleteAllJobsRequest(), LONG)
    if not reply.success:
        raise RnxError(reply.message or "cannot delete jobs: the agent refused")
    data = {
        "success": reply.success,
        "message": reply.message,
        "deleted_count": reply.deleted_count,
        "skipped_count": reply.skipped_count,
    }
    text = (
        f"Jobs deleted successfully:\nDeleted count: {reply.deleted_count}\n"
        f"Skipped count: {reply.skipped_count} (running/scheduled)\nMessage: {clean(reply.message)}"
    )
    show(settings.form, data, lambda: text)


@click.command("explain", cls=Command, short_help="Show the systemd unit of a job.")
@click.argument("uuid", shell_complete=candidates.jobs())
@click.pass_obj
def explain(settings: Settings, uuid: str) -> None:
    """Show how a job is run: its unit, where each property comes from, and a systemd-run line like it.

    Permission: read. Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    with settings.connect() as client:
        from rnx.client import SHORT, pb  # noqa: PLC0415

        reply = client.call(client.agent.ExplainJob, pb.ExplainJobRequest(uuid=uuid), SHORT)
    names = ("name", "value", "origin", "documentation")
    rows = [[getattr(each, name) for name in names] for each in reply.properties]
    data = {
        "uuid": reply.uuid,
        "unit": reply.unit,
        "properties": [dict(zip(names, row, strict=True)) for row in rows],
        "systemd_run": reply.systemd_run,
        "notes": list(reply.notes),
    }
    show(settings.form, data, lambda: _explanation(reply, rows))


def _show_workflow_instead(settings: Settings, client: "Client", uuid: str, no_job: RnxError) -> None:
    """Show the workflow of this id; where there is none either, it is the job that is missing."""
    from rnx.commands.workflow_look import show_workflow_of  # noqa: PLC0415

    try:
        show_workflow_of(settings, client, uuid, first_form=True)
    except RnxError as error:
        if isinstance(error, NotOffered) or error.reason == "WORKFLOW_NOT_FOUND":
            raise no_job from None
        raise


def _write_log(form: Format, pieces: Iterator[tuple[int, bytes]], *, timestamps: bool) -> None:
    if form is Format.TABLE:
        stamp = _LineStamp() if timestamps else None
        for time_ns, piece in pieces:
            sys.stdout.buffer.write(piece if stamp is None else stamp.stamped(time_ns, piece))
            sys.stdout.buffer.flush()
        return
    import codecs  # noqa: PLC0415

    # A character may begin in one piece and end in the next.
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    time = ""
    for time_ns, piece in pieces:
        time = show_exact_time(time_ns) if time_ns else datetime.now().astimezone().isoformat()
        show_record(form, {"timestamp": time, "data": decoder.decode(piece)})
    if rest := decoder.decode(b"", final=True):
        show_record(form, {"timestamp": time, "data": rest})


class _LineStamp:
    """Puts the time in front of every line; a line that comes in pieces has the time of its first byte."""

    def __init__(self) -> None:
        self._is_in_line = False

    def stamped(self, time_ns: int, piece: bytes) -> bytes:
        stamp = show_exact_time(time_ns).encode() + b" "
        is_last_whole = piece.endswith(b"\n")
        lines = piece.removesuffix(b"\n").replace(b"\n", b"\n" + stamp)
        begun = b"" if self._is_in_line else stamp
        self._is_in_line = not is_last_whole
        return begun + lines + (b"\n" if is_last_whole else b"")


def _outcome(title: str, reply: Any) -> str:
    return f"{title}\nID: {clean(reply.uuid)}\nStatus: {status_word(reply.status)}"


def _explanation(reply: Any, rows: list[list[str]]) -> str:
    columns = (Column("PROPERTY"), Column("VALUE", 60), Column("COMES FROM"), Column("MANUAL"))
    parts = [
        f"Unit: {clean(reply.unit)}",
        table(columns, rows),
        f"The same by hand:\n{clean(reply.systemd_run)}",
    ]
    parts += [f"Note: {clean(note)}" for note in reply.notes]
    return "\n\n".join(parts)
