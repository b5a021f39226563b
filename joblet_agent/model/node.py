"""The host as far as jobs are concerned."""

from collections.abc import Mapping
from dataclasses import dataclass

from joblet_agent.model.resources import Resources


@dataclass(frozen=True, slots=True)
class Node:
    """What the host has, and what all jobs together and single jobs may use of it."""

    host_name: str
    online_cpus: str
    memory: int
    """Bytes."""
    running_jobs: int
    """Jobs that hold a unit."""
    waiting_jobs: int
    max_concurrent: int
    max_waiting: int
    slice: str
    """systemd unit that all jobs are in."""
    ceilings: Mapping[str, str]
    """Limits on all jobs together, by systemd's name."""
    defaults: Resources
    """What a job gets that asks for nothing."""
    maxima: Mapping[str, Resources]
    """The most that a job may ask for, by role."""
    unenforced: tuple[str, ...]
    """Options whose limits this host cannot enforce."""
    has_workspace_quotas: bool = False
    """Workspaces on disk are held to their size."""
