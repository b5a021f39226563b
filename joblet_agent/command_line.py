"""The whole command line of ``joblet-agent`` as a tree: for --help, completion and manual pages.

The agent itself runs without this module, and so without click.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from joblet_agent.config.files import DEFAULT_PATH

PROGRAM = "joblet-agent"


class _Tools(click.Group):
    """Tools that are imported when they are named."""

    def __init__(self, *args: Any, places: Mapping[str, str], **more: Any) -> None:
        super().__init__(*args, **more)
        self._places = places

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the tool; its module has the group ``cli``."""
        place = self._places.get(cmd_name)
        if place is None:
            return None
        tool: click.Command = import_module(place).cli
        return tool


def tree(places: Mapping[str, str]) -> click.Group:
    """Return the tree; ``places`` has the module of each tool by its name."""
    return _Tools(
        PROGRAM,
        places=places,
        params=[
            click.Option(
                ["--config"],
                type=click.Path(),
                metavar="PATH",
                help=f"Configuration file, with drop-ins beside it ({DEFAULT_PATH}).",
            )
        ],
        help="Run jobs as systemd units, over gRPC; or with a command, a tool for that.",
        short_help="Run jobs as systemd units, over gRPC.",
        subcommand_metavar="[COMMAND [ARG]...]",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )


def show_help(places: Mapping[str, str]) -> None:
    """Print the help of the agent."""
    group = tree(places)
    with click.Context(group, info_name=PROGRAM, **group.context_settings) as context:
        click.echo(group.get_help(context))


def offer(places: Mapping[str, str]) -> None:
    """Print what completes the line that the shell has."""
    from rnx.shells import complete  # noqa: PLC0415

    complete(tree(places), PROGRAM)
