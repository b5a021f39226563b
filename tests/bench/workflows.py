"""Workflows against the same jobs started directly, by the same agent in the same run.

The direct half of the jobs runs before the workflow and half of them after it, so that what else the
machine does hits both alike.
"""

import os
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc

from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.pb import joblet_pb2_grpc as stubs
from tests.bench.agent_service import ADDRESS, AgentService
from tests.bench.clients import Client
from tests.bench.measures import Bound, Row, percentile

_JOBS = 1000
_MANY, _WIDTH = 10_000, 100
_WORKFLOWS, _EACH = 200, 5
_LOOK = 0.2

Requires = dict[str, list[str]]


def run(service: AgentService) -> list[Row]:
    """Measure chains, fan-outs, one large workflow and many small ones, of jobs that do nothing."""
    service.start()
    with Client("workflow_client", ADDRESS) as client:
        client.ask("one_by_one", jobs=20)  # not measured
        rows = [*_chain(client), *_fan_out(client), *_many_workflows(client), *_large(client, service)]
    service.clear_jobs()
    return rows


def _chain(client: Client) -> list[Row]:
    requires: Requires = {f"job-{n}": [f"job-{n - 1}"] if n else [] for n in range(_JOBS)}
    direct = client.ask("one_by_one", jobs=_JOBS // 2)
    found = client.ask("workflows", requires=requires, count=1)
    direct += client.ask("one_by_one", jobs=_JOBS // 2)
    times = [found["times"][name] for name in requires]
    gaps = [(after[0] - before[1]) / 1e6 for before, after in pairwise(times)]
    return [
        *_compared(f"chain of {_JOBS}", found["seconds"], direct, _JOBS),
        Row("workflows", "end of a job to start of the next, p50", percentile(gaps, 50), "ms", Bound(20)),
        Row("workflows", "end of a job to start of the next, p95", percentile(gaps, 95), "ms", Bound(20)),
        Row("workflows", "end of a job to start of the next, least", min(gaps), "ms"),
    ]


def _fan_out(client: Client) -> list[Row]:
    requires: Requires = {"first": []} | {f"job-{n}": ["first"] for n in range(1, _JOBS)}
    direct = client.ask("all_at_once", jobs=_JOBS // 2)
    found = client.ask("workflows", requires=requires, count=1)
    direct += client.ask("all_at_once", jobs=_JOBS // 2)
    return _compared(f"fan-out of {_JOBS}", found["seconds"], direct, _JOBS)


def _many_workflows(client: Client) -> list[Row]:
    requires: Requires = {f"job-{n}": [f"job-{n - 1}"] if n else [] for n in range(_EACH)}
    total = _WORKFLOWS * _EACH
    direct = client.ask("all_at_once", jobs=total // 2)
    found = client.ask("workflows", requires=requires, count=_WORKFLOWS)
    direct += client.ask("all_at_once", jobs=total // 2)
    return [
        Row("workflows", f"{_WORKFLOWS} at once, until accepted", found["accepted"], "s"),
        *_compared(f"{_WORKFLOWS} of {_EACH} jobs at once", found["seconds"], direct, total),
    ]


def _large(client: Client, service: AgentService) -> list[Row]:
    """Measure whether the last jobs of many cost as much as the first: the agent's own processor time."""
    requires: Requires = {f"job-{n}": [f"job-{n - _WIDTH}"] if n >= _WIDTH else [] for n in range(_MANY)}
    client.begin("workflows", requires=requires, count=1)
    seen = _progress(service.pid)
    found = client.finish()
    first, last = (_cpu_per_job(seen, *part) for part in ((_JOBS, 2 * _JOBS), (_MANY - _JOBS, _MANY)))
    return [
        Row("workflows", f"one of {_MANY} jobs, until accepted", found["accepted"], "s"),
        Row("workflows", f"one of {_MANY} jobs, per job", found["seconds"] * 1e3 / _MANY, "ms"),
        Row("workflows", f"agent's processor time per job, the second {_JOBS}", first, "ms"),
        Row("workflows", f"agent's processor time per job, the last {_JOBS}", last, "ms"),
        Row("workflows", "last : second", last / first, "x", Bound(1.2)),
    ]


def _progress(pid: int) -> list[tuple[int, float]]:
    """Return how many jobs had completed, and the processor time of the agent in ms, until all have."""
    seen: list[tuple[int, float]] = []
    with grpc.insecure_channel(ADDRESS, [("grpc.default_authority", "localhost")]) as channel:
        jobs: Any = stubs.JobServiceStub(channel)  # type: ignore[no-untyped-call]
        while not seen or seen[-1][0] < _MANY:
            listed = jobs.ListWorkflows(pb.ListWorkflowsRequest(include_completed=True), wait_for_ready=True)
            if listed.workflows:
                seen.append((listed.workflows[0].completed_jobs, _cpu_ms(pid)))
            time.sleep(_LOOK)
    return seen


def _cpu_ms(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1e3 / os.sysconf("SC_CLK_TCK")


def _cpu_per_job(seen: list[tuple[int, float]], begin: int, end: int) -> float:
    (first, cpu), (last, later) = (next(each for each in seen if each[0] >= count) for count in (begin, end))
    return (later - cpu) / (last - first)


def _compared(what: str, ours: float, direct: float, jobs: int) -> list[Row]:
    return [
        Row("workflows", f"{what}, per job", ours * 1e3 / jobs, "ms"),
        Row("workflows", f"{what}, per job, started directly", direct * 1e3 / jobs, "ms"),
        Row("workflows", f"{what}, workflow : direct", ours / direct, "x"),
        Row("workflows", f"{what}, overhead per job", (ours - direct) * 1e3 / jobs, "ms"),
    ]
