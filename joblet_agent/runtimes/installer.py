"""Installs runtimes: from indexes, and from files that a caller sends.

What is fetched lies in a directory of its own in the store's staging until it is a runtime; the directory
goes with the installation, however that ends, and with the agent's next start if it could not.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakValueDictionary

from joblet_agent.config.values import RuntimesConfig
from joblet_agent.errors import HostUnavailable, InvalidRequest, LimitReached, WrongState
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.model.runtime import Runtime
from joblet_agent.model.web import shown_address
from joblet_agent.runtimes.index.choice import choose
from joblet_agent.runtimes.index.entries import IndexEntry
from joblet_agent.runtimes.index.fetching import Fetched, Fetcher
from joblet_agent.runtimes.index.kinds import has_setup_scripts, is_tar, is_tar_name, names_of_tar
from joblet_agent.runtimes.index.service import LoadedIndex, RuntimeIndexes
from joblet_agent.runtimes.install_events import Installed, InstallEvent, Teller, megabytes
from joblet_agent.runtimes.names import RuntimeSpec, parse_spec
from joblet_agent.runtimes.oci.image import debian_architecture, host_architecture
from joblet_agent.runtimes.refusals import needs_build, no_archive, setup_scripts
from joblet_agent.runtimes.store import RuntimeStore

__all__ = ["LocalFile", "RuntimeImporter", "RuntimeInstaller"]

_MOST_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file that a caller has sent."""

    path: str
    content: bytes


class RuntimeImporter(Protocol):
    """What makes a runtime of an archive; RuntimeCarrier is it."""

    async def import_archive(
        self,
        archive: Path,
        *,
        name: str = "",
        version: str = "",
        replace: bool = False,
        expected: str = "",
        source: str = "import",
        note: Callable[[str], None] = ...,
    ) -> Runtime:
        """Make a runtime of an OCI archive; ``expected`` is the digest that it must have.

        ``note`` is told what of it was left out.
        """


class FetchedArchive(Protocol):
    """An image as an archive, until the end of the block that gives it."""

    @property
    def archive(self) -> Path:
        """Where it is."""


class Images(Protocol):
    """What fetches images from registries of such; Skopeo is it."""

    def fetched(
        self, reference: str, on_line: Callable[[str], None]
    ) -> AbstractAsyncContextManager[FetchedArchive]:
        """Give the image ``docker://…`` as an OCI archive, until the end of the block."""


