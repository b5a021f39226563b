"""How ``systemctl reload`` has the agent read its configuration again, and waits until it has.

A signal tells nobody when it is done, and Type=notify-reload needs systemd 253. So the unit's ExecReload=
connects to a socket of the agent's, which is the request, and reads the exit status, which is the answer.
Where the socket is says the unit to both: the configuration may be what changes.
"""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from joblet_agent.errors import HostUnavailable

VARIABLE = "JOBLET_RELOAD_SOCKET"

_WITHIN_SECONDS = 60.0
"""Within TimeoutStartSec= of units/joblet-agent.service, which counts for a reload, too."""
_HINT = "see: systemctl status joblet-agent"


def reload_socket() -> Path | None:
    """Return where the socket is; None for an agent that was not started by its unit."""
    path = os.environ.get(VARIABLE, "")
    return Path(path) if path else None


async def listen(path: Path, reload: Callable[[], Awaitable[int]]) -> asyncio.Server:
    """Answer each connection with the exit status of ``reload``. Only root may connect: see the umask.

    Raises HostUnavailable if there can be no such socket.
    """

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(b"%d\n" % await reload())
        finally:
            writer.close()  # which sends first what was written

    try:
        return await asyncio.start_unix_server(answer, path)
    except OSError as error:
        raise HostUnavailable(
            f"cannot listen on {path}: {error.strerror or error}",
            reason="CANNOT_LISTEN",
            hint=f"the unit of the agent says in Environment={VARIABLE}= where it shall be",
        ) from error


def ask() -> int:
    """Have the running agent reload, and return the exit status of that. Raises HostUnavailable."""
    path = reload_socket()
    if path is None:
        raise HostUnavailable(
            "cannot reload: this is for the agent's unit",
            reason="NOT_IN_UNIT",
            hint="use: systemctl reload joblet-agent",
        )
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_WITHIN_SECONDS)
        try:
            connection.connect(str(path))
            answer = connection.makefile("rb").readline()
        except OSError as error:
            raise HostUnavailable(
                f"cannot reload: {path}: {error.strerror or error}", reason="AGENT_UNREACHABLE", hint=_HINT
            ) from error
    if not answer.endswith(b"\n"):
        raise HostUnavailable(
            "cannot reload: the agent has ended meanwhile", reason="AGENT_UNREACHABLE", hint=_HINT
        )
    return int(answer)
