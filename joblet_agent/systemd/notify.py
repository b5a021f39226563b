"""What the agent tells systemd about itself: sd_notify(3), and the watchdog's keep-alive.

Without NOTIFY_SOCKET (started by hand, in a test) or without pystemd all of it does nothing.
"""

import asyncio
import logging
import os
import socket
import sys
import time
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from joblet_agent import notify_socket

_USEC_PER_SECOND = 1_000_000

_log = logging.getLogger(__name__)


class Notifier:
    """Tells the service manager. Owned by one who calls ``close``."""

    def __init__(self) -> None:
        self._daemon = _load_daemon()
        self._watchdog: asyncio.Task[None] | None = None

    def ready(self, status: str) -> None:
        """Say that requests are served; systemd goes on with what waits for the agent."""
        self._notify("READY=1", f"STATUS={_one_line(status)}")

    def reloading(self) -> None:
        """Say that the configuration is read again; ``ready`` ends it."""
        self._notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that the agent is going."""
        self._notify("STOPPING=1")

    def status(self, text: str) -> None:
        """Set the line that ``systemctl status`` shows."""
        self._notify(f"STATUS={_one_line(text)}")

    def start_watchdog(self) -> None:
        """Keep systemd's watchdog quiet for as long as the event loop turns."""
        usec = self._daemon.watchdog_enabled(False) if self._daemon is not None else 0
        if usec > 0 and self._watchdog is None:
            period = usec / _USEC_PER_SECOND / 2  # sd_watchdog_enabled(3) recommends half
            self._watchdog = asyncio.create_task(self._keep_alive(period), name="watchdog")

    async def close(self) -> None:
        """End the watchdog task."""
        if self._watchdog is not None:
            self._watchdog.cancel()
            await asyncio.gather(self._watchdog, return_exceptions=True)
            self._watchdog = None

    async def _keep_alive(self, period: float) -> None:
        while True:
            self._notify("WATCHDOG=1")
            await asyncio.sleep(period)

    def _notify(self, *states: str) -> None:
        if self._daemon is not None:
            self._daemon.notify(False, *states)


def wake_systemd() -> None:
    """Let systemd's event loop turn once: its manager reads a keep-alive of whoever it may be."""
    address = os.environ.get("NOTIFY_SOCKET", "/run/systemd/notify")
    with suppress(OSError):
        notify_socket.send(b"WATCHDOG=1", address, flags=socket.MSG_DONTWAIT)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _load_daemon() -> ModuleType | None:
    if "NOTIFY_SOCKET" not in os.environ:
        return None
    package = find_spec("pystemd")
    if package is None:
        _log.warning("cannot tell systemd that the agent is ready: the Python module pystemd is missing")
        return None
    # The package's own __init__ imports lxml for its D-Bus part: 5 MB that sd_notify has no use for.
    bare = sys.modules.setdefault("pystemd", ModuleType("pystemd"))
    bare.__path__ = list(package.submodule_search_locations or ())
    return import_module("pystemd.daemon")
