"""The commands that control a job while it runs."""

import click

from rnx import candidates
from rnx.cli import Command
from rnx.context import Settings
from rnx.output import clean, show


@click.command("pause", cls=Command, short_help="Let a running job stand still.")
@click.argument("uuid", shell_complete=candidates.jobs(candidates.RUNNING, paused=False))
@click.pass_obj
def pause(settings: Settings, uuid: str) -> None:
    """Let all processes of a running job stand still until rnx job resume.

    It keeps its memory and its place; its time limit goes on. It can be stopped and killed as it is.
    Permission: run. Exit status: 0 paused, 1 failed, 2 wrong usage.
    """
    with settings.connect() as client:
        from rnx.client import LONG, pb  # noqa: PLC0415

        reply = client.call(client.agent.PauseJob, pb.PauseJobRequest(uuid=uuid), LONG)
    data = {"uuid": reply.uuid, "status": reply.status, "paused": True}
    show(settings.form, data, lambda: f"Job paused successfully:\nID: {clean(reply.uuid)}")


@click.command("resume", cls=Command, short_help="Let a paused job go on.")
@click.argument("uuid", shell_complete=candidates.jobs(candidates.RUNNING, paused=True))
@click.pass_obj
def resume(settings: Settings, uuid: str) -> None:
    """Let a paused job go on.

    Permission: run. Exit status: 0 resumed, 1 failed, 2 wrong usage.
    """
    with settings.connect() as client:
        from rnx.client import LONG, pb  # noqa: PLC0415

        reply = client.call(client.agent.ResumeJob, pb.ResumeJobRequest(uuid=uuid), LONG)
    data = {"uuid": reply.uuid, "status": reply.status, "paused": False}
    show(settings.form, data, lambda: f"Job resumed successfully:\nID: {clean(reply.uuid)}")


@click.command("kill", cls=Command, short_help="Send a signal to a running job.")
@click.argument("uuid", shell_complete=candidates.jobs(candidates.RUNNING))
@click.option(
    "--signal",
    "-s",
    default="KILL",
    show_default=True,
    metavar="SIGNAL",
    envvar="RNX_KILL_SIGNAL",
    help="name or number: USR1, SIGUSR1, 10",
)
@click.pass_obj
def kill(settings: Settings, uuid: str, signal: str) -> None:
    """Send a signal to all processes of a running job, and do not wait for what comes of it.

    A job that ends by it is FAILED with reason signal; to end a job in good order use rnx job stop.
    Permission: run. Exit status: 0 sent, 1 failed, 2 wrong usage.

    Example: rnx job kill --signal=USR1 8f94c5b2
    """
    with settings.connect() as client:
        from rnx.client import SHORT, pb  # noqa: PLC0415

        reply = client.call(client.agent.KillJob, pb.KillJobRequest(uuid=uuid, signal=signal), SHORT)
    data = {"uuid": reply.uuid, "signal": reply.signal}
    show(settings.form, data, lambda: f"Signal sent:\nID: {clean(reply.uuid)}\nSignal: {reply.signal}")
