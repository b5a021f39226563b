"""What ties a job to a network, on the wire."""

from joblet_agent.errors import InvalidRequest
from joblet_agent.jobs.check import quoted
from joblet_agent.model.network import Attachment, PublishedPort, Transport
from joblet_agent.pb import joblet_pb2 as pb


def port_from_proto(port: pb.PublishedPort) -> PublishedPort:
    """Return the port as asked for. Raises InvalidRequest for a protocol that has none."""
    try:
        transport = Transport(port.transport or Transport.TCP)
    except ValueError:
        raise InvalidRequest(
            f"cannot run job: --publish names the protocol {quoted(port.transport)}",
            reason="BAD_PORT",
            hint="protocols are tcp and udp, for example --publish 5353:53/udp",
        ) from None
    return PublishedPort(
        host_port=port.host_port, job_port=port.job_port, transport=transport, address=port.address
    )


def port_to_proto(port: PublishedPort) -> pb.PublishedPort:
    """Return the port."""
    return pb.PublishedPort(
        transport=port.transport.value,
        address=port.address,
        host_port=port.host_port,
        job_port=port.job_port,
    )


def addresses_to_proto(attachment: Attachment | None) -> list[str]:
    """Return the addresses, IPv4 first."""
    return [] if attachment is None else [str(address) for address in attachment.addresses]


def bandwidth_from_proto(bandwidth: int, act: str) -> int:
    """Return the limit. Raises InvalidRequest, beginning with ``act``, for what is no number of bits."""
    if bandwidth < 0:
        raise InvalidRequest(
            f"{act}: --bandwidth must not be negative, it is {bandwidth}",
            reason="BAD_BANDWIDTH",
            hint="write for example --bandwidth=10mbit, or leave the option out for no limit",
        )
    return bandwidth
