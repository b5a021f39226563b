"""``rnx --version``: ours, and the agent's when it answers at once."""

import platform

from rnx import __version__
from rnx.context import Settings
from rnx.exits import RnxError
from rnx.output import clean, show


def show_versions(settings: Settings) -> None:
    """Print the versions; an agent that cannot be asked is left out."""
    data: dict[str, dict[str, str]] = {
        "rnx": {
            "version": f"v{__version__}",
            "python_version": platform.python_version(),
            "platform": _platform(),
        }
    }
    agent = _agent_version(settings)
    if agent:
        data["joblet"] = {"version": agent}
    show(
        settings.form,
        data,
        lambda: "\n".join(f"{name} {clean(each['version'])}" for name, each in data.items()),
    )


def _platform() -> str:
    return f"{platform.system().lower()}/{platform.machine()}"


def _agent_version(settings: Settings) -> str:
    try:
        with settings.connect() as client:
            from rnx.client import VERSION, pb  # noqa: PLC0415

            reply = client.call(client.monitoring.GetSystemStatus, pb.EmptyRequest(), VERSION)
    except RnxError:
        return ""
    return str(reply.server_version.version)
