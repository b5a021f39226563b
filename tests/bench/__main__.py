"""``python3 -m tests.bench [--only NAME …] [--out DIR]``: as root, on a host with the agent installed.

Prints a table and, with --out, writes bench.json and, for the documentation, bench.md. A bound that is
not reached is marked and fails nothing. Afterwards the agent is as it was: it was
measured with a state of the benchmark's own.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.bench import (
    command_line,
    door,
    follow,
    idle,
    memory,
    metrics,
    networks,
    output,
    restart,
    runtime_archives,
    runtime_start,
    runtime_store,
    sandbox,
    start,
    store,
    submissions,
    throughput,
    workflow_check,
    workflows,
)
from tests.bench.agent_service import AgentService, borrowed_service
from tests.bench.measures import Row, as_json, markdown, table

_BENCHMARKS: dict[str, Callable[[AgentService], list[Row]]] = {
    "start": start.run,
    "throughput": throughput.run,
    "command-line": command_line.run,
    "submissions": submissions.run,
    "output": output.run,
    "follow": follow.run,
    "memory": memory.run,
    "metrics": metrics.run,
    "idle": idle.run,
    "restart": restart.run,
    "store": store.run,
    "sandbox": sandbox.run,
    "door": door.run,
    "runtime-store": runtime_store.run,
    "networks": networks.run,
    "runtime-archives": runtime_archives.run,
    "runtime-start": runtime_start.run,
    "workflow-check": workflow_check.run,
    "workflows": workflows.run,
}


def main() -> None:
    """Run the benchmarks that were asked for, one after the other."""
    options = _parser().parse_args()
    machine = _machine()
    rows: list[Row] = []
    with borrowed_service() as service:
        for name in options.only or _BENCHMARKS:
            print(f"bench: {name}", file=sys.stderr, flush=True)
            measured = _BENCHMARKS[name](service)
            print(table(measured), file=sys.stderr, flush=True)
            rows += measured
    machine |= {"load after": _load()}
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    print(table(rows))
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "bench.json").write_text(as_json(machine, rows), encoding="utf-8")
        (options.out / "bench.md").write_text(markdown(rows), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests.bench", description="Measure the installed agent.")
    parser.add_argument("--only", nargs="+", choices=_BENCHMARKS, metavar="NAME", help=", ".join(_BENCHMARKS))
    parser.add_argument(
        "--out", "--output", type=Path, metavar="DIR", help="write bench.json and bench.md there"
    )
    return parser


def _machine() -> dict[str, str]:
    """Say in general terms what was measured on."""
    systemd = subprocess.run(["systemctl", "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout
    container = subprocess.run(["systemd-detect-virt"], check=False, stdout=subprocess.PIPE, text=True).stdout
    return {
        "systemd": systemd.split()[1],
        "python": sys.version.split()[0],
        "kernel": os.uname().release,
        "cores": str(os.cpu_count()),
        "load before": _load(),
        "in": container.strip(),
    }


def _load() -> str:
    """Return the load average of the last minute: above the number of cores, others had them too."""
    return f"{os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
