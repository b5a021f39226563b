"""``rnx list``: which jobs are wanted, asked page by page."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from shutil import get_terminal_size
from typing import Any

import click

from rnx import candidates
from rnx.cli import Command
from rnx.context import Settings
from rnx.exits import NotOffered, UsageError
from rnx.output import show, show_lines

PAGE = 1000


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which jobs; empty fields do not filter."""

    states: tuple[str, ...] = ()
    name: str = ""
    schedule: str = ""
    since: datetime | None = None


@click.command("list", cls=Command, short_help="List jobs, newest first.")
@click.option(
    "--state",
    "states",
    multiple=True,
    metavar="STATE",
    shell_complete=candidates.STATES,
    help="only jobs in this state; may be repeated",
)
@click.option("--name", default="", help="only jobs of this name")
@click.option(
    "--schedule",
    default="",
    metavar="UUID",
    shell_complete=candidates.schedules(),
    help="only jobs that this recurring schedule has started",
)
@click.option(
    "--since", metavar="TIME", help="only jobs submitted since: 10m, 2h30m, 2026-01-31 10:00, RFC 3339"
)
@click.option("--limit", type=click.IntRange(min=1), envvar="RNX_LIST_LIMIT", help="at most this many jobs")
@click.option("-q", "--quiet", is_flag=True, help="print only ids, one a line")
@click.option(
    "-w", "--watch", is_flag=True, help="go on: draw the list again, or print changes, as jobs change"
)
@click.option("--workflow", "workflows", is_flag=True, help="list workflows: rnx workflow list")
@click.pass_obj
def list_jobs(
    settings: Settings,
    *,
    states: tuple[str, ...],
    name: str,
    schedule: str,
    since: str | None,
    limit: int | None,
    quiet: bool,
    watch: bool,
    workflows: bool,
) -> None:
    """List jobs, newest first. A job has to fit all that is asked for.

    With --watch a terminal shows the list as it is now, until Ctrl-C. Elsewhere, and with --json, it prints
    where the jobs that have not ended stand, and then each change on a line of its own (`rnx job watch`).

    Permission: read. Exit status: 0 done, 1 failed, 2 wrong usage.

    Example: rnx list --state=FAILED --since=1h
    """
    from rnx.times import moment_before  # noqa: PLC0415
    from rnx.views import list_data, list_table  # noqa: PLC0415

    if workflows:
        _list_workflows(
            settings, is_filtered=bool(states or name or schedule or since or limit or watch), quiet=quiet
        )
        return
    if watch and (quiet or limit or schedule or since):
        raise UsageError("cannot use --watch together with --quiet, --limit, --schedule or --since")
    moment = moment_before(since, datetime.now().astimezone()) if since else None
    wanted = _Wanted(tuple(state.upper() for state in states), name, schedule.lower(), moment)
    with settings.connect(quiet=quiet) as client:
        if watch:
            from rnx.commands.watch import watch_list  # noqa: PLC0415

            draw = partial(_newest_that_fit, client, wanted)
            watch_list(settings, client, name=name, states=wanted.states, draw=draw)
            return
        jobs = _listed(client, wanted, limit)
    if quiet:
        show_lines(settings.form, [job.uuid for job in jobs])
        return
    show(settings.form, [list_data(job) for job in jobs], lambda: list_table(jobs))


def _list_workflows(settings: Settings, *, is_filtered: bool, quiet: bool) -> None:
    from rnx.commands.workflow_look import show_workflows  # noqa: PLC0415

    if is_filtered:
        raise UsageError(
            "cannot use --workflow together with what chooses jobs", hint="see rnx workflow list"
        )
    show_workflows(settings, quiet=quiet, first_form=True)


def _listed(client: Any, wanted: _Wanted, limit: int | None) -> list[Any]:
    try:
        return list(_pages(client, wanted, limit))
    except NotOffered:
        return _all_at_once(client, wanted, limit)


def _newest_that_fit(client: Any, wanted: _Wanted) -> str:
    """Return the list as far as the terminal has room for it."""
    from rnx.views import list_table  # noqa: PLC0415

    height = get_terminal_size().lines
    return list_table(_listed(client, wanted, max(height - 3, 1)))


def _pages(client: Any, wanted: _Wanted, limit: int | None) -> Iterator[Any]:
    """Yield jobs page by page, at most ``limit``."""
    from rnx.client import SHORT, pb  # noqa: PLC0415

    token, left = "", limit
    while left is None or left > 0:
        size = PAGE if left is None else min(PAGE, left)
        request = pb.QueryJobsRequest(
            states=wanted.states,
            name=wanted.name,
            schedule_uuid_prefix=wanted.schedule,
            created_since=int(wanted.since.timestamp() * 1e9) if wanted.since else 0,
            page_size=size,
            page_token=token,
        )
        page = client.call(client.agent.QueryJobs, request, SHORT)
        yield from page.jobs[:size]
        left = None if left is None else left - len(page.jobs)
        token = page.next_page_token
        if not token:
            return


def _all_at_once(client: Any, wanted: _Wanted, limit: int | None) -> list[Any]:
    """Ask an agent that does not know pages; filters and order are our work then."""
    from rnx.client import SHORT, pb  # noqa: PLC0415

    jobs = client.call(client.jobs.ListJobs, pb.EmptyRequest(), SHORT).jobs
    found = [job for job in jobs if _fits(job, wanted)]
    return sorted(found, key=lambda job: job.created_time or job.start_time, reverse=True)[:limit]


def _fits(job: Any, wanted: _Wanted) -> bool:
    from rnx.times import parse_wire  # noqa: PLC0415

    created = parse_wire(job.created_time or job.start_time) or datetime.max.replace(tzinfo=UTC)
    return (
        (not wanted.states or job.status in wanted.states)
        and wanted.name in {"", job.name}
        and job.schedule_uuid.startswith(wanted.schedule)
        and (wanted.since is None or created >= wanted.since)
    )
