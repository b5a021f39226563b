"""Processes that are there when their job has ended.

systemd waits for all of a unit's processes, kills what is left after the grace, and gives up after another: a
process that waits in the kernel (state D: a disk or a network file system that does not answer) dies when its
wait is over, and not before.
"""

from dataclasses import replace
from pathlib import Path

from joblet_agent.model.job import Outcome

_MOST_TOLD = 5


def survivors(group: Path) -> list[int]:
    """Return the host's ids of the processes in a control group; none if it is gone. Blocking."""
    try:
        return sorted(map(int, (group / "cgroup.procs").read_text(encoding="ascii").split()))
    except (OSError, ValueError):
        return []


def with_survivors(outcome: Outcome, pids: list[int]) -> Outcome:
    """Return the outcome, which names the processes that have survived."""
    if not pids:
        return outcome
    told = ", ".join(map(str, pids[:_MOST_TOLD])) + (", …" if len(pids) > _MOST_TOLD else "")
    text = f"cannot be killed and end when the kernel lets them: process {told}"
    return replace(outcome, message="; ".join(filter(None, (outcome.message, text))))
