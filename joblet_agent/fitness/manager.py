"""systemd itself: there, new enough, able to filter system calls."""

from collections.abc import Sequence

from joblet_agent.errors import JobletError
from joblet_agent.fitness.finding import Probe, Subject, Verdict, failed, ok, unknown, warning
from joblet_agent.fitness.scene import Scene
from joblet_agent.systemd.version import OLDEST, version_number


def _systemd(scene: Scene) -> Verdict:
    if not scene.host.is_there("/run/systemd/system"):
        return failed(
            "process 1 is not systemd", "there are no jobs", "boot this host, or this container, with systemd"
        )
    if isinstance(scene.systemd, JobletError):
        return failed(str(scene.systemd), "there are no jobs", scene.systemd.hint or "systemctl status dbus")
    version = scene.systemd.version
    if version_number(version) < OLDEST:
        return failed(
            f"systemd {version}, {OLDEST} or newer is needed",
            "the agent does not start",
            "use Debian 12, Ubuntu 24.04 or newer",
        )
    place = f", in {scene.systemd.virtualization}" if scene.systemd.virtualization else ""
    return ok(f"version {version}{place}")


def _seccomp(scene: Scene) -> Verdict | None:
    if scene.survey is None:
        return None
    if "+SECCOMP" in scene.survey.features:
        return ok("filters system calls")
    return failed(
        "systemd was built without seccomp",
        "jobs can use every system call: what docs/isolation.md promises does not hold",
        "use the distribution's systemd",
    )


def _journal(scene: Scene) -> Verdict:
    if scene.host.is_there("/run/systemd/journal/socket"):
        return ok("journald listens")
    if not scene.host.is_there("/run/systemd"):
        return unknown("without systemd there is no journal")
    return warning(
        "journald does not listen",
        "audit records and the copy of jobs' output wait for it, and are lost in the end",
        "systemctl start systemd-journald.socket",
    )


PROBES: Sequence[Probe] = (
    Probe("SYSTEMD", Subject.SYSTEMD, _systemd),
    Probe("SYSTEMD_SECCOMP", Subject.SYSTEMD, _seccomp),
    Probe("SYSTEMD_JOURNAL", Subject.SYSTEMD, _journal),
)
