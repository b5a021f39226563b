"""The gRPC server: its listeners, its limits, and what stands between a request and a servicer."""

import grp
import logging
import os
from pathlib import Path
from urllib.parse import quote

import grpc
import grpc.aio

from joblet_agent.config import AgentConfig, SocketConfig
from joblet_agent.errors import HostUnavailable
from joblet_agent.ports import AuditLog
from joblet_agent.rpc.agent import AgentServicer
from joblet_agent.rpc.audit import AuditInterceptor, SubjectInterceptor
from joblet_agent.rpc.auth import Authenticator, AuthInterceptor, local_caller
from joblet_agent.rpc.calls import CallLimit
from joblet_agent.rpc.decode import DecodeInterceptor
from joblet_agent.rpc.jobs import JobServicer
from joblet_agent.rpc.live import LiveServicer
from joblet_agent.rpc.methods import generic_handlers
from joblet_agent.rpc.schedules import ScheduleServicer
from joblet_agent.rpc.services import Services
from joblet_agent.rpc.status import StatusInterceptor

_LOG = logging.getLogger(__name__)

MOST_METADATA = 16 * 1024 * 1024
"""Bytes of a request's headers, as published."""
_PING_MSEC = 5_000


class AgentServer:
    """The server and its local socket. Start once, stop once."""

    def __init__(
        self, server: grpc.aio.Server, calls: CallLimit, audit: AuditInterceptor, socket: SocketConfig
    ) -> None:
        self._server = server
        self._calls = calls
        self._audit = audit
        self._socket = socket

    async def start(self) -> None:
        """Listen and serve. Raises HostUnavailable if the socket cannot be made."""
        _listen(self._server, self._socket.path)
        _admit_group(self._socket)
        await self._server.start()

    async def stop(self, grace_seconds: float) -> None:
        """Take no new calls, end streams, let other calls end within the grace, then cut them off."""
        self._calls.end_streams()
        await self._server.stop(grace_seconds)
        self._audit.close()


def build_server(
    services: Services,
    config: AgentConfig,
    audit_log: AuditLog,
    *,
    authenticate: Authenticator = local_caller,
) -> AgentServer:
    """Return a server of all services, not yet listening. Call it inside the event loop that runs it."""
    calls = CallLimit(config.rpc.max_concurrent, config.rpc.max_per_client)
    audit = AuditInterceptor(audit_log)
    server = grpc.aio.server(
        interceptors=(
            StatusInterceptor(),
            audit,
            AuthInterceptor(authenticate),
            calls,
            DecodeInterceptor(),
            SubjectInterceptor(),
        ),
        options=_options(config),
    )
    servicers: dict[str, list[object]] = {
        "JobService": [JobServicer(services.jobs, services.schedules, most_message=config.rpc.max_message)],
        "AgentService": [
            AgentServicer(services.jobs, services.watches, services.node, services.files),
            LiveServicer(services.live, services.execs),
            ScheduleServicer(services.jobs, services.schedules),
        ],
    }
    server.add_generic_rpc_handlers(generic_handlers(servicers))
    return AgentServer(server, calls, audit, config.socket)


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


def _admit_group(socket: SocketConfig) -> None:
    try:
        group = grp.getgrnam(socket.group)
    except KeyError:
        _LOG.warning("there is no group %s: only root can use %s", socket.group, socket.path)
        return
    os.chown(socket.path, -1, group.gr_gid)
    os.chmod(socket.path, 0o660)
