"""The gRPC server: its listeners, its limits, and what stands between a request and a servicer."""

import asyncio
import grp
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

import grpc
import grpc.aio

from joblet_agent.config import AgentConfig, Listening, Visibility
from joblet_agent.errors import HostUnavailable
from joblet_agent.inotify import InotifyWatcher
from joblet_agent.model.identity import Role
from joblet_agent.ports import AuditLog
from joblet_agent.rpc.agent import AgentServicer
from joblet_agent.rpc.audit import AuditInterceptor, SubjectInterceptor
from joblet_agent.rpc.auth import (
    Attend,
    Authenticator,
    AuthInterceptor,
    local_caller,
    local_identity,
    socket_caller,
)
from joblet_agent.rpc.calls import CallLimit
from joblet_agent.rpc.decode import DecodeInterceptor
from joblet_agent.rpc.health import health_handler
from joblet_agent.rpc.jobs import JobServicer
from joblet_agent.rpc.listener import NetworkListener
from joblet_agent.rpc.live import LiveServicer
from joblet_agent.rpc.methods import generic_handlers
from joblet_agent.rpc.reflection import reflection_handlers
from joblet_agent.rpc.schedules import ScheduleServicer
from joblet_agent.rpc.services import Services
from joblet_agent.rpc.status import StatusInterceptor
from joblet_agent.rpc.tls import Certificates
from joblet_agent.rpc.visibility import VisibilityInterceptor

_LOG = logging.getLogger(__name__)

MOST_METADATA = 16 * 1024 * 1024
"""Bytes of a request's headers, as published."""
_PING_MSEC = 5_000


class AgentServer:
    """The agent's ways in, one server of gRPC for each. Start once, stop once.

    A server of its own, because gRPC does not tell by which of its sockets a call came, and because one that
    runs takes no further port: the network listener begins when there are certificates.
    """

    def __init__(
        self,
        sockets: Sequence["RoleSocket"],
        network: NetworkListener | None,
        calls: CallLimit,
        audit: AuditInterceptor,
    ) -> None:
        self._sockets = sockets
        self._network = network
        self._calls = calls
        self._audit = audit

    async def start(self) -> None:
        """Listen and serve. Raises HostUnavailable if a socket cannot be made."""
        for socket in self._sockets:
            await socket.start()
        if self._network is not None:
            await self._network.start()

    async def stop(self, grace_seconds: float) -> None:
        """Take no new calls, end streams, let other calls end within the grace, then cut them off."""
        self._calls.end_streams()
        stops = [socket.server.stop(grace_seconds) for socket in self._sockets]
        if self._network is not None:
            stops.append(self._network.stop(grace_seconds))
        await asyncio.gather(*stops)
        self._audit.close()


@dataclass(frozen=True, slots=True)
class RoleSocket:
    """A local way in."""

    server: grpc.aio.Server
    path: Path
    group: str

    async def start(self) -> None:
        """Listen and serve."""
        _listen(self.server, self.path)
        _admit_group(self.path, self.group)
        await self.server.start()


def build_server(
    services: Services,
    config: AgentConfig,
    audit_log: AuditLog,
    watcher: InotifyWatcher | None = None,
    *,
    authenticate: Authenticator = local_caller,
) -> AgentServer:
    """Return a server of all services, not yet listening. Call it inside the event loop that runs it.

    ``watcher`` tells when certificates change; without it there is no network listener. ``authenticate`` is
    for the local socket.
    """
    calls = CallLimit(config.rpc.max_concurrent, config.rpc.max_per_client)
    audit = AuditInterceptor(audit_log)
    handlers = [*generic_handlers(_servicers(services, config)), health_handler()]
    if config.rpc.reflection:
        handlers += reflection_handlers()

    visibility = (
        (VisibilityInterceptor(services.jobs, services.schedules),)
        if config.jobs.visibility is Visibility.OWN
        else ()
    )

    def serving(authenticate: Authenticator, attend: Attend | None = None) -> grpc.aio.Server:
        server = grpc.aio.server(
            interceptors=(
                StatusInterceptor(),
                audit,
                AuthInterceptor(authenticate, attend, viewer_files=config.viewer.files),
                calls,
                DecodeInterceptor(),
                SubjectInterceptor(),
                *visibility,
            ),
            options=_options(config),
        )
        server.add_generic_rpc_handlers(handlers)
        return server

    sockets = [RoleSocket(serving(authenticate), config.socket.path, config.socket.group)]
    for role, further in ((Role.OPERATOR, config.sockets.operator), (Role.VIEWER, config.sockets.viewer)):
        if further.path is not None:
            server = serving(partial(socket_caller, local_identity(role)))
            sockets.append(RoleSocket(server, further.path, further.group))
    network = None
    if watcher is not None and config.listener.enabled is not Listening.NO:
        network = NetworkListener(config.listener, Certificates(config.tls.directory, watcher), serving)
    return AgentServer(sockets, network, calls, audit)


def _servicers(services: Services, config: AgentConfig) -> dict[str, list[object]]:
    return {
        "JobService": [JobServicer(services.jobs, services.schedules, most_message=config.rpc.max_message)],
        "AgentService": [
            AgentServicer(services.jobs, services.watches, services.node, services.files),
            LiveServicer(services.live, services.execs),
            ScheduleServicer(services.jobs, services.schedules),
        ],
    }


def _options(config: AgentConfig) -> list[tuple[str, int]]:
    """Return channel arguments (grpc/impl/channel_arg_names.h).

    The server sends no keep-alive pings: a local socket reports at once that its peer is gone, and a
    follower that is stopped (Ctrl-Z) shall be able to go on. Clients may ping as often as published.
    """
    return [
        ("grpc.max_receive_message_length", config.rpc.max_message),
        ("grpc.max_send_message_length", config.rpc.max_message),
        ("grpc.max_metadata_size", MOST_METADATA),
        ("grpc.absolute_max_metadata_size", MOST_METADATA),  # newer gRPC refuses from here on
        # Of one connection. Above the limit of calls, because a client lets what is beyond it wait silently.
        ("grpc.max_concurrent_streams", 2 * config.rpc.max_concurrent),
        ("grpc.so_reuseport", 0),  # a port that somebody has already is an error
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _PING_MSEC),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", _PING_MSEC),
    ]


def _listen(server: grpc.aio.Server, path: Path) -> None:
    """Bind the socket for root alone: between bind(2) and chown(2) nobody else may get in."""
    before = os.umask(0o177)
    try:
        server.add_insecure_port(f"unix:{quote(str(path))}")
    except RuntimeError as error:
        raise HostUnavailable(
            f"cannot listen on {path}: {error}",
            reason="CANNOT_LISTEN",
            hint="the directory must exist and belong to the agent (RuntimeDirectory= of its unit)",
        ) from error
    finally:
        os.umask(before)


def _admit_group(path: Path, name: str) -> None:
    try:
        group = grp.getgrnam(name)
    except KeyError:
        _LOG.warning("there is no group %s: only root can use %s", name, path)
        return
    os.chown(path, -1, group.gr_gid)
    os.chmod(path, 0o660)
