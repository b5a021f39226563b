"""The commands on volumes; each is one call. ``cp`` is in copying.py."""

import sys
from typing import Any

import click

from rnx import candidates
from rnx.cli import Command
from rnx.context import Settings
from rnx.exits import RnxError, UsageError
from rnx.limits import check_size
from rnx.output import Format, clean, show
from rnx.volumes import (
    snapshot_data,
    snapshot_table,
    volume_data,
    volume_table,
    volume_text,
    warnings,
    whole_data,
)


@click.command("create", cls=Command, short_help="Make a volume.")
@click.argument("name")
@click.option("--size", required=True, metavar="SIZE", help="most bytes in it: 500MB, 1.5GB")
@click.option(
    "--type",
    "kind",
    type=click.Choice(("filesystem", "memory")),
    default="filesystem",
    help="filesystem (default), or memory, whose files are gone after a reboot",
)
@click.pass_obj
def create(settings: Settings, *, name: str, size: str, kind: str) -> None:
    """Make a volume: a directory of fixed size that outlives jobs, and that several may use at once.

    Permission: manage. Exit status: 0 made, 1 failed, 2 wrong usage.

    Example: rnx volume create data --size=1GB
    """
    check_size("--size", size)
    with settings.connect() as client:
        from rnx.client import LONG, pb  # noqa: PLC0415

        request = pb.CreateVolumeRequest(name=name, size=size, type=kind)
        reply = client.call(client.volumes.CreateVolume, request, LONG)
    data = {"name": reply.name, "size": reply.size, "type": reply.type, "path": reply.path}
    show(settings.form, data, lambda: _created(reply))


@click.command("list", cls=Command, short_help="List volumes with their used space.")
@click.pass_obj
def list_volumes(settings: Settings) -> None:
    """List volumes with their used space. What is wrong with one is told on standard error.

    Permission: read. Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    with settings.connect() as client:
        from rnx.client import SHORT, pb  # noqa: PLC0415

        reply = client.call(client.volumes.ListVolumes, pb.EmptyRequest(), SHORT)
    volumes = sorted(reply.volumes, key=lambda each: each.name)
    data = {"volumes": [volume_data(each) for each in volumes]} if volumes else []
    show(settings.form, data, lambda: volume_table(volumes))
    if settings.form is Format.TABLE:
        for warning in warnings(volumes):
            print(f"rnx: warning: {clean(warning)}", file=sys.stderr)


@click.command("inspect", cls=Command, short_help="Show everything about a volume.")
@click.argument("name", shell_complete=candidates.volumes)
@click.pass_obj
def inspect(settings: Settings, name: str) -> None:
    """Show a volume: used space, what holds it to its size, the jobs that use it, its snapshots.

    Permission: read. Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    volume = _volume(settings, name)
    show(settings.form, whole_data(volume), lambda: volume_text(volume))


@click.command("grow", cls=Command, short_help="Give a volume more room.")
@click.argument("name", shell_complete=candidates.volumes)
@click.option("--size", required=True, metavar="SIZE", help="the new size, larger than before: 2GB")
@click.pass_obj
def grow(settings: Settings, name: str, size: str) -> None:
    """Give a volume more room. Jobs that use it see it at once. It cannot become smaller.

    Permission: manage. Exit status: 0 grown, 1 failed, 2 wrong usage.

    Example: rnx volume grow data --size=2GB
    """
    check_size("--size", size)
    with settings.connect() as client:
        from rnx.client import COPY, pb  # noqa: PLC0415

        request = pb.GrowVolumeRequest(name=name, size=size)
        volume = client.call(client.agent.GrowVolume, request, COPY).volume
    show(settings.form, volume_data(volume), lambda: f"Volume grown successfully:\n{volume_text(volume)}")


