"""Files that are on their way to a job which does not exist yet.

An upload is a directory of its own below ``state_dir``/uploads until its job takes it, by one rename. What
no job has taken is removed: at once when the upload ends badly, ``uploads.keep_for`` after a good end, and
when the agent starts. Nothing of it is kept elsewhere, so a crash leaves only directories to remove.
"""

import asyncio
import hashlib
import logging
import os
import secrets
import threading
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joblet_agent.config import UploadsConfig
from joblet_agent.errors import HostUnavailable, InvalidRequest, LimitReached, NotFound
from joblet_agent.jobs.check import quoted
from joblet_agent.jobs.removal import remove_tree
from joblet_agent.jobs.tree import TreeWriter, entries
from joblet_agent.jobs.upload_check import MOST_TOLD, TreeCheck, checked_mode
from joblet_agent.model.files import NewFile, StagedUpload, UploadPart
from joblet_agent.new_files import write_all
from joblet_agent.ports import Clock

MOST_CHUNK = 4 * 1024 * 1024
"""Bytes of content in one piece of an upload."""

_ID_BYTES = 16

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Staged:
    upload: StagedUpload
    owner: str
    expiry: asyncio.TimerHandle


class UploadStaging:
    """Receives uploads and hands each to one job."""

    def __init__(self, directory: Path, config: UploadsConfig, clock: Clock) -> None:
        self._directory = directory
        self._config = config
        self._clock = clock
        self._receiving = 0
        self._staged: dict[str, _Staged] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Remove what an earlier agent has left."""
        left = await asyncio.to_thread(os.listdir, self._directory)
        for name in left:
            await asyncio.to_thread(_remove, self._directory / name)
        if left:
            _log.info("removed %d uploads that no job has taken", len(left))

    async def close(self) -> None:
        """Forget all uploads; what is on disk the next agent removes."""
        for staged in self._staged.values():
            staged.expiry.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def receive(self, parts: AsyncIterator[UploadPart], owner: str) -> StagedUpload:
        """Take an upload in; return once all of it is on disk.

        Raises InvalidRequest for what is wrong in it, LimitReached for a limit of ``uploads`` (also that of
        the time between two pieces), HostUnavailable for a full disk. Nothing is left then, nor when the
        caller is cancelled.
        """
        if self._receiving >= self._config.max_at_once:
            raise LimitReached(
                f"cannot take files: {self._receiving} uploads are under way (uploads.max_at_once)",
                reason="TOO_MANY_UPLOADS",
                hint="try again when one has ended",
            )
        upload_id = secrets.token_hex(_ID_BYTES)
        receiver = _Receiver(self._directory / upload_id, self._config, TreeCheck(self._config.max_entries))
        self._receiving += 1
        try:
            await self._receive(parts, receiver)
        except BaseException as error:
            # A caller that is there hears of it when nothing is left; one that went away is not waited for.
            gone = self._spawn(asyncio.to_thread(receiver.abandon), f"abandon-{upload_id}")
            if isinstance(error, Exception):
                await asyncio.shield(gone)
            if isinstance(error, OSError):
                raise self._refused(error) from error
            raise
        finally:
            self._receiving -= 1
        return self._keep(upload_id, receiver, owner)

    async def _receive(self, parts: AsyncIterator[UploadPart], receiver: "_Receiver") -> None:
        await asyncio.to_thread(receiver.begin)
        idle = self._config.idle_timeout.total_seconds()
        while True:
            try:
                async with asyncio.timeout(idle):
                    part = await anext(parts, None)
            except TimeoutError as error:
                raise LimitReached(
                    f"cannot take files: nothing came for {idle:g} s (uploads.idle_timeout)",
                    reason="UPLOAD_STALLED",
                    hint="send them again; is the network slow?",
                ) from error
            if part is None:
                break
            await asyncio.to_thread(receiver.take, part)
        receiver.finish()

    def _keep(self, upload_id: str, receiver: "_Receiver", owner: str) -> StagedUpload:
        keep_for = self._config.keep_for
        upload = StagedUpload(
            id=upload_id,
            file_count=receiver.file_count,
            total_bytes=receiver.total_bytes,
            paths=tuple(receiver.paths),
            expires_at=self._clock.now() + keep_for,
        )
        loop = asyncio.get_running_loop()
        expiry = loop.call_later(keep_for.total_seconds(), self._expire, upload_id)
        self._staged[upload_id] = _Staged(upload, owner, expiry)
        return upload

    def look(self, upload_id: str, owner: str, *, act: str = "run job") -> StagedUpload:
        """Return what an upload holds, and leave it where it is.

        Raises NotFound for one that is not there, has been taken, or is somebody else's.
        """
        staged = self._staged.get(upload_id)
        if staged is None or staged.owner != owner:
            raise NotFound(
                f"cannot {act}: there is no upload {quoted(upload_id)}",
                reason="UPLOAD_NOT_FOUND",
                hint="an upload serves once, soon after it was sent; send the files again",
            )
        return staged.upload

    async def entries(self, upload_id: str, owner: str, *, act: str) -> Sequence[str]:
        """Return the paths of all that an upload holds, directories included. Raises as ``look`` does."""
        self.look(upload_id, owner, act=act)
        return await asyncio.to_thread(entries, self._directory / upload_id)

    def take(self, upload_id: str, owner: str) -> tuple[StagedUpload, Path]:
        """Hand the upload to the caller, for ever; return it and its directory, which now is the caller's.

        Raises as ``look`` does.
        """
        upload = self.look(upload_id, owner)
        self._staged.pop(upload_id).expiry.cancel()
        return upload, self._directory / upload_id

    def _expire(self, upload_id: str) -> None:
        if self._staged.pop(upload_id, None) is not None:
            _log.info("upload %s: no job has taken it", upload_id)
            self._spawn(asyncio.to_thread(_remove, self._directory / upload_id), f"expire-{upload_id}")

    def _refused(self, error: OSError) -> HostUnavailable:
        return HostUnavailable(
            f"cannot take files: {error.strerror}",
            reason="CANNOT_STORE_FILES",
            hint=f"is the disk of {self._directory} full?",
        )

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class _OpenFile:
    """The file that is being received."""

    def __init__(self, sent: NewFile, descriptor: int) -> None:
        self.sent = sent
        self.descriptor = descriptor
        self.digest = hashlib.sha256()
        self.size = 0


class _Receiver:
    """Writes one upload. Its methods run in threads, one after the other; ``abandon`` at any time."""

    def __init__(self, directory: Path, config: UploadsConfig, check: TreeCheck) -> None:
        self.file_count = 0
        self.total_bytes = 0
        self.paths: list[str] = []
        self._directory = directory
        self._config = config
        self._check = check
        self._writer: TreeWriter | None = None
        self._file: _OpenFile | None = None
        self._is_over = False
        # A caller that is cancelled does not stop the thread that writes for it.
        self._lock = threading.Lock()

    def begin(self) -> None:
        with self._lock:
            if not self._is_over:
                self._directory.mkdir(mode=0o700)
                self._writer = TreeWriter(self._directory)

    def take(self, part: UploadPart) -> None:
        with self._lock:
            if self._is_over:
                return
            if part.entry is not None:
                self._begin_entry(part.entry)
            if part.content or part.offset or part.sha256:
                self._write(part)
            if part.sha256:
                self._end_file(part.sha256)

    def finish(self) -> None:
        with self._lock:
            if self._file is not None:
                raise _wrong(f"the upload ended within {quoted(self._file.sent.path)}", "UPLOAD_INCOMPLETE")
            self._close()

    def abandon(self) -> None:
        with self._lock:
            self._close()
            _remove(self._directory)

    def _close(self) -> None:
        self._is_over = True
        if self._file is not None:
            os.close(self._file.descriptor)
            self._file = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _begin_entry(self, entry: NewFile) -> None:
        if self._file is not None:
            raise _wrong(
                f"{quoted(entry.path)} begins before {quoted(self._file.sent.path)} has ended",
                "UPLOAD_INCOMPLETE",
            )
        parts = self._check.add(entry)
        assert self._writer is not None
        if entry.is_directory:
            self._writer.make_directory(parts, checked_mode(entry))
            return
        if not 0 <= entry.size <= self._config.max_size - self.total_bytes:
            raise self._too_large()
        self._file = _OpenFile(entry, self._writer.create(parts, checked_mode(entry)))
        self.file_count += 1
        if len(self.paths) < MOST_TOLD:
            self.paths.append(entry.path)

    def _write(self, part: UploadPart) -> None:
        file = self._file
        if file is None:
            raise _wrong("content came for no file", "BAD_UPLOAD")
        name = quoted(file.sent.path)
        if len(part.content) > MOST_CHUNK:
            raise _wrong(f"a piece has more than {MOST_CHUNK} bytes", "BAD_UPLOAD")
        if part.offset != file.size:
            raise _wrong(f"{name} goes on at byte {part.offset}, not at {file.size}", "BAD_OFFSET")
        if file.size + len(part.content) > file.sent.size:
            raise _wrong(f"{name} has more than the {file.sent.size} bytes it began with", "WRONG_SIZE")
        write_all(file.descriptor, part.content)
        file.digest.update(part.content)
        file.size += len(part.content)
        self.total_bytes += len(part.content)

    def _end_file(self, sha256: bytes) -> None:
        file = self._file
        assert file is not None
        name = quoted(file.sent.path)
        if file.size != file.sent.size:
            raise _wrong(f"{name} has {file.size} bytes, not {file.sent.size}", "WRONG_SIZE")
        if file.digest.digest() != sha256:
            raise _wrong(f"{name} arrived with another SHA-256 than it was sent with", "WRONG_CHECKSUM")
        os.close(file.descriptor)
        self._file = None

    def _too_large(self) -> LimitReached:
        return LimitReached(
            f"cannot take files: they have more than {self._config.max_size} bytes (uploads.max_size)",
            reason="UPLOAD_TOO_LARGE",
            hint="let the command fetch its data",
        )


def _wrong(what: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"cannot take files: {what}", reason=reason)


def _remove(directory: Path) -> None:
    failures = remove_tree(directory)
    if failures:
        _log.warning("cannot remove %s completely, first: %s", directory, failures[0])
