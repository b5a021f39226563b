"""The gRPC server: its listeners, its limits, and what stands between a request and a servicer."""

import asyncio
import grp
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from urllib.parse import quote

import grpc
import grpc.aio

from joblet_agent.config import AgentConfig, Listening
from joblet_agent.errors import HostUnavailable
from joblet_agent.inotify import InotifyWatcher
from joblet_agent.model.certificate import CertificateLife
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
from joblet_agent.rpc.connections import Connections, UseInterceptor
from joblet_agent.rpc.decode import DecodeInterceptor
from joblet_agent.rpc.execs import ExecServicer
from joblet_agent.rpc.handlers import InterceptedHandlers
from joblet_agent.rpc.headers import HeaderLimit
from joblet_agent.rpc.health import health_handler
from joblet_agent.rpc.jobs import JobServicer
from joblet_agent.rpc.listener import NetworkListener
from joblet_agent.rpc.live import LiveServicer
from joblet_agent.rpc.methods import generic_handlers
from joblet_agent.rpc.networks import NetworkDetails, NetworkServicer
from joblet_agent.rpc.own import Own
from joblet_agent.rpc.reflection import reflection_handlers
from joblet_agent.rpc.requests import Reception, RequestInterceptor
from joblet_agent.rpc.runtime_builds import AgentRuntimeBuildServicer, RuntimeBuildServicer
from joblet_agent.rpc.runtime_installs import OfferServicer, RuntimeInstallServicer
from joblet_agent.rpc.runtimes import AgentRuntimeServicer, RuntimeServicer
from joblet_agent.rpc.schedules import ScheduleServicer
from joblet_agent.rpc.services import Services
from joblet_agent.rpc.status import StatusInterceptor
from joblet_agent.rpc.tls import Certificates
from joblet_agent.rpc.visibility import VisibilityInterceptor
from joblet_agent.rpc.volumes import AgentVolumeServicer, VolumeServicer
from joblet_agent.rpc.workflows import AgentWorkflowServicer, WorkflowServicer

_LOG = logging.getLogger(__name__)

_PING_MSEC = 5_000
_ONLY_IDENTITY = 1
"""Bit set of the compressions that are accepted."""


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
        """End streams, take no new calls, let other calls end within the grace, then cut them off.

        Streams first, because gRPC closes a connection that it has said goodbye to right behind its last
        stream. A client that writes then, if only that it has read, finds it broken and never reads how the
        stream ended. A goodbye that comes later waits for the client's answer: then all before it is read.
        """
        end = asyncio.get_running_loop().time() + grace_seconds
        await self._calls.end_streams(grace_seconds / 2)
        grace_seconds = max(end - asyncio.get_running_loop().time(), 0)
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
    calls = CallLimit(config.rpc)
    audit = AuditInterceptor(audit_log)
    certificates = None
    if watcher is not None and config.listener.enabled is not Listening.NO:
        certificates = Certificates(config.tls.directory, watcher)
    handlers = [*generic_handlers(_servicers(services, config, certificates)), health_handler()]
    if config.rpc.reflection:
        handlers += reflection_handlers()

    reception = Reception()
    own = Own(services.jobs, services.schedules, services.workflows)

    def serving(
        authenticate: Authenticator, attend: Attend | None = None, connections: Connections | None = None
    ) -> grpc.aio.Server:
        used = (UseInterceptor(connections),) if connections is not None else ()
        interceptors = (
            RequestInterceptor(reception, config.rpc),
            StatusInterceptor(),
            audit,
            AuthInterceptor(config.viewer, authenticate, attend),
            *used,
            HeaderLimit(config.rpc.max_metadata),
            calls,
            DecodeInterceptor(),
            SubjectInterceptor(),
            VisibilityInterceptor(config.jobs, own),
        )
        further = _network_options(config) if connections is not None else []
        server = grpc.aio.server(options=[*_options(config), *further])
        server.add_generic_rpc_handlers([InterceptedHandlers(handlers, interceptors)])
        return server

    sockets = [RoleSocket(serving(authenticate), config.socket.path, config.socket.group)]
    for role, further in ((Role.OPERATOR, config.sockets.operator), (Role.VIEWER, config.sockets.viewer)):
        if further.path is not None:
            server = serving(partial(socket_caller, local_identity(role)))
            sockets.append(RoleSocket(server, further.path, further.group))
    network = NetworkListener(config.listener, certificates, serving) if certificates else None
    return AgentServer(sockets, network, calls, audit)


