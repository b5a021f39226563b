"""Copies into and out of volumes."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from joblet_agent.errors import JobletError
from joblet_agent.jobs.pieces import Pieces
from joblet_agent.jobs.removal import remove_tree
from joblet_agent.jobs.staging import UploadStaging
from joblet_agent.jobs.upload_check import path_parts
from joblet_agent.jobs.work_files import read_tree
from joblet_agent.model.files import FilePiece
from joblet_agent.model.identity import Identity
from joblet_agent.model.volume import Volume
from joblet_agent.volumes.backing import Backings
from joblet_agent.volumes.catalog import VolumeCatalog
from joblet_agent.volumes.putting import Put


class VolumeCopies:
    """What callers can do with the files in a volume; it is lent to each copy until that has ended."""

    def __init__(self, catalog: VolumeCatalog, backings: Backings, staging: UploadStaging) -> None:
        self._catalog = catalog
        self._backings = backings
        self._staging = staging

    async def put(self, name: str, path: str, upload_id: str, caller: Identity) -> tuple[int, int]:
        """Copy files that the caller has sent before into the volume; return how many files and bytes.

        A file that is there already is replaced. Raises NotFound also for the upload, InvalidRequest,
        HostUnavailable.
        """
        parts = path_parts(path, doing="copy into volume") if path else ()
        self._catalog.known(name, "copy into volume")
        self._staging.look(upload_id, caller.name, act="copy into volume")
        volume = await self._catalog.lend(name, "copy into volume")
        try:
            _, directory = self._staging.take(upload_id, caller.name)
        except JobletError:
            self._catalog.give_back(name)
            raise
        return await self._catalog.finish(self._put(volume, parts, directory), f"put-{name}")

    async def _put(self, volume: Volume, parts: Sequence[str], directory: Path) -> tuple[int, int]:
        is_closed = False
        put = Put(volume.number, lambda: is_closed)
        try:
            await self._backings.put(volume, directory, parts, put)
        finally:
            is_closed = True  # the thread does not end with its task
            self._catalog.give_back(volume.name)
            await asyncio.to_thread(remove_tree, directory)
        return put.count, put.size

    async def download(self, name: str, path: str) -> Pieces[FilePiece]:
        """Return a file of the volume, or a directory with all below it.

        Raises NotFound, WrongState, HostUnavailable; the pieces raise as jobs/work_files.py does.
        """
        parts = path_parts(path, doing="read files") if path else ()
        volume = await self._catalog.lend(name, "read volume", is_read=True)
        steps = read_tree(self._backings.contents(volume), parts, name)
        return Pieces(steps, lambda: self._catalog.give_back(name))
