"""The certificates of the network listener: using new ones without a restart.

gRPC asks for them at each new connection, so connections that there are, and their streams, go on.
Its Python binding has no setting for the least version of TLS. What it has is the list of ciphers, which is
for TLS 1.2 and below; TLS 1.3 has ciphers of its own. With one that needs a pre-shared key, which there is
not, TLS 1.2 has none left, whatever the client offers.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from joblet_agent.errors import HostUnavailable
from joblet_agent.inotify import InotifyWatcher
from joblet_agent.model.certificate import CertificateLife

if TYPE_CHECKING:
    from joblet_agent.rpc.material import Material

NEEDED = ("ca.crt", "server.crt", "server.key")
REVOKED = "revoked.pem"

_ONLY_TLS_1_3 = "ECDHE-PSK-CHACHA20-POLY1305"

_LOG = logging.getLogger(__name__)


class Certificates:
    """The newest usable files of the directory. Belongs to the event loop."""

    def __init__(self, directory: Path, watcher: InotifyWatcher) -> None:
        self.directory = directory
        self.material: Material | None = None
        self._changed = asyncio.Event()
        self._watch = watcher.watch_directory(directory, self._changed.set)
        self._task: asyncio.Task[None] | None = None
        self._listeners: list[Callable[[Material], None]] = []
        self._fresh: grpc.ServerCertificateConfiguration | None = None
        self.complaint = ""
        """Why the files that are there cannot be used; empty if they can, or if some are missing."""

    @property
    def lives(self) -> tuple[CertificateLife, ...]:
        """Return the lives of the certificates that are in use."""
        return self.material.lives if self.material is not None else ()

    async def open(self) -> None:
        """Read what there is, and follow what becomes of it."""
        self._watch.arm()
        await self._read()
        self._task = asyncio.create_task(self._follow(), name="certificates")

    async def close(self) -> None:
        """Follow no more."""
        self._watch.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def listen(self, heard: "Callable[[Material], None]") -> None:
        """Call ``heard`` with every new set of files."""
        self._listeners.append(heard)

    def credentials(self, arrived: Callable[[], None]) -> grpc.ServerCredentials:
        """Return what a server listens with; it calls ``arrived`` at each connection. Needs material."""
        assert self.material is not None
        os.environ["GRPC_SSL_CIPHER_SUITES"] = _ONLY_TLS_1_3  # read when gRPC first needs its TLS
        self._fresh = None
        return grpc.dynamic_ssl_server_credentials(
            self.material.configuration(),
            partial(self._newer, arrived),  # type: ignore[arg-type]  # None means that nothing has changed
            require_client_authentication=True,
        )

    def _newer(self, arrived: Callable[[], None]) -> grpc.ServerCertificateConfiguration | None:
        """Return what has changed since the last connection; called by a thread of gRPC."""
        arrived()
        fresh, self._fresh = self._fresh, None
        return fresh

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                self._watch.arm()  # before the look, so that no change is missed
            except HostUnavailable:
                return  # the agent is stopping
            await self._read()

    async def _read(self) -> None:
        missing = [name for name in NEEDED if not (self.directory / name).exists()]
        if missing:
            is_there = self.material or len(missing) < len(NEEDED)
            self._complain(f"{' and '.join(missing)} missing" if is_there else "", is_incomplete=True)
            return
        # 5 MB of cryptography, which an agent without certificates does not need.
        from joblet_agent.rpc.material import BadTrust, read_material  # noqa: PLC0415

        try:
            material = await asyncio.to_thread(read_material, self.directory)
        except BadTrust as error:
            self._complain(str(error))
            return
        self.complaint = ""
        if material != self.material:
            self._take(material)

    def _complain(self, text: str, *, is_incomplete: bool = False) -> None:
        if text and text != self.complaint:
            kept = "those before are used" if self.material else "the network listener stays off"
            # Files that come one after the other are no fault yet.
            level = logging.INFO if is_incomplete and not self.material else logging.WARNING
            _LOG.log(level, "cannot use the certificates in %s: %s; %s", self.directory, text, kept)
        self.complaint = text

    def _take(self, material: "Material") -> None:
        is_first = self.material is None
        self.material = material
        self._fresh = material.configuration()
        if not is_first:
            _LOG.info("using the new certificates in %s", self.directory)
        for heard in self._listeners:
            heard(material)
