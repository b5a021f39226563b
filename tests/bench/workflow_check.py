"""Reading and checking a workflow file of 10,000 jobs, beside what YAML alone takes."""

import gc
import time
from collections.abc import Callable
from functools import partial

import yaml

from joblet_agent.workflow_file import load
from tests.bench.agent_service import AgentService
from tests.bench.measures import Bound, Row, median
from tests.bench.workflow_files import SHAPES

_JOBS, _TIMES = 10_000, 5
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def run(_service: AgentService) -> list[Row]:
    """Measure files of each shape; no agent is asked."""
    rows = []
    for shape, make in SHAPES.items():
        text = make(_JOBS)
        taken = _seconds(partial(load, text))
        plain = _seconds(partial(yaml.load, text, Loader=_LOADER))
        title = f"validation of {_JOBS} jobs, {shape}"
        rows += [
            Row("workflow-check", title, taken, "s", Bound(1)),
            Row("workflow-check", f"{title}: against PyYAML alone", taken / plain, "times"),
        ]
    return rows


def _seconds(work: Callable[[], object]) -> float:
    """Return the median time."""
    times = []
    for _ in range(_TIMES):
        gc.collect()
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return median(times)
