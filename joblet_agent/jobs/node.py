"""What the node has, and what jobs may use of it, told to people."""

import os
from dataclasses import asdict, replace

from joblet_agent.config import AgentConfig, MaximaConfig
from joblet_agent.cpu_list import format_cpu_list
from joblet_agent.jobs.limits import LimitPolicy
from joblet_agent.jobs.registry import JobRegistry
from joblet_agent.jobs.work_quotas import WorkQuotas
from joblet_agent.model.identity import Role
from joblet_agent.model.node import Node
from joblet_agent.model.resources import Resources
from joblet_agent.ports import UnitManager


class NodeService:
    """Describes this node."""

    def __init__(
        self,
        *,
        config: AgentConfig,
        registry: JobRegistry,
        units: UnitManager,
        limits: LimitPolicy,
        quotas: WorkQuotas,
    ) -> None:
        self._config = config
        self._registry = registry
        self._units = units
        self._limits = limits
        self._quotas = quotas

    async def describe(self) -> Node:
        """Return what is true now. Raises HostUnavailable if systemd does not answer."""
        jobs, limits = self._config.jobs, self._config.limits
        waiting = len(self._registry.queue)
        return Node(
            host_name=os.uname().nodename,
            online_cpus=format_cpu_list(self._limits.online_cpus()),
            memory=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
            running_jobs=self._registry.unfinished - waiting,
            waiting_jobs=waiting,
            max_concurrent=jobs.max_concurrent,
            max_waiting=jobs.max_waiting,
            slice=self._units.slice_name,
            ceilings=await self._units.ceilings(),
            defaults=self._defaults(),
            maxima={
                Role.ADMIN.value: _resources(limits.admin),
                Role.OPERATOR.value: _resources(limits.operator),
            },
            unenforced=self._limits.unenforced(),
            has_workspace_quotas=self._quotas.are_enforced,
        )

    def _defaults(self) -> Resources:
        """Return what a job gets here: without quotas the size of its workspace has no default."""
        configured = _resources(self._config.limits.default)
        return configured if self._quotas.are_enforced else replace(configured, work_size=0)


def _resources(configured: MaximaConfig) -> Resources:
    return Resources(**asdict(configured))
