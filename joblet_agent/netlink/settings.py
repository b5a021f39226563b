"""Kernel settings of networks (sysctl(8)), in the namespace of the calling thread."""

from contextlib import suppress
from pathlib import Path

_NET = Path("/proc/sys/net")
_ROUTER_ADVERTISEMENTS_ALWAYS = "2"


def has_ipv6() -> bool:
    """Say whether the kernel was started with IPv6."""
    return (_NET / "ipv6").is_dir()


def prepare_job() -> None:
    """Let a new namespace be as jobs expect it, before a link comes into it.

    Ports below 1024 and ping need no privileges, which jobs do not have; addresses and routes are the
    agent's alone, and are usable at once.
    """
    _write("ipv4/ip_unprivileged_port_start", "0")
    _write("ipv4/ping_group_range", "0 2147483647")
    if has_ipv6():
        for name, value in (
            ("accept_ra", "0"),
            ("autoconf", "0"),
            ("accept_dad", "0"),
            ("addr_gen_mode", "1"),
        ):
            _write(f"ipv6/conf/default/{name}", value)
            _write(f"ipv6/conf/all/{name}", value)


def prepare_bridge(name: str) -> None:
    """Let the host forward from and to the bridge, and listen to nothing that jobs say about routes.

    addr_gen_mode: a link-local address, from which the host asks for the neighbours of what it forwards.
    route_localnet: what jobs answer to the host's own connections to published ports goes to 127.0.0.1.
    """
    for setting, value in (("forwarding", "1"), ("route_localnet", "1"), ("accept_redirects", "0")):
        _write(f"ipv4/conf/{name}/{setting}", value)
    if has_ipv6():
        for setting, value in (
            ("disable_ipv6", "0"),
            ("accept_ra", "0"),
            ("autoconf", "0"),
            ("accept_dad", "0"),
            ("accept_redirects", "0"),
            ("addr_gen_mode", "0"),
        ):
            _write(f"ipv6/conf/{name}/{setting}", value)


def forward() -> None:
    """Let the host forward; interfaces that got their routes from advertisements go on to get them."""
    _write("ipv4/ip_forward", "1")
    if has_ipv6() and _read("ipv6/conf/all/forwarding") != "1":
        for directory in (_NET / "ipv6/conf").iterdir():
            with suppress(FileNotFoundError):  # an interface that went meanwhile
                if _read(f"ipv6/conf/{directory.name}/accept_ra") == "1":
                    _write(f"ipv6/conf/{directory.name}/accept_ra", _ROUTER_ADVERTISEMENTS_ALWAYS)
        _write("ipv6/conf/all/forwarding", "1")


def _read(name: str) -> str:
    return (_NET / name).read_text(encoding="ascii").strip()


def _write(name: str, value: str) -> None:
    """Write only what is otherwise: some settings reset others when they are written."""
    if _read(name).split() != value.split():
        (_NET / name).write_text(value, encoding="ascii")
