"""The command ``exec``: a command inside a running job."""

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import click

from rnx import candidates
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
    "--interactive",
    "-i",
    is_flag=True,
    help="pass standard input on although it is a terminal; other input is always passed on",
)
@click.option(
    "--tty", "-t", "wants_terminal", is_flag=True, help="give the command a terminal, with this one's keys"
)
@click.option(
    "--workdir", "-w", default="", metavar="DIR", help="working directory in the job (default /work)"
)
@click.argument("uuid", shell_complete=candidates.jobs(candidates.RUNNING))
@click.argument(
    "words", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND [ARG]...", shell_complete=candidates.files
)
@click.pass_obj
def execute(
    settings: Settings,
    *,
    uuid: str,
    words: tuple[str, ...],
    variables: tuple[str, ...],
    interactive: bool,
    wants_terminal: bool,
    workdir: str,
) -> int:
    """Run a command inside a running job, and exit with its status.

    It has the job's files, user, limits and variables, but not the secret ones. Standard input is passed on
    when it is no terminal; to pass on none, use </dev/null. Ctrl-C kills the command, with --tty it is a key.
    Permission: run; for jobs with the profile privileged the role admin.
    Exit status: the command's own; 125 when rnx or the agent failed, 126 when the command cannot be executed,
    127 when it is not found, 128+N when signal N ended it, 2 wrong usage.

    Example: rnx exec 8f94c5b2 -- ls -l /work

    Example: tar c . | rnx exec 8f94c5b2 -- tar x

    Example: rnx exec -t 8f94c5b2 -- bash
    """
    command = words[1:] if words[:1] == ("--",) else words
    if not command:
        raise UsageError("must specify a command to run", hint="rnx exec UUID -- COMMAND [ARG...]")
    if settings.form is not Format.TABLE:
        raise UsageError(f"cannot print the output of a command as {settings.form}: it is passed on as it is")
    from rnx.exec_input import is_open  # noqa: PLC0415
    from rnx.typed import STDIN  # noqa: PLC0415

    at_terminal = os.isatty(STDIN)
    if wants_terminal and not at_terminal:
        raise UsageError(
            "cannot use --tty: standard input is not a terminal",
            hint="leave --tty out; files and pipes are passed on without it",
        )
    from rnx.client import pb  # noqa: PLC0415
    from rnx.environment import read_variables  # noqa: PLC0415

    start = pb.ExecStart(
        uuid=uuid,
        command=command[0],
        args=command[1:],
        environment=read_variables("--env", variables),
        work_dir=workdir,
        stdin=is_open(STDIN) and (interactive or wants_terminal or not at_terminal),
    )
    try:
        end = _run_in_terminal(settings, start) if wants_terminal else _run(settings, start)
    except BrokenPipeError:
        return Exit.OURS
    except RnxError as error:  # the status belongs to the command
        report(error)
        return Exit.OURS
    from rnx.attach import exit_status  # noqa: PLC0415

    if end.reason not in ("", "exit-code", "signal"):
        print(f"rnx: {clean(end.message)}", file=sys.stderr)
    return exit_status(end)


def _run_in_terminal(settings: Settings, start: Any) -> Any:
    from rnx.client import pb  # noqa: PLC0415
    from rnx.exec_input import ExecInput, window_size  # noqa: PLC0415

    start.terminal.CopyFrom(pb.ExecTerminal(size=window_size(), term=os.environ.get("TERM", "")))
    with ExecInput(start) as messages, _keys_to(messages):
        return _exchange(settings, messages)


def _keys_to(messages: Any) -> AbstractContextManager[object]:
    if sys.platform != "win32":
        from rnx.terminal import RawTerminal  # noqa: PLC0415
        from rnx.typed import STDIN  # noqa: PLC0415

        return RawTerminal(STDIN, messages.resized)
    print("rnx: on Windows a line is sent when Enter is pressed, not each key", file=sys.stderr)
    return nullcontext()


def _run(settings: Settings, start: Any) -> Any:
    from rnx.exec_input import ExecInput  # noqa: PLC0415

    with ExecInput(start) as messages:
        return _exchange(settings, messages)


def _exchange(settings: Settings, messages: Any) -> Any:
    """Pass input and output on, and return how the command ended."""
    with settings.connect() as client:
        end: Any = None
        try:
            for event in client.exchange(client.agent.ExecInJob, messages):
                end = event.end if event.WhichOneof("event") == "end" else None
                _pass_on(event)
        except Unreachable as lost:
            hint = "the command is killed, the job goes on"
            raise RnxError(f"the command is lost: {lost}", hint=hint, reason=lost.reason) from lost
    if end is None:
        raise RnxError("the agent did not tell how the command ended")
    return end


def _pass_on(event: Any) -> None:
    for stream, piece in ((sys.stdout, event.stdout), (sys.stderr, event.stderr)):
        if piece:
            stream.buffer.write(piece)
            stream.buffer.flush()