class RuntimeInstaller:
    """The use cases of installation."""

    def __init__(
        self,
        config: RuntimesConfig,
        store: RuntimeStore,
        importer: RuntimeImporter,
        indexes: RuntimeIndexes,
        fetcher: Fetcher,
        images: Images,
    ) -> None:
        self._config = config
        self._store = store
        self._importer = importer
        self._indexes = indexes
        self._fetcher = fetcher
        self._images = images
        self._tasks = Tasks()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._count = 0

    async def close(self) -> None:
        """End what is under way; nothing is left of it."""
        await self._tasks.close()

    async def offered(self, url: str = "") -> LoadedIndex:
        """Return the index that is meant (index/places.py). Raises as RuntimeIndexes.load."""
        return await self._indexes.load(url)

    def install(self, spec: str, *, url: str = "", force: bool = False) -> AsyncIterator[InstallEvent]:
        """Install a runtime that an index offers; the highest version, unless the spec names one.

        One that is installed already is left alone, unless ``force``. Whoever stops to iterate ends it.
        Raises while it is iterated: as RuntimeIndexes.load, NotFound for what is not offered, WrongState for
        an archive that is not the one of the index, and whatever the import refuses.
        """
        wanted = parse_spec(spec)
        return self._follow(partial(self._install, wanted, url, force), f"install-runtime-{wanted}")

    def install_files(
        self, spec: str, files: Sequence[LocalFile], *, force: bool = False
    ) -> AsyncIterator[InstallEvent]:
        """Install a runtime from files of the caller, of which one is an OCI archive."""
        wanted = parse_spec(spec) if spec else None
        archive = _archive_of(spec, files)
        return self._follow(
            partial(self._install_file, wanted, archive, force), f"install-runtime-{wanted or archive.path}"
        )

    async def _follow(
        self, work: Callable[[Teller], Coroutine[Any, Any, Installed]], title: str
    ) -> AsyncIterator[InstallEvent]:
        if self._count >= _MOST_AT_ONCE:
            raise LimitReached(
                f"cannot install: {_MOST_AT_ONCE} installations are under way",
                reason="RUNTIME_INSTALLS_LIMIT",
                hint="try again when one of them has ended",
            )
        teller = Teller()
        self._count += 1
        task = self._tasks.start(work(teller), title)
        task.add_done_callback(lambda _: teller.queue.put_nowait(None))
        try:
            while (event := await teller.queue.get()) is not None:
                yield event
            if task.cancelled():
                raise HostUnavailable(
                    "cannot install: the agent is about to end", reason="AGENT_ENDS", hint="try again"
                )
            yield task.result()
        finally:
            self._count -= 1
            task.cancel()
            await asyncio.wait([task])

    async def _install(self, spec: RuntimeSpec, url: str, force: bool, teller: Teller) -> Installed:
        present = self._store.get(spec.name, spec.version) if spec.version else None
        if present is not None and not force and not self._store.damage(present.digest):
            return Installed(present, was_there=True)
        teller.step(1, "Reading the index" + (f" {shown_address(url)}" if url else ""))
        loaded = await self._indexes.load(url)
        entry = choose(loaded, spec, debian_architecture(host_architecture()))
        address = self._indexes.archive(loaded, entry)
        trust = f", signed by {loaded.signer}" if loaded.signer else ""
        teller.step(2, f"Found {entry} in {shown_address(loaded.address)}{trust}")
        async with self._locks.setdefault(str(entry), asyncio.Lock()):
            present = self._store.get(entry.name, entry.version)
            if present is not None and not force and not self._store.damage(present.digest):
                return Installed(present, was_there=True)
            return Installed(await self._fetch_and_import(entry, address, force, teller), was_there=False)

    async def _fetch_and_import(
        self, entry: IndexEntry, address: str, force: bool, teller: Teller
    ) -> Runtime:
        place = await self._store.staging("install")
        try:
            if address.startswith("docker:"):
                return await self._fetch_image(entry, address, force, teller)
            archive = place / "archive"
            size = f" ({megabytes(entry.size)})" if entry.size else ""
            teller.step(3, f"Downloading {shown_address(address)}{size}")
            most = min(entry.size or self._config.max_size, self._config.max_size)
            fetched = await self._fetcher.archive(address, archive, most, teller.progress)
            teller.step(4, "Comparing the archive with its index")
            _compare(entry, fetched)
            teller.step(5, f"Unpacking, checking and activating {entry}")
            return await self._import(
                archive, entry.name, entry.version, force, entry.digest, shown_address(address), teller
            )
        finally:
            await asyncio.shield(self._store.discard(place))

    async def _fetch_image(self, entry: IndexEntry, address: str, force: bool, teller: Teller) -> Runtime:
        teller.step(3, f"Fetching {address}")
        async with self._images.fetched(address, teller.note) as image:
            teller.step(5, f"Unpacking, checking and activating {entry}")
            return await self._import(
                image.archive, entry.name, entry.version, force, entry.digest, address, teller
            )

    async def _install_file(
        self, spec: RuntimeSpec | None, archive: LocalFile, force: bool, teller: Teller
    ) -> Installed:
        total = 2
        present = self._store.get(spec.name, spec.version) if spec and spec.version else None
        if present is not None and not force and not self._store.damage(present.digest):
            return Installed(present, was_there=True)
        teller.step(1, f"Writing {archive.path} ({megabytes(len(archive.content))})", total)
        place = await self._store.staging("install")
        try:
            path = place / "archive"
            await asyncio.to_thread(_write, path, archive.content)
            teller.step(2, "Unpacking, checking and activating", total)
            name, version = (spec.name, spec.version) if spec else ("", "")
            runtime = await self._import(path, name, version, force, "", "import", teller)
            return Installed(runtime, was_there=False)
        finally:
            await asyncio.shield(self._store.discard(place))

    async def _import(
        self, archive: Path, name: str, version: str, force: bool, digest: str, source: str, teller: Teller
    ) -> Runtime:
        try:
            return await self._importer.import_archive(
                archive,
                name=name,
                version=version,
                replace=force,
                expected=digest,
                source=source,
                note=teller.note,
            )
        except InvalidRequest as error:
            if has_setup_scripts(await asyncio.to_thread(names_of_tar, archive)):
                raise setup_scripts(name) from error
            raise


def _compare(entry: IndexEntry, fetched: Fetched) -> None:
    if entry.checksum and fetched.sha256 != entry.checksum:
        raise WrongState(
            f"cannot install runtime {entry}: its archive has the SHA-256 {fetched.sha256}, its index says "
            f"{entry.checksum}",
            reason="RUNTIME_CHECKSUM_MISMATCH",
            hint="nothing was installed; the archive was changed, or is of another version than the index",
        )
    if entry.size and fetched.size != entry.size:
        raise WrongState(
            f"cannot install runtime {entry}: its archive has {fetched.size} bytes, its index says "
            f"{entry.size}",
            reason="RUNTIME_CHECKSUM_MISMATCH",
            hint="nothing was installed; the archive is of another version than the index",
        )


def _archive_of(spec: str, files: Sequence[LocalFile]) -> LocalFile:
    """Return the one archive among the files."""
    archives = [file for file in files if is_tar_name(file.path) and is_tar(file.content[:512])]
    if len(archives) == 1:
        return archives[0]
    names = [file.path for file in files]
    if not archives and has_setup_scripts(names):
        raise setup_scripts(spec)
    if not archives and any(name.endswith((".yaml", ".yml")) for name in names):
        raise needs_build(spec, names)
    raise no_archive(spec, len(archives))


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
