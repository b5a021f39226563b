"""The network service as a program: its socket comes from systemd, its end too."""

import asyncio
import logging
import os
import signal
import socket
import sys

from nftables import Nftables

from joblet_agent import notify_socket
from joblet_agent.netlink.kernel import Kernel
from joblet_agent.netlink.nftables import NftablesFirewall
from joblet_agent.netlink.rule_monitor import RuleMonitor
from joblet_agent.netlink.service import NetworkService

_FIRST_PASSED = 3  # SD_LISTEN_FDS_START of sd_listen_fds(3)


def main() -> None:
    """Serve until SIGTERM. Exit status: 0 stopped, 1 without a socket of systemd."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    listener = _passed_socket()
    if listener is None:
        sys.exit(
            "joblet-networks: not started by joblet-networks.socket; systemctl start joblet-networks.socket"
        )
    with listener:
        asyncio.run(_serve(listener))


def _passed_socket() -> socket.socket | None:
    """Return the one socket that systemd passes (sd_listen_fds(3))."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        return None
    os.set_inheritable(_FIRST_PASSED, False)
    return socket.socket(fileno=_FIRST_PASSED)


async def _serve(listener: socket.socket) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    listener.setblocking(False)
    await NetworkService(Kernel(NftablesFirewall(Nftables(), RuleMonitor()))).serve(
        listener, stop, _tell_ready
    )


def _tell_ready() -> None:
    if address := os.environ.get("NOTIFY_SOCKET", ""):
        notify_socket.send(b"READY=1", address)


if __name__ == "__main__":
    main()
