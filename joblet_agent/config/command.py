"""``joblet-agent config``: what the configuration says, whether it can be used, and having it read again."""

from collections.abc import Sequence
from pathlib import Path

import click

from joblet_agent.complaint import complain
from joblet_agent.config.files import DEFAULT_PATH, drop_in_directory, shown
from joblet_agent.config.load import Loaded, load_files
from joblet_agent.config.show import as_json, as_yaml
from joblet_agent.errors import InvalidConfig
from joblet_agent.tool import run_tool


def run(words: Sequence[str]) -> int:
    """Run one command line and return the exit status.

    0 done, 1 failed, 2 wrong usage, 78 wrong configuration, 130 interrupted.
    """
    return run_tool(cli, words, "config")


@click.group(
    help="Show what the configuration says, and whether it can be used.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def cli() -> None:
    """Take the command."""


@cli.command(short_help="Print every key with the value that counts.")
@click.option("--config", type=click.Path(path_type=Path), help=f"Configuration file ({DEFAULT_PATH}).")
@click.option(
    "--origin", is_flag=True, help="Say of each value where it comes from: file and line, or default."
)
@click.option("--json", "is_json", is_flag=True, help="Print JSON: value, origin, and when a change counts.")
def show(config: Path | None, *, origin: bool, is_json: bool) -> None:
    """Print every key with the value that counts after all files, as a file that sets the same.

    It is what a reload or a restart of the agent would use.
    """
    loaded = load_files(config)
    _warn(loaded)
    click.echo(as_json(loaded) if is_json else as_yaml(loaded, with_origins=origin), nl=False)


@cli.command(short_help="Say whether the agent can use the configuration.")
@click.argument("paths", metavar="[PATH]…", nargs=-1, type=click.Path(path_type=Path))
def validate(paths: tuple[Path, ...]) -> None:
    """Check the configuration and its drop-ins, and name all that is wrong.

    Without a PATH those of the agent. Each PATH is a configuration of its own: NAME.yml, with the drop-ins in
    NAME.d beside it; a drop-in alone is one, too. The exit status is 78 if something is wrong.
    """
    faults: list[InvalidConfig] = []
    for path in paths or (None,):
        try:
            loaded = load_files(path)
        except InvalidConfig as error:
            faults.append(error)
            continue
        _warn(loaded)
        click.echo(f"valid: {', '.join(shown(file) for file in loaded.files) or _nothing()}")
    for fault in faults[:-1]:
        complain(fault)
    if faults:
        raise faults[-1]


@cli.command(short_help="What systemctl reload runs.", hidden=True)
def reload() -> int:
    """Have the running agent read its configuration again, and return when the new values count.

    Run it by systemctl reload joblet-agent. The exit status is 78 if the configuration cannot be used; what
    is wrong with it is in the agent's log.
    """
    from joblet_agent.reload_call import ask  # noqa: PLC0415 - the other commands ask nobody

    return ask()


def _nothing() -> str:
    return f"no file, so every key has its default ({DEFAULT_PATH}, {drop_in_directory(DEFAULT_PATH)})"


def _warn(loaded: Loaded) -> None:
    for warning in loaded.warnings:
        click.echo(f"joblet-agent: {warning}", err=True)
