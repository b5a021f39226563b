"""The way in over the network: mutual TLS, from when there are certificates."""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc.aio

from joblet_agent.config import ListenerConfig, Listening
from joblet_agent.errors import HostUnavailable
from joblet_agent.rpc.auth import Attend, Authenticator
from joblet_agent.rpc.connections import Connections
from joblet_agent.rpc.expiry import ExpiryWatch
from joblet_agent.rpc.tls import NEEDED, Certificates

if TYPE_CHECKING:
    from joblet_agent.rpc.certificates import CertificateAuthenticator
    from joblet_agent.rpc.material import Material

Serving = Callable[[Authenticator, Attend, Connections], grpc.aio.Server]
"""Makes a server of all services that knows its callers in this way, and tells of the connections' use."""

_LOG = logging.getLogger(__name__)


class NetworkListener:
    """Listens as soon as the certificates are there, and goes on with the last good ones."""

    def __init__(self, config: ListenerConfig, certificates: Certificates, serving: Serving) -> None:
        self._config = config
        self._certificates = certificates
        self._serving = serving
        self._server: grpc.aio.Server | None = None
        self._authenticator: CertificateAuthenticator | None = None
        self._beginning: asyncio.Task[None] | None = None
        self._expiry = ExpiryWatch()

    @property
    def target(self) -> str:
        """Return address and port, as gRPC has them."""
        address = self._config.address
        return f"[{address}]:{self._config.port}" if ":" in address else f"{address}:{self._config.port}"

    async def start(self) -> None:
        """Listen, now or when certificates appear.

        Raises HostUnavailable if ``listener.enabled`` is ``yes`` and it cannot be now.
        """
        await self._certificates.open()
        self._certificates.listen(self._on_material)
        self._expiry.follow(self._certificates.lives)
        must = self._config.enabled is Listening.YES
        if self._certificates.material is not None:
            try:
                await self._begin(self._certificates.material)
            except HostUnavailable as error:
                if must:
                    raise
                _LOG.error("%s", error)
        elif must:
            directory = self._certificates.directory
            raise HostUnavailable(
                f"cannot listen on {self.target}: there are no certificates in {directory} that can be used: "
                + (self._certificates.complaint or f"{', '.join(NEEDED)} are needed"),
                reason="NO_CERTIFICATES",
                hint="make them with joblet-agent pki init or a CA of yours (journalctl -u "
                "joblet-agent-certificates says why there are none yet), or set listener.enabled: auto",
            )

    async def stop(self, grace_seconds: float) -> None:
        """Listen no more."""
        self._expiry.close()
        await self._certificates.close()
        if self._beginning is not None:
            await asyncio.wait([self._beginning])
        if self._server is not None:
            await self._server.stop(grace_seconds)

    def _on_material(self, material: "Material") -> None:
        self._expiry.follow(material.lives)
        if self._authenticator is not None:
            self._authenticator.trust(material.trust)
        elif self._beginning is None or self._beginning.done():
            self._beginning = asyncio.create_task(self._begin_later(material), name="network-listener")

    async def _begin_later(self, material: "Material") -> None:
        try:
            await self._begin(material)
        except HostUnavailable as error:
            _LOG.error("%s", error)

    async def _begin(self, material: "Material") -> None:
        from joblet_agent.rpc.certificates import CertificateAuthenticator  # noqa: PLC0415 - see tls.py

        authenticator = CertificateAuthenticator(material.trust)
        connections = Connections(self._config.port, self._config.max_connections)
        server = self._serving(authenticator, authenticator.attend, connections)
        try:
            server.add_secure_port(self.target, self._certificates.credentials(connections.arrived))
        except RuntimeError as error:
            raise HostUnavailable(
                f"cannot listen on {self.target}: {error}",
                reason="CANNOT_LISTEN",
                hint="see who has the port: ss -ltnp; or set listener.port",
            ) from error
        connections.set_up()
        await server.start()
        self._server, self._authenticator = server, authenticator
        if self._certificates.material is not None:  # perhaps others than a moment ago
            authenticator.trust(self._certificates.material.trust)
        _LOG.info("listening on %s with the certificates in %s", self.target, self._certificates.directory)