def _servicers(
    services: Services, config: AgentConfig, certificates: Certificates | None
) -> dict[str, list[object]]:
    def lives() -> Sequence[CertificateLife]:
        return certificates.lives if certificates else ()

    most_message = config.rpc.max_message
    runtimes = services.runtimes
    return {
        "JobService": [
            JobServicer(services.jobs, services.schedules, most_message=most_message),
            *(
                [WorkflowServicer(services.workflows, most_message=most_message)]
                if services.workflows
                else ()
            ),
        ],
        "AgentService": [
            AgentServicer(services.jobs, services.watches, services.node, services.files, lives),
            LiveServicer(services.live),
            ExecServicer(services.execs),
            ScheduleServicer(services.jobs, services.schedules, services.workflows),
            NetworkDetails(services.networks),
            AgentVolumeServicer(services.volumes, services.volume_copies, services.volume_snapshots),
            AgentWorkflowServicer(services.workflows, most_message=most_message),
            AgentRuntimeServicer(runtimes.runtimes, runtimes.archives),
            AgentRuntimeBuildServicer(runtimes.builds, runtimes.runtimes),
            OfferServicer(runtimes.installs),
        ],
        "NetworkService": [NetworkServicer(services.networks)],
        "VolumeService": [VolumeServicer(services.volumes)],
        "RuntimeService": [
            RuntimeServicer(runtimes.runtimes),
            RuntimeBuildServicer(runtimes.builds, runtimes.runtimes),
            RuntimeInstallServicer(runtimes.installs, runtimes.runtimes),
        ],
    }


def _options(config: AgentConfig) -> list[tuple[str, int]]:
    """Return channel arguments (grpc/impl/channel_arg_names.h).

    The server sends no keep-alive pings: a local socket reports at once that its peer is gone, and a
    follower that is stopped (Ctrl-Z) shall be able to go on. Clients may ping as often as published.
    """
    return [
        ("grpc.max_receive_message_length", config.rpc.max_message),
        # Of a request that nobody has asked for yet, gRPC keeps 64 KiB; the probe would make it 4 MiB.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.max_send_message_length", config.rpc.max_message),
        ("grpc.max_metadata_size", config.rpc.max_metadata),
        ("grpc.absolute_max_metadata_size", config.rpc.max_metadata),  # newer gRPC refuses from here on
        # gRPC 1.51 has no limit for what a compressed message becomes: 2 MB were 2 GB.
        ("grpc.compression_enabled_algorithms_bitset", _ONLY_IDENTITY),
        # Of one connection. Above the limit of calls, because a client lets what is beyond it wait silently.
        ("grpc.max_concurrent_streams", 2 * config.rpc.max_concurrent),
        ("grpc.so_reuseport", 0),  # a port that somebody has already is an error
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _PING_MSEC),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", _PING_MSEC),
    ]


def _network_options(config: AgentConfig) -> list[tuple[str, int]]:
    """Return further ones for connections of anybody. A connection with a call on it is never idle."""
    return [
        ("grpc.server_handshake_timeout_ms", _msec(config.listener.handshake_timeout)),
        ("grpc.max_connection_idle_ms", _msec(config.listener.idle_timeout)),
    ]


def _msec(time: timedelta) -> int:
    return time // timedelta(milliseconds=1)


def _listen(server: grpc.aio.Server, path: Path) -> None:
    """Bind the socket for root alone; the process's umask (daemon.py) keeps others out from the first moment.

    No other umask meanwhile: it would count for directories of jobs that other threads make.
    """
    try:
        server.add_insecure_port(f"unix:{quote(str(path))}")
    except RuntimeError as error:
        raise HostUnavailable(
            f"cannot listen on {path}: {error}",
            reason="CANNOT_LISTEN",
            hint="the directory must exist and belong to the agent (RuntimeDirectory= of its unit)",
        ) from error
    path.chmod(0o600)


def _admit_group(path: Path, name: str) -> None:
    try:
        group = grp.getgrnam(name)
    except KeyError:
        _LOG.warning("there is no group %s: only root can use %s", name, path)
        return
    os.chown(path, -1, group.gr_gid)
    os.chmod(path, 0o660)
