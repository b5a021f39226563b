"""Values of GPUs: what the host has, and what of it a job holds."""

from dataclasses import dataclass
from typing import Final

__all__ = ["LIBRARIES", "GpuDriver", "GpuNode", "HeldGpus"]

LIBRARIES: Final = "/usr/local/nvidia/lib"
"""Where a job with a runtime finds the driver's libraries; every tree has the directory."""


@dataclass(frozen=True, slots=True)
class GpuNode:
    """A device node, and as what a job sees it."""

    host: str
    target: str


@dataclass(frozen=True, slots=True)
class GpuDriver:
    """The GPUs of the host, with what of their driver jobs need: it must be that of the host's kernel."""

    source: str
    """Where this is from: a CDI file, or ``search``."""
    gpus: tuple[tuple[int, tuple[GpuNode, ...]], ...]
    """Each GPU by its index, with nodes of its own."""
    shared: tuple[GpuNode, ...]
    """Nodes that every job with a GPU needs."""
    libraries: tuple[tuple[str, str], ...]
    """Files of the host, each with a name that programs look for; a file may have several."""


@dataclass(frozen=True, slots=True)
class HeldGpus:
    """The GPUs of a job, from its start until its unit is gone: nobody else has them."""

    indices: tuple[int, ...]
    nodes: tuple[GpuNode, ...]
    libraries: tuple[tuple[str, str], ...] = ()
