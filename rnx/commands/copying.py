"""``rnx volume cp``: files into a volume, and out of one."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from rnx import candidates
from rnx.cli import Command
from rnx.context import Settings
from rnx.exits import UsageError
from rnx.output import clean, show

_FORMS = "rnx volume cp FILE VOLUME:PATH, or rnx volume cp VOLUME:PATH FILE"


@dataclass(frozen=True, slots=True)
class _Inside:
    """A place in a volume; ``is_directory``: what is copied there keeps its name."""

    volume: str
    path: str
    is_directory: bool


@click.command("cp", cls=Command, short_help="Copy files into a volume, or out of one.")
@click.argument("source", metavar="SRC", shell_complete=candidates.volumes_and_files)
@click.argument("destination", metavar="DST", shell_complete=candidates.volumes_and_files)
@click.option("--force", is_flag=True, help="replace files that are there, on this side")
@click.pass_obj
def copy(settings: Settings, source: str, destination: str, force: bool) -> None:
    """Copy a file, or a directory with all that is in it, into a volume or out of one.

    One of SRC and DST is VOLUME:PATH, with PATH relative to the volume, and the other is a path on this side;
    write ./a:b for one with a colon. Into a volume: SRC becomes PATH, or with VOLUME: or a slash at the end
    goes into that directory under its own name; of SRC/. the contents go there. A link counts as what it
    points to, and must not lead out of SRC. Out of a volume: DST may be a directory, or - for standard
    output; links, and what is no regular file, are left out and named on standard error.
    Permission: run to copy in, read files to copy out. Exit status: 0 done, 1 failed, 2 wrong usage.

    Example: rnx volume cp ./models data:models/
    """
    start, end = _inside(source), _inside(destination)
    if start is not None and end is not None:
        raise UsageError("cannot copy from volume to volume", hint=f"copy out first: {_FORMS}")
    if end is not None:
        _copy_in(settings, source, end)
    elif start is not None:
        _copy_out(settings, start, destination, force=force)
    else:
        raise UsageError("neither SRC nor DST is in a volume: there is no VOLUME:PATH", hint=_FORMS)


def _copy_in(settings: Settings, source: str, place: _Inside) -> None:
    with settings.connect() as client:
        from rnx.client import COPY, pb  # noqa: PLC0415
        from rnx.uploads import stream_uploads  # noqa: PLC0415

        directory, uploads = _uploads(source, place)
        upload_id = stream_uploads(client, uploads)
        request = pb.PutVolumeFilesRequest(name=place.volume, path=directory, upload_id=upload_id)
        reply = client.call(client.agent.PutVolumeFiles, request, COPY)
    target = f"{place.volume}:{place.path}"
    data = {"target": target, "files": reply.file_count, "bytes": reply.total_bytes}
    show(settings.form, data, lambda: f"{reply.file_count} files in {clean(target)}")


def _copy_out(settings: Settings, place: _Inside, destination: str, *, force: bool) -> None:
    from rnx.downloads import receive  # noqa: PLC0415

    with settings.connect() as client:
        from rnx.client import pb  # noqa: PLC0415

        request = pb.DownloadVolumeFileRequest(name=place.volume, path=place.path)
        chunks = client.stream(client.agent.DownloadVolumeFile, request)
        name = place.path.rpartition("/")[2] or place.volume
        receive(settings.form, chunks, destination, name, force=force)


def _inside(text: str) -> _Inside | None:
    """Return the place in a volume that a word names, if it names one."""
    volume, colon, path = text.partition(":")
    if not colon or not volume or "/" in volume or volume.startswith("."):
        return None
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise UsageError(f"cannot copy {text}: the path leads out of the volume with ..")
    return _Inside(volume, "/".join(parts), is_directory=not parts or path.endswith(("/", "/.")))


def _uploads(source: str, place: _Inside) -> tuple[str, list[Any]]:
    """Return the directory in the volume, and what goes there."""
    from rnx.uploads import Upload, find_uploads  # noqa: PLC0415

    path = Path(source)
    if not path.is_dir():
        (upload,) = find_uploads([source], [])
        directory, name = _split(place, upload.path)
        return directory, [replace(upload, path=name)]
    contents = find_uploads([], [source])
    if source in (".", "./") or source.rstrip("/").endswith("/."):
        return place.path, contents
    directory, name = _split(place, path.resolve().name)
    top = Upload(name, path, 0, path.stat().st_mode & 0o777, is_directory=True)
    return directory, [top, *(replace(each, path=f"{name}/{each.path}") for each in contents)]


def _split(place: _Inside, own_name: str) -> tuple[str, str]:
    """Return directory and name in the volume of something that is called ``own_name`` here."""
    if place.is_directory:
        return place.path, own_name
    directory, _, name = place.path.rpartition("/")
    return directory, name
