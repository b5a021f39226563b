"""The commands that show what jobs use: the samples of one, a table of all that run."""

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from rnx import candidates
from rnx.cli import Command
from rnx.context import Settings
from rnx.exits import RnxError, Unreachable
from rnx.output import Format, clean, show, show_record
from rnx.screen import redraw

if TYPE_CHECKING:
    from rnx.client import Client


@click.command("metrics", cls=Command, short_help="Show what a job uses, sample by sample.")
@click.argument("uuid", shell_complete=candidates.jobs())
@click.option(
    "--follow/--no-follow", "-f", default=True, envvar="RNX_METRICS_FOLLOW", help="go on until the job ends"
)
@click.pass_obj
def metrics(settings: Settings, *, uuid: str, follow: bool) -> None:
    """Show what a job uses, sample by sample: all that are stored, then those to come until it ends.

    Ctrl-C ends the watching, not the job. What an ended job used in all is in `rnx status`.
    Permission: read. Exit status: 0 done, 1 failed or there is no sample, 2 wrong usage.

    Example: rnx job metrics --no-follow --json 8f94c5b2
    """
    from rnx.usage import event_data, event_text  # noqa: PLC0415

    count = 0
    with settings.connect() as client:
        try:
            for event in _samples(client, uuid, follow=follow):
                count += 1
                if settings.form is Format.YAML:
                    show_record(settings.form, event_data(event))
                else:
                    show(settings.form, event_data(event), lambda event=event: event_text(event))  # type: ignore[misc]
                sys.stdout.flush()
        except KeyboardInterrupt:
            return
    if not count:
        raise RnxError(
            f"no metrics available for job {clean(uuid)}",
            hint="a job that ends before its first sample has final figures only; see: rnx status",
        )


@click.command("top", cls=Command, short_help="Show what running jobs use now.")
@click.argument("uuids", nargs=-1, metavar="[UUID]...", shell_complete=candidates.jobs(candidates.RUNNING))
@click.pass_obj
def top(settings: Settings, uuids: tuple[str, ...]) -> None:
    """Show what running jobs use now, the busiest first: all of them, or those that are named.

    CPU % is of one core. On a terminal the table is drawn again with each sample, until Ctrl-C; elsewhere,
    and with --json, it is printed once. A dash is a job that has not been sampled yet.

    Permission: read. Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    from rnx.usage import top_data, top_table  # noqa: PLC0415

    stays = settings.form is Format.TABLE and sys.stdout.isatty()
    with settings.connect() as client:
        if stays:
            _redraw_until_interrupt(client, uuids)
            return
        jobs, _ = _running(client, uuids)
    show(settings.form, [top_data(job) for job in jobs], lambda: top_table(jobs))


def _samples(client: "Client", uuid: str, *, follow: bool) -> Iterator[Any]:
    """Yield samples, also across a restart of the agent: each is asked for from the one before on."""
    from rnx.attach import Patience  # noqa: PLC0415
    from rnx.client import pb  # noqa: PLC0415

    request = pb.GetJobMetricsRequest(job_uuid=uuid, follow=follow)
    patience = Patience()
    while True:
        try:
            for event in client.stream(client.jobs.GetJobMetrics, request):
                patience.heard()
                request.start_time = event.timestamp + 1
                yield event
            return
        except Unreachable as lost:
            patience.wait(lost)


def _running(client: "Client", uuids: tuple[str, ...]) -> tuple[list[Any], float]:
    """Return the running jobs, the busiest first, and the seconds after which there are new samples."""
    from rnx.client import SHORT, pb  # noqa: PLC0415

    request = pb.GetRunningMetricsRequest(job_uuids=uuids)
    reply = client.call(client.agent.GetRunningMetrics, request, SHORT)
    busiest = sorted(reply.jobs, key=lambda job: (-job.metrics.cpu_percent, job.metrics.job_uuid))
    return busiest, reply.interval_seconds


def _redraw_until_interrupt(client: "Client", uuids: tuple[str, ...]) -> None:
    from rnx.attach import Patience  # noqa: PLC0415
    from rnx.usage import top_table  # noqa: PLC0415

    patience = Patience()
    try:
        while True:
            try:
                jobs, seconds = _running(client, uuids)
                patience.heard()
                redraw(top_table(jobs))
                time.sleep(seconds)
            except Unreachable as lost:
                patience.wait(lost)
    except KeyboardInterrupt:
        return
