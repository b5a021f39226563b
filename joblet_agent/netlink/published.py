"""Ports of the host that lead to jobs: held, so that no program of the host can have them meanwhile.

A socket is bound to each and never listens. The rules send what arrives to the job before any socket is
looked for; the socket shows who else wants the port. Once bound it does not have SO_REUSEADDR, so a program
that does (nearly all do) is refused as well.
"""

import errno
import socket
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from ipaddress import IPv6Address, ip_address

from joblet_agent.errors import HostUnavailable, InvalidRequest, JobletError, LimitReached
from joblet_agent.model.job import JobId
from joblet_agent.model.network import Attachment, PublishedPort, Transport

_KINDS = {Transport.TCP: socket.SOCK_STREAM, Transport.UDP: socket.SOCK_DGRAM}
_LOOPBACK6 = ip_address("::1")


class HeldPorts:
    """The published ports of all jobs."""

    def __init__(self) -> None:
        self._held: dict[JobId, tuple[tuple[PublishedPort, ...], ExitStack]] = {}

    def hold(self, attachment: Attachment) -> None:
        """Hold the ports of a job, all or none; those that it holds already are no error.

        Raises LimitReached (PORT_TAKEN), InvalidRequest for an address that is not the host's.
        """
        held = self._held.get(attachment.job_id)
        if held is not None and held[0] == attachment.ports:
            return
        self.release(attachment.job_id)
        if not attachment.ports:
            return
        with ExitStack() as sockets:
            for port in attachment.ports:
                for bound in _bind(port, self._owner(port)):
                    sockets.enter_context(bound)
            self._held[attachment.job_id] = (attachment.ports, sockets.pop_all())

    def hold_exactly(self, attachments: Iterable[Attachment]) -> Mapping[JobId, str]:
        """Hold the ports of these jobs and no others; return why some are not held, by job."""
        wanted = {attachment.job_id: attachment for attachment in attachments}
        for job_id in self._held.keys() - wanted.keys():
            self.release(job_id)
        problems: dict[JobId, str] = {}
        for job_id, attachment in wanted.items():
            try:
                self.hold(attachment)
            except JobletError as error:
                problems[job_id] = str(error)
        return problems

    def release(self, job_id: JobId) -> None:
        """Let the ports of a job go; none is no error."""
        held = self._held.pop(job_id, None)
        if held is not None:
            held[1].close()

    def close(self) -> None:
        """Let all of them go."""
        for job_id in list(self._held):
            self.release(job_id)

    def _owner(self, port: PublishedPort) -> JobId | None:
        for job_id, (ports, _) in self._held.items():
            if any(_collide(port, other) for other in ports):
                return job_id
        return None


def _collide(one: PublishedPort, other: PublishedPort) -> bool:
    if (one.host_port, one.transport) != (other.host_port, other.transport):
        return False
    return bool(set(_addresses(one.address)) & set(_addresses(other.address))) or "" in {
        one.address,
        other.address,
    }


def _bind(port: PublishedPort, owner: JobId | None) -> list[socket.socket]:
    if port.address and ip_address(port.address) == _LOOPBACK6:
        raise InvalidRequest(
            f"cannot publish {_name(port)}: the kernel lets no answer of a job back to that address",
            reason="ADDRESS_UNUSABLE",
            hint="publish it at 127.0.0.1",
        )
    bound: list[socket.socket] = []
    with ExitStack() as undo:
        for address in _addresses(port.address):
            try:
                bound.append(undo.enter_context(_bound(port, address)))
            except OSError as error:
                if not port.address and error.errno in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}:
                    continue  # a host without that protocol
                raise _refusal(port, error, owner) from error
        undo.pop_all()
    return bound


def _addresses(address: str) -> tuple[str, ...]:
    return (address,) if address else ("0.0.0.0", "::")  # noqa: S104 - this is what an empty one means


def _bound(port: PublishedPort, address: str) -> socket.socket:
    is_six = isinstance(ip_address(address), IPv6Address)
    made = socket.socket(socket.AF_INET6 if is_six else socket.AF_INET, _KINDS[port.transport])
    try:
        if is_six:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # nobody reads: the kernel's least
        if port.transport is Transport.TCP:
            # While it is bound: a server that has ended leaves connections in TIME_WAIT, and no conflict.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port.host_port))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except OSError:
        made.close()
        raise
    return made


def _name(port: PublishedPort) -> str:
    return f"{port.address or 'all addresses'}, port {port.host_port}/{port.transport.value}"


def _refusal(port: PublishedPort, error: OSError, owner: JobId | None) -> JobletError:
    text = f"cannot publish {_name(port)}"
    match error.errno:
        case errno.EADDRINUSE if owner is not None:
            hint = "choose another port of the host, or stop that job"
            return LimitReached(f"{text}: job {owner} has it", reason="PORT_TAKEN", hint=hint)
        case errno.EADDRINUSE:
            protocol = "t" if port.transport is Transport.TCP else "u"
            hint = f"choose another port of the host; who has it: ss -H{protocol}anp sport = {port.host_port}"
            return LimitReached(f"{text}: a program of the host has it", reason="PORT_TAKEN", hint=hint)
        case errno.EADDRNOTAVAIL:
            hint = "see the host's addresses: ip address"
            return InvalidRequest(f"{text}: not an address of the host", reason="ADDRESS_UNKNOWN", hint=hint)
    hint = "see: journalctl -u joblet-networks.service"
    return HostUnavailable(f"{text}: {error.strerror}", reason="PORT_NOT_HELD", hint=hint)
