"""How every tool of ``joblet-agent`` runs a command line, and what its exit status says. With click."""

import sys
from collections.abc import Mapping, Sequence

import click

from joblet_agent.complaint import EXIT_CONFIG, EXIT_FAILED, EXIT_USAGE, complain
from joblet_agent.errors import InvalidConfig, JobletError

EXIT_INTERRUPTED = 130


def run_tool(
    cli: click.Command, words: Sequence[str], name: str, statuses: Mapping[str, int] | None = None
) -> int:
    """Run the command line of the tool of that name, tell what is wrong, and return the exit status.

    What the command returns, or 0; 1 failed, 2 wrong usage, 78 wrong configuration, 130 interrupted; and by
    the reason of an error what ``statuses`` has.
    """
    try:
        return int(cli.main(list(words), prog_name=f"joblet-agent {name}", standalone_mode=False) or 0)
    except click.Abort:
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        sys.stderr.write(f"joblet-agent: {error.format_message()}\n")
        return EXIT_USAGE
    except JobletError as error:
        complain(error)
        status = EXIT_CONFIG if isinstance(error, InvalidConfig) else EXIT_FAILED
        return (statuses or {}).get(error.reason, status)
