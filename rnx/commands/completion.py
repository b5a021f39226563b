"""``rnx completion``: for whoever has rnx without the Debian package, which installs these scripts."""

import click

from rnx.cli import Command
from rnx.shells import SHELLS, script


@click.command("completion", cls=Command, short_help="Print the script that completes what is typed.")
@click.argument("shell", type=click.Choice(list(SHELLS)))
def completion(shell: str) -> None:
    """Print the script that lets the Tab key of SHELL (bash, zsh or fish) complete commands, ids and names.

    The Debian package brings these scripts. The agent is asked for ids and names, for a second at most.
    Exit status: 0 done, 2 wrong usage.

    Example: source <(rnx completion bash)

    Example: rnx completion zsh > "${fpath[1]}/_rnx"

    Example: rnx completion fish > ~/.config/fish/completions/rnx.fish
    """
    click.echo(script("rnx", shell), nl=False)
