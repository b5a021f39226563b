"""``rnx job update``: other limits for a job that waits or runs."""

from typing import Any

import click

from rnx import candidates
from rnx.argv import LIMIT_FLAGS, read_flags
from rnx.cli import Command
from rnx.context import Settings
from rnx.exits import UsageError
from rnx.limits import LIMIT_FIELDS, limit_data, limit_fields, limits_text
from rnx.output import clean, show, status_word

_OPTIONS = [click.Option([flag.long, flag.key], help=flag.help, metavar=flag.metavar) for flag in LIMIT_FLAGS]


@click.command(
    "update",
    cls=Command,
    short_help="Change the limits of a job.",
    params=[
        click.Argument(["uuid"], shell_complete=candidates.jobs((*candidates.WAITING, *candidates.RUNNING))),
        *_OPTIONS,
    ],
)
@click.pass_obj
def update(settings: Settings, /, uuid: str, **given: str | None) -> None:
    """Change the limits of a job that waits or runs, and wait until they are in force.

    Limits that are not named stay. 0, or an empty text, gives back the agent's default, perhaps none.
    --timeout and --nice can change only while the job waits.
    Permission: run. Exit status: 0 changed, 1 failed, 2 wrong usage.

    Example: rnx job update 8f94c5b2 --max-cpu=1.5 --max-memory=2G
    """
    words = [f"{flag.long}={given[flag.key]}" for flag in LIMIT_FLAGS if given[flag.key] is not None]
    if not words:
        raise UsageError("no limit is given", hint="for example --max-memory=2G")
    changes = limit_fields(read_flags(words, LIMIT_FLAGS)[0])
    with settings.connect() as client:
        from rnx.client import LONG, pb  # noqa: PLC0415

        reply = client.call(client.agent.UpdateJob, pb.UpdateJobRequest(uuid=uuid, **changes), LONG)
    limits = {name: getattr(reply.limits, name) for name in LIMIT_FIELDS}
    data = {"uuid": reply.uuid, "status": reply.status, **limit_data(limits)}
    show(settings.form, data, lambda: _as_text(reply, limits))


def _as_text(reply: Any, limits: dict[str, object]) -> str:
    lines = [
        f"ID: {clean(reply.uuid)}",
        f"Status: {status_word(reply.status)}",
        *map(clean, limits_text(limits)),
    ]
    return "Job updated successfully:\n" + "\n".join(lines)
