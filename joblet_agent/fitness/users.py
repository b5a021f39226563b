"""Users: who may use the socket, whether the ids of jobs are free, whether the host can name them."""

from collections.abc import Iterator, Sequence

from joblet_agent.config.values import MOST_VOLUMES
from joblet_agent.fitness.finding import Probe, Subject, Verdict, failed, ok, warning
from joblet_agent.fitness.scene import Host, Scene
from joblet_agent.systemd.users import lookups_trouble

_SHOWN = 3


def _groups(scene: Scene) -> Verdict:
    config = scene.loaded.config
    wanted = {config.socket.group}
    wanted |= {
        each.group for each in (config.sockets.operator, config.sockets.viewer) if each.path is not None
    }
    missing = sorted(name for name in wanted if not scene.host.has_group(name))
    if not missing:
        return ok(f"group {', '.join(sorted(wanted))}")
    remedy = "systemd-sysusers" if missing == ["joblet"] else f"groupadd --system {missing[0]}"
    return failed(f"no group {', '.join(missing)}", "the agent does not start", remedy)


def _ids(scene: Scene) -> Verdict:
    config = scene.loaded.config
    ours = {
        "jobs.uid_first": range(config.jobs.uid_first, config.jobs.uid_first + config.jobs.uid_count),
        "volumes.uid_first": range(config.volumes.uid_first, config.volumes.uid_first + MOST_VOLUMES),
    }
    clashes = [
        f"{what} has {key} ({own[0]} to {own[-1]})"
        for what, taken in _taken(scene.host)
        for key, own in ours.items()
        if taken[0] <= own[-1] and own[0] <= taken[-1]
    ]
    if not clashes:
        return ok(f"uids from {config.jobs.uid_first} on are free")
    more = f" and {len(clashes) - _SHOWN} more" if len(clashes) > _SHOWN else ""
    return failed(
        f"{'; '.join(clashes[:_SHOWN])}{more}",
        "jobs have the same uid as others, and so their files",
        "other ranges: jobs.uid_first and volumes.uid_first, or another line there",
    )


def _taken(host: Host) -> Iterator[tuple[str, range]]:
    """Yield ids that are given out: passwd(5), group(5), subuid(5)."""
    for path in ("/etc/passwd", "/etc/group"):
        for line in host.lines(path):
            name, *fields = line.split(":")
            if len(fields) > 1 and fields[1].isdecimal():
                yield f"{name} of {path}", range(int(fields[1]), int(fields[1]) + 1)
    for path in ("/etc/subuid", "/etc/subgid"):
        for line in host.lines(path):
            name, *fields = line.split(":")
            if len(fields) == 2 and all(map(str.isdecimal, fields)) and int(fields[1]):  # noqa: PLR2004 - first, count
                yield f"{name} of {path}", range(int(fields[0]), int(fields[0]) + int(fields[1]))


def _names(scene: Scene) -> Verdict:
    trouble = lookups_trouble(scene.host.path)
    if not trouble:
        return ok("users of jobs have names")
    return warning(
        trouble,
        "ps and ls show numbers instead of users of jobs",
        "libnss-systemd, and systemd behind passwd: and group: in /etc/nsswitch.conf",
    )


PROBES: Sequence[Probe] = (
    Probe("USERS_GROUP", Subject.USERS, _groups),
    Probe("USERS_IDS", Subject.USERS, _ids),
    Probe("USERS_NAMES", Subject.USERS, _names),
)
