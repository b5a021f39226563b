"""Look whether this host is fit for the agent, and say what is missing. Nothing is changed."""

import os
from collections.abc import Sequence
from pathlib import Path

import click

from joblet_agent import __version__
from joblet_agent.complaint import EXIT_FAILED
from joblet_agent.config import DEFAULT_PATH
from joblet_agent.config.load import load_files
from joblet_agent.tool import run_tool

EXIT_NOT_PERFECT = 3


def run(words: Sequence[str]) -> int:
    """Run one command line and return the exit status.

    0 fit, 1 not fit, 2 wrong usage, 3 fit with warnings or things not looked at (--strict), 78 wrong
    configuration, 130 interrupted.
    """
    return run_tool(cli, words, "check")


@click.command(
    "check",
    short_help="Say whether this host is fit for the agent.",
    help=f"""{__doc__}

    A line for each finding: ok, unknown (could not be looked at), warning (something is refused, or protects
    less) or failed (the agent cannot do what it is for), with what that means and what to do. It works before
    the agent has started, and without root as far as it can.

    Exit status: 0 fit, 1 not fit, 2 wrong usage, 3 fit, but with warnings or unknown (--strict),
    78 wrong configuration.

    Example: joblet-agent check --json
    """,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--config", type=click.Path(path_type=Path), help=f"Configuration file ({DEFAULT_PATH}).")
@click.option("--json", "is_json", is_flag=True, help="For programs: one object, described in operations.md.")
@click.option("--strict", "is_strict", is_flag=True, help="Exit with 3 unless everything is ok.")
def cli(config: Path | None, is_json: bool, is_strict: bool) -> int:
    """See ``help`` above."""
    from joblet_agent.fitness.probes import findings, look_around  # noqa: PLC0415 - wrong usage needs nothing
    from joblet_agent.fitness.report import as_json, as_text, is_fit, is_perfect  # noqa: PLC0415

    found = list(findings(look_around(load_files(config), is_root=os.geteuid() == 0)))
    click.echo(as_json(found, __version__) if is_json else as_text(found))
    if not is_fit(found):
        return EXIT_FAILED
    return EXIT_NOT_PERFECT if is_strict and not is_perfect(found) else 0
