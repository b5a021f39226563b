"""Volumes for the eye and for programs."""

from collections.abc import Sequence
from typing import Any

from rnx.output import Column, clean, table
from rnx.times import show_time
from rnx.usage import show_size


def volume_data(volume: Any) -> dict[str, object]:
    """Return one element of ``volume list --json``; our own keys come after the given ones."""
    data: dict[str, object] = {
        "name": volume.name,
        "size": volume.size,
        "type": volume.type,
        "created_time": volume.created_time,
        "path": volume.path,
        "job_count": volume.job_count,
        "size_bytes": volume.size_bytes,
        "used_bytes": volume.used_bytes if _is_known(volume) else None,
    }
    when_set = {"backing": volume.backing, "unit": volume.unit, "warning": volume.warning}
    return data | {key: value for key, value in when_set.items() if value}


def whole_data(volume: Any) -> dict[str, object]:
    """Return a volume with its jobs and snapshots, for ``volume inspect``."""
    return {
        **volume_data(volume),
        "job_uuids": list(volume.job_uuids),
        "snapshots": [snapshot_data(each) for each in volume.snapshots],
    }


def snapshot_data(snapshot: Any) -> dict[str, object]:
    """Return a snapshot for programs."""
    return {"name": snapshot.name, "created_time": snapshot.created_time}


def volume_table(volumes: Sequence[Any]) -> str:
    """Return the table of ``volume list``; no cell is empty, because scripts count words."""
    if not volumes:
        return "No volumes found"
    columns = (
        Column("NAME", least=20),
        Column("SIZE", least=8),
        Column("TYPE", least=12),
        Column("CREATED"),
        Column("USED"),
        Column("JOBS"),
    )
    rows = [
        [
            each.name,
            each.size,
            each.type,
            show_time(each.created_time),
            show_size(each.used_bytes) if _is_known(each) else "unknown",
            str(each.job_count),
        ]
        for each in volumes
    ]
    return table(columns, rows)


def snapshot_table(snapshots: Sequence[Any]) -> str:
    """Return the table of a volume's snapshots."""
    if not snapshots:
        return "No snapshots"
    rows = [[each.name, show_time(each.created_time)] for each in snapshots]
    return table((Column("SNAPSHOT", least=20), Column("CREATED")), rows)


def volume_text(volume: Any) -> str:
    """Return the text of ``volume inspect``."""
    fields = {
        "Name": volume.name,
        "Type": volume.type,
        "Size": f"{volume.size} ({volume.size_bytes} bytes)" if volume.size_bytes else volume.size,
        "Used": _used(volume),
        "Held By": volume.backing,
        "Path": volume.path,
        "Unit": volume.unit,
        "Created": show_time(volume.created_time, zone=True),
        "Warning": volume.warning,
    }
    lines = [f"{name}: {clean(value)}" for name, value in fields.items() if value]
    lines += _list("Jobs", volume.job_uuids) or [f"Jobs: {volume.job_count}"]
    if hidden := volume.job_count - len(volume.job_uuids):
        lines += [f"- {hidden} that you may not see"] if volume.job_uuids else []
    lines += _list("Snapshots", [f"{each.name}, {show_time(each.created_time)}" for each in volume.snapshots])
    return "\n".join(lines)


def warnings(volumes: Sequence[Any]) -> list[str]:
    """Return a sentence for each volume with which something is wrong."""
    return [f"volume {each.name}: {each.warning}" for each in volumes if each.warning]


def _is_known(volume: Any) -> bool:
    """Tell whether the agent says how much is used: an older one gives no sizes at all."""
    return bool(volume.size_bytes) and volume.used_bytes >= 0


def _used(volume: Any) -> str:
    if not _is_known(volume):
        return "unknown"
    share = 100 * volume.used_bytes // volume.size_bytes
    return f"{show_size(volume.used_bytes)} of {show_size(volume.size_bytes)} ({share} %)"


def _list(title: str, texts: Sequence[str]) -> list[str]:
    return [f"{title}:", *(f"- {clean(text)}" for text in texts)] if texts else []
