"""The tree of commands: names, global flags anywhere, and nothing loaded that the command does not need."""

from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from typing import Any

import click

from rnx.argv import GLOBAL_FLAGS, Flag, FlagValues, run_help
from rnx.context import Settings
from rnx.exits import Exit, UsageError, near

_FLAGS = "rnx.global-flags"


def _option(flag: Flag, taken: Collection[str] = ()) -> click.Option:
    names = [name for name in (flag.short, flag.long) if name and name not in taken]
    kind = click.Choice(flag.choices) if flag.choices else None
    return click.Option(
        [*names, flag.key],
        help=f"{flag.help}{f'; {flag.env}' if flag.env else ''}",
        metavar=flag.metavar or None,
        is_flag=not flag.metavar,
        type=kind if flag.metavar else None,
        default=None if flag.metavar else False,
        expose_value=False,
        callback=_remember,
    )


def _remember(context: click.Context, option: click.Parameter, value: Any) -> None:
    if value and option.name:
        flags: FlagValues = context.find_root().meta.setdefault(_FLAGS, {})
        flags[option.name] = value


def global_flags(context: click.Context) -> FlagValues:
    """Return the global flags read so far, before or after the command."""
    flags: FlagValues = context.find_root().meta.setdefault(_FLAGS, {})
    return flags


class Command(click.Command):
    """A command that takes the global flags, too; its function gets Settings by ``click.pass_obj``."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        own = {name for param in self.params for name in param.opts}
        self.params.extend(_option(flag, own) for flag in GLOBAL_FLAGS)

    def invoke(self, ctx: click.Context) -> Any:
        """Settle the global flags, which are complete now, and run."""
        ctx.obj = Settings.from_flags(global_flags(ctx))
        return super().invoke(ctx)


class RunCommand(click.Command):
    """``run`` as click shows it; its words are read by rnx/argv.py."""

    def __init__(self) -> None:
        super().__init__(
            "run",
            short_help="Run a command as an isolated job.",
            context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
            add_help_option=False,
            params=[click.Argument(["words"], nargs=-1, type=click.UNPROCESSED)],
        )

    def get_help(self, ctx: click.Context) -> str:
        """Return the same help as ``run --help``."""
        return run_help().rstrip("\n")

    def invoke(self, ctx: click.Context) -> int:
        """Hand the words on."""
        from rnx.commands.run import run  # noqa: PLC0415

        return run(ctx.params["words"], global_flags(ctx))


class Group(click.Group):
    """A group whose commands are imported when they are named: ``MODULE:ATTRIBUTE`` by the command's name."""

    def __init__(self, *args: Any, places: Mapping[str, str], **more: Any) -> None:
        super().__init__(*args, **more)
        self.invoke_without_command = True
        self.no_args_is_help = False
        self._places = places
        self.params.extend(_option(flag) for flag in GLOBAL_FLAGS)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command."""
        place = self._places.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one was probably meant."""
        command = self.get_command(ctx, args[0])
        if command is None:
            hint = near(args[0], list(self._places)) or f"{ctx.command_path} --help lists the commands"
            raise UsageError(f"unknown command: {args[0]}", hint=hint)
        return args[0], command, args[1:]


def _help_alone(context: click.Context) -> None:
    """Show the help of a group that was named without a command."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


_JOB = "rnx.commands.job"
_FILES = "rnx.commands.files"
_LIVE = "rnx.commands.live"
run_command = RunCommand()
job_group = Group(
    "job",
    callback=click.pass_context(_help_alone),
    help="Run, watch and end jobs.",
    places={
        "run": "rnx.cli:run_command",
        "list": f"{_JOB}:list_jobs",
        "status": f"{_JOB}:status",
        "log": f"{_JOB}:log",
        "watch": "rnx.commands.watch:watch",
        "wait": "rnx.commands.watch:wait",
        "stop": f"{_JOB}:stop",
        "pause": f"{_LIVE}:pause",
        "resume": f"{_LIVE}:resume",
        "kill": f"{_LIVE}:kill",
        "exec": "rnx.commands.execute:execute",
        "cancel": f"{_JOB}:cancel",
        "delete": f"{_JOB}:delete",
        "delete-all": f"{_JOB}:delete_all",
        "explain": f"{_JOB}:explain",
        "update": "rnx.commands.update:update",
        "files": f"{_FILES}:files",
        "download": f"{_FILES}:download",
        "metrics": "rnx.commands.metrics:metrics",
        "top": "rnx.commands.metrics:top",
    },
)
monitor_group = Group(
    "monitor",
    callback=click.pass_context(_help_alone),
    help="Look at the node that jobs run on.",
    places={"status": "rnx.commands.monitor:status"},
)


_SCHEDULE = "rnx.commands.schedule"
schedule_group = Group(
    "schedule",
    callback=click.pass_context(_help_alone),
    help="See and change recurring schedules; rnx run --schedule makes them.",
    places={
        "list": f"{_SCHEDULE}:list_schedules",
        "show": f"{_SCHEDULE}:show_schedule",
        "pause": f"{_SCHEDULE}:pause",
        "resume": f"{_SCHEDULE}:resume",
        "remove": f"{_SCHEDULE}:remove",
    },
)


@click.pass_context
def _root(context: click.Context, version: bool) -> None:
    if not version:
        _help_alone(context)
        return
    from rnx.commands.version import show_versions  # noqa: PLC0415

    show_versions(Settings.from_flags(global_flags(context)))
    context.exit(Exit.DONE)


cli = Group(
    "rnx",
    callback=_root,
    help="Run commands as isolated jobs on a host with a Joblet agent.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    params=[
        click.Option(["--version", "-v", "version"], is_flag=True, help="Show the versions of rnx and agent.")
    ],
    places={
        "job": "rnx.cli:job_group",
        "run": "rnx.cli:run_command",
        "list": f"{_JOB}:list_jobs",
        "status": f"{_JOB}:status",
        "log": f"{_JOB}:log",
        "wait": "rnx.commands.watch:wait",
        "stop": f"{_JOB}:stop",
        "exec": "rnx.commands.execute:execute",
        "cancel": f"{_JOB}:cancel",
        "delete": f"{_JOB}:delete",
        "delete-all": f"{_JOB}:delete_all",
        "explain": f"{_JOB}:explain",
        "monitor": "rnx.cli:monitor_group",
        "schedule": "rnx.cli:schedule_group",
        "nodes": "rnx.commands.nodes:nodes",
        "config-help": "rnx.commands.nodes:config_help",
        "help": "rnx.commands.help:show_help",
    },
)


def run_click(words: Sequence[str]) -> int:
    """Run a command line; return its exit status. A wrong one raises UsageError with one specific line."""
    try:
        result = cli.main(list(words), prog_name="rnx", standalone_mode=False)
    except click.ClickException as error:
        raise UsageError(error.format_message().rstrip(".")) from error
    except click.Abort as error:
        raise KeyboardInterrupt from error
    return int(result or Exit.DONE)
