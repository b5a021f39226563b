"""The commands on files of jobs."""

from typing import Any

import click

from rnx import candidates
from rnx.cli import Command
from rnx.context import Settings
from rnx.output import Column, show, table


@click.command("files", cls=Command, short_help="List the files of a job.")
@click.argument("uuid", shell_complete=candidates.jobs())
@click.argument("path", default="")
@click.pass_obj
def files(settings: Settings, uuid: str, path: str) -> None:
    """List what is in the workspace (/work) of a job, or in its directory PATH.

    While the job runs, and as long as its files are kept.
    Permission: read. Exit status: 0 done, 1 failed, 2 wrong usage.

    Example: rnx job files 8f94c5b2 results
    """
    with settings.connect() as client:
        from rnx.client import pb  # noqa: PLC0415

        request = pb.ListJobFilesRequest(uuid=uuid, path=_relative(path))
        found = [each for batch in client.stream(client.agent.ListJobFiles, request) for each in batch.files]
    found.sort(key=lambda each: each.name)
    show(settings.form, [_data(each) for each in found], lambda: _table(found))


@click.command("download", cls=Command, short_help="Fetch files of a job.")
@click.argument("uuid", shell_complete=candidates.jobs())
@click.argument("path", default="")
@click.option(
    "-o",
    "--to",
    "place",
    metavar="PLACE",
    shell_complete=candidates.files,
    help="file, directory, or - for standard output",
)
@click.option("--force", is_flag=True, help="replace files that are there")
@click.pass_obj
def download(settings: Settings, *, uuid: str, path: str, place: str | None, force: bool) -> None:
    """Fetch the file or directory PATH of a job's workspace (/work), or all of it.

    It comes to the current directory under its own name; with -o into that directory, or under that name.
    Symbolic links, and what is no regular file, are left out and named on standard error.
    Permission: read. Exit status: 0 done, 1 failed, 2 wrong usage.

    Example: rnx job download 8f94c5b2 results/summary.txt -o -
    """
    from rnx.downloads import receive  # noqa: PLC0415

    with settings.connect() as client:
        from rnx.client import pb  # noqa: PLC0415

        wanted = _relative(path)
        request = pb.DownloadJobFileRequest(uuid=uuid, path=wanted)
        chunks = client.stream(client.agent.DownloadJobFile, request)
        name = wanted.rpartition("/")[2] or f"job-{uuid[:8]}"
        receive(settings.form, chunks, place, name, force=force)


def _relative(path: str) -> str:
    """Return the path as the agent wants it: relative to /work."""
    text = path.removeprefix("/work/") if path.startswith("/work/") else path
    text = text.removeprefix("./").rstrip("/") if text.strip("/") else text
    return "" if text in {".", "/work", ""} else text


def _data(file: Any) -> dict[str, object]:
    return {
        "name": file.name,
        "kind": file.kind,
        "size": file.size,
        "mode": f"{file.mode:04o}",
        "modified_time": file.modified_time,
    }


def _table(found: list[Any]) -> str:
    from rnx.times import show_time  # noqa: PLC0415

    if not found:
        return "No files"
    columns = (Column("MODE"), Column("KIND"), Column("SIZE"), Column("MODIFIED"), Column("NAME"))
    rows = [
        [f"{each.mode:04o}", each.kind, str(each.size), show_time(each.modified_time), each.name]
        for each in found
    ]
    return table(columns, rows)
