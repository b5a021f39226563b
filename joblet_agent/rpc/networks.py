"""Networks on the wire."""

from collections.abc import Sequence

from joblet_agent.errors import WrongState
from joblet_agent.model.network import Member, NetworkSpec, NetworkView
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.convert import rfc3339
from joblet_agent.rpc.handlers import Context
from joblet_agent.rpc.ports import addresses_to_proto, bandwidth_from_proto, port_to_proto
from joblet_agent.rpc.services import Networks
from joblet_agent.rpc.visibility import owner


class NetworkServicer:
    """The methods of NetworkService."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks

    async def CreateNetwork(
        self, request: pb.CreateNetworkRequest, context: Context
    ) -> pb.CreateNetworkResponse:
        """Make a network."""
        network = await self._networks.create(spec_from_proto(request))
        return pb.CreateNetworkResponse(name=network.name, cidr=str(network.range4), bridge=network.bridge)

    async def ListNetworks(self, request: pb.EmptyRequest, context: Context) -> pb.Networks:
        """Return all networks."""
        return pb.Networks(networks=[network_to_proto(view) for view in self._networks.all()])

    async def RemoveNetwork(
        self, request: pb.RemoveNetworkRequest, context: Context
    ) -> pb.RemoveNetworkResponse:
        """Remove a network. One that is in use is no error on the wire."""
        try:
            await self._networks.remove(request.name)
        except WrongState as error:
            return pb.RemoveNetworkResponse(
                success=False, message=f"cannot remove network: {error}; {error.hint}"
            )
        return pb.RemoveNetworkResponse(success=True, message=f"network {request.name} removed")


class NetworkDetails:
    """The method of AgentService that is about networks."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks

    async def GetNetworks(self, request: pb.GetNetworksRequest, context: Context) -> pb.GetNetworksResponse:
        """Return networks with the jobs on them."""
        views = [self._networks.get(request.name)] if request.name else self._networks.all()
        return pb.GetNetworksResponse(
            networks=[network_to_proto(view, members=_visible(view)) for view in views]
        )


def spec_from_proto(request: pb.CreateNetworkRequest) -> NetworkSpec:
    """Return what the request asks for."""
    return NetworkSpec(
        name=request.name,
        cidr=request.cidr,
        cidr6=request.cidr6,
        is_internal=request.internal,
        mtu=request.mtu,
        dns=tuple(request.dns),
        bandwidth=bandwidth_from_proto(request.bandwidth, "cannot create network"),
    )


def network_to_proto(view: NetworkView, members: Sequence[Member] = ()) -> pb.Network:
    """Return a network, with these of its jobs."""
    told = pb.Network(
        name=view.name,
        job_count=len(_visible(view)),
        builtin=view.network is None or view.network.is_builtin,
        members=[_member_to_proto(member) for member in members],
    )
    if (network := view.network) is not None:
        told.cidr, told.cidr6, told.bridge = str(network.range4), str(network.range6), network.bridge
        told.internal, told.isolated = network.is_internal, network.is_isolated
        told.mtu, told.bandwidth = network.mtu, network.bandwidth
        told.dns.extend(str(address) for address in network.dns)
        told.created_time = rfc3339(network.created_at, timespec="microseconds")
    return told


def _visible(view: NetworkView) -> list[Member]:
    """Return the jobs that the caller may know of."""
    return [member for member in view.members if owner() in {"", member.started_by}]


def _member_to_proto(member: Member) -> pb.NetworkMember:
    attachment = member.attachment
    return pb.NetworkMember(
        job_uuid=member.job_id,
        job_name=member.name,
        addresses=addresses_to_proto(attachment),
        ports=map(port_to_proto, attachment.ports) if attachment else (),
        bandwidth=attachment.bandwidth if attachment else 0,
    )
