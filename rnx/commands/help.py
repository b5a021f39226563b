"""``rnx help [COMMAND...]``: the same text as ``rnx COMMAND --help``."""

import click

from rnx.cli import Command, Group
from rnx.exits import UsageError, near


@click.command("help", cls=Command, short_help="Show the help of a command.")
@click.argument("words", nargs=-1, metavar="[COMMAND]...")
@click.pass_context
def show_help(context: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a command."""
    place = context.find_root()
    for word in words:
        group = place.command
        command = group.get_command(place, word) if isinstance(group, Group) else None
        if command is None:
            known = group.list_commands(place) if isinstance(group, Group) else []
            raise UsageError(f"unknown command: {' '.join(words)}", hint=near(word, known))
        place = click.Context(command, parent=place, info_name=word)
    click.echo(place.get_help())
