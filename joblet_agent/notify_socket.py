"""One datagram for systemd's manager (sd_notify(3)), without a library."""

import socket


def send(state: bytes, address: str, *, flags: int = 0) -> None:
    """Send a state to a notification socket (``NOTIFY_SOCKET``). Raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(state, flags, f"\0{address[1:]}" if address.startswith("@") else address)
