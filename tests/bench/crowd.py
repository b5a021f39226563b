"""Many running jobs, and what the API says of them."""

import time
from typing import Any

import grpc

from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.pb import joblet_pb2_grpc as stubs
from tests.bench.agent_service import ADDRESS
from tests.bench.commands import FOR_LONG
from tests.bench.turns import agent_client

CROWD = 500
_WORKERS = 16
_DEADLINE = 60.0
# A client that looks for the agent as soon as it may be back.
_OPTIONS = [
    ("grpc.default_authority", "localhost"),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 100),
]


def start_crowd() -> None:
    """Start 500 jobs that sleep; the agent must run."""
    with agent_client() as client:
        client.ask("submit", command=FOR_LONG, jobs=CROWD, workers=_WORKERS)


def wait_for_crowd() -> None:
    """Return once the API answers that all 500 run; each try is a connection of its own."""
    until = time.monotonic() + _DEADLINE
    while time.monotonic() < until:
        if _running() == CROWD:
            return
    raise SystemExit(f"bench: not all of {CROWD} jobs run after {_DEADLINE:.0f} s")


def _running() -> int:
    wanted = pb.QueryJobsRequest(states=["RUNNING"], page_size=2 * CROWD)
    with grpc.insecure_channel(ADDRESS, _OPTIONS) as channel:
        agent: Any = stubs.AgentServiceStub(channel)  # type: ignore[no-untyped-call]
        try:
            return len(agent.QueryJobs(wanted, wait_for_ready=True, timeout=_DEADLINE).jobs)
        except grpc.RpcError:  # killed in the middle of the call
            return 0
