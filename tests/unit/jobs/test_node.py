"""What is told of the node."""

import asyncio
from datetime import timedelta
from pathlib import Path

from joblet_agent.config import AgentConfig, JobsConfig, LimitsConfig, MaximaConfig
from joblet_agent.jobs.limits import LimitPolicy
from joblet_agent.jobs.node import NodeService
from joblet_agent.jobs.registry import JobRegistry
from joblet_agent.jobs.work_quotas import WorkQuotas
from joblet_agent.model.job import JobId
from joblet_agent.model.resources import Resources
from tests.fakes.host import FakeHost
from tests.fakes.project_quotas import FakeProjectQuotas
from tests.fakes.unit_manager import FakeUnitManager


def test_a_node_tells_its_size_its_jobs_and_every_limit(tmp_path: Path) -> None:
    limits = LimitsConfig(operator=MaximaConfig(max_cpu=150, timeout=timedelta(hours=1)))
    config = AgentConfig(limits=limits)
    host = FakeHost(tmp_path)
    host.write("sys/fs/cgroup/cgroup.controllers", "cpu memory io pids")
    registry = JobRegistry(JobsConfig(max_concurrent=10))
    registry.queue.append(JobId("7f3a0000-0000-4000-8000-000000000001"))
    quotas = FakeProjectQuotas()
    service = NodeService(
        config=config,
        registry=registry,
        units=FakeUnitManager(),
        limits=LimitPolicy(limits, host, disks=()),
        quotas=WorkQuotas(quotas, 1, 10),
    )
    node = asyncio.run(service.describe())
    assert (node.online_cpus, node.running_jobs, node.waiting_jobs) == ("0-3", 0, 1)
    assert (node.slice, node.ceilings) == ("joblet-jobs.slice", {"MemoryMax": "8GiB"})
    assert node.defaults == Resources(max_tasks=4096)
    assert not node.has_workspace_quotas
    quotas.enforced = True
    service = NodeService(
        config=config,
        registry=registry,
        units=FakeUnitManager(),
        limits=LimitPolicy(limits, host, disks=()),
        quotas=WorkQuotas(quotas, 1, 10),
    )
    limited = asyncio.run(service.describe())
    assert (limited.has_workspace_quotas, limited.defaults.work_size) == (True, 20 << 30)
    assert node.maxima == {"admin": Resources(), "operator": Resources(150, timeout=timedelta(hours=1))}
    assert node.unenforced == ("--cpu-cores",)
    assert node.memory > 0
