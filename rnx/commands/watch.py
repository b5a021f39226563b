"""The commands that look on: every change of jobs, a list that stays true, the end of jobs."""

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from rnx import candidates
from rnx.cli import Command
from rnx.context import Settings
from rnx.exits import Exit, RnxError, TimedOut, UsageError
from rnx.output import Format, clean, show, show_record, status_word
from rnx.screen import Screen
from rnx.times import show_time

if TYPE_CHECKING:
    from rnx.client import Client
    from rnx.watching import JobWatcher


@click.command("watch", cls=Command, short_help="Tell every change of jobs as it happens.")
@click.argument("uuids", nargs=-1, metavar="[UUID]...", shell_complete=candidates.jobs())
@click.option("--name", default="", help="only jobs of this name")
@click.option(
    "--state",
    "states",
    multiple=True,
    metavar="STATE",
    shell_complete=candidates.STATES,
    help="only changes to it; may be repeated",
)
@click.option(
    "--after", type=click.IntRange(min=1), metavar="N", help="begin after the change of this number"
)
@click.pass_obj
def watch(
    settings: Settings, *, uuids: tuple[str, ...], name: str, states: tuple[str, ...], after: int | None
) -> None:
    """Tell every change of jobs as it happens: time, id, name, state, reason.

    With UUIDs it begins with where these jobs stand, and ends when all of them are deleted; else it begins
    now and Ctrl-C ends it. With --json each change is an object on a line of its own. Its number goes to
    --after to continue later: no change is missed and none comes twice, also when the agent restarts.
    DELETED is told of a job whose record is gone.

    Permission: read. Exit status: 0 done, 1 failed, 2 wrong usage.

    Example: rnx job watch --state=FAILED --json
    """
    with settings.connect() as client:
        from rnx.watching import JobWatcher  # noqa: PLC0415

        watcher = JobWatcher(
            client,
            ids=uuids,
            name=name,
            states=_upper(states),
            after=after or 0,
            snapshot=bool(uuids) and not after,
        )
        _print_changes(settings.form, watcher)


def watch_list(settings: Settings, client: "Client", *, name: str, states: Sequence[str], draw: Any) -> None:
    """Keep the list of jobs true: on a terminal drawn again (``draw`` returns it), else change by change."""
    from rnx.watching import JobWatcher  # noqa: PLC0415

    if settings.form is not Format.TABLE or not sys.stdout.isatty():
        watcher = JobWatcher(client, name=name, states=states, snapshot=True, may_begin_again=True)
        _print_changes(settings.form, watcher)
        return
    Screen(JobWatcher(client, name=name, may_begin_again=True).answers, draw).show()


@click.command("wait", cls=Command, short_help="Wait until jobs have ended.")
@click.argument(
    "uuids", nargs=-1, required=True, metavar="UUID...", shell_complete=candidates.jobs(candidates.ALIVE)
)
@click.option("--timeout", metavar="TIME", envvar="RNX_WAIT_TIMEOUT", help="give up after: 30s, 10m, 2h30m")
@click.option("-v", "--verbose", is_flag=True, help="print id, state and reason of each job as it ends")
@click.pass_obj
def wait(settings: Settings, uuids: tuple[str, ...], timeout: str | None, verbose: bool) -> int:
    """Wait until all the jobs have ended, also across restarts of the agent. Prints nothing.

    With --json, or another form, it prints an array of how they ended.

    Permission: read. Exit status: that of the job, as of `rnx run --attach`; of several jobs the first that
    is not 0, in the order given. 124 when the time is over first, 125 when rnx or the agent failed, or when
    a job never ran or is deleted before it ended; 2 wrong usage.

    Example: rnx wait --timeout=10m 8f94c5b2 && echo fine
    """
    from rnx.times import parse_span  # noqa: PLC0415

    limit = None if timeout is None else parse_span("--timeout", timeout)
    try:
        with settings.connect() as client:
            from rnx.watching import JobWatcher  # noqa: PLC0415

            jobs = _Ends(settings.form is Format.TABLE and verbose)
            try:
                watcher = JobWatcher(client, ids=uuids, snapshot=True, may_begin_again=True, limit=limit)
                jobs.take(watcher.answers())
            except TimedOut as error:
                text = f"{jobs.running} of {len(uuids)} jobs have not ended within {timeout}"
                raise TimedOut(text, hint="they go on") from error
    except UsageError:
        raise
    except RnxError as error:
        # The status is the jobs' own, so that a failure of ours must not look like theirs.
        error.exit = Exit.TIMED_OUT if isinstance(error, TimedOut) else Exit.OURS
        raise
    if settings.form is not Format.TABLE:
        show(settings.form, [_end_data(end) for end in jobs.ends], str)
    return jobs.exit_status()


class _Ends:
    """How jobs ended, in the order they were given."""

    def __init__(self, tells: bool) -> None:
        self._tells = tells
        self._newest: dict[str, Any] = {}

    @property
    def ends(self) -> list[Any]:
        """The last event of each job."""
        return list(self._newest.values())

    @property
    def running(self) -> int:
        """How many have not ended."""
        return sum(not _has_ended(event) for event in self.ends)

    def take(self, answers: Iterator[Any]) -> None:
        """Return when all jobs have ended; raise RnxError if one is deleted before."""
        for answer in answers:
            if answer.HasField("event"):
                self._note(answer.event)
            if answer.number and self._newest and not self.running:
                return
        raise RnxError("the jobs were deleted before they were seen to end")

    def exit_status(self) -> int:
        from rnx.attach import exit_status  # noqa: PLC0415

        return next((status for event in self.ends if (status := exit_status(event))), 0)

    def _note(self, event: Any) -> None:
        before = self._newest.get(event.uuid)
        if before is not None and _has_ended(before):
            return
        if event.status == "DELETED":
            raise RnxError(f"job {event.uuid} was deleted before it was seen to end")
        self._newest[event.uuid] = event
        if self._tells and _has_ended(event):
            print(
                " ".join([event.uuid, status_word(event.status), clean(event.message)]).rstrip(), flush=True
            )


def _has_ended(event: Any) -> bool:
    from rnx.attach import ENDED  # noqa: PLC0415

    return event.status in ENDED


def _print_changes(form: Format, watcher: "JobWatcher") -> None:
    try:
        for answer in watcher.answers():
            if answer.HasField("event"):
                _print_change(form, answer)
    except KeyboardInterrupt:
        return


def _print_change(form: Format, answer: Any) -> None:
    event = answer.event
    if form is not Format.TABLE:
        show_record(form, {"number": answer.number} | _end_data(event))
        return
    words = [show_time(event.time), event.uuid, clean(event.name) or "-", status_word(event.status)]
    print(*words, clean(event.reason) or "-", flush=True)


def _end_data(event: Any) -> dict[str, object]:
    data = {
        "time": event.time,
        "id": event.uuid,
        "name": event.name,
        "status": event.status,
        "exit_code": event.exit_code,
        "reason": event.reason,
        "signal": event.signal,
        "message": event.message,
    }
    always = ("time", "id", "status")
    return {key: value for key, value in data.items() if value or key in always}


def _upper(states: Sequence[str]) -> list[str]:
    return [state.upper() for state in states]