@click.command("snapshot", cls=Command, short_help="Keep a copy of what is in a volume.")
@click.argument("volume", shell_complete=candidates.volumes)
@click.argument("name", default="", shell_complete=candidates.snapshots)
@click.option("--remove", "is_removal", is_flag=True, help="remove the snapshot NAME instead")
@click.pass_obj
def snapshot(settings: Settings, volume: str, name: str, is_removal: bool) -> None:
    """Keep a copy of what is in a volume that no job uses, under NAME or the time.

    Permission: manage. Exit status: 0 done, 1 failed, 2 wrong usage.

    Example: rnx volume snapshot data before-update
    """
    if is_removal and not name:
        raise UsageError(
            "cannot remove a snapshot without its name", hint=f"see: rnx volume snapshots {volume}"
        )
    with settings.connect() as client:
        from rnx.client import COPY, LONG, pb  # noqa: PLC0415

        if is_removal:
            removal = pb.RemoveVolumeSnapshotRequest(name=volume, snapshot=name)
            client.call(client.agent.RemoveVolumeSnapshot, removal, LONG)
            data: dict[str, object] = {"volume": volume, "snapshot": name, "removed": True}
            text = f"Snapshot '{clean(name)}' of volume '{clean(volume)}' removed successfully"
        else:
            request = pb.SnapshotVolumeRequest(name=volume, snapshot=name)
            made = client.call(client.agent.SnapshotVolume, request, COPY).snapshot
            data = {"volume": volume, **snapshot_data(made)}
            text = f"Snapshot '{clean(made.name)}' of volume '{clean(volume)}' made"
    show(settings.form, data, lambda: text)


@click.command("snapshots", cls=Command, short_help="List the snapshots of a volume.")
@click.argument("volume", shell_complete=candidates.volumes)
@click.pass_obj
def snapshots(settings: Settings, volume: str) -> None:
    """List the snapshots of a volume, oldest first.

    Permission: read. Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    found = list(_volume(settings, volume).snapshots)
    show(settings.form, [snapshot_data(each) for each in found], lambda: snapshot_table(found))


@click.command("restore", cls=Command, short_help="Put a snapshot back into its volume.")
@click.argument("volume", shell_complete=candidates.volumes)
@click.argument("snapshot_name", metavar="SNAPSHOT", shell_complete=candidates.snapshots)
@click.pass_obj
def restore(settings: Settings, volume: str, snapshot_name: str) -> None:
    """Replace what is in a volume that no job uses by a snapshot of it. The snapshot stays.

    Permission: manage. Exit status: 0 restored, 1 failed, 2 wrong usage.

    Example: rnx volume restore data before-update
    """
    with settings.connect() as client:
        from rnx.client import COPY, pb  # noqa: PLC0415

        request = pb.RestoreVolumeRequest(name=volume, snapshot=snapshot_name)
        client.call(client.agent.RestoreVolume, request, COPY)
    data = {"volume": volume, "snapshot": snapshot_name, "restored": True}
    text = f"Volume '{clean(volume)}' is as in snapshot '{clean(snapshot_name)}'"
    show(settings.form, data, lambda: text)


@click.command("remove", cls=Command, short_help="Remove a volume that no job uses, with its files.")
@click.argument("name", shell_complete=candidates.volumes)
@click.pass_obj
def remove(settings: Settings, name: str) -> None:
    """Remove a volume that no job uses, with its files and snapshots. Nobody is asked again.

    Permission: manage. Exit status: 0 removed, 1 failed, 2 wrong usage.
    """
    with settings.connect() as client:
        from rnx.client import LONG, pb  # noqa: PLC0415

        reply = client.call(client.volumes.RemoveVolume, pb.RemoveVolumeRequest(name=name), LONG)
    if not reply.success:
        why = reply.message.removeprefix(f"cannot remove volume {name}: ").removeprefix(
            "cannot remove volume: "
        )
        raise RnxError(f"Failed to remove volume: {why}")
    data = {"name": name, "removed": True}
    show(settings.form, data, lambda: f"Volume '{clean(name)}' removed successfully")


def _volume(settings: Settings, name: str) -> Any:
    """Return the volume of the name."""
    if not name:
        raise UsageError("the name of the volume is empty", hint="see: rnx volume list")
    with settings.connect() as client:
        from rnx.client import SHORT, pb  # noqa: PLC0415

        reply = client.call(client.agent.GetVolumes, pb.GetVolumesRequest(name=name), SHORT)
    if not reply.volumes:
        raise RnxError(f"no volume with the name {name}", hint="see: rnx volume list")
    return reply.volumes[0]


def _created(reply: Any) -> str:
    return "\n".join(
        [
            "Volume created successfully:",
            f"Name: {clean(reply.name)}",
            f"Size: {clean(reply.size)}",
            f"Type: {clean(reply.type)}",
            f"Path: {clean(reply.path)}",
            f"Use it: rnx run --volume={clean(reply.name)} COMMAND",
        ]
    )
