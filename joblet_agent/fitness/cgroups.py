"""Control groups: the unified tree, the controllers that limits need, the freezer, swap."""

from collections.abc import Sequence
from functools import partial

from joblet_agent.config import Unenforced
from joblet_agent.fitness.finding import Probe, Subject, Verdict, failed, ok, warning
from joblet_agent.fitness.scene import Host, Scene
from joblet_agent.jobs.limits import LIMITS

CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids")
_ROOT = "/sys/fs/cgroup"


def _version(scene: Scene) -> Verdict:
    if scene.host.is_there(f"{_ROOT}/cgroup.controllers"):
        return ok("version 2 alone (unified)")
    return failed(
        f"{_ROOT} is not a unified (version 2) tree",
        "the agent does not start",
        "kernel parameter systemd.unified_cgroup_hierarchy=1",
    )


def _controller(name: str, scene: Scene) -> Verdict | None:
    if not scene.host.is_there(f"{_ROOT}/cgroup.controllers"):
        return None
    if name in scene.host.facts.controllers():
        return ok(f"controller {name}")
    text, remedy = f"no controller {name}", _why_missing(scene.host, name)
    options = ", ".join(limit.option for limit in LIMITS.values() if limit.controller == name)
    limits = scene.loaded.config.limits
    if limits.unenforced is Unenforced.ACCEPT:
        return warning(text, f"{options} do nothing, as limits.unenforced is accept", remedy)
    refused = f"jobs with {options} are refused"
    if name == "pids":
        refused += ", and nothing limits the processes of the others"
    if any(
        getattr(section, key, 0)
        for section in (limits.default, limits.admin, limits.operator)
        for key, limit in LIMITS.items()
        if limit.controller == name and key != "max_tasks"
    ):
        refused = f"jobs with {options}, and those that get them from the section limits, are refused"
    return failed(text, refused, remedy)


def _why_missing(host: Host, name: str) -> str:
    """Say what brings it; /proc/cgroups has hierarchy (0: none of version 1) and a switch (cgroups(7))."""
    known = {fields[0]: fields[1:] for line in host.lines("/proc/cgroups") if (fields := line.split())}
    # Version 2 calls it io.
    hierarchy, _, enabled = known.get("blkio" if name == "io" else name, ["", "", ""])[:3]
    if enabled == "0":
        return f"kernel parameter cgroup_enable={name}, and no cgroup_disable={name}"
    if hierarchy not in {"", "0"}:
        return (
            "kernel parameters systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all: a version 1 tree has it"
        )
    if enabled == "1":
        return "whoever started this container has to let it have the controller (Delegate=yes)"
    return "a kernel with this controller"


def _freezer(scene: Scene) -> Verdict | None:
    root = scene.host.path(_ROOT)
    if not scene.host.is_there(f"{_ROOT}/cgroup.controllers"):
        return None
    if any(root.glob("*/cgroup.freeze")):
        return ok("freezer")
    return warning("no freezer", "rnx pause fails", "Linux 5.2 or newer")


def _swap(scene: Scene) -> Verdict | None:
    host = scene.host
    if "memory" not in host.facts.controllers() or len(host.lines("/proc/swaps")) < 2:  # noqa: PLR2004 - a header
        return None
    if any(host.path(_ROOT).glob("*/memory.swap.max")):
        return ok("swap is counted")
    return warning(
        "swap is not counted",
        "jobs with --max-memory swap instead of ending at their limit",
        "kernel parameter swapaccount=1, or swapoff -a",
    )


PROBES: Sequence[Probe] = (
    Probe("CGROUP_VERSION", Subject.CGROUP, _version),
    *(
        Probe(f"CGROUP_CONTROLLER_{name.upper()}", Subject.CGROUP, partial(_controller, name))
        for name in CONTROLLERS
    ),
    Probe("CGROUP_FREEZER", Subject.CGROUP, _freezer),
    Probe("CGROUP_SWAP", Subject.CGROUP, _swap),
)
