"""The tree of commands: names, global flags anywhere, and nothing loaded that the command does not need."""

from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from typing import Any

import click

from rnx.argv import GLOBAL_FLAGS, RUN_FLAGS, Flag, FlagValues, run_help
from rnx.candidates import files, of_flag
from rnx.context import Settings
from rnx.exits import Exit, UsageError, near

_FLAGS = "rnx.global-flags"


def _option(flag: Flag, taken: Collection[str] = (), *, is_global: bool = True) -> click.Option:
    names = [name for name in (flag.short, flag.long) if name and name not in taken]
    kind = click.Choice(flag.choices) if flag.choices else None
    return click.Option(
        [*names, flag.key],
        help=f"{flag.help}{f'; {flag.env}' if flag.env else ''}",
        metavar=flag.metavar or None,
        is_flag=not flag.metavar,
        type=kind if flag.metavar else None,
        default=None if flag.metavar else False,
        multiple=flag.many,
        expose_value=False,
        callback=_remember if is_global else None,
        shell_complete=None if flag.choices else of_flag(flag),
    )


def _remember(context: click.Context, option: click.Parameter, value: Any) -> None:
    if value and option.name:
        flags: FlagValues = context.find_root().meta.setdefault(_FLAGS, {})
        flags[option.name] = value


def global_flags(context: click.Context) -> FlagValues:
    """Return the global flags read so far, before or after the command."""
    flags: FlagValues = context.find_root().meta.setdefault(_FLAGS, {})
    return flags


class _FlagsFirst(click.Command):
    """A command whose flags end at the first word that is none, for completion, too."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return no flags when they are over."""
        params = super().get_params(ctx)
        words = [param for param in params if isinstance(param, click.Argument)]
        are_over = not ctx.allow_interspersed_args and any(ctx.params.get(word.name or "") for word in words)
        return list(words) if ctx.resilient_parsing and are_over else params


class Command(_FlagsFirst):
    """A command that takes the global flags, too; its function gets Settings by ``click.pass_obj``."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        own = {name for param in self.params for name in param.opts}
        self.params.extend(_option(flag, own) for flag in GLOBAL_FLAGS)

    def invoke(self, ctx: click.Context) -> Any:
        """Settle the global flags, which are complete now, and run."""
        ctx.obj = Settings.from_flags(global_flags(ctx))
        return super().invoke(ctx)


class RunCommand(_FlagsFirst):
    """``run`` as click shows it; its words are read by rnx/argv.py.

    To a context that only looks (``resilient_parsing``) it has its flags: for completion and manual pages.
    """

    def __init__(self) -> None:
        super().__init__(
            "run",
            short_help="Run a command as an isolated job.",
            context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
            add_help_option=False,
            params=[
                click.Argument(
                    ["words"],
                    nargs=-1,
                    type=click.UNPROCESSED,
                    metavar="COMMAND [ARG]...",
                    shell_complete=files,
                )
            ],
        )

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Add the flags, for whoever only looks."""
        if ctx.resilient_parsing and len(self.params) == 1:
            self.params[:0] = [
                *(_option(flag, is_global=False) for flag in RUN_FLAGS),
                *map(_option, GLOBAL_FLAGS),
            ]
        return super().get_params(ctx)

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
        "list": "rnx.commands.listing:list_jobs",
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


