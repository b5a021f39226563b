"""Carries runtimes between hosts: into archives, and out of them and of other images into the store."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from joblet_agent.config.values import RuntimesConfig
from joblet_agent.errors import InvalidRequest
from joblet_agent.model.runtime import Runtime
from joblet_agent.runtimes.oci.labels import digest_in, facts_of
from joblet_agent.runtimes.oci.reading import ImageFacts, unpack
from joblet_agent.runtimes.oci.writing import pack
from joblet_agent.runtimes.store import RuntimeStore

__all__ = ["RuntimeCarrier"]

_AT_ONCE: Final = 2
"""Each has one of the threads that all share, starts of jobs among them, for seconds; others wait."""

Note = Callable[[str], None]
"""Is told what of an image was left out, for people."""


def _ignore(_: str) -> None:
    pass


class RuntimeCarrier:
    """Nothing is left of what fails or is cancelled: it was in staging."""

    def __init__(self, store: RuntimeStore, config: RuntimesConfig) -> None:
        self._store = store
        self._config = config
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def export(self, runtime: Runtime, to: Path) -> None:
        """Write the runtime's archive; one that is there under the name is replaced. Cancel-able.

        Raises NotFound (RUNTIME_GONE), StoreFailed (RUNTIME_DAMAGED), HostUnavailable.
        """
        with self._store.hold(runtime.digest) as tree:
            async with self._turns:
                await pack(tree, runtime.facts, runtime.digest, to)

    async def import_archive(
        self,
        archive: Path,
        *,
        name: str = "",
        version: str = "",
        replace: bool = False,
        expected: str = "",
        source: str = "import",
        note: Note = _ignore,
    ) -> Runtime:
        """Take the image of an archive as a runtime; ``name`` and ``version`` count before its own.

        The digest of a runtime that was exported must be what its label says, and any other what is
        ``expected``, unless that is empty. Cancel-able until the store has the tree.

        Raises InvalidRequest (RUNTIME_ARCHIVE_BROKEN, RUNTIME_ARCHIVE_REFUSED, RUNTIME_TREE_REFUSED,
        RUNTIME_NAME_MISSING, RUNTIME_DIGEST_MISMATCH), LimitReached (RUNTIME_TOO_LARGE), WrongState
        (RUNTIME_EXISTS), NotFound, HostUnavailable.
        """
        staging = await self._store.staging("import")
        try:
            tree = staging / "tree"
            tree.mkdir(0o755)
            async with self._turns:
                image = await unpack(archive, tree, most_bytes=self._config.max_size)
            for left_out in image.notes:
                note(left_out)
            facts = facts_of(
                image.labels,
                image.environment,
                note,
                architecture=image.architecture,
                name=name,
                version=version,
                source=source,
            )
            return await self._store.add(tree, facts, replace=replace, expected=_expected(image, expected))
        finally:
            await self._store.discard(staging)


def _expected(image: ImageFacts, wanted: str) -> str:
    """Return the digest that the tree must have. Raises InvalidRequest if two are told."""
    said = digest_in(image.labels) or wanted
    if wanted and said != wanted:
        raise InvalidRequest(
            f"cannot take image as a runtime: its digest is to be {wanted[:12]}, and it says {said[:12]}",
            reason="RUNTIME_DIGEST_MISMATCH",
            hint="it is another runtime than the one that is wanted",
        )
    return said
