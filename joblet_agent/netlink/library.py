"""Of pyroute2 what is used, without the rest: its own __init__ imports a database, DHCP and more: 10 MB."""

import sys
from importlib.util import find_spec
from types import ModuleType

_package = find_spec("pyroute2")
if _package is None:
    raise ModuleNotFoundError("cannot do network work: the Python module pyroute2 is missing")
_bare = sys.modules.setdefault("pyroute2", ModuleType("pyroute2"))
_bare.__path__ = list(_package.submodule_search_locations or ())

from pyroute2.iproute.linux import IPRoute  # noqa: E402 - it has to find the bare package
from pyroute2.netlink.exceptions import NetlinkDumpInterrupted, NetlinkError  # noqa: E402

__all__ = ["IPRoute", "NetlinkDumpInterrupted", "NetlinkError"]
