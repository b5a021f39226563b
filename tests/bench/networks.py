"""Jobs on the network ``bridge`` against jobs without one; networks made and removed; what idles for them."""

import subprocess
import time
from collections.abc import Sequence

from tests.bench.agent_service import AgentService
from tests.bench.measures import Bound, Row, median, percentile
from tests.bench.processes import activity, memory
from tests.bench.turns import agent_client

_JOBS = 120
_BATCHES, _PARALLEL = 12, 24
_NETWORKS = 40
_SECONDS = 30
_MB = 1e6
_NAME_SERVER = "joblet-dns@bridge.service"
_PROCESSES = {"network service": "joblet-networks.service", "name server of a network": _NAME_SERVER}


def run(service: AgentService) -> list[Row]:
    """Measure with one agent, each job without a network next to one with it.

    From before RunJob is sent to the job's first instruction. Of jobs in parallel all have a network,
    or none, in turns.
    """
    service.start()
    with agent_client() as client:
        alone = client.ask("starts_on", networks=["none", "bridge"], jobs=_JOBS, parallel=1)
        beside = client.ask("starts_on", networks=["none", "bridge"], jobs=_BATCHES, parallel=_PARALLEL)
        made, removed = client.ask("networks", count=_NETWORKS)
        idle = _idle()
    service.clear_jobs()
    return [
        *_starts("one after the other", *alone),
        *_starts(f"{_PARALLEL} in parallel", *beside),
        *_calls("create", made),
        *_calls("remove", removed),
        *idle,
    ]


def _starts(how: str, without: Sequence[float], with_one: Sequence[float]) -> list[Row]:
    rows = []
    for rank in (50, 95):
        plain, networked = percentile(without, rank), percentile(with_one, rank)
        rows += [
            Row("networks", f"first instruction, {how}, none, p{rank}", plain, "ms"),
            Row("networks", f"first instruction, {how}, bridge, p{rank}", networked, "ms"),
            Row("networks", f"bridge : none, {how}, p{rank}", networked / plain, "x", Bound(1.5)),
        ]
    return rows


def _calls(name: str, taken: Sequence[float]) -> list[Row]:
    return [
        Row("networks", f"network {name}, p50", median(taken), "ms", Bound(100)),
        Row("networks", f"network {name}, most", max(taken), "ms"),
    ]


def _idle() -> list[Row]:
    """Look at what runs for networks beside the agent; a name server stays for a minute."""
    pids = {what: _pid(unit) for what, unit in _PROCESSES.items()}
    before = {what: activity(pid) for what, pid in pids.items()}
    time.sleep(_SECONDS)
    rows = []
    for what, pid in pids.items():
        now = memory(pid)
        after = activity(pid)
        spent = (after.cpu_seconds - before[what].cpu_seconds) * 1e3
        rows += [
            Row("networks", f"{what}, RSS", now.rss / _MB, "MB"),
            Row("networks", f"{what}, PSS", now.pss / _MB, "MB"),
            Row("networks", f"{what}, processor time in {_SECONDS} s idle", spent, "ms"),
            Row(
                "networks",
                f"{what}, wake-ups in {_SECONDS} s idle",
                (after.wake_ups - before[what].wake_ups).total(),
                "",
            ),
        ]
    return rows


def _pid(unit: str) -> int:
    words = ["systemctl", "show", "--property=MainPID", "--value", unit]
    return int(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout)
