"""Imports that wait until somebody uses the module.

gRPC and protobuf import much that a client never touches: asyncio and ``grpc.aio`` alone are 40 of the 105 ms
that ``import grpc`` takes (Debian 13, median). The modules named here get a place in ``sys.modules`` at once
and are loaded when the first attribute is read, by importlib's own LazyLoader, so that whoever does need one
finds the real thing.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType

UNUSED_BY_A_CLIENT = frozenset(
    {
        "asyncio",  # cygrpc: the server and client on event loops
        "grpc.aio",  # grpc/__init__.py, the same
        "calendar",  # protobuf: well-known types
        "pkgutil",  # cygrpc: the built-in root certificates
        "socket",  # cygrpc: poller of the event loops
        "textwrap",  # traceback
    }
)


class _Finder:
    """Finds the named modules where they are, and puts off their loading."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Answer the import system (importlib.abc.MetaPathFinder)."""
        if name not in UNUSED_BY_A_CLIENT:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = LazyLoader(spec.loader)
        return spec


@contextmanager
def lazy_imports() -> Iterator[None]:
    """Put off the loading of UNUSED_BY_A_CLIENT for the imports made inside."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
