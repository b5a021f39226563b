"""The commands on recurring schedules; each is one call."""

from collections.abc import Sequence
from typing import Any

import click

from rnx import candidates
from rnx.cli import Command
from rnx.context import Settings
from rnx.output import Column, clean, show, show_lines, status_word, table

COMMAND_WIDTH = 40


@click.command("list", cls=Command, short_help="List recurring schedules, the next start first.")
@click.option("-q", "--quiet", is_flag=True, help="print only ids, one a line")
@click.pass_obj
def list_schedules(settings: Settings, quiet: bool) -> None:
    """List recurring schedules, the next start first.

    Times are in the local zone, schedules in that of the agent's host.
    Permission: read. Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    with settings.connect(quiet=quiet) as client:
        from rnx.client import SHORT, pb  # noqa: PLC0415

        reply = client.call(client.agent.ListSchedules, pb.ListSchedulesRequest(), SHORT)
    schedules = list(reply.schedules)
    if quiet:
        show_lines(settings.form, [each.uuid for each in schedules])
        return
    show(settings.form, [_data(each) for each in schedules], lambda: _table(schedules))


@click.command("show", cls=Command, short_help="Show a recurring schedule and what it started.")
@click.argument("uuid", shell_complete=candidates.schedules())
@click.option(
    "--jobs",
    type=click.IntRange(1, 1000),
    default=10,
    help="at most this many jobs or workflows (default 10)",
)
@click.pass_obj
def show_schedule(settings: Settings, uuid: str, jobs: int) -> None:
    """Show a recurring schedule and its newest jobs, or workflows.

    UUID may be shortened to a beginning that fits one schedule only.
    Permission: read. Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    from rnx.views import list_data, list_table  # noqa: PLC0415
    from rnx.workflows import views as workflows  # noqa: PLC0415

    with settings.connect() as client:
        from rnx.client import SHORT, pb  # noqa: PLC0415

        request = pb.GetScheduleRequest(uuid=uuid, most_jobs=jobs)
        reply = client.call(client.agent.GetSchedule, request, SHORT)
    data = _data(reply.schedule)
    if reply.schedule.of_workflows:
        data["workflows"] = [workflows.list_data(each, first_form=False) for each in reply.workflows]
    else:
        data["jobs"] = [list_data(job) for job in reply.jobs]

    def text() -> str:
        started = (
            workflows.list_table(list(reply.workflows), first_form=False)
            if reply.schedule.of_workflows
            else list_table(list(reply.jobs))
        )
        return f"{_text(reply.schedule)}\n\n{started}"

    show(settings.form, data, text)


@click.command("pause", cls=Command, short_help="Let a recurring schedule start nothing.")
@click.argument("uuid", shell_complete=candidates.schedules("ACTIVE"))
@click.pass_obj
def pause(settings: Settings, uuid: str) -> None:
    """Let a recurring schedule start nothing until it is resumed. Jobs that run go on.

    Permission: run. Exit status: 0 paused, 1 failed, 2 wrong usage.
    """
    schedule = _call(settings, "PauseSchedule", uuid).schedule
    show(settings.form, _data(schedule), lambda: f"Schedule paused:\n{_text(schedule)}")


@click.command("resume", cls=Command, short_help="Let a paused schedule go on.")
@click.argument("uuid", shell_complete=candidates.schedules("PAUSED"))
@click.pass_obj
def resume(settings: Settings, uuid: str) -> None:
    """Let a paused schedule go on with its next start from now. What was due meanwhile is not made up for.

    Permission: run. Exit status: 0 resumed, 1 failed, 2 wrong usage.
    """
    schedule = _call(settings, "ResumeSchedule", uuid).schedule
    show(settings.form, _data(schedule), lambda: f"Schedule resumed:\n{_text(schedule)}")


@click.command("remove", cls=Command, short_help="Forget a recurring schedule.")
@click.argument("uuid", shell_complete=candidates.schedules())
@click.pass_obj
def remove(settings: Settings, uuid: str) -> None:
    """Forget a recurring schedule with its files and secrets. Its jobs stay, also those that run.

    Permission: run. Exit status: 0 removed, 1 failed, 2 wrong usage.
    """
    removed = _call(settings, "RemoveSchedule", uuid).uuid
    show(settings.form, {"uuid": removed, "removed": True}, lambda: f"Schedule removed: {clean(removed)}")


def _call(settings: Settings, method: str, uuid: str) -> Any:
    """Return the reply of a method that changes one schedule."""
    with settings.connect() as client:
        from rnx.client import LONG, pb  # noqa: PLC0415

        request = getattr(pb, f"{method}Request")(uuid=uuid)
        return client.call(getattr(client.agent, method), request, LONG)


def _data(schedule: Any) -> dict[str, object]:
    data: dict[str, object] = {
        "uuid": schedule.uuid,
        "name": schedule.name,
        "command": schedule.command,
        "args": list(schedule.args),
        "schedule": schedule.schedule,
        "status": schedule.status,
        "next_time": schedule.next_time,
        "last_time": schedule.last_time,
        "last_job_uuid": schedule.last_job_uuid,
        "last_workflow_uuid": schedule.last_workflow_uuid,
        "started_count": schedule.started_count,
        "skipped_count": schedule.skipped_count,
        "skipped_reason": schedule.skipped_reason,
        "skip_missed": schedule.skip_missed,
        "created_time": schedule.created_time,
        "started_by": schedule.started_by,
        "unit": schedule.unit,
        "uploads": list(schedule.uploads),
        "secret_environment": dict(schedule.secret_environment),
        "secret_files": list(schedule.secret_files),
    }
    always = ("uuid", "schedule", "status", "next_time", "command", "started_count")
    return {key: value for key, value in data.items() if value or key in always}


def _table(schedules: Sequence[Any]) -> str:
    if not schedules:
        return "No schedules found"
    from rnx.times import show_time  # noqa: PLC0415
    from rnx.views import short_command  # noqa: PLC0415

    columns = (
        Column("ID", 38),
        Column("NAME", 25),
        Column("STATUS", paint=status_word),
        Column("NEXT START"),
        Column("LAST START"),
        Column("SCHEDULE", 30),
        Column("COMMAND", COMMAND_WIDTH),
    )
    rows = [
        [
            each.uuid,
            each.name,
            each.status,
            show_time(each.next_time),
            show_time(each.last_time),
            each.schedule,
            short_command(each.command, each.args),
        ]
        for each in schedules
    ]
    return table(columns, rows)


def _text(schedule: Any) -> str:
    from rnx.times import show_time  # noqa: PLC0415

    skipped = f"{schedule.skipped_count}, the last because {schedule.skipped_reason}"
    fields = {
        "ID": schedule.uuid,
        "Name": schedule.name,
        "Schedule": schedule.schedule,
        "Status": schedule.status,
        "Next Start": show_time(schedule.next_time, zone=True),
        "Last Start": show_time(schedule.last_time, zone=True),
        "Last Job": schedule.last_job_uuid,
        "Last Workflow": schedule.last_workflow_uuid,
        "Started": str(schedule.started_count),
        "Left Out": skipped if schedule.skipped_count else "",
        "Missed Starts": "left out" if schedule.skip_missed else "made up for once",
        "Command": " ".join([schedule.command, *schedule.args]),
        "Uploaded Files": ", ".join(schedule.uploads),
        "Secret Environment": ", ".join(sorted(schedule.secret_environment)),
        "Secret Files": ", ".join(schedule.secret_files),
        "Unit": schedule.unit,
    }
    return "\n".join(f"{name}: {clean(value)}" for name, value in fields.items() if value)