_NETWORK = "rnx.commands.network"
network_group = Group(
    "network",
    callback=click.pass_context(_help_alone),
    help="Make, see and remove networks of jobs; rnx run --network uses them.",
    places={
        "create": f"{_NETWORK}:create",
        "list": f"{_NETWORK}:list_networks",
        "inspect": f"{_NETWORK}:inspect",
        "graph": f"{_NETWORK}:graph",
        "remove": f"{_NETWORK}:remove",
        "delete": f"{_NETWORK}:remove",
    },
)
_VOLUME = "rnx.commands.volume"
volume_group = Group(
    "volume",
    callback=click.pass_context(_help_alone),
    help="Make, fill, see and remove volumes; rnx run --volume mounts them.",
    places={
        "create": f"{_VOLUME}:create",
        "list": f"{_VOLUME}:list_volumes",
        "inspect": f"{_VOLUME}:inspect",
        "grow": f"{_VOLUME}:grow",
        "cp": "rnx.commands.copying:copy",
        "snapshot": f"{_VOLUME}:snapshot",
        "snapshots": f"{_VOLUME}:snapshots",
        "restore": f"{_VOLUME}:restore",
        "remove": f"{_VOLUME}:remove",
        "delete": f"{_VOLUME}:remove",
    },
)
_RUNTIME = "rnx.commands.runtime"
_RUNTIME_BUILD = "rnx.commands.runtime_build"
_RUNTIME_ARCHIVE = "rnx.commands.runtime_archive"
_RUNTIME_CHECK = "rnx.commands.runtime_check"
runtime_group = Group(
    "runtime",
    callback=click.pass_context(_help_alone),
    help="Build, get, test and remove runtimes: languages for jobs; rnx run --runtime uses them.",
    places={
        "list": f"{_RUNTIME}:list_runtimes",
        "info": f"{_RUNTIME}:info",
        "inspect": f"{_RUNTIME}:info",
        "test": f"{_RUNTIME}:test",
        "build": f"{_RUNTIME_BUILD}:build",
        "builds": f"{_RUNTIME_BUILD}:builds",
        "attach": f"{_RUNTIME_BUILD}:attach",
        "cancel": f"{_RUNTIME_BUILD}:cancel",
        "lock": f"{_RUNTIME_BUILD}:lock",
        "validate": f"{_RUNTIME_CHECK}:validate",
        "schema": f"{_RUNTIME_CHECK}:schema",
        "install": f"{_RUNTIME_ARCHIVE}:install",
        "export": f"{_RUNTIME_ARCHIVE}:export",
        "import": f"{_RUNTIME_ARCHIVE}:import_archive",
        "verify": f"{_RUNTIME}:verify",
        "remove": f"{_RUNTIME}:remove",
        "gc": f"{_RUNTIME}:gc",
    },
)
_WORKFLOW = "rnx.commands.workflow"
_WORKFLOW_LOOK = "rnx.commands.workflow_look"
_WORKFLOW_CONTROL = "rnx.commands.workflow_control"
workflow_group = Group(
    "workflow",
    callback=click.pass_context(_help_alone),
    help="Check, run, watch and end workflows: jobs that depend on one another.",
    places={
        "run": f"{_WORKFLOW}:run",
        "list": f"{_WORKFLOW_LOOK}:list_workflows",
        "status": f"{_WORKFLOW_LOOK}:status",
        "logs": f"{_WORKFLOW_LOOK}:logs",
        "graph": f"{_WORKFLOW_LOOK}:graph",
        "stop": f"{_WORKFLOW_CONTROL}:stop",
        "cancel": f"{_WORKFLOW_CONTROL}:cancel",
        "pause": f"{_WORKFLOW_CONTROL}:pause",
        "resume": f"{_WORKFLOW_CONTROL}:resume",
        "retry": f"{_WORKFLOW_CONTROL}:retry",
        "delete": f"{_WORKFLOW_CONTROL}:delete",
        "validate": f"{_WORKFLOW}:validate",
        "schema": f"{_WORKFLOW}:schema",
    },
)


@click.pass_context
def _nodes_alone(context: click.Context) -> None:
    """List the nodes: scripts know the group as a command."""
    if context.invoked_subcommand is None:
        from rnx.commands.nodes import show_nodes  # noqa: PLC0415

        show_nodes(Settings.from_flags(global_flags(context)))


nodes_group = Group(
    "nodes",
    callback=_nodes_alone,
    help="List, add, remove and test the nodes of the configuration; without a command, list them.",
    places={
        "list": "rnx.commands.nodes:list_nodes",
        "add": "rnx.commands.config:add",
        "remove": "rnx.commands.config:remove",
        "test": "rnx.commands.check:test",
    },
)
config_group = Group(
    "config",
    callback=click.pass_context(_help_alone),
    help="Change the client configuration.",
    places={"import": "rnx.commands.config:import_file"},
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
        "list": "rnx.commands.listing:list_jobs",
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
        "network": "rnx.cli:network_group",
        "volume": "rnx.cli:volume_group",
        "workflow": "rnx.cli:workflow_group",
        "runtime": "rnx.cli:runtime_group",
        "nodes": "rnx.cli:nodes_group",
        "config": "rnx.cli:config_group",
        "doctor": "rnx.commands.check:doctor",
        "config-help": "rnx.commands.nodes:config_help",
        "completion": "rnx.commands.completion:completion",
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
