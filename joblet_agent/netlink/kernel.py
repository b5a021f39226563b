"""All that is wanted in the kernel, and how it comes there. Blocking; for one thread.

Rules come before what they are about, and go after it: nothing of a network ever works without them.
"""

import errno
import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from joblet_agent.errors import HostUnavailable, InvalidRequest, JobletError, LimitReached, NotFound
from joblet_agent.model.job import JobId
from joblet_agent.model.network import Attachment, Network
from joblet_agent.netlink import namespaces, wiring
from joblet_agent.netlink.bridges import make_bridge
from joblet_agent.netlink.firewall import Firewall
from joblet_agent.netlink.links import Link, Links
from joblet_agent.netlink.names import (
    host_end,
    is_bridge,
    is_host_end,
    is_mirror,
    mirror_name,
    namespace_path,
)
from joblet_agent.netlink.published import HeldPorts
from joblet_agent.netlink.spares import Spares
from joblet_agent.netlink.sweeper import Sweeper

_BRIDGE_PORTS = 1023  # of the kernel: BR_MAX_PORTS, without port 0
_HINT = "see: journalctl -u joblet-networks"

_log = logging.getLogger(__name__)


class Kernel:
    """The networks and attachments of this host, between ``open`` and ``close``. Errors are JobletError."""

    def __init__(self, firewall: Firewall) -> None:
        self.firewall = firewall
        self.is_told = False
        self._networks: dict[str, Network] = {}
        self._attachments: dict[JobId, Attachment] = {}
        self._ports = HeldPorts()
        self._spares = Spares()
        self._sweeper = Sweeper()
        self._opened = ExitStack()
        self._links: Links

    def open(self) -> None:
        """Get ready for work, in the thread that does it."""
        with _kernel_words("prepare network work"):
            namespaces.prepare_directory()
            self._opened.callback(self.firewall.close)
            self._opened.callback(self._ports.close)
            self._links = self._opened.enter_context(Links())
            self._sweeper.open()
            self._opened.callback(self._sweeper.close)
            self._spares.open()
            self._opened.callback(self._spares.close)

    def close(self) -> None:
        """Close what is open; what is in the kernel stays."""
        self._opened.close()

    def apply(self, networks: Sequence[Network], attachments: Sequence[Attachment]) -> Mapping[JobId, str]:
        """See ports.NetworkBackend."""
        self.is_told = False
        self._networks = {network.name: network for network in networks}
        self._attachments = {attachment.job_id: attachment for attachment in attachments}
        reasons = dict(self._ports.hold_exactly(attachments))
        self._apply_rules()
        with _kernel_words("remove what is left of networks"):
            self._remove_others()
        failed = self._make_bridges()
        for attachment in attachments:
            try:
                if attachment.network in failed:
                    raise failed[attachment.network]
                self._repair(attachment)
            except JobletError as error:
                reasons.setdefault(attachment.job_id, str(error))
        self.is_told = True
        return reasons

    def create(self, network: Network) -> None:
        """See ports.NetworkBackend."""
        self._must_be_told()
        if any(
            other.bridge == network.bridge for other in self._networks.values() if other.name != network.name
        ):
            raise InvalidRequest(
                f"cannot create network {network.name}: another network has its bridge {network.bridge}",
                reason="BRIDGE_TAKEN",
                hint="choose another name",
            )
        before = self._networks.get(network.name)
        self._networks[network.name] = network
        try:
            self._apply_rules()
            self._make_bridge(network)
        except JobletError:
            if before is None:
                self.remove(network)
            raise

    def remove(self, network: Network) -> None:
        """See ports.NetworkBackend."""
        self._must_be_told()
        with _kernel_words(f"remove network {network.name}"):
            link = self._links.find(network.bridge)
            names = [mirror_name(network.bridge)]
            if link is not None and _is_our_bridge(link):
                names.append(network.bridge)
            for gone in [self._sweeper.sweep(name) for name in names]:
                gone.result()
        self._networks.pop(network.name, None)
        self._apply_rules()

    def attach(self, attachment: Attachment) -> Path:
        """See ports.NetworkBackend."""
        self._must_be_told()
        job_id = attachment.job_id
        self._network_of(attachment)
        if self._attachments.get(job_id) == attachment:
            with self._named(job_id) as namespace:
                if namespace is not None:
                    self._repair(attachment)
                    return namespace_path(job_id)
        self._remove_left(job_id)
        try:
            self._ports.hold(attachment)
            self._attachments[job_id] = attachment
            if attachment.ports:
                self._apply_rules()
            self._connect(attachment)
        except JobletError:
            self.detach(job_id)
            raise
        return namespace_path(job_id)

    def detach(self, job_id: JobId) -> Future[None]:
        """See ports.NetworkBackend; the result comes when everything is gone."""
        self._must_be_told()
        with _kernel_words(f"detach job {job_id}"):
            namespaces.take_name(namespace_path(job_id))
        gone = self._sweeper.sweep(host_end(job_id))
        attachment = self._attachments.pop(job_id, None)
        if attachment is not None and attachment.ports:
            self._apply_rules()
        self._ports.release(job_id)
        return gone

    def occupied(self) -> Sequence[IPv4Network | IPv6Network]:
        """See ports.NetworkBackend."""
        with _kernel_words("look at the host's addresses and routes"):
            ours = [link.index for link in self._links.all().values() if _is_our_bridge(link)]
            return self._links.ranges(ours)

    def repair_rules(self) -> bool:
        """Put the rules back if somebody changed them; return whether that was so."""
        was_changed = self.firewall.was_changed()
        if not was_changed or not self.is_told:
            return False
        self._apply_rules()
        return True

    def _apply_rules(self) -> None:
        self.firewall.apply(tuple(self._networks.values()), tuple(self._attachments.values()))

    def _remove_others(self) -> None:
        """Remove what is ours and not wanted."""
        for job_id, path in namespaces.named():
            if job_id not in self._attachments:
                namespaces.take_name(path)
        bridges = {network.bridge for network in self._networks.values()}
        wanted = bridges | {host_end(job_id) for job_id in self._attachments}
        wanted |= {mirror_name(network.bridge) for network in self._networks.values() if network.bandwidth}
        others = [
            link.name for link in self._links.all().values() if _is_ours(link) and link.name not in wanted
        ]
        for gone in [self._sweeper.sweep(name) for name in others]:
            gone.result()

    def _make_bridges(self) -> dict[str, JobletError]:
        """Let all bridges be there; return what failed, by network: the others shall not suffer for it."""
        failed = {}
        for network in self._networks.values():
            try:
                self._make_bridge(network)
            except JobletError as error:
                _log.error("%s", error)
                failed[network.name] = error
        return failed

    def _make_bridge(self, network: Network) -> None:
        with _kernel_words(f"make the bridge of network {network.name}"):
            make_bridge(self._links, network)

    def _connect(self, attachment: Attachment) -> None:
        network = self._network_of(attachment)
        with _kernel_words(f"attach job {attachment.job_id} to network {network.name}"):
            self._sweeper.finish([host_end(attachment.job_id)])
            bridge = self._bridge(network)
            spare = self._spares.take()
            try:
                namespaces.give_name(spare.namespace, namespace_path(attachment.job_id))
                wiring.connect(self._links, spare, attachment, network, bridge)
            finally:
                spare.close()
                self._spares.fill()

    def _repair(self, attachment: Attachment) -> None:
        network = self._network_of(attachment)
        what = f"repair the network of job {attachment.job_id}"
        with self._named(attachment.job_id) as namespace, _kernel_words(what):
            if namespace is None:
                raise NotFound(f"cannot {what}: its namespace is gone", reason="NAMESPACE_GONE")
            with namespaces.inside(namespace):
                inside = Links()
            with inside:
                bridge = self._bridge(network)
                wiring.repair(self._links, namespace, inside, attachment, network, bridge)

    def _remove_left(self, job_id: JobId) -> None:
        """Remove what an attempt left that was not ended."""
        path = namespace_path(job_id)
        if os.path.lexists(path):
            with _kernel_words(f"detach job {job_id}"):
                namespaces.take_name(path)
            self._sweeper.sweep(host_end(job_id)).result()

    @contextmanager
    def _named(self, job_id: JobId) -> Iterator[int | None]:
        """Yield a descriptor of the job's namespace, None if there is none."""
        with _kernel_words(f"look for the network of job {job_id}"):
            namespace = namespaces.open_named(namespace_path(job_id))
        try:
            yield namespace
        finally:
            if namespace is not None:
                os.close(namespace)

    def _bridge(self, network: Network) -> int:
        """Return the index of the bridge, which is made if somebody removed it."""
        try:
            return socket.if_nametoindex(network.bridge)
        except OSError:
            make_bridge(self._links, network)
            return socket.if_nametoindex(network.bridge)

    def _network_of(self, attachment: Attachment) -> Network:
        network = self._networks.get(attachment.network)
        if network is None:
            raise NotFound(
                f"cannot attach job {attachment.job_id}: no network {attachment.network}",
                reason="NETWORK_NOT_FOUND",
            )
        return network

    def _must_be_told(self) -> None:
        if not self.is_told:
            raise HostUnavailable(
                "cannot change networks: the network service does not know yet what is wanted",
                reason="NETWORKS_NOT_READY",
                hint="it was just started; try again",
            )


def _is_our_bridge(link: Link) -> bool:
    return link.kind == "bridge" and is_bridge(link.name)


def _is_ours(link: Link) -> bool:
    is_end = link.kind == "veth" and is_host_end(link.name)
    return is_end or _is_our_bridge(link) or (link.kind == "ifb" and is_mirror(link.name))


@contextmanager
def _kernel_words(what: str) -> Iterator[None]:
    """Let what the kernel refuses leave as an error of ours."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EXFULL:
            raise LimitReached(
                f"cannot {what}: it has {_BRIDGE_PORTS} jobs, as many as a bridge of the kernel takes",
                reason="NETWORK_FULL",
                hint="make another network: rnx network create",
            ) from error
        raise HostUnavailable(
            f"cannot {what}: {error.strerror or error}", reason="NETWORK_REFUSED", hint=_HINT
        ) from error
