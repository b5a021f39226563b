"""The command ``exec``: a command inside a running job."""

import sys
from typing import Any

import click

from rnx.cli import Command
from rnx.context import Settings
from rnx.exits import Exit, RnxError, Unreachable, UsageError, report
from rnx.output import Format, clean


@click.command(
    "exec",
    cls=Command,
    short_help="Run a command inside a running job.",
    context_settings={"allow_interspersed_args": False},
)
@click.option(
    "--env",
    "-e",
    "variables",
    multiple=True,
    metavar="KEY=VALUE",
    help="environment variable; may be repeated",
)
@click.option(
    "--workdir", "-w", default="", metavar="DIR", help="working directory in the job (default /work)"
)
@click.argument("uuid")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND [ARG]...")
@click.pass_obj
def execute(
    settings: Settings, *, uuid: str, words: tuple[str, ...], variables: tuple[str, ...], workdir: str
) -> int:
    """Run a command inside a running job, and exit with its status.

    It has the job's files, user, limits and variables, but not the secret ones, and empty input.
    Ctrl-C kills it.
    Permission: run.
    Exit status: the command's own; 125 when rnx or the agent failed, 126 when the command cannot be executed,
    127 when it is not found, 128+N when signal N ended it, 2 wrong usage.

    Example: rnx exec 8f94c5b2 -- ls -l /work
    """
    command = words[1:] if words[:1] == ("--",) else words
    if not command:
        raise UsageError("must specify a command to run", hint="rnx exec UUID -- COMMAND [ARG...]")
    if settings.form is not Format.TABLE:
        raise UsageError(f"cannot print the output of a command as {settings.form}: it is passed on as it is")
    from rnx.environment import read_variables  # noqa: PLC0415

    environment = read_variables("--env", variables)
    try:
        return _run(settings, uuid, command, environment, workdir)
    except BrokenPipeError:
        return Exit.OURS
    except RnxError as error:  # the status belongs to the command
        report(error)
        return Exit.OURS


def _run(
    settings: Settings, uuid: str, command: tuple[str, ...], environment: dict[str, str], workdir: str
) -> int:
    with settings.connect() as client:
        from rnx.attach import exit_status  # noqa: PLC0415
        from rnx.client import pb  # noqa: PLC0415

        request = pb.ExecInJobRequest(
            uuid=uuid, command=command[0], args=command[1:], environment=environment, work_dir=workdir
        )
        end: Any = None
        try:
            for event in client.stream(client.agent.ExecInJob, request):
                end = event.end if event.WhichOneof("event") == "end" else None
                _pass_on(event)
        except Unreachable as lost:
            hint = "the command is killed, the job goes on"
            raise RnxError(f"the command is lost: {lost}", hint=hint, reason=lost.reason) from lost
        if end is None:
            raise RnxError("the agent did not tell how the command ended")
        if end.reason not in ("", "exit-code", "signal"):
            print(f"rnx: {clean(end.message)}", file=sys.stderr)
        return exit_status(end)


def _pass_on(event: Any) -> None:
    for stream, piece in ((sys.stdout, event.stdout), (sys.stderr, event.stderr)):
        if piece:
            stream.buffer.write(piece)
            stream.buffer.flush()
